//! Finds one node among those of a cluster, by its node id.

use seshat::proto::admin::StatusResponse;

use super::client::{Client, Node};
use super::failure::Failure;
use super::options::endpoint;
use super::status::ask;

/// The node `id`, and how it sees the cluster: it is one of the endpoints, or one of them knows
/// where clients reach it.
pub(crate) async fn find(client: &Client, id: u16) -> Result<(Node, StatusResponse), Failure> {
    let mut search = client.search(&ask);
    let mut known = None;
    loop {
        let (node, view) = match search.next().await {
            Ok(answer) => answer,
            Err(failure) => return Err(not_found(id, known, failure)),
        };
        if view.answered_by == u32::from(id) {
            return Ok((node, view));
        }
        let member = view.members.iter().find(|it| it.id == u32::from(id));
        let address = member.and_then(|member| endpoint(&member.client_addr).ok());
        if let Some(address) = &address {
            search.add(address);
        }
        if address.is_some() || known.is_none() {
            known = Some(address);
        }
    }
}

/// `known` is what those who answered say: `None` if nobody did, `Some(None)` if they know no such
/// member.
fn not_found(id: u16, known: Option<Option<String>>, failure: Failure) -> Failure {
    match known {
        None => failure,
        Some(None) => Failure::no_node(format!("node {id} is no member of this cluster")),
        Some(Some(address)) => Failure::no_node(format!(
            "node {id} does not answer at {address}: {}",
            failure.message()
        )),
    }
}
