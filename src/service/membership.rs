//! Changes of the members, which operators decide.
//!
//! A change is a command in the log like any write. The leader then brings the voters in line with the
//! members, one at a time. [`cluster`](crate::cluster) decides when a change may be made, by what every
//! member answers when it is asked for this.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::admin::AdminService;
use crate::address::Address;
use crate::cluster::{self, Survey};
use crate::deadline::after;
use crate::driver::Answer;
use crate::error::{Reason, Refusal};
use crate::kv::Command;
use crate::proto::admin::{
    AddMemberRequest, AddMemberResponse, RemoveMemberRequest, RemoveMemberResponse,
};
use crate::types::{ClusterMembership, LogIndex, NodeId, NodeInfo};
use crate::wire;

/// Pause between two checks whether a change may be made.
const PAUSE: Duration = Duration::from_millis(50);

impl AdminService {
    /// Adds a member, or changes the addresses of one.
    ///
    /// # Errors
    ///
    /// Why the change is refused, or that its outcome is unknown because `deadline` came first.
    pub(super) async fn add(
        &self,
        request: AddMemberRequest,
        deadline: Instant,
    ) -> Result<AddMemberResponse, Refusal> {
        self.host.is_for_us(request.cluster_id)?;
        let info = node_info(request)?;
        let _turn = self.turn.lock().await;
        let check = |survey: &Survey| {
            addresses_are_free(survey.members(), &info)?;
            survey.may_add(&info)
        };
        self.checked(check, deadline).await?;
        let (applied_index, members) = self.decide(Command::AddMember(info), deadline).await?;
        Ok(AddMemberResponse {
            applied_index,
            members,
        })
    }

    /// Removes a member.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub(super) async fn remove(
        &self,
        request: RemoveMemberRequest,
        deadline: Instant,
    ) -> Result<RemoveMemberResponse, Refusal> {
        let RemoveMemberRequest {
            id,
            accept_no_spare,
            cluster_id,
        } = request;
        self.host.is_for_us(cluster_id)?;
        let id = node_id(id)?;
        let _turn = self.turn.lock().await;
        let driver = &self.host.driver;
        cluster::decides(&driver.status())?;
        if !accept_no_spare {
            cluster::costs_nothing(&driver.members(), id)?;
        }
        let check = |survey: &Survey| survey.may_remove(id);
        self.checked(check, deadline).await?;
        let (applied_index, members) = self.decide(Command::RemoveMember(id), deadline).await?;
        Ok(RemoveMemberResponse {
            applied_index,
            members,
        })
    }

    /// Checks that the cluster permits a change now. Right after an election or a change, an obstacle
    /// may end in a moment. So the check is repeated for as long as an election may take.
    async fn checked(
        &self,
        check: impl Fn(&Survey) -> Result<(), Refusal>,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let max_wait = after(self.host.options.transfer_timeout).min(deadline);
        loop {
            cluster::decides(&self.host.driver.status())?;
            let longest = self.host.options.member_timeout;
            let checked = check(&*self.host.surveys.fresh(longest).await);
            let may_end = matches!(
                &checked,
                Err(Refusal {
                    reason: Reason::FailedPrecondition { .. },
                    ..
                })
            );
            if !may_end || after(PAUSE) > max_wait {
                return checked;
            }
            sleep(PAUSE).await;
        }
    }

    /// Proposes the change and waits until it is applied. Returns its index, and the members.
    async fn decide(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<(LogIndex, Vec<u32>), Refusal> {
        let _permit = self.host.admission.enter(0)?;
        let driver = &self.host.driver;
        let outcome = driver.write(wire::encode_command(&command))?;
        let applied_index = match timeout_at(deadline, outcome).await {
            Ok(Ok(Ok(Answer::MembersDecided { applied_index }))) => applied_index,
            Ok(Ok(Err(refusal))) => return Err(refusal),
            Ok(Err(_)) => return Err(Refusal::unknown(Reason::ShuttingDown)),
            Ok(Ok(Ok(_))) | Err(_) => return Err(Refusal::unknown(Reason::NoQuorum)),
        };
        // The driver answers before it publishes the members that it has applied.
        while driver.status().applied_index < applied_index && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        let members = driver.members().ids().map(u32::from).collect();
        Ok((applied_index, members))
    }
}

fn node_id(id: u32) -> Result<NodeId, Refusal> {
    NodeId::try_from(id).map_err(|error| Refusal::invalid("id", error.to_string()))
}

fn address(field: &'static str, text: &str) -> Result<Address, Refusal> {
    let address: Address = text.parse().map_err(|problem| {
        Refusal::invalid(field, format!("{text:?} {problem}; expected host:port"))
    })?;
    if address.is_unspecified() {
        let rule = format!("{text:?} leads nowhere from another machine");
        return Err(Refusal::invalid(field, rule));
    }
    Ok(address)
}

/// The node that a request describes, with valid addresses.
fn node_info(request: AddMemberRequest) -> Result<NodeInfo, Refusal> {
    let AddMemberRequest {
        id,
        addr,
        client_addr,
        cluster_id: _,
    } = request;
    let id = node_id(id)?;
    if address("addr", &addr)? == address("client_addr", &client_addr)? {
        return Err(Refusal::invalid("client_addr", "it is addr as well"));
    }
    Ok(NodeInfo {
        id,
        addr,
        client_addr,
    })
}

/// Checks that no other member has one of these addresses.
fn addresses_are_free(members: &ClusterMembership, info: &NodeInfo) -> Result<(), Refusal> {
    for (field, text) in [("addr", &info.addr), ("client_addr", &info.client_addr)] {
        let wanted = address(field, text)?;
        let taken = |other: &&NodeInfo| {
            let theirs = [&other.addr, &other.client_addr];
            other.id != info.id && theirs.iter().any(|addr| addr.parse() == Ok(wanted.clone()))
        };
        if let Some(other) = members.iter().find(taken) {
            let rule = format!("it is an address of node {}", other.id);
            return Err(Refusal::invalid(field, rule));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_addresses_and_of_one_node() {
        let request = |id: u32, addr: &str, client_addr: &str| AddMemberRequest {
            id,
            addr: addr.to_owned(),
            client_addr: client_addr.to_owned(),
            cluster_id: None,
        };
        let members = [1, 2, 3].map(|id| NodeId::new(id).unwrap()).into();
        let checked = |request| {
            let free = node_info(request).and_then(|info| addresses_are_free(&members, &info));
            free.map_or_else(|refusal| refusal.reason.to_string(), |()| "ok".to_owned())
        };
        assert_eq!(checked(request(4, "d:1", "d:2")), "ok");
        for (request, problem) in [
            (
                request(0, "d:1", "d:2"),
                "id: 0 is no node id: node ids are 1 to 65535",
            ),
            (
                request(4, "d", "d:2"),
                "addr: \"d\" has no port; expected host:port",
            ),
            (
                request(4, "d:1", "0.0.0.0:2"),
                "client_addr: \"0.0.0.0:2\" leads nowhere from another machine",
            ),
            (request(4, "d:1", "D:1"), "client_addr: it is addr as well"),
            (
                request(4, "kvstore-2:6379", "d:2"),
                "addr: it is an address of node 2",
            ),
            (
                request(4, "d:1", "KVSTORE-3:7379"),
                "client_addr: it is an address of node 3",
            ),
        ] {
            assert_eq!(checked(request), problem);
        }
    }
}
