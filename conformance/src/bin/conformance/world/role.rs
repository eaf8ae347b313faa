//! The roles of made-up nodes.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, Value};
use serde::Deserialize;
use tonic::{Code, Status};

use super::backend::{Backend, Backends};
use super::fault::{Refuse, status};
use crate::schema::Schema;
use crate::values::Names;

/// The cluster of a node that names none.
pub(super) const MAIN: &str = "main";

/// A role as a case writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum RoleSpec {
    /// Its name alone.
    Short(RoleName),
    /// With what belongs to it.
    Long(Details),
}

/// The name of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RoleName {
    /// Serves.
    Leader,
    /// Says that it does not lead.
    Follower,
    /// Refuses all requests.
    Refusing,
    /// Accepts connections, and neither reads nor writes.
    Silent,
    /// Refuses connections.
    Closed,
}

/// A role with what belongs to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Details {
    role: RoleName,
    /// The node that a follower names as the leader, or an address.
    hint: Option<String>,
    /// How a node refuses.
    refuse: Option<Refuse>,
    /// The cluster of the node.
    cluster: Option<String>,
    /// The cluster from which that was recovered.
    successor_of: Option<String>,
}

/// A role.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) kind: Kind,
    /// The cluster of the node.
    pub(crate) cluster: Arc<Backend>,
    /// The cluster from which that was recovered.
    former: Option<u64>,
}

/// What a node does.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Leader,
    Refusing(Status),
    Silent,
    Closed,
}

impl RoleSpec {
    /// The clusters that it names.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &str> {
        let details = match self {
            Self::Short(_) => None,
            Self::Long(details) => Some(details),
        };
        let own = details.and_then(|it| it.cluster.as_deref()).unwrap_or(MAIN);
        std::iter::once(own).chain(details.and_then(|it| it.successor_of.as_deref()))
    }

    /// The role.
    pub(crate) fn role(&self, clusters: &Backends, schema: &Schema, names: &Names) -> Result<Role> {
        let details = match self {
            Self::Short(role) => &Details {
                role: *role,
                hint: None,
                refuse: None,
                cluster: None,
                successor_of: None,
            },
            Self::Long(details) => details,
        };
        let cluster = |name: &str| {
            clusters
                .get(name)
                .with_context(|| format!("no node began in {name:?}"))
        };
        ensure!(
            details.hint.is_none() || details.role == RoleName::Follower,
            "only a follower has a hint"
        );
        let kind = match details.role {
            RoleName::Leader => Kind::Leader,
            RoleName::Follower => {
                Kind::Refusing(not_leader(details.hint.as_deref(), schema, names)?)
            }
            RoleName::Refusing => {
                let refuse = details.refuse.as_ref().context("how does it refuse?")?;
                Kind::Refusing(refuse.status(schema, names)?)
            }
            RoleName::Silent => Kind::Silent,
            RoleName::Closed => Kind::Closed,
        };
        let former = details.successor_of.as_deref().map(cluster).transpose()?;
        Ok(Role {
            kind,
            cluster: Arc::clone(cluster(details.cluster.as_deref().unwrap_or(MAIN))?),
            former: former.map(|it| it.cluster_id),
        })
    }
}

fn not_leader(hint: Option<&str>, schema: &Schema, names: &Names) -> Result<Status> {
    let mut table = toml::Table::new();
    let mut reason = toml::Table::new();
    if let Some(hint) = hint {
        reason.insert("leader_id".to_owned(), 1.into());
        reason.insert("leader_addr".to_owned(), hint.into());
    }
    table.insert("applied".to_owned(), "no".into());
    table.insert("not_leader".to_owned(), reason.into());
    let detail = schema.message("seshat.kv.v1.ErrorDetail")?;
    let detail = crate::values::message(&detail, &table, names)?;
    Ok(status(Code::FailedPrecondition, Some(&detail)))
}

impl Role {
    /// Why a request is refused, if it is. `None`: the true cluster decides.
    pub(crate) fn refusal(&self, method: &str, request: Option<&DynamicMessage>) -> Option<Status> {
        let named = request
            .filter(|it| it.has_field_by_name("cluster_id"))
            .and_then(|it| it.get_field_by_name("cluster_id")?.as_u64());
        if method != "Watch" && named.is_some() && named == self.former {
            return Some(self.successor());
        }
        let Kind::Refusing(refusal) = &self.kind else {
            return None;
        };
        let is_empty_key = request
            .and_then(|it| it.get_field_by_name("key"))
            .is_some_and(|key| *key == Value::Bytes(Bytes::new()));
        let is_for_others = named.is_some_and(|it| it != self.cluster.cluster_id);
        // A follower looks at the cluster and at the form of a request first.
        let passes = is_not_leader(refusal) && (method == "Watch" || is_for_others || is_empty_key);
        (!passes).then(|| refusal.clone())
    }

    fn successor(&self) -> Status {
        use seshat::error::{Reason, Refusal};
        let reason = Reason::OtherCluster {
            cluster_id: seshat::types::ClusterId(self.cluster.cluster_id),
            successor: true,
        };
        seshat::service::to_status(&Refusal::not_applied(reason), None)
    }
}

fn is_not_leader(refusal: &Status) -> bool {
    refusal.code() == Code::FailedPrecondition
}
