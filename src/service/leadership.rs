//! Transfers leadership, and waits until it is taken.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::deadline::after;
use crate::driver::DriverHandle;
use crate::error::{Reason, Refusal};
use crate::types::{NodeId, Role, Term};

/// Pause before an attempt that could not begin is repeated.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The leader after a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transferred {
    /// The leader.
    pub leader: NodeId,
    /// The term in which it leads.
    pub term: Term,
}

/// Transfers leadership to the first of `transferees` that takes it; `None` is the best caught-up voter. A
/// transferee has `max_wait` to take over: raft-rs silently gives up after an election timeout, so the
/// next one is asked then. Any new leader counts, also one that is not the transferee. A node that has
/// stepped down meanwhile waits for `max_wait` once more for a new leader, and then gives up.
///
/// # Errors
///
/// This node does not lead, or a transferee cannot take over: not applied. [`Reason::NoQuorum`] if no
/// node took over before the deadline; an attempt may still succeed then.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn transfer_leadership(
    driver: &DriverHandle,
    transferees: impl IntoIterator<Item = Option<NodeId>, IntoIter: Send>,
    max_wait: Duration,
    deadline: Instant,
) -> Result<Transferred, Refusal> {
    let own = driver.status().raft_id;
    let mut status = driver.watch();
    let (mut begun, mut stepped_down) = (false, false);
    for transferee in transferees {
        let pause = match driver.transfer_leader(transferee).await {
            Ok(transferee) if transferee == own.node_id() => {
                return Ok(Transferred {
                    leader: transferee,
                    term: driver.status().term,
                });
            }
            Ok(_) => {
                begun = true;
                max_wait
            }
            // A leader that has heard of no voter lately may hear of one soon.
            Err(Refusal {
                reason: Reason::NoQuorum,
                ..
            }) if driver.status().role == Some(Role::Leader) => RETRY_INTERVAL,
            // It has stepped down: for a transferee, or because it lost its quorum.
            Err(Refusal {
                reason: Reason::NoQuorum | Reason::NotLeader { .. },
                ..
            }) if begun => {
                stepped_down = true;
                max_wait
            }
            Err(refusal) => return Err(refusal),
        };
        let until = deadline.min(after(pause));
        let taken = status.wait_for(|status| status.leader.is_some_and(|leader| leader != own));
        if let Ok(Ok(now)) = timeout_at(until, taken).await
            && let Some(leader) = now.leader
        {
            return Ok(Transferred {
                leader: leader.node_id(),
                term: now.term,
            });
        }
        if stepped_down || Instant::now() >= deadline {
            break;
        }
    }
    Err(match begun {
        true => Refusal::unknown(Reason::NoQuorum),
        false => Refusal::not_applied(Reason::NoQuorum),
    })
}
