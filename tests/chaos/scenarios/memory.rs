//! A store that is written all the time and never grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use seshat::proto::kv::SetRequest;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use tokio::task::JoinSet;

use crate::clients::Load;
use crate::{caller, on_new_cluster};
use seshat_test_support::cluster::channel;

/// Small, so that a node compacts many times a second.
const LIMITS: &str = "compact_after_entries = 500\ncompact_keep_entries = 100\n";
const WRITERS: usize = 16;
const KEYS: usize = 64;
const VALUE_KIB: usize = 4;
const SAMPLES: usize = 24;
/// Pause of a writer that was refused.
const PAUSE: Duration = Duration::from_millis(10);
/// Writes between two measurements.
const INTERVAL: usize = 256;
/// Pause of a wait for writes.
const MOMENT: Duration = Duration::from_millis(10);
/// Bytes that an allocator may keep or return between two measurements.
const SLACK_KIB: u64 = 8 * 1024;
/// Without compaction the log alone would grow by more than this between the first and the last
/// measurement.
const _: () = assert!(SAMPLES * 2 / 3 * INTERVAL * VALUE_KIB >= 2 * 8 * 1024);

#[test]
fn memory_is_bounded_while_a_few_keys_are_overwritten_for_ever() {
    on_new_cluster("compaction under load", LIMITS, async |cluster| {
        cluster.start_all();
        cluster.wait_until_healed().await;
        let leader = cluster.leader().await;
        let load = Load::plain(&caller(cluster), leader, "k");
        let overwriters = Overwriters::start(&cluster.client_addrs(), leader);

        let mut curves = vec![Vec::new(); 3];
        for sample in 1..=SAMPLES {
            while overwriters.written() < sample * INTERVAL {
                tokio::time::sleep(MOMENT).await;
            }
            for (node, curve) in curves.iter_mut().enumerate() {
                curve.push(cluster.resident_kib(node));
            }
        }
        let total = overwriters.written();
        overwriters.stop().await;
        let counts = load.check().await;

        for (node, curve) in curves.iter().enumerate() {
            let mib: Vec<_> = curve.iter().map(|kib| kib / 1024).collect();
            println!("node {}, resident MiB: {mib:?}", node + 1);
            let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
            let (first, last) = (most(&curve[..SAMPLES / 3]), most(&curve[SAMPLES * 2 / 3..]));
            assert!(last <= first + SLACK_KIB, "{first} KiB, then {last} KiB");
        }
        format!(
            "{total} overwrites, {} MiB; {counts}",
            total * VALUE_KIB / 1024
        )
    });
}

/// Clients that write large values as fast as they can, and whose answers are not needed.
struct Overwriters {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Overwriters {
    fn start(client_addrs: &[String], leader: usize) -> Self {
        let (stop, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients: Vec<_> = client_addrs
            .iter()
            .map(|addr| KvServiceClient::new(channel(addr)))
            .collect();
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            let (mut clients, mut node) = (clients.clone(), leader);
            tasks.spawn(async move {
                for key in (0..KEYS).cycle().skip(writer) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let request = SetRequest {
                        key: format!("large-{key}").into(),
                        value: Bytes::from(vec![b'v'; VALUE_KIB * 1024]),
                        session: None,
                        ..SetRequest::default()
                    };
                    match clients[node].set(request).await {
                        Ok(_) => {
                            written.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => {
                            node = (node + 1) % clients.len();
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                }
            });
        }
        Self {
            stop,
            written,
            tasks,
        }
    }

    fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a writer does not panic");
        }
    }
}
