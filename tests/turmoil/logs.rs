//! The log lines of the nodes: counted, watched for errors, and printed with the simulated time on
//! request.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::report::Report;

/// The observations in the log lines of this process so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    report: Report,
    /// Events at level error, and panics.
    errors: Vec<String>,
    /// Nodes that snapshots were sent to, and those that have installed one.
    snapshots: Vec<Snapshot>,
}

/// The outcome of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Snapshot {
    SentTo(u16),
    InstalledBy(u16),
}

impl Logs {
    /// Watches the logs and the panics of this process.
    pub(crate) fn watch(loud: bool) -> Self {
        let logs = Self::default();
        let filter = Targets::new().with_target("seshat", LevelFilter::INFO);
        let print = loud.then(|| {
            tracing_subscriber::fmt::layer()
                .with_timer(SimulatedTime)
                .with_ansi(false)
                .with_target(false)
                .with_writer(std::io::stdout)
        });
        tracing_subscriber::registry()
            .with(filter)
            .with(logs.clone())
            .with(print)
            .init();
        let (panics, usual) = (logs.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            panics.seen().errors.push(panic.to_string());
        }));
        logs
    }

    pub(crate) fn report(&self) -> Report {
        self.seen().report.clone()
    }

    /// The outcomes of snapshots since the last call.
    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        std::mem::take(&mut self.seen().snapshots)
    }

    /// Panics if a node has logged an error, or if a task has panicked.
    pub(crate) fn check(&self) {
        let errors = std::mem::take(&mut self.seen().errors);
        assert!(errors.is_empty(), "errors in the logs: {errors:#?}");
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // A panic that this process is watched for may have come at any time.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Logs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let mut seen = self.seen();
        let removed = |word: &String| word.contains("was removed from");
        let expected = removed(&words.message) || words.others.iter().any(removed);
        if *event.metadata().level() == Level::ERROR && !expected {
            seen.errors.push(format!("{words:?}"));
        }
        match words.message.as_str() {
            "sends a snapshot" => {
                seen.report.add("snapshots sent", 1);
                seen.report.add("keys in them", words.keys);
                seen.snapshots
                    .extend(words.node("to").map(Snapshot::SentTo));
            }
            "installed a snapshot" => {
                seen.report.add("snapshots installed", 1);
                let node = words.node("node");
                seen.snapshots.extend(node.map(Snapshot::InstalledBy));
            }
            "became leader" => seen.report.add("leaders elected", 1),
            "peer is down" => seen.report.add("peers lost", 1),
            _ => {}
        }
    }
}

/// The fields of an event.
#[derive(Debug, Default)]
struct Words {
    message: String,
    keys: u64,
    others: Vec<String>,
}

impl Words {
    /// The node in the field `name`: a node id, or the raft id of one of its processes.
    fn node(&self, name: &str) -> Option<u16> {
        let mut fields = self.others.iter().filter_map(|it| it.split_once('='));
        let (_, id) = fields.find(|(field, _)| *field == name)?;
        id.split('.').next()?.parse().ok()
    }
}

impl Visit for Words {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "keys" => self.keys = value,
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.others.push(format!("{name}={value:?}")),
        }
    }
}

/// The time since the world began, where there is one.
struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let elapsed = turmoil::sim_elapsed().unwrap_or(Duration::ZERO);
        write!(writer, "{:>9.3} s ", elapsed.as_secs_f64())
    }
}
