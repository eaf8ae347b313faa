//! An operator: forms the cluster without a missing node, transfers its leadership for no reason, adds
//! members and removes them, and recovers the cluster when its status says so.

use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use seshat::client::{Admin, AdminNode, Applied, Error};
use seshat::proto::admin::admin_service_client::AdminServiceClient;
use seshat::proto::admin::{
    ClusterState, RecoverRequest, StatusRequest, StatusResponse, TransferLeadershipRequest,
};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use turmoil::Sim;

use crate::clients::to_node;
use crate::health;
use crate::library;
use crate::network::{client_addr, internal_addr};
use crate::node::FIRST;
use crate::plan::Plan;
use crate::shared::Shared;
use crate::world::Flaw;

/// The longest wait for an answer.
const TEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Adds the operator's host. It is never cut off.
pub(crate) fn add(sim: &mut Sim<'static>, seed: u64, plan: Plan, flaw: Flaw, shared: Rc<Shared>) {
    sim.client("operator", async move {
        let mut rng = StdRng::seed_from_u64(seed);
        let attempt = Duration::from_millis(500);
        let client = library::client(plan.nodes, TEST_TIMEOUT, attempt, rng.r#gen());
        let nodes = (1..=plan.nodes).map(|id| AdminServiceClient::new(to_node(id)));
        let operator = Operator {
            nodes: nodes.collect(),
            admin: client.admin(),
            rng,
            plan,
            flaw,
            shared,
        };
        operator.run().await;
        Ok(())
    });
}

struct Operator {
    rng: StdRng,
    nodes: Vec<AdminServiceClient<Channel>>,
    admin: Admin,
    plan: Plan,
    flaw: Flaw,
    shared: Rc<Shared>,
}

impl Operator {
    async fn run(mut self) {
        if let Some(absent) = self.plan.absent {
            self.form_without(absent).await;
        }
        while !self.shared.ending.get() {
            let longest = if self.plan.nodes > FIRST {
                1_000
            } else {
                3_000
            };
            sleep(Duration::from_millis(self.rng.gen_range(100..longest))).await;
            let halted = self.shared.lost.get() && !self.shared.is_recovered();
            match self.rng.gen_range(0..10) {
                _ if halted => self.steer().await,
                0..2 => self.look().await,
                2..4 => self.transfer().await,
                _ => self.steer().await,
            }
        }
        // In calm, every member reports a healed cluster in the end.
        for member in health::members(&self.shared.statuses()) {
            while !is_healthy(self.nodes[usize::from(member) - 1].clone()).await {
                if let Ok(status) = self.admin.status().await {
                    self.note_left_over(&status.summary);
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// States that `absent` is fresh, until the others have formed a cluster.
    async fn form_without(&mut self, absent: u16) {
        let first = (1..=FIRST).find(|id| *id != absent).expect("others");
        loop {
            sleep(Duration::from_millis(self.rng.gen_range(100..1_000))).await;
            let formed = match self.admin.node(first).await {
                Ok(node) if node.view().leader_id.is_some() => break,
                Ok(node) => node.form(&[absent]).await.map(|_| ()),
                Err(error) => Err(error),
            };
            match formed {
                Ok(()) => break,
                Err(error) => self.tell(&format!("not formed without n{absent}: {error}")),
            }
        }
        self.tell(&format!("formed without n{absent}"));
        self.shared.count("clusters formed without a node");
    }

    fn any_node(&mut self) -> AdminServiceClient<Channel> {
        self.nodes[self.rng.gen_range(0..self.nodes.len())].clone()
    }

    async fn look(&mut self) {
        let mut node = self.any_node();
        let status = timeout(TEST_TIMEOUT, node.status(StatusRequest::default())).await;
        if let Ok(Ok(status)) = status {
            let summary = status.into_inner().summary;
            self.tell(&format!("status: {summary}"));
        }
    }

    async fn transfer(&mut self) {
        let mut node = self.any_node();
        let to = self
            .rng
            .gen_bool(0.5)
            .then(|| self.rng.gen_range(1..=self.plan.nodes));
        let request = TransferLeadershipRequest {
            to: to.map(u32::from),
            timeout: None,
            ..TransferLeadershipRequest::default()
        };
        if let Ok(Ok(taken)) = timeout(TEST_TIMEOUT, node.transfer_leadership(request)).await {
            let leader = taken.into_inner().leader_id;
            self.tell(&format!("leadership handed to n{leader}"));
            self.shared.count("leadership transfers");
        }
    }

    /// Follows the status of the cluster, or changes its members.
    async fn steer(&mut self) {
        let status = match self.admin.status().await {
            Ok(status) => status,
            Err(error) => return self.tell(&format!("no status: {error}")),
        };
        self.tell(&format!("status: {}", status.summary));
        self.shared
            .saw_cluster(status.cluster_id, status.leader_id.is_some());
        self.note_left_over(&status.summary);
        if let Some((from, incomplete)) = advised(&status.summary) {
            self.recover(from, incomplete).await;
        } else if self.plan.nodes > FIRST {
            self.change_members(&status).await;
        }
    }

    async fn change_members(&mut self, status: &StatusResponse) {
        let members: Vec<_> = status.members.iter().map(|it| it.id).collect();
        let ids = 1..=self.plan.nodes;
        let others: Vec<_> = ids
            .filter(|id| !members.contains(&u32::from(*id)))
            .collect();
        let shrinks = members.len() > usize::from(FIRST);
        let either = shrinks && self.rng.gen_bool(0.5);
        let grows = !others.is_empty() && !either;
        let (what, changed) = if grows {
            let id = *others.choose(&mut self.rng).expect("some");
            let (addr, client_addr) = (internal_addr(id), client_addr(id));
            let added = self.admin.add_member(id, &addr, &client_addr).await;
            (format!("n{id} added"), added.map(|_| "members added"))
        } else if shrinks {
            let id = *members.choose(&mut self.rng).expect("some");
            let id = u16::try_from(id).expect("a node id");
            let removed = self.admin.remove_member(id, false).await;
            (format!("n{id} removed"), removed.map(|_| "members removed"))
        } else {
            return;
        };
        match changed {
            Ok(count) => {
                self.tell(&what);
                self.shared.count(count);
            }
            Err(error) => self.tell(&format!("not {what}: {error}")),
        }
    }

    /// Status names a member that has state of a former cluster, and is to be restarted.
    fn note_left_over(&self, summary: &str) {
        let named = summary.split_once(" belongs to another cluster");
        let id = named.and_then(|(before, _)| before.rsplit_once("node ")?.1.parse::<u32>().ok());
        let mut left_over = self.shared.left_over.borrow_mut();
        if left_over.is_empty() {
            left_over.extend(id);
        }
    }

    async fn recover(&mut self, from: u16, incomplete: bool) {
        match self.try_to_recover(from, incomplete).await {
            Ok(()) => self.tell(&format!("recovered from n{from}")),
            Err(error) => self.tell(&format!("not recovered from n{from}: {error}")),
        }
    }

    async fn try_to_recover(&self, from: u16, incomplete: bool) -> Result<(), Error> {
        let node: AdminNode = self.admin.node(from).await?;
        let Some(old) = node.view().cluster_id else {
            return Ok(());
        };
        let recover = |dry_run| RecoverRequest {
            cluster_id: old,
            dry_run,
            incomplete,
            ..RecoverRequest::default()
        };
        let found = node.recover(recover(true)).await?;
        // A log that ends with an entry of the last leader has everything that was committed before.
        let is_latest = found.last_log_term >= self.shared.highest_term.get();
        let kept = match self.flaw {
            // The flaw: the observer believes that the survivor had everything.
            Flaw::Overstated => u64::MAX,
            _ if is_latest => found.last_log_revision,
            _ => found.commit_revision,
        };
        self.shared.recovery_begins(old, kept);
        // Their state of the old cluster keeps them out of the new one.
        self.shared.left_over.replace(found.other_survivors);
        match node.recover(recover(false)).await {
            Ok(_) => {
                assert!(self.shared.lost.get(), "a majority lived, and was given up");
                self.shared.recovery_made();
                self.shared.count("clusters recovered");
                Ok(())
            }
            Err(error) => {
                match error.applied() {
                    Applied::No => self.shared.recovery_refused(),
                    Applied::Unknown => self.shared.recovery_in_doubt(),
                }
                Err(error)
            }
        }
    }

    fn tell(&self, what: &str) {
        let now = turmoil::sim_elapsed().expect("on a simulated host");
        self.shared.tell(now, format_args!("operator: {what}"));
    }
}

/// The node that a halted cluster asks to be recovered from, and whether its state may be incomplete, if
/// no statement about another node is needed.
fn advised(summary: &str) -> Option<(u16, bool)> {
    let (_, rest) = summary.split_once("seshat recover --from ")?;
    let digits = rest
        .find(|it: char| !it.is_ascii_digit())
        .unwrap_or(rest.len());
    let (id, rest) = rest.split_at(digits);
    let incomplete = rest.starts_with(" --incomplete");
    let rest = rest.trim_start_matches(" --incomplete");
    (!rest.starts_with(" --")).then_some((id.parse().ok()?, incomplete))
}

async fn is_healthy(mut node: AdminServiceClient<Channel>) -> bool {
    let status = timeout(TEST_TIMEOUT, node.status(StatusRequest::default())).await;
    status.is_ok_and(|status| {
        status.is_ok_and(|status| {
            let status = status.into_inner();
            status.state() == ClusterState::Healthy
                && status.members.iter().all(|member| member.reachable)
        })
    })
}
