//! The services that clients and operators call.
//!
//! A request comes in as a generated message, is checked against the limits, and goes to the
//! [`driver`](crate::driver) as a domain value. Its outcome goes out as a generated message or as a
//! refusal. Nothing here decides anything about data: the core does.
//!
//! Every refusal says whether the write was surely not applied or its outcome is unknown. Clients build
//! their retries on this promise. So there is exactly one place where a refusal becomes a gRPC status
//! ([`to_status`]). Requests that tonic refuses by itself, before a handler sees them, permit through it
//! too ([`Router`]).
//!
//! * [`KvService`] reads and writes, and waits for a leader as long as the caller does.
//! * [`LockService`] is locks and the election of leaders.
//! * [`Local`] is the same for callers in the process of the node.
//! * [`AdminService`] describes the cluster, transfers leadership ([`transfer_leadership`]), and changes the
//!   members.
//! * [`Health`] answers load balancers and orchestrators.
//! * [`AdmissionControl`] is admission control: it counts the requests in flight, bounds them, and closes when the
//!   node shuts down.

mod addressed;
mod admin;
mod admission;
mod arriving;
mod deadline;
mod describe;
mod health;
mod holds;
mod kv;
mod leadership;
mod local;
mod lock_operation;
mod locks;
mod lookout;
mod membership;
mod operation;
mod operator;
mod parts;
mod pipeline;
mod refusals;
mod router;
mod scan;
mod sessions;
mod surveys;
mod trace;
mod waiting;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use crate::driver::{Account, DriverHandle, Probe, Reader, Unread};
use crate::error::{Reason, Refusal};
use crate::proto::kv::ErrorDetail;
use crate::wire;

pub use admin::AdminService;
pub use admission::{AdmissionControl, Permit};
pub use health::Health;
pub use holds::Holds;
pub use kv::KvService;
pub use leadership::{Transferred, transfer_leadership};
pub use local::Local;
pub use locks::LockService;
pub use refusals::to_status;
pub use router::Router;

use lookout::Lookout;
use scan::Scans;
use surveys::Surveys;

/// Bounds of the services, from [`Limits`](crate::config::Limits).
#[derive(Debug, Clone, Copy)]
pub struct ServiceOptions {
    /// Longest key in bytes.
    pub max_key_bytes: usize,
    /// Longest value in bytes.
    pub max_value_bytes: usize,
    /// Largest gRPC message in bytes.
    pub max_grpc_message_bytes: usize,
    /// Bytes of answers that clients have not read yet.
    pub max_unread_bytes: usize,
    /// Longest wait of a request.
    pub request_timeout: Duration,
    /// How long an attempt to transfer leadership may take before it is repeated: the longest election
    /// timeout.
    pub transfer_timeout: Duration,
    /// How long another node may take to answer a question about its status: 1 s, or the longest election
    /// timeout, if that is longer.
    pub member_timeout: Duration,
}

/// The node behind the services. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host {
    driver: DriverHandle,
    admission: AdmissionControl,
    unread: Arc<Unread>,
    /// The unread answers of this connection.
    reader: Arc<Reader>,
    /// The share of the answers to single calls in them.
    account: Arc<Account>,
    surveys: Surveys,
    lookout: Lookout,
    scans: Scans,
    options: ServiceOptions,
}

impl Host {
    /// The node behind `driver`. Its requests permit the admission control `admission`, and it asks the other
    /// members through `probe`.
    pub fn new(
        driver: DriverHandle,
        admission: AdmissionControl,
        options: ServiceOptions,
        probe: Arc<dyn Probe>,
    ) -> Self {
        let unread = Unread::new(options.max_unread_bytes);
        let reader = unread.reader();
        let surveys = Surveys::new(driver.clone(), probe, options.member_timeout);
        let max_wait = options.transfer_timeout;
        Self {
            lookout: Lookout::new(driver.clone(), surveys.clone(), max_wait),
            surveys,
            driver,
            admission,
            account: reader.account(usize::MAX),
            reader,
            unread,
            scans: Scans::default(),
            options,
        }
    }

    /// The same node for another connection, or for another part of this node. Its requests take no turns
    /// of the others, and its answers count for its `reader`.
    #[must_use]
    pub fn for_another_connection(&self, reader: Arc<Reader>) -> Self {
        Self {
            driver: self.driver.for_another_source(),
            admission: self.admission.for_another_connection(),
            unread: Arc::clone(&self.unread),
            account: reader.account(usize::MAX),
            reader,
            surveys: self.surveys.clone(),
            lookout: self.lookout.clone(),
            scans: self.scans.clone(),
            options: self.options,
        }
    }

    /// The answers that clients have not read yet.
    pub fn unread(&self) -> &Arc<Unread> {
        &self.unread
    }

    /// The gRPC status of a refusal, with the leader's address if the refusal names a leader.
    fn refuse(&self, refusal: &Refusal) -> Status {
        to_status(refusal, self.leader_addr(refusal).as_deref())
    }

    /// The typed detail of that status.
    fn detail(&self, refusal: &Refusal) -> ErrorDetail {
        wire::error_detail(refusal, self.leader_addr(refusal).as_deref())
    }

    fn leader_addr(&self, refusal: &Refusal) -> Option<String> {
        let Reason::NotLeader {
            leader_id: Some(leader),
        } = refusal.reason
        else {
            return None;
        };
        let members = self.driver.members();
        let leader = members.get(leader)?;
        Some(leader.client_addr.clone())
    }
}

#[cfg(test)]
impl Host {
    /// A node for tests. The test plays its driver, whose inbox has room for one notice.
    fn detached() -> (Self, crate::driver::Detached) {
        use crate::types::{NodeId, NodeStatus, RaftId};

        let raft_id = RaftId::new(NodeId::new(1).unwrap(), 1);
        let (handle, driver) = DriverHandle::detached(NodeStatus::fresh(raft_id), 1);
        let options = ServiceOptions {
            max_key_bytes: 8,
            max_value_bytes: 8,
            max_grpc_message_bytes: 1024,
            max_unread_bytes: 1024,
            request_timeout: Duration::from_secs(5),
            transfer_timeout: Duration::from_secs(1),
            member_timeout: Duration::from_secs(1),
        };
        let admission = AdmissionControl::new(2048, 1 << 20);
        let probe = Arc::new(surveys::NoPeers);
        (Self::new(handle, admission, options, probe), driver)
    }
}
