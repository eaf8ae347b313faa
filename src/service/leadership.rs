//! Handing leadership over, and seeing that it was taken.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::deadline::after;
use crate::driver::DriverHandle;
use crate::error::{Reason, Refusal};
use crate::types::{NodeId, Role, Term};

/// How soon an attempt that could not begin is made again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Who leads after a hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handover {
    /// The leader.
    pub leader: NodeId,
    /// The term in which it leads.
    pub term: Term,
}

/// Hands leadership to the first of `heirs` that takes it; `None` is the best caught-up voter. An
/// heir has `patience` to take over: raft-rs gives up without a word after an election timeout, so
/// the next one is asked then. Whoever leads in the end counts, also if it is somebody else. A node
/// that has stepped down meanwhile waits as long once more for a new leader, and then for none.
///
/// # Errors
///
/// That this node does not lead or that an heir cannot, not applied. [`Reason::NoQuorum`] when
/// nobody took over before the deadline; an attempt may still succeed.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn hand_over(
    driver: &DriverHandle,
    heirs: impl IntoIterator<Item = Option<NodeId>, IntoIter: Send>,
    patience: Duration,
    deadline: Instant,
) -> Result<Handover, Refusal> {
    let own = driver.status().raft_id;
    let mut status = driver.watch();
    let (mut begun, mut stepped_down) = (false, false);
    for heir in heirs {
        let pause = match driver.transfer_leader(heir).await {
            Ok(heir) if heir == own.node_id() => {
                return Ok(Handover {
                    leader: heir,
                    term: driver.status().term,
                });
            }
            Ok(_) => {
                begun = true;
                patience
            }
            // A leader that has heard of no voter lately may soon know more.
            Err(Refusal {
                reason: Reason::NoQuorum,
                ..
            }) if driver.status().role == Some(Role::Leader) => RETRY_INTERVAL,
            // It has stepped down: for an heir, or because nobody is there any more.
            Err(Refusal {
                reason: Reason::NoQuorum | Reason::NotLeader { .. },
                ..
            }) if begun => {
                stepped_down = true;
                patience
            }
            Err(refusal) => return Err(refusal),
        };
        let until = deadline.min(after(pause));
        let taken = status.wait_for(|status| status.leader.is_some_and(|leader| leader != own));
        if let Ok(Ok(now)) = timeout_at(until, taken).await
            && let Some(leader) = now.leader
        {
            return Ok(Handover {
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
