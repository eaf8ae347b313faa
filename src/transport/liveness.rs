//! Whether a peer still lives whose connection has broken, or that does not answer.
//!
//! Its process may have ended, its host may be gone or cut off: then it can be vouched for as gone. Or the
//! process hangs (it is stopped, or its machine swaps), and goes on later with all that it holds. Its
//! kernel tells: it takes a new connection, and goes on acknowledging what comes on it, for as long as
//! the process is there. So one question is put to the peer on a new connection that needs no sign of
//! life from the process itself, and stays there until something becomes of it. An answer: the peer is
//! back, at once. The connection is not made, or ends: the peer cannot be reached. Neither: it hangs.
//!
//! Meanwhile nothing else tries to reach it. A process that hangs leaves its connections in its kernel,
//! which has room for some hundreds, and then takes none: the peer would look dead.

use std::sync::{Arc, Weak};

use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::options::TransportOptions;
use super::peer::Peer;
use crate::proto::raft::IdentifyRequest;

/// A check that is under way. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Check(AbortHandle);

impl Drop for Check {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins to find out what has become of `peer`.
pub(super) fn check(peer: &Arc<Peer>) -> Check {
    let options = Arc::clone(peer.options());
    Check(tokio::spawn(ask(Arc::downgrade(peer), options)).abort_handle())
}

/// Asks until an answer comes or none can. A connection is given up now and then, as the peer may be
/// somewhere else by now.
async fn ask(peer: Weak<Peer>, options: Arc<TransportOptions>) {
    let mut wait = options.rpc_timeout;
    // A connection that cannot be made has failed by then.
    let connected = options.connect_timeout.saturating_mul(2);
    while let Some(mut client) = peer.upgrade().map(|peer| peer.patient()) {
        // Whoever does not say who asks is answered all the same.
        let asked = client.identify(IdentifyRequest::default());
        tokio::pin!(asked);
        let answer = match timeout(connected, &mut asked).await {
            Ok(answer) => Some(answer),
            Err(_) => {
                if let Some(peer) = peer.upgrade() {
                    peer.hangs();
                }
                timeout(wait, asked).await.ok()
            }
        };
        if let Some(answer) = answer {
            if let Some(peer) = peer.upgrade() {
                peer.checked(answer);
            }
            return;
        }
        wait = wait.saturating_mul(2).min(options.max_hung_wait);
    }
}
