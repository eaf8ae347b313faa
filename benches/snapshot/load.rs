//! Writes: as fast as possible, or at a fixed rate regardless of their outcomes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use seshat::proto::kv::SetRequest;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Channel;

pub(crate) type Client = KvServiceClient<Channel>;

/// Writes in flight on one connection when writing as fast as possible.
const WRITERS: u64 = 64;

/// A write of the key with this number: 16 bytes.
pub(crate) fn set(number: u64, value: Bytes) -> SetRequest {
    let key = Bytes::from(format!("key-{number:012}"));
    SetRequest {
        key,
        value,
        session: None,
        ..SetRequest::default()
    }
}

/// A value of `size` bytes.
pub(crate) fn value(size: usize) -> Bytes {
    Bytes::from(vec![b'v'; size])
}

/// Binds the keys below `keys`, as fast as possible.
pub(crate) async fn fill(clients: &[Client], keys: u64, value: Bytes) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for client in clients {
        for _ in 0..WRITERS {
            let (mut client, next, value) = (client.clone(), Arc::clone(&next), value.clone());
            writers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= keys {
                        return anyhow::Ok(());
                    }
                    client.set(set(number, value.clone())).await?;
                }
            });
        }
    }
    for written in writers.join_all().await {
        written.context("a write was refused while nothing else went on")?;
    }
    Ok(())
}

/// Overwrites the keys below `keys` repeatedly, and counts in `written`. Runs until it is dropped.
pub(crate) fn overwrite(
    clients: &[Client],
    keys: u64,
    value: &Bytes,
    written: &Arc<AtomicU64>,
) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for client in clients {
        for _ in 0..WRITERS {
            let (mut client, written) = (client.clone(), Arc::clone(written));
            let value = value.clone();
            writers.spawn(async move {
                loop {
                    let number = written.fetch_add(1, Ordering::Relaxed) % keys;
                    // A refusal is ignored: the rate will show it.
                    let _ = client.set(set(number, value.clone())).await;
                }
            });
        }
    }
    writers
}

/// One write of a steady load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write {
    /// When it was due.
    pub(crate) due: Instant,
    /// How long after that it was answered.
    pub(crate) latency: Duration,
    pub(crate) accepted: bool,
}

/// Writes at a fixed rate, in an open loop: a late write delays no other, and its latency counts from the
/// time when it was due. Runs in a task of its own.
pub(crate) struct Steady {
    writes: mpsc::UnboundedReceiver<Write>,
    seen: Vec<Write>,
}

impl Steady {
    pub(crate) fn new(clients: Vec<Client>, rate: u32, keys: u64, value: Bytes) -> Self {
        let (done, writes) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let pause = Duration::from_secs(1) / rate.max(1);
            let mut due = Instant::now();
            let mut number = 0u64;
            for client in clients.iter().cycle() {
                due += pause;
                tokio::time::sleep_until(due.into()).await;
                // Spread over all keys, each in turn.
                number = (number + 7919) % keys;
                let (mut client, done) = (client.clone(), done.clone());
                let request = set(number, value.clone());
                tokio::spawn(async move {
                    let accepted = client.set(request).await.is_ok();
                    let latency = due.elapsed();
                    // At the end of the bench there is no receiver.
                    let _ = done.send(Write {
                        due,
                        latency,
                        accepted,
                    });
                });
            }
        });
        Self {
            writes,
            seen: Vec::new(),
        }
    }

    /// The writes that were due between two moments.
    pub(crate) fn between(&mut self, from: Instant, until: Instant) -> Vec<Write> {
        while let Ok(write) = self.writes.try_recv() {
            self.seen.push(write);
        }
        let due = self.seen.iter();
        let due = due.filter(|write| write.due >= from && write.due < until);
        due.copied().collect()
    }
}
