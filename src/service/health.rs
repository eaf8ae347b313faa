//! `grpc.health.v1`: what load balancers and orchestrators ask.

use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::{Gate, KvService};
use crate::driver::DriverHandle;
use crate::proto::kv::kv_service_server::KvServiceServer;
use crate::types::{NodeState, NodeStatus};

/// The services whose health one can ask for: the process as a whole, and the only one of its
/// services whose health changes.
const SERVICES: [&str; 2] = ["", <KvServiceServer<KvService> as NamedService>::NAME];

/// Says SERVING exactly while this node takes part in a cluster, knows who leads it and is not
/// shutting down: then it serves, or tells a client who does.
#[derive(Debug)]
pub struct Health {
    reporter: HealthReporter,
    driver: DriverHandle,
    gate: Gate,
}

impl Health {
    /// The health of the node behind `driver`, whose requests pass through `gate`. It is
    /// NOT_SERVING until [`follow`](Self::follow) runs.
    pub async fn new(driver: DriverHandle, gate: Gate) -> Self {
        let health = Self {
            reporter: HealthReporter::new(),
            driver,
            gate,
        };
        health.report(false).await;
        health
    }

    /// The service that answers.
    pub fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Keeps the answers true until the gate closes or the driver stops.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn follow(self) {
        let mut status = self.driver.watch();
        let mut shown = false;
        loop {
            let serving = !self.gate.is_closed() && serves(&status.borrow_and_update());
            if serving != shown {
                self.report(serving).await;
                shown = serving;
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() { break },
                () = self.gate.closed() => break,
            }
        }
        self.report(false).await;
    }

    async fn report(&self, serving: bool) {
        let status = match serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

fn serves(status: &NodeStatus) -> bool {
    status.state == NodeState::Started && status.leader.is_some()
}
