//! The gRPC status of a refusal.

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::error::{Applied, Reason, Refusal};
use crate::wire;

/// The gRPC status of a refusal, with the typed
/// [`ErrorDetail`](crate::proto::kv::ErrorDetail) in its `google.rpc.Status` details.
/// `leader_addr` is where clients reach the leader that the refusal names.
///
/// A client that reads the detail needs no code. The codes are for generic retries, proxies and
/// dashboards. gRPC retry policies repeat `UNAVAILABLE`, blindly and at the same address, so this code is
/// used only where repeating is safe *and* may help at this node.
///
/// | refusal | surely not applied | outcome unknown |
/// |---|---|---|
/// | `NoQuorum`, `CutOff` | `UNAVAILABLE` | `DEADLINE_EXCEEDED`: gRPC's own word for "may have happened" |
/// | `Forming` | `UNAVAILABLE` | `UNKNOWN` |
/// | `ShuttingDown` | `UNAVAILABLE` | `UNKNOWN` |
/// | `NotLeader` | `FAILED_PRECONDITION`: ask another node, not this one | `UNKNOWN` |
/// | `Overloaded`, `Full` | `RESOURCE_EXHAUSTED` | `UNKNOWN` |
/// | `TooLarge`, `InvalidRequest` | `INVALID_ARGUMENT` | `UNKNOWN` |
/// | `FailedPrecondition`, `SessionExpired`, `SessionNotLiving`, `OtherCluster` | `FAILED_PRECONDITION` | `UNKNOWN` |
///
/// `ABORTED` would seem right for a leader that stepped down halfway, but generic clients read it as "was
/// not done, do it again".
pub fn to_status(refusal: &Refusal, leader_addr: Option<&str>) -> Status {
    with_message(refusal, leader_addr, refusal.to_string())
}

/// [`to_status`] with another message than the refusal's own.
pub(super) fn with_message(
    refusal: &Refusal,
    leader_addr: Option<&str>,
    message: String,
) -> Status {
    status(code(refusal), refusal, leader_addr, message)
}

/// [`to_status`] with another code than the refusal's own.
pub(super) fn with_code(code: Code, refusal: &Refusal) -> Status {
    status(code, refusal, None, refusal.to_string())
}

fn status(code: Code, refusal: &Refusal, leader_addr: Option<&str>, message: String) -> Status {
    let detail = wire::error_detail(refusal, leader_addr);
    let status = pb::Status {
        code: code.into(),
        message,
        details: vec![wire::pack_detail(&detail)],
    };
    let details = status.encode_to_vec().into();
    Status::with_details(code, status.message, details)
}

fn code(refusal: &Refusal) -> Code {
    match (refusal.applied, &refusal.reason) {
        (
            Applied::No,
            Reason::NoQuorum | Reason::CutOff | Reason::Forming { .. } | Reason::ShuttingDown,
        ) => Code::Unavailable,
        (
            Applied::No,
            Reason::NotLeader { .. }
            | Reason::FailedPrecondition { .. }
            | Reason::SessionExpired { .. }
            | Reason::SessionNotLiving { .. }
            | Reason::OtherCluster { .. },
        ) => Code::FailedPrecondition,
        (Applied::No, Reason::Overloaded { .. } | Reason::Full { .. }) => Code::ResourceExhausted,
        (Applied::No, Reason::TooLarge { .. } | Reason::InvalidRequest { .. }) => {
            Code::InvalidArgument
        }
        (Applied::Unknown, Reason::NoQuorum | Reason::CutOff) => Code::DeadlineExceeded,
        (
            Applied::Unknown,
            Reason::NotLeader { .. }
            | Reason::Overloaded { .. }
            | Reason::Full { .. }
            | Reason::TooLarge { .. }
            | Reason::Forming { .. }
            | Reason::InvalidRequest { .. }
            | Reason::FailedPrecondition { .. }
            | Reason::SessionExpired { .. }
            | Reason::SessionNotLiving { .. }
            | Reason::OtherCluster { .. }
            | Reason::ShuttingDown,
        ) => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::kv;
    use crate::proto::kv::error_detail::Reason as Detail;
    use crate::types::{ClientId, NodeId};

    /// The code that a client receives, and the detail decoded from the bytes.
    fn received(refusal: &Refusal, leader_addr: Option<&str>) -> (Code, kv::ErrorDetail) {
        let status = to_status(refusal, leader_addr);
        let packed = pb::Status::decode(status.details()).unwrap();
        assert_eq!(packed.code, i32::from(status.code()));
        assert_eq!(packed.message, status.message());
        assert_eq!(status.message(), refusal.to_string());
        let [any] = packed.details.as_slice() else {
            panic!("{} details", packed.details.len());
        };
        assert_eq!(any.type_url, "type.googleapis.com/seshat.kv.v1.ErrorDetail");
        (
            status.code(),
            kv::ErrorDetail::decode(any.value.as_slice()).unwrap(),
        )
    }

    #[test]
    fn every_refusal_has_its_code_and_its_detail() {
        let table = [
            (
                Reason::NotLeader {
                    leader_id: NodeId::new(2),
                },
                Code::FailedPrecondition,
                Code::Unknown,
                Detail::NotLeader(kv::NotLeader {
                    leader_id: Some(2),
                    leader_addr: Some("kvstore-2:6379".to_owned()),
                }),
            ),
            (
                Reason::NoQuorum,
                Code::Unavailable,
                Code::DeadlineExceeded,
                Detail::NoQuorum(kv::NoQuorum { cut_off: false }),
            ),
            (
                Reason::Overloaded {
                    what: "max_pending_requests",
                    limit: 7,
                },
                Code::ResourceExhausted,
                Code::Unknown,
                Detail::Overloaded(kv::Overloaded {
                    what: "max_pending_requests".to_owned(),
                    limit: 7,
                }),
            ),
            (
                Reason::Full {
                    what: "max_state_bytes",
                    limit: 8,
                    node_id: NodeId::new(3).unwrap(),
                },
                Code::ResourceExhausted,
                Code::Unknown,
                Detail::Full(kv::Full {
                    what: "max_state_bytes".to_owned(),
                    limit: 8,
                    node_id: Some(3),
                }),
            ),
            (
                Reason::TooLarge {
                    what: "value",
                    limit: 9,
                    node_id: NodeId::new(3),
                },
                Code::InvalidArgument,
                Code::Unknown,
                Detail::TooLarge(kv::TooLarge {
                    what: "value".to_owned(),
                    limit: 9,
                    node_id: Some(3),
                }),
            ),
            (
                Reason::Forming {
                    waiting_for: "node 3".to_owned(),
                },
                Code::Unavailable,
                Code::Unknown,
                Detail::Forming(kv::Forming {
                    waiting_for: "node 3".to_owned(),
                }),
            ),
            (
                Reason::InvalidRequest {
                    field: "key",
                    rule: "at least 1 byte".to_owned(),
                },
                Code::InvalidArgument,
                Code::Unknown,
                Detail::InvalidRequest(kv::InvalidRequest {
                    field: "key".to_owned(),
                    rule: "at least 1 byte".to_owned(),
                }),
            ),
            (
                Reason::FailedPrecondition {
                    rule: "all is well".to_owned(),
                },
                Code::FailedPrecondition,
                Code::Unknown,
                Detail::FailedPrecondition(kv::FailedPrecondition {
                    rule: "all is well".to_owned(),
                }),
            ),
            (
                Reason::SessionExpired {
                    client_id: ClientId(7),
                },
                Code::FailedPrecondition,
                Code::Unknown,
                Detail::SessionExpired(kv::SessionExpired { client_id: 7 }),
            ),
            (
                Reason::SessionNotLiving {
                    client_id: ClientId(7),
                },
                Code::FailedPrecondition,
                Code::Unknown,
                Detail::SessionExpired(kv::SessionExpired { client_id: 7 }),
            ),
            (
                Reason::ShuttingDown,
                Code::Unavailable,
                Code::Unknown,
                Detail::ShuttingDown(kv::ShuttingDown {}),
            ),
        ];
        for (reason, not_applied, unknown, detail) in table {
            for (refusal, code, applied) in [
                (
                    Refusal::not_applied(reason.clone()),
                    not_applied,
                    kv::Applied::No,
                ),
                (
                    Refusal::unknown(reason.clone()),
                    unknown,
                    kv::Applied::Unknown,
                ),
            ] {
                let leader_addr =
                    matches!(reason, Reason::NotLeader { .. }).then_some("kvstore-2:6379");
                let expected = kv::ErrorDetail {
                    applied: applied.into(),
                    reason: Some(detail.clone()),
                };
                assert_eq!(
                    received(&refusal, leader_addr),
                    (code, expected),
                    "{refusal}"
                );
                // A blind retry must never repeat a write whose outcome is unknown.
                assert!(
                    applied == kv::Applied::No || code != Code::Unavailable,
                    "{refusal}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_leader_is_left_out() {
        let refusal = Refusal::not_applied(Reason::NotLeader { leader_id: None });
        let (_, detail) = received(&refusal, None);
        assert_eq!(
            detail.reason,
            Some(Detail::NotLeader(kv::NotLeader::default()))
        );
    }
}
