//! The shared parts of the integration tests: clusters of servers in one process ([`cluster`]), or of
//! cores and services without a network ([`fabric`]); a little store for made-up nodes ([`txn`]), and their
//! watches ([`watch`]); waits with an end; and a checker of histories ([`linearizability`]).

pub mod cluster;
pub mod fabric;
pub mod linearizability;
pub mod txn;
pub mod watch;

use std::time::Duration;

use prost::Message as _;
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::{Applied, ErrorDetail};
use seshat::types::NodeId;
use seshat::wire::find_detail;
use tonic::Status;

pub fn node_id(id: u16) -> NodeId {
    NodeId::new(id).expect("a node id")
}

/// The outcome and the reason in a refusal.
pub type Refused = (Applied, Option<Reason>);

/// The detail of a refusal, as a client reads it.
pub fn refused(status: &Status) -> Refused {
    let packed = tonic_types::pb::Status::decode(status.details()).expect("google.rpc.Status");
    let detail: ErrorDetail =
        find_detail(&packed.details).unwrap_or_else(|| panic!("no detail in {status:?}"));
    (detail.applied(), detail.reason)
}

/// The longest wait of a test for one event: an event that never comes fails the test, and does not hang
/// it.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A future with a deadline.
pub trait InTime: Future + Sized {
    /// Waits for `what`, for at most [`TEST_TIMEOUT`].
    fn in_time(self, what: &str) -> impl Future<Output = Self::Output> {
        async move {
            let waited = tokio::time::timeout(TEST_TIMEOUT, self).await;
            waited.unwrap_or_else(|_| panic!("waited too long for {what}"))
        }
    }
}

impl<F: Future> InTime for F {}

/// Asks until there is an answer, for at most [`TEST_TIMEOUT`].
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answered = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    answered.in_time(what).await
}
