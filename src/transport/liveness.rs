//! Liveness check: whether a peer still runs whose connection has broken, or that does not answer.
//!
//! Its process may have ended, its host may be gone or cut off: then an operator can state that it is gone.
//! Or the process hangs (it is stopped, or its machine swaps), and goes on later with all that it holds. Its
//! kernel shows that: it accepts a new connection, and goes on acknowledging data on it, for as long as the
//! process exists. So one question is sent to the peer on a new connection that needs no keepalive answer
//! from the process itself, and stays until it has an outcome. An answer: the peer is back, at once. The
//! connection is refused, or ends: the peer cannot be reached. Neither: it hangs.
//!
//! Meanwhile there is no other attempt to reach it. A process that hangs leaves its connections in its
//! kernel, which holds some hundreds, and then drops all new ones: the peer would look like a machine that is
//! off. So where a connection is neither made nor refused, the question is sent to the client port as well.
//! If that port accepts, the process exists. If both ports drop connections, its state is unknown.

use std::error::Error as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;
use tonic::{Response, Status};

use super::broken::was_not_taken;
use super::client::Client;
use super::options::TransportOptions;
use crate::proto::raft::{IdentifyRequest, IdentifyResponse};

/// The outcome of a question.
type Answer = Result<Response<IdentifyResponse>, Status>;

/// A check that is under way. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Check(AbortHandle);

impl Drop for Check {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A peer that may hang: the inputs of a check, and its outcomes.
pub(super) trait Suspect: Send + Sync + 'static {
    /// The timeouts of a check.
    fn options(&self) -> Arc<TransportOptions>;

    /// A client for a question that may wait long for its answer, with a connection of its own.
    fn unhurried(&self) -> Client;

    /// Such a client for the client port, if its address is known.
    fn at_other_port(&self) -> Option<Client>;

    /// The peer accepts connections and does not answer.
    fn hangs(&self);

    /// The check has found a process that runs and does not accept connections from nodes.
    fn is_alive(&self);

    /// The check of the peer has ended with this answer.
    fn checked(&self, answer: Result<Response<IdentifyResponse>, Status>);
}

/// Begins the check of `peer`.
pub(super) fn check<P: Suspect>(peer: &Arc<P>) -> Check {
    let options = peer.options();
    Check(tokio::spawn(ask(Arc::downgrade(peer), options)).abort_handle())
}

/// Asks until the peer answers or its connection ends. From time to time the question moves to a new
/// connection, as the peer may have another address by now.
async fn ask<P: Suspect>(peer: Weak<P>, options: Arc<TransportOptions>) {
    let mut wait = options.rpc_timeout;
    while let Some(client) = peer.upgrade().map(|peer| peer.unhurried()) {
        let mut answer = question(&peer, client, &options, wait).await;
        if answer.as_ref().is_some_and(is_not_taken)
            && let Some(client) = peer.upgrade().and_then(|peer| peer.at_other_port())
        {
            match question(&peer, client, &options, wait).await {
                None => answer = None,
                Some(other) if comes_from_a_server(&other) => {
                    if let Some(peer) = peer.upgrade() {
                        peer.is_alive();
                    }
                    return;
                }
                Some(_) => {}
            }
        }
        if let Some(answer) = answer {
            if let Some(peer) = peer.upgrade() {
                peer.checked(answer);
            }
            return;
        }
        wait = wait.saturating_mul(2).min(options.max_hung_wait);
    }
}

/// Sends a question that waits as long as a connection may take, and `wait` more. Reports that `peer` hangs
/// if there is no outcome when a connection should have been made.
async fn question<P: Suspect>(
    peer: &Weak<P>,
    mut client: Client,
    options: &TransportOptions,
    wait: Duration,
) -> Option<Answer> {
    // A connection that cannot be made has failed by then.
    let connected = options.connect_timeout.saturating_mul(2);
    // A question without the asking process is answered, too.
    let asked = client.identify(IdentifyRequest::default());
    tokio::pin!(asked);
    if let Ok(answer) = timeout(connected, &mut asked).await {
        return Some(answer);
    }
    if let Some(peer) = peer.upgrade() {
        peer.hangs();
    }
    timeout(wait, asked).await.ok()
}

fn is_not_taken(answer: &Answer) -> bool {
    let status = answer.as_ref().err();
    status.and_then(|it| it.source()).is_some_and(was_not_taken)
}

/// Whether a server has answered, with whatever status: not so if a connection was not made, or ended.
fn comes_from_a_server(answer: &Answer) -> bool {
    answer
        .as_ref()
        .map_or_else(|status| status.source().is_none(), |_| true)
}
