//! The check that clients find each member at its client address.
//!
//! A node that does not lead redirects clients to the client address of the leader. Nodes do not use that
//! address themselves, and may not even reach it, so only clients notice a wrong one. A command is a client:
//! it asks at each of these addresses which node answers.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use seshat::client::{Admin, Error};
use seshat::proto::admin::{MemberStatus, StatusResponse};

use super::client::Cluster;
use super::failure::printable;

/// Longest wait for the members, which are all asked at once.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The faults of client addresses, as text, by node id.
#[derive(Debug, Default)]
pub(crate) struct Redirects(BTreeMap<u32, String>);

impl Redirects {
    /// Asks at the client addresses of the members which node answers. Asks only members that were reachable
    /// for the node that gave `status`, as the others are known to be down, and none if there is no leader.
    pub(crate) async fn try_out(cluster: &Cluster, status: &StatusResponse) -> Self {
        let admin = cluster.admin_within(MAX_WAIT);
        let sent = |member: &&MemberStatus| member.reachable && status.leader_id.is_some();
        let living = status.members.iter().filter(sent);
        let asked = living.map(async |member| {
            let fault = fault(&admin, status.cluster_id, member).await;
            fault.map(|fault| (member.id, fault))
        });
        Self(join_all(asked).await.into_iter().flatten().collect())
    }

    /// The fault of the client address of this node, if it has one.
    pub(crate) fn fault(&self, id: u32) -> Option<&str> {
        self.0.get(&id).map(String::as_str)
    }

    /// One line for each member of `status` that clients do not find.
    pub(crate) fn lines<'a>(
        &'a self,
        status: &'a StatusResponse,
    ) -> impl Iterator<Item = String> + 'a {
        status.members.iter().filter_map(|member| {
            let fault = self.fault(member.id)?;
            let MemberStatus {
                id,
                addr,
                client_addr,
                ..
            } = member;
            let (addr, client_addr) = (printable(addr), printable(client_addr));
            Some(format!(
                "clients are sent to node {id} at {client_addr}, and {fault} (if that is not its \
                 address: seshat member add {id} {addr} HOST:PORT)"
            ))
        })
    }
}

/// The fault of the client address of `member`, which takes part in `cluster`.
async fn fault(admin: &Admin, cluster: Option<u64>, member: &MemberStatus) -> Option<String> {
    match admin.at(&member.client_addr).await {
        Ok(found) if found.answered_by != member.id => {
            Some(format!("node {} answers there", found.answered_by))
        }
        Ok(found) => {
            let differ = |(one, other)| one != other;
            let other = cluster.zip(found.cluster_id).is_some_and(differ);
            other.then(|| "a node of another cluster answers there".to_owned())
        }
        Err(error) => {
            let words = error.to_string();
            let prefix = format!("{}: ", member.client_addr);
            let words = printable(words.strip_prefix(&prefix).unwrap_or(&words));
            Some(match error {
                Error::Refused(_) => format!("what answers there is no such node: {words}"),
                _ => format!("it does not answer there: {words}"),
            })
        }
    }
}
