//! Somebody who looks at the cluster, and moves its leadership about for no good reason.

use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use seshat::proto::admin::admin_service_client::AdminServiceClient;
use seshat::proto::admin::{ClusterState, StatusRequest, TransferLeadershipRequest};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use turmoil::Sim;

use crate::clients::to_node;
use crate::node::NODES;
use crate::shared::Shared;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Adds the operator's host. It is never cut off.
pub(crate) fn add(sim: &mut Sim<'static>, seed: u64, shared: Rc<Shared>) {
    sim.client("operator", async move {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes: Vec<_> = (1..=NODES)
            .map(|id| AdminServiceClient::new(to_node(id)))
            .collect();
        while !shared.ending.get() {
            sleep(Duration::from_millis(rng.gen_range(100..3_000))).await;
            let node = nodes[rng.gen_range(0..nodes.len())].clone();
            meddle(&mut rng, node, &shared).await;
        }
        // In calm, every node finds in the end that all is well.
        for node in &nodes {
            while !is_healthy(node.clone()).await {
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    });
}

async fn meddle(rng: &mut StdRng, mut node: AdminServiceClient<Channel>, shared: &Shared) {
    if rng.gen_bool(0.5) {
        let status = timeout(PATIENCE, node.status(StatusRequest::default())).await;
        if let Ok(Ok(status)) = status {
            let summary = status.into_inner().summary;
            tell(shared, &format!("status: {summary}"));
        }
        return;
    }
    let request = TransferLeadershipRequest {
        to: rng.gen_bool(0.5).then(|| rng.gen_range(1..=NODES).into()),
        timeout: None,
    };
    if let Ok(Ok(taken)) = timeout(PATIENCE, node.transfer_leadership(request)).await {
        let leader = taken.into_inner().leader_id;
        tell(shared, &format!("leadership handed to n{leader}"));
        shared.count("leadership transfers");
    }
}

async fn is_healthy(mut node: AdminServiceClient<Channel>) -> bool {
    let status = timeout(PATIENCE, node.status(StatusRequest::default())).await;
    status.is_ok_and(|status| {
        status.is_ok_and(|status| {
            let status = status.into_inner();
            status.state() == ClusterState::Healthy
                && status.members.iter().all(|member| member.reachable)
        })
    })
}

fn tell(shared: &Shared, what: &str) {
    let now = turmoil::sim_elapsed().expect("on a simulated host");
    shared.tell(now, format_args!("operator: {what}"));
}
