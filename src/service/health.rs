//! `grpc.health.v1`: health checks for load balancers and orchestrators.
//!
//! They ask two different questions, so there are two names:
//!
//! * *May clients be sent here?* `seshat.kv.v1.KvService` is SERVING while this node takes part in its
//!   cluster and knows who leads it: then it serves, or names the leader to a client. A node that is
//!   still catching up can do that too.
//! * *Is this node what it was before its restart?* The process as a whole, the empty name, is SERVING
//!   while this node is a full member: it follows a leader, and its own incarnation votes, in place of
//!   every earlier one. An orchestrator that restarts one node after the other has to wait for that:
//!   before, the cluster still depends on the nodes that would be restarted next.
//!
//! Neither is SERVING once the node shuts down.
//!
//! A node reports only on itself, by the state that it has applied ([`cluster::is_full_member`]). That is
//! less than *healed*, for which every member has to be asked: `seshat status --wait healed` does.

use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::{AdmissionControl, KvService};
use crate::cluster;
use crate::driver::DriverHandle;
use crate::proto::kv::kv_service_server::KvServiceServer;
use crate::types::NodeStatus;

/// The process as a whole: whether it is a full member.
const PROCESS: &str = "";

/// Whether clients are served, or told the leader.
const KV_SERVICE: &str = <KvServiceServer<KvService> as NamedService>::NAME;

/// Answers for the process as a whole and for `KvService`.
#[derive(Debug)]
pub struct Health {
    reporter: HealthReporter,
    driver: DriverHandle,
    admission: AdmissionControl,
}

/// The two answers at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Said {
    full_member: bool,
    serves: bool,
}

impl Said {
    fn of(status: &NodeStatus) -> Self {
        Self {
            full_member: cluster::is_full_member(status),
            serves: cluster::serves(status),
        }
    }
}

impl Health {
    /// The health of the node behind `driver`, whose requests permit the admission control `admission`. It is
    /// NOT_SERVING until [`follow`](Self::follow) runs.
    pub async fn new(driver: DriverHandle, admission: AdmissionControl) -> Self {
        let health = Self {
            reporter: HealthReporter::new(),
            driver,
            admission,
        };
        health.say(Said::default()).await;
        health
    }

    /// The gRPC service.
    pub fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Keeps the answers up to date until admission control closes or the driver stops.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn follow(self) {
        let mut status = self.driver.watch();
        let mut said = Said::default();
        while !self.admission.is_closed() {
            let now = Said::of(&status.borrow_and_update());
            if now != said {
                self.say(now).await;
                said = now;
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() { break },
                () = self.admission.closed() => break,
            }
        }
        self.say(Said::default()).await;
    }

    async fn say(&self, said: Said) {
        let Said {
            full_member,
            serves,
        } = said;
        for (service, serving) in [(PROCESS, full_member), (KV_SERVICE, serves)] {
            let status = match serving {
                true => ServingStatus::Serving,
                false => ServingStatus::NotServing,
            };
            self.reporter.set_service_status(service, status).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{Conf, NodeId, NodeState, RaftId, Role};

    fn raft_id_of(node: u16, incarnation: u64) -> RaftId {
        RaftId::new(NodeId::new(node).unwrap(), incarnation)
    }

    /// The second incarnation of node 3, which follows node 1.
    fn follower(voters: &[RaftId], learners: &[RaftId]) -> NodeStatus {
        NodeStatus {
            state: NodeState::Started,
            role: Some(Role::Follower),
            leader: Some(raft_id_of(1, 1)),
            conf: Arc::new(Conf {
                voters: voters.to_vec(),
                learners: learners.to_vec(),
                members: Vec::new(),
            }),
            ..NodeStatus::fresh(raft_id_of(3, 2))
        }
    }

    #[test]
    fn a_full_member_votes_in_place_of_every_earlier_incarnation() {
        let (one, two, former, own) = (
            raft_id_of(1, 1),
            raft_id_of(2, 1),
            raft_id_of(3, 1),
            raft_id_of(3, 2),
        );
        let nothing = Said::default();
        let serves = Said {
            serves: true,
            ..nothing
        };
        let full = Said {
            full_member: true,
            ..serves
        };
        let whole = || follower(&[one, two, own], &[]);
        let table = [
            (NodeStatus::fresh(own), nothing),
            (follower(&[one, two, former], &[own]), serves),
            (follower(&[one, two], &[own]), serves),
            (follower(&[one, two, former, own], &[]), serves),
            (follower(&[one, two, own], &[former]), serves),
            (whole(), full),
            // Another node is healing, was lost, or has not come yet.
            (follower(&[one, two, own], &[raft_id_of(2, 2)]), full),
            (follower(&[one, own], &[]), full),
            // Removed.
            (follower(&[one, two], &[]), serves),
            (
                NodeStatus {
                    leader: None,
                    ..whole()
                },
                nothing,
            ),
            (
                NodeStatus {
                    state: NodeState::Outside,
                    ..whole()
                },
                nothing,
            ),
        ];
        for (status, said) in table {
            assert_eq!(Said::of(&status), said, "{status:?}");
        }
    }
}
