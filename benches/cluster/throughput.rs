//! Writes and reads at the leader, side by side with the same calls at the echo.

use anyhow::Result;

use crate::cluster::Cluster;
use crate::echo::Echo;
use crate::load::{self, Call, Callers};
use crate::report::{Report, Round};

/// The callers of each round. One caller shows latency. Many callers on one connection are an application
/// that shares a channel: the client's single thread is busier than the echo then, which flatters the
/// server that is compared with it. On two connections the client has twice the threads and the echo is
/// the bottleneck, or nearly: that is the harder comparison. More would take the cores that the followers
/// need.
const CALLERS: [Callers; 3] = [
    Callers {
        callers: 1,
        connections: 1,
    },
    Callers {
        callers: 64,
        connections: 1,
    },
    Callers {
        callers: 64,
        connections: 2,
    },
];

/// Loads echo and leader in turn, so that other work of the machine affects both.
pub(crate) async fn measure(
    cluster: &Cluster,
    seconds: f64,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    let echo = Echo::start()?;
    let (leader_addr, leader) = cluster.leader()?;
    load::bind_keys(leader_addr).await?;
    for callers in CALLERS {
        for round in 1..=rounds {
            for call in [Call::Set, Call::Get] {
                let shape = cluster.shape();
                eprintln!("{shape}: {call}, {callers}, round {round} of {rounds}");
                let echo = load::run(&echo.addr, &echo.process, call, callers, seconds).await?;
                let seshat = load::run(leader_addr, leader, call, callers, seconds).await?;
                report.round(shape, call, callers, Round { echo, seshat });
            }
        }
    }
    Ok(())
}
