//! The request of a process that another one leave the recovery of their cluster to it.

use crate::proto::raft::{YieldRecoveryRequest, YieldRecoveryResponse};
use crate::types::{ClusterId, RaftId, Rank, RecoveryClaim};
use crate::wire::check::Check;
use crate::wire::{MAX_INDEX, MAX_TERM, WireError};

const CLAIM: Check = Check("YieldRecoveryRequest");

/// `claim`, addressed to the process `to`.
pub fn yield_request(claim: RecoveryClaim, to: RaftId) -> YieldRecoveryRequest {
    let RecoveryClaim {
        cluster_id,
        attempt,
        rank:
            Rank {
                last_term,
                last_index,
                votes,
                commit_index,
                raft_id,
            },
    } = claim;
    YieldRecoveryRequest {
        cluster_id: cluster_id.0,
        claimant_id: raft_id.get(),
        attempt,
        last_log_term: last_term,
        last_log_index: last_index,
        votes,
        commit_index,
        to: to.get(),
    }
}

/// The claim in `request`, and its receiver.
///
/// # Errors
///
/// If a field is out of range, or the fields contradict one another.
pub fn claim_from_request(
    request: YieldRecoveryRequest,
) -> Result<(RecoveryClaim, RaftId), WireError> {
    let YieldRecoveryRequest {
        cluster_id,
        claimant_id,
        attempt,
        last_log_term,
        last_log_index,
        votes,
        commit_index,
        to,
    } = request;
    for (field, value, limit) in [
        ("last_log_term", last_log_term, MAX_TERM),
        ("last_log_index", last_log_index, MAX_INDEX),
        ("commit_index", commit_index, last_log_index),
    ] {
        CLAIM.that(
            value <= limit,
            field,
            format_args!("{value} is past {limit}"),
        )?;
    }
    CLAIM.that(attempt > 0, "attempt", format_args!("0 is no attempt"))?;
    let claim = RecoveryClaim {
        cluster_id: ClusterId(cluster_id),
        attempt,
        rank: Rank {
            last_term: last_log_term,
            last_index: last_log_index,
            votes,
            commit_index,
            raft_id: CLAIM.raft_id("claimant_id", claimant_id)?,
        },
    };
    Ok((claim, CLAIM.raft_id("to", to)?))
}

/// The answer of a process: it yields, or it does not for this reason, as text that follows its name.
pub fn yield_response(answer: Result<(), String>) -> YieldRecoveryResponse {
    YieldRecoveryResponse {
        yielded: answer.is_ok(),
        reason: answer.err().unwrap_or_default(),
    }
}

/// Whether a process yields, or why not, as text that follows its name.
///
/// # Errors
///
/// If it does not yield.
pub fn yielded(response: YieldRecoveryResponse) -> Result<(), String> {
    let YieldRecoveryResponse { yielded, reason } = response;
    if yielded { Ok(()) } else { Err(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raft_id_of(node: u64) -> RaftId {
        RaftId::try_from(node << 48 | 0xABC).unwrap()
    }

    fn claim() -> RecoveryClaim {
        RecoveryClaim {
            cluster_id: ClusterId(7),
            attempt: 2,
            rank: Rank {
                last_term: 5,
                last_index: 90,
                votes: true,
                commit_index: 88,
                raft_id: raft_id_of(1),
            },
        }
    }

    #[test]
    fn a_claim_and_its_answer_survive() {
        let request = yield_request(claim(), raft_id_of(4));
        assert_eq!(claim_from_request(request), Ok((claim(), raft_id_of(4))));
        for answer in [Ok(()), Err("has more by now".to_owned())] {
            assert_eq!(yielded(yield_response(answer.clone())), answer);
        }
    }

    #[test]
    fn a_claim_that_makes_no_sense_is_refused() {
        type Spoil = fn(&mut YieldRecoveryRequest);
        let spoils: [(&str, Spoil); 6] = [
            ("claimant_id", |r| r.claimant_id = 1),
            ("attempt", |r| r.attempt = 0),
            ("last_log_term", |r| r.last_log_term = MAX_TERM + 1),
            ("last_log_index", |r| r.last_log_index = MAX_INDEX + 1),
            ("commit_index", |r| r.commit_index = r.last_log_index + 1),
            ("to", |r| r.to = 4),
        ];
        for (field, spoil) in spoils {
            let mut request = yield_request(claim(), raft_id_of(4));
            spoil(&mut request);
            let error = claim_from_request(request).unwrap_err();
            assert_eq!(
                (error.message, error.field),
                ("YieldRecoveryRequest", field)
            );
        }
    }
}
