//! A store with no more memory than it needs, and clients that want more than it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::{Applied, DeleteRequest, GetRequest, SetRequest};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use crate::hogs::Hog;
use crate::on_new_cluster;
use seshat_test_support::cluster::channel;
use seshat_test_support::{eventually, refused};

/// A state of 64 MiB, and little beside it.
const LIMITS: &str = "\
    max_state_bytes = 67_108_864\n\
    max_append_bytes = 65_536\n\
    peer_queue_bytes = 8_388_608\n\
    max_uncommitted_bytes = 8_388_608\n\
    max_pending_bytes = 16_777_216\n\
    max_unread_bytes = 16_777_216\n\
    max_pending_requests = 512\n\
    max_batch_requests = 512\n\
    max_read_batch = 512\n\
    compact_after_bytes = 4_194_304\n";
const MAX_STATE_BYTES: u64 = 64 << 20;
const MAX_UNREAD_BYTES: usize = 16 << 20;
/// The most bytes on their way into the state when it reaches its bound.
const UNDER_WAY: u64 = 8 << 20;
/// Addresses that a process may use, in KiB. An idle node uses some 230 MiB of them, mostly for the
/// arenas of its threads.
const ADDRESSES_KIB: u64 = 768 << 10;

const WRITERS: usize = 8;
const VALUE: usize = 256 << 10;
/// The number of writes, of many times the available memory.
const WANTED: usize = 4_000;
/// The largest value, which slow readers read.
const LARGE: usize = 1 << 20;
const HOGS: usize = 3;
const READS: usize = 400;
const MANY_HOGS: usize = 20;
/// Answers that may wait, however small they are.
const MAX_CALLS: usize = 512;
const PAUSE: Duration = Duration::from_millis(10);

#[test]
fn a_cluster_without_memory_to_spare_refuses_and_keeps_running() {
    on_new_cluster("little memory", LIMITS, async |cluster| {
        cluster.limit_addresses(ADDRESSES_KIB);
        cluster.start_all();
        cluster.wait_until_healed().await;
        let leader = cluster.leader().await;
        let addr = cluster.client_addrs()[leader].clone();
        let mut kv = KvServiceClient::new(channel(&addr)).max_decoding_message_size(8 << 20);
        kv.set(set("large", LARGE)).await.expect("there is room");

        let writers = Writers::start(&cluster.client_addrs(), leader);
        writers.wait_for(WANTED / 2).await;
        let mut hogs = Vec::new();
        for _ in 0..HOGS {
            hogs.push(Hog::reads(&addr, "large", READS, 1).await);
        }
        let waiting: usize = hogs.iter().map(Hog::waiting).sum();
        let refused_reads: usize = hogs.iter().map(Hog::refused).sum();
        assert!(refused_reads > 0, "some find no room");
        assert!(waiting * LARGE <= MAX_UNREAD_BYTES, "{waiting} MiB wait");

        // Small answers too: the value is not all that waits for a client.
        let nothing = Hog::reads(&addr, "no such key", 2 * MAX_CALLS, 0).await;
        let small = nothing.waiting();
        assert!(small <= MAX_CALLS / 2, "{small} small answers wait");
        assert_eq!(small + nothing.refused(), 2 * MAX_CALLS);
        hogs.push(nothing);

        let follower = (leader + 1) % 3;
        cluster.kill(&[follower]);
        cluster.start(follower);
        cluster.wait_until_healed().await;
        writers.wait_for(WANTED).await;
        let (acknowledged, in_doubt) = writers.stop().await;
        cluster.assert_all_run();

        let status = cluster.own_status(leader).await;
        assert_eq!(status.max_state_bytes, MAX_STATE_BYTES);
        assert!(status.state_bytes > MAX_STATE_BYTES / 4 * 3, "{status:?}");
        assert!(
            status.state_bytes <= MAX_STATE_BYTES + UNDER_WAY,
            "{status:?}"
        );

        // It refuses, and no more than it has to.
        let refusal = kv
            .set(set("one more", LARGE))
            .await
            .expect_err("it is full");
        assert!(is_full(&refusal), "{refusal:?}");
        kv.set(set("large", LARGE))
            .await
            .expect("as large as before");
        for key in &acknowledged {
            let value = get(&mut kv, key).await;
            assert_eq!(value.map(|value| value.len()), Some(VALUE), "{key}");
        }
        for key in acknowledged.iter().take(8) {
            let request = DeleteRequest {
                key: key.clone().into(),
                ..DeleteRequest::default()
            };
            kv.delete(request).await.expect("deleting goes on");
        }
        kv.set(set("one more", LARGE)).await.expect("there is room");
        drop(hogs);
        cluster.assert_all_run();
        format!(
            "{} keys of {WANTED} acknowledged, {in_doubt} in doubt, {waiting} of {} slow reads held",
            acknowledged.len(),
            HOGS * READS
        )
    });
}

#[test]
fn clients_that_read_nothing_do_not_keep_large_values_from_others() {
    on_new_cluster("nothing is read", LIMITS, async |cluster| {
        cluster.start_all();
        cluster.wait_until_healed().await;
        let leader = cluster.leader().await;
        let addr = cluster.client_addrs()[leader].clone();
        let mut kv = KvServiceClient::new(channel(&addr)).max_decoding_message_size(8 << 20);
        kv.set(set("large", LARGE)).await.expect("there is room");
        let mut hogs = Vec::new();
        for _ in 0..MANY_HOGS {
            hogs.push(Hog::reads(&addr, "large", READS / MANY_HOGS, 1).await);
        }
        let request = || GetRequest {
            key: "large".into(),
            ..GetRequest::default()
        };
        kv.get(request()).await.expect_err("they hold all the room");
        let value = get(&mut kv, "large").await;
        assert_eq!(value.map(|value| value.len()), Some(LARGE));
        let waiting: usize = hogs.iter().map(Hog::waiting).sum();
        format!("{waiting} MiB were held by {MANY_HOGS} that took nothing")
    });
}

fn set(key: &str, bytes: usize) -> SetRequest {
    SetRequest {
        key: key.to_owned().into(),
        value: Bytes::from(vec![b'v'; bytes]),
        ..SetRequest::default()
    }
}

/// The value of a key, as soon as there is room for the answer.
async fn get(kv: &mut KvServiceClient<Channel>, key: &str) -> Option<Bytes> {
    eventually("a read", async || {
        let request = GetRequest {
            key: key.to_owned().into(),
            ..GetRequest::default()
        };
        Some(kv.get(request).await.ok()?.into_inner().value)
    })
    .await
}

fn is_full(status: &Status) -> bool {
    matches!(
        refused(status),
        (Applied::No, Some(Reason::Full(full))) if full.what == "max_state_bytes"
    )
}

/// Clients that write new keys for ever, whatever the answers.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    tasks: JoinSet<(BTreeSet<String>, usize)>,
}

impl Writers {
    fn start(client_addrs: &[String], leader: usize) -> Self {
        let (stop, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            let clients = client_addrs.iter().map(|addr| channel(addr));
            let mut clients: Vec<_> = clients.map(KvServiceClient::new).collect();
            let mut node = leader;
            tasks.spawn(async move {
                let (mut acknowledged, mut in_doubt) = (BTreeSet::new(), 0);
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("{writer}-{number}");
                    match clients[node].set(set(&key, VALUE)).await {
                        Ok(_) => {
                            acknowledged.insert(key);
                        }
                        Err(status) if !status.details().is_empty() && is_full(&status) => {}
                        Err(_) => {
                            in_doubt += 1;
                            node = (node + 1) % clients.len();
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                    written.fetch_add(1, Ordering::Relaxed);
                }
                (acknowledged, in_doubt)
            });
        }
        Self {
            stop,
            written,
            tasks,
        }
    }

    /// Waits until so many writes have been tried.
    async fn wait_for(&self, count: usize) {
        while self.written.load(Ordering::Relaxed) < count {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The acknowledged keys, and the number of writes without an acknowledgement.
    async fn stop(mut self) -> (BTreeSet<String>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut acknowledged, mut in_doubt) = (BTreeSet::new(), 0);
        while let Some(ended) = self.tasks.join_next().await {
            let (keys, doubts) = ended.expect("a writer does not panic");
            acknowledged.extend(keys);
            in_doubt += doubts;
        }
        (acknowledged, in_doubt)
    }
}
