//! One trace shows one write on every node: the trace context of a call goes with the write through the
//! log, and each node logs under it that the write was applied.
//!
//! A process of its own, because the subscriber is global to a process.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use seshat::client::{Client, Operation, PipelineOptions};
use seshat_test_support::cluster::Cluster;
use seshat_test_support::eventually;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

const TARGET: &str = "seshat::trace";
const WRITE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const STREAM: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

type Line = BTreeMap<&'static str, String>;

/// The log lines about traced writes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Line>>>);

impl Lines {
    /// Which nodes have applied what under `traceparent`: the revisions by node.
    fn applied(&self, traceparent: &str) -> BTreeMap<String, BTreeSet<String>> {
        let mut applied = BTreeMap::<_, BTreeSet<_>>::new();
        for line in self.0.lock().unwrap().iter() {
            if line["traceparent"] == traceparent {
                let revisions = applied.entry(line["node"].clone()).or_default();
                assert!(revisions.insert(line["revision"].clone()), "{line:?}");
            }
        }
        applied
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Fields(Line);

        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0.insert(field.name(), format!("{value:?}"));
            }
        }

        let mut fields = Fields(Line::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn a_traced_write_is_seen_on_every_node_and_no_other() {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    let cluster = Cluster::started(3).await;
    let client = Client::connect((0..3).map(|index| cluster.client_addr(index))).unwrap();

    client.set("k", "not traced").await.unwrap();
    let traced = client.traced(WRITE).set("k", "traced").await.unwrap();
    client
        .traced("no context")
        .set("k", "neither")
        .await
        .unwrap();
    let everywhere = eventually("the write on every node", async || {
        let applied = lines.applied(WRITE);
        (applied.len() == 3).then_some(applied)
    })
    .await;
    let revision = BTreeSet::from([traced.applied_index.to_string()]);
    assert!(everywhere.values().all(|revisions| *revisions == revision));

    // The context of a stream is that of all its writes.
    let stream = client.traced(STREAM);
    let pipeline = stream.pipeline(PipelineOptions::default()).await.unwrap();
    let batch = [
        Operation::set("a", "1"),
        Operation::get("a"),
        Operation::delete("a"),
    ];
    let answers = pipeline.submit(batch).await.unwrap().await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    eventually("the stream's writes on every node", async || {
        let applied = lines.applied(STREAM);
        (applied.len() == 3 && applied.values().all(|revisions| revisions.len() == 2)).then_some(())
    })
    .await;
    assert_eq!(lines.applied("no context"), BTreeMap::new());
}
