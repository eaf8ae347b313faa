//! Measures the time from the death of a leader to the next accepted write.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::{Cluster, Shape};
use crate::probe;

/// One trial with a killed leader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    /// From the start of the cluster's last node to its first accepted write.
    pub(crate) first_write: Duration,
    /// From `kill -9` of the leader to the next accepted write.
    pub(crate) next_write: Duration,
}

/// Starts a cluster and kills its leader. Every trial has its own cluster, so that the trials are
/// independent.
pub(crate) async fn measure() -> Result<Trial> {
    let (mut cluster, first_write) = Cluster::ready(Shape::Processes).await?;
    let killed = Instant::now();
    let others = cluster.kill_leader();
    let write = probe::first_write(&others)
        .await
        .context("no write is accepted after the death of the leader")?;
    Ok(Trial {
        first_write,
        next_write: write.accepted - killed,
    })
}
