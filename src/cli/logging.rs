//! The flags of log lines.

use clap::ArgAction;
use seshat::telemetry::{self, LastLines, LogFormat};
use tracing::level_filters::LevelFilter;

use super::failure::Failure;

/// The heading of these flags in the help of a command.
pub(crate) const LOG_OPTIONS: &str = "Log options";

/// The flags that choose which lines are logged.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = LOG_OPTIONS)]
pub(crate) struct LogOptions {
    /// Log more of seshat and raft; -vv even more. In detail: SESHAT_LOG=info,raft=debug
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

impl LogOptions {
    /// Whether neither flag nor variable asks for other lines than the default.
    pub(crate) fn is_default(&self) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        self.verbose == 0 && !telemetry::FILTER_VARIABLES.into_iter().any(set)
    }

    /// Begins to log in `format`, from level `quietest` on, or from the level of the flags. Keep the returned
    /// guard until the command ends.
    pub(crate) fn init(
        &self,
        format: LogFormat,
        quietest: LevelFilter,
    ) -> Result<LastLines, Failure> {
        let levels = [
            LevelFilter::WARN,
            LevelFilter::INFO,
            LevelFilter::DEBUG,
            LevelFilter::TRACE,
        ];
        let mut louder = levels.into_iter().skip_while(|level| *level < quietest);
        let level = louder
            .nth(self.verbose.into())
            .unwrap_or(LevelFilter::TRACE);
        telemetry::init(format, level).map_err(|error| Failure::usage(error.to_string()))
    }
}
