//! The bridge for the log records of raft-rs.
//!
//! Seshat logs with `tracing`, raft-rs with `slog`. [`raft_logger`] is the bridge: it keeps the keys and
//! values of every record, which the crate `tracing-slog` drops. Keys that identify the node, term, index
//! and peers of a record become fields of their own, under the names that Seshat's own records use; the
//! rest goes into one field `kv`.
//!
//! raft-rs's `info` becomes `debug` here, and so on down: everything important for an operator (terms,
//! roles, leaders, members, snapshots) is an event of the core, which the driver logs once, in Seshat's
//! terms. raft-rs's own lines are for debugging: `SESHAT_LOG=info,raft=debug`.

use std::fmt::{self, Write as _};

use slog::{Drain, KV, Key, Level, Logger, Never, OwnedKVList, Record, Serializer};
use tracing::field::DisplayValue;

/// The logger for the raft-rs of node `node`. `show_id` formats raft ids.
pub fn raft_logger(node: u16, show_id: fn(u64) -> String) -> Logger {
    Logger::root(Bridge { show_id }, slog::o!("node" => u64::from(node)))
}

/// Passes slog records to `tracing`, under the target `raft`.
struct Bridge {
    show_id: fn(u64) -> String,
}

/// Emits one event at a level that is known only at run time: `tracing` needs a constant one.
macro_rules! emit {
    ($level:ident, $record:ident, $fields:ident) => {
        tracing::event!(
            target: "raft",
            tracing::Level::$level,
            node = shown(&$fields.node),
            raft_id = shown(&$fields.raft_id),
            term = $fields.term,
            index = $fields.index,
            from = shown(&$fields.from),
            to = shown(&$fields.to),
            kv = shown(&$fields.rest),
            "{}",
            $record.msg(),
        )
    };
}

macro_rules! enabled {
    ($level:ident) => {
        tracing::enabled!(target: "raft", tracing::Level::$level)
    };
}

impl Drain for Bridge {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let level = record.level();
        // This comes before any collecting or formatting: a record below the level costs nothing.
        if !self.is_enabled(level) {
            return Ok(());
        }
        let mut fields = Fields::new(self.show_id);
        // A value that cannot be formatted is left out; the record is still logged.
        let _ = values.serialize(record, &mut fields);
        let _ = record.kv().serialize(record, &mut fields);
        match level {
            Level::Critical | Level::Error => emit!(ERROR, record, fields),
            Level::Warning => emit!(WARN, record, fields),
            Level::Info => emit!(DEBUG, record, fields),
            Level::Debug | Level::Trace => emit!(TRACE, record, fields),
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        match level {
            Level::Critical | Level::Error => enabled!(ERROR),
            Level::Warning => enabled!(WARN),
            Level::Info => enabled!(DEBUG),
            Level::Debug | Level::Trace => enabled!(TRACE),
        }
    }
}

/// The fields of one record besides its message.
struct Fields {
    show_id: fn(u64) -> String,
    node: Option<String>,
    raft_id: Option<String>,
    term: Option<u64>,
    index: Option<u64>,
    from: Option<String>,
    to: Option<String>,
    rest: Option<String>,
}

impl Fields {
    fn new(show_id: fn(u64) -> String) -> Self {
        Self {
            show_id,
            node: None,
            raft_id: None,
            term: None,
            index: None,
            from: None,
            to: None,
            rest: None,
        }
    }
}

/// The value of a field, without quotes. `None` leaves the field out.
fn shown(text: &Option<String>) -> Option<DisplayValue<&String>> {
    text.as_ref().map(tracing::field::display)
}

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        let name = key.replace(' ', "_");
        match &mut self.rest {
            Some(rest) => write!(rest, " {name}={value}")?,
            None => self.rest = Some(format!("{name}={value}")),
        }
        Ok(())
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        match key {
            "node" => self.node = Some(value.to_string()),
            "raft_id" => self.raft_id = Some((self.show_id)(value)),
            "from" => self.from = Some((self.show_id)(value)),
            "to" => self.to = Some((self.show_id)(value)),
            "vote" | "leader_id" => {
                return self.emit_arguments(key, &format_args!("{}", (self.show_id)(value)));
            }
            "term" => self.term = Some(value),
            "index" => self.index = Some(value),
            _ => return self.emit_arguments(key, &format_args!("{value}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(filter: &str, log: impl FnOnce(&Logger)) -> String {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(lines.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            log(&raft_logger(8, |id| format!("<{id}>")))
        });
        lines.text()
    }

    #[test]
    fn keys_and_values_survive() {
        let text = logged("debug", |logger| {
            let logger = logger.new(slog::o!("raft_id" => 7u64));
            slog::info!(logger, "became {}", "leader"; "term" => 3u64, "from" => 2u64,
                "log term" => 4u64, "votes" => ?[1, 2], "vote" => 9u64);
        });
        for part in [
            "DEBUG raft: became leader",
            "node=8",
            "raft_id=<7>",
            "term=3",
            "from=<2>",
            "log_term=4",
            "votes=[1, 2]",
            "vote=<9>",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("index="), "{text}");
    }

    #[test]
    fn raft_levels_are_one_quieter_except_for_warnings_and_errors() {
        let log = |logger: &Logger| {
            slog::error!(logger, "e");
            slog::warn!(logger, "w");
            slog::info!(logger, "i");
            slog::debug!(logger, "d");
        };
        let levels = |text: String| -> Vec<String> {
            let words = text
                .lines()
                .filter_map(|line| line.split_whitespace().next());
            words.map(str::to_owned).collect()
        };
        assert_eq!(levels(logged("info", log)), ["ERROR", "WARN"]);
        let mut expected = vec!["ERROR", "WARN", "DEBUG"];
        // slog omits these in a release build.
        if cfg!(debug_assertions) {
            expected.push("TRACE");
        }
        assert_eq!(levels(logged("trace", log)), expected);
    }

    #[test]
    fn a_record_that_is_filtered_out_is_not_formatted() {
        struct Counts<'a>(&'a Cell<u32>);
        impl fmt::Display for Counts<'_> {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.set(self.0.get() + 1);
                Ok(())
            }
        }
        let count = Cell::new(0);
        let log = |logger: &Logger| slog::info!(logger, "{}", Counts(&count));
        logged("info", log);
        assert_eq!(count.get(), 0);
        logged("debug", log);
        assert_eq!(count.get(), 1);
    }
}
