//! The sink of log lines.
//!
//! Lines go to standard error through a bounded queue (`telemetry/writer.rs`): a reader that stops or ends, or
//! a full disk, costs lines, never the node.

mod bridge;
mod filter;
mod repeats;
mod writer;

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::str::FromStr;

#[cfg(not(feature = "internals"))]
pub(crate) use bridge::raft_logger;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use bridge::raft_logger;
pub use filter::FILTER_VARIABLES;
pub(crate) use repeats::Repeats;
use tracing::level_filters::LevelFilter;
pub use writer::LastLines;

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people, in colour on a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Human, Self::Json];

    /// The name of the format, as `--log-format` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(name: &str) -> Result<Self, LogError> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| LogError::Format(name.to_owned()))
    }
}

/// Why logging could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// No such format.
    #[error("{0:?} is no log format: it is human or json")]
    Format(String),
    /// A filter with a part that is none, or that lets no line through.
    #[error("{variable}: {word:?} would log nothing; {}", filter::expected())]
    Filter {
        /// The variable that holds it.
        variable: &'static str,
        /// The part at fault.
        word: String,
    },
    /// The process has set up logging already.
    #[error("logging has been set up before")]
    Again,
    /// The thread that writes log lines could not be started.
    #[error("cannot start a thread for the log: {0}")]
    Thread(io::ErrorKind),
}

/// Sends the process's log lines to standard error, from `level` on unless one of [`FILTER_VARIABLES`] is
/// set. A line that cannot be written is counted; the process never waits for one. Keep the result until
/// the process ends.
///
/// # Errors
///
/// [`LogError`]: the filter has a fault, or this is not the first call.
pub fn init(format: LogFormat, level: LevelFilter) -> Result<LastLines, LogError> {
    let filter = filter::filter(level, |variable| {
        Some(std::env::var_os(variable)?.to_string_lossy().into_owned())
    })?;
    let (queue, last_lines) = writer::start(io::stderr(), warn_of_lost_lines)
        .map_err(|error| LogError::Thread(error.kind()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(queue)
        .with_ansi(colours())
        // It would report its errors on standard error, which is the output that fails.
        .log_internal_errors(false);
    match format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LogError::Again)?;
    Ok(last_lines)
}

fn warn_of_lost_lines(lost: u64) {
    tracing::warn!(lost, "log lines were lost: nobody took them in time");
}

/// Whether lines are coloured: on a terminal, unless `NO_COLOR` is set and not empty.
fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !unwanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("human".parse(), Ok(LogFormat::Human));
        assert!("yaml".parse::<LogFormat>().is_err());
    }
}
