//! Refusals in a gRPC status: one message among the details of a `google.rpc.Status`.

use prost::Name;
use prost_types::Any;

use crate::error::{Applied, NotMe, Reason, Refusal};
use crate::proto::kv::error_detail::Reason as ProtoReason;
use crate::proto::kv::{self as proto, ErrorDetail};
use crate::proto::raft::NotMe as ProtoNotMe;
use crate::types::ClusterId;
use crate::wire::WireError;
use crate::wire::check::Check;

/// `detail`, packed for the details of a status.
pub fn pack_detail<D: Name>(detail: &D) -> Any {
    Any {
        type_url: D::type_url(),
        value: detail.encode_to_vec(),
    }
}

/// The first detail of type `D` among the details of a status. A detail that cannot be decoded counts as
/// missing: the status says enough without it.
pub fn find_detail<D: Name + Default>(details: &[Any]) -> Option<D> {
    // Only the part after the last slash names the type. The part before it may be any host.
    let name = D::full_name();
    let detail = details
        .iter()
        .find(|detail| detail.type_url.rsplit('/').next() == Some(&name))?;
    D::decode(detail.value.as_slice()).ok()
}

/// The detail for a client about `refusal`. `leader_addr` is the leader's client address. It is included
/// if the refusal names a leader.
pub fn error_detail(refusal: &Refusal, leader_addr: Option<&str>) -> ErrorDetail {
    let Refusal { reason, applied } = refusal;
    let reason = match reason {
        Reason::NotLeader { leader_id } => ProtoReason::NotLeader(proto::NotLeader {
            leader_id: leader_id.map(Into::into),
            leader_addr: leader_id.and(leader_addr).map(str::to_owned),
        }),
        Reason::NoQuorum => ProtoReason::NoQuorum(proto::NoQuorum { cut_off: false }),
        Reason::CutOff => ProtoReason::NoQuorum(proto::NoQuorum { cut_off: true }),
        Reason::Overloaded { what, limit } => ProtoReason::Overloaded(proto::Overloaded {
            what: (*what).to_owned(),
            limit: *limit,
        }),
        Reason::Full {
            what,
            limit,
            node_id,
        } => ProtoReason::Full(proto::Full {
            what: (*what).to_owned(),
            limit: *limit,
            node_id: Some((*node_id).into()),
        }),
        Reason::TooLarge {
            what,
            limit,
            node_id,
        } => ProtoReason::TooLarge(proto::TooLarge {
            what: (*what).to_owned(),
            limit: *limit,
            node_id: node_id.map(Into::into),
        }),
        Reason::Forming { waiting_for } => ProtoReason::Forming(proto::Forming {
            waiting_for: waiting_for.clone(),
        }),
        Reason::InvalidRequest { field, rule } => {
            ProtoReason::InvalidRequest(proto::InvalidRequest {
                field: (*field).to_owned(),
                rule: rule.clone(),
            })
        }
        Reason::FailedPrecondition { rule } => {
            ProtoReason::FailedPrecondition(proto::FailedPrecondition { rule: rule.clone() })
        }
        Reason::SessionExpired { client_id } | Reason::SessionNotLiving { client_id } => {
            ProtoReason::SessionExpired(proto::SessionExpired {
                client_id: client_id.0,
            })
        }
        Reason::OtherCluster {
            cluster_id,
            successor,
        } => ProtoReason::OtherCluster(proto::OtherCluster {
            cluster_id: cluster_id.0,
            successor: *successor,
        }),
        Reason::ShuttingDown => ProtoReason::ShuttingDown(proto::ShuttingDown {}),
    };
    ErrorDetail {
        applied: proto::Applied::from(*applied).into(),
        reason: Some(reason),
    }
}

impl From<Applied> for proto::Applied {
    fn from(applied: Applied) -> Self {
        match applied {
            Applied::No => Self::No,
            Applied::Unknown => Self::Unknown,
        }
    }
}

/// The conclusion for a client: a write was surely not applied only if a node says so.
impl From<proto::Applied> for Applied {
    fn from(applied: proto::Applied) -> Self {
        match applied {
            proto::Applied::No => Self::No,
            proto::Applied::Unknown | proto::Applied::Unspecified => Self::Unknown,
        }
    }
}

impl From<NotMe> for ProtoNotMe {
    fn from(not_me: NotMe) -> Self {
        let NotMe {
            raft_id,
            cluster_id,
        } = not_me;
        Self {
            raft_id: raft_id.get(),
            cluster_id: cluster_id.map(|id| id.0),
        }
    }
}

impl TryFrom<ProtoNotMe> for NotMe {
    type Error = WireError;

    fn try_from(not_me: ProtoNotMe) -> Result<Self, WireError> {
        let ProtoNotMe {
            raft_id,
            cluster_id,
        } = not_me;
        Ok(Self {
            raft_id: Check("NotMe").raft_id("raft_id", raft_id)?,
            cluster_id: cluster_id.map(ClusterId),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, RaftId};

    fn not_leader(leader: Option<u16>) -> Refusal {
        Refusal::not_applied(Reason::NotLeader {
            leader_id: leader.and_then(NodeId::new),
        })
    }

    #[test]
    fn every_reason_has_its_detail() {
        let cases = [
            (
                Reason::NotLeader {
                    leader_id: NodeId::new(3),
                },
                ProtoReason::NotLeader(proto::NotLeader {
                    leader_id: Some(3),
                    leader_addr: Some("c:1".to_owned()),
                }),
            ),
            (
                Reason::NoQuorum,
                ProtoReason::NoQuorum(proto::NoQuorum { cut_off: false }),
            ),
            (
                Reason::CutOff,
                ProtoReason::NoQuorum(proto::NoQuorum { cut_off: true }),
            ),
            (
                Reason::Overloaded {
                    what: "proposals",
                    limit: 7,
                },
                ProtoReason::Overloaded(proto::Overloaded {
                    what: "proposals".to_owned(),
                    limit: 7,
                }),
            ),
            (
                Reason::Full {
                    what: "max_state_bytes",
                    limit: 8,
                    node_id: NodeId::new(3).unwrap(),
                },
                ProtoReason::Full(proto::Full {
                    what: "max_state_bytes".to_owned(),
                    limit: 8,
                    node_id: Some(3),
                }),
            ),
            (
                Reason::TooLarge {
                    what: "key",
                    limit: 4096,
                    node_id: NodeId::new(3),
                },
                ProtoReason::TooLarge(proto::TooLarge {
                    what: "key".to_owned(),
                    limit: 4096,
                    node_id: Some(3),
                }),
            ),
            (
                Reason::Forming {
                    waiting_for: "node 2".to_owned(),
                },
                ProtoReason::Forming(proto::Forming {
                    waiting_for: "node 2".to_owned(),
                }),
            ),
            (
                Reason::InvalidRequest {
                    field: "key",
                    rule: "not empty".to_owned(),
                },
                ProtoReason::InvalidRequest(proto::InvalidRequest {
                    field: "key".to_owned(),
                    rule: "not empty".to_owned(),
                }),
            ),
            (
                Reason::OtherCluster {
                    cluster_id: ClusterId(8),
                    successor: true,
                },
                ProtoReason::OtherCluster(proto::OtherCluster {
                    cluster_id: 8,
                    successor: true,
                }),
            ),
            (
                Reason::ShuttingDown,
                ProtoReason::ShuttingDown(proto::ShuttingDown {}),
            ),
        ];
        for (reason, expected) in cases {
            let detail = error_detail(&Refusal::unknown(reason), Some("c:1"));
            assert_eq!(detail.reason, Some(expected));
            assert_eq!(detail.applied(), proto::Applied::Unknown);
        }
    }

    #[test]
    fn an_address_goes_with_a_leader_only() {
        let detail = error_detail(&not_leader(None), Some("c:1"));
        let Some(ProtoReason::NotLeader(reason)) = detail.reason else {
            panic!("NotLeader");
        };
        assert_eq!((reason.leader_id, reason.leader_addr), (None, None));
    }

    #[test]
    fn a_write_is_surely_not_applied_only_if_the_node_says_so() {
        let detail = error_detail(&not_leader(None), None);
        assert_eq!(Applied::from(detail.applied()), Applied::No);
        assert_eq!(Applied::from(proto::Applied::Unknown), Applied::Unknown);
        // Missing, or a value of a later version.
        for applied in [0, 99] {
            let detail = ErrorDetail {
                applied,
                reason: None,
            };
            assert_eq!(Applied::from(detail.applied()), Applied::Unknown);
        }
    }

    #[test]
    fn not_me_survives() {
        for cluster_id in [None, Some(ClusterId(0)), Some(ClusterId(7))] {
            let not_me = NotMe {
                raft_id: RaftId::try_from(5 << 48 | 9).unwrap(),
                cluster_id,
            };
            assert_eq!(NotMe::try_from(ProtoNotMe::from(not_me)), Ok(not_me));
        }
        let error = NotMe::try_from(ProtoNotMe::default()).unwrap_err();
        assert_eq!((error.message, error.field), ("NotMe", "raft_id"));
    }

    #[test]
    fn details_are_found_by_their_type() {
        let not_me = ProtoNotMe {
            raft_id: 1 << 48,
            cluster_id: None,
        };
        let refusal = error_detail(&not_leader(Some(3)), None);
        let details = [pack_detail(&not_me), pack_detail(&refusal)];
        assert_eq!(find_detail(&details), Some(not_me));
        assert_eq!(find_detail(&details), Some(refusal));
        assert_eq!(find_detail::<ErrorDetail>(&details[..1]), None);

        let mut elsewhere = pack_detail(&not_me);
        elsewhere.type_url = "types.example/seshat.raft.v1.NotMe".to_owned();
        assert_eq!(find_detail(&[elsewhere.clone()]), Some(not_me));
        elsewhere.value = vec![0xff];
        assert_eq!(find_detail::<ProtoNotMe>(&[elsewhere]), None);
    }
}
