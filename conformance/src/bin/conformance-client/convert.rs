//! The types of the client as those of the protocol with the runner.

use std::time::Duration;

use seshat::client;
use seshat_conformance::protocol::{Applied, Entry, Failure, Kind};

/// The error of a call.
pub(crate) fn failure(error: &client::Error) -> Failure {
    let kind = match error {
        client::Error::Refused(_) => Kind::Refused,
        client::Error::Unreachable { .. } => Kind::Unreachable,
        client::Error::Deadline { .. } => Kind::Deadline,
        client::Error::Unserved { .. } => Kind::Unserved,
        client::Error::Interrupted { .. } => Kind::Interrupted,
        client::Error::SessionLost { .. } => Kind::SessionLost,
        client::Error::Invalid { .. } => Kind::Invalid,
        _ => Kind::Unspecified,
    };
    Failure {
        applied: match error.applied() {
            client::Applied::No => Applied::No,
            client::Applied::Unknown => Applied::Unknown,
        }
        .into(),
        kind: kind.into(),
        reason: error.reason().map(reason).unwrap_or_default().to_owned(),
        message: error.to_string(),
    }
}

fn reason(reason: &client::Reason) -> &'static str {
    match reason {
        client::Reason::NotLeader(_) => "not_leader",
        client::Reason::NoQuorum(_) => "no_quorum",
        client::Reason::Overloaded(_) => "overloaded",
        client::Reason::TooLarge(_) => "too_large",
        client::Reason::Forming(_) => "forming",
        client::Reason::InvalidRequest(_) => "invalid_request",
        client::Reason::ShuttingDown(_) => "shutting_down",
        client::Reason::FailedPrecondition(_) => "failed_precondition",
        client::Reason::SessionExpired(_) => "session_expired",
        client::Reason::Full(_) => "full",
        client::Reason::OtherCluster(_) => "other_cluster",
    }
}

/// The fault of a request that no client could carry out.
pub(crate) fn invalid(why: impl ToString) -> Failure {
    Failure {
        applied: Applied::No.into(),
        kind: Kind::Invalid.into(),
        reason: String::new(),
        message: why.to_string(),
    }
}

/// An entry.
pub(crate) fn entry(entry: client::Entry) -> Entry {
    Entry {
        key: entry.key,
        value: entry.value,
        revision: entry.revision,
    }
}

/// What a key was found to be bound to.
pub(crate) fn found(key: bytes::Bytes, found: client::Found) -> Option<Entry> {
    let client::Found {
        value, revision, ..
    } = found;
    value.map(|value| Entry {
        key,
        value,
        revision,
    })
}

/// A duration.
pub(crate) fn duration(duration: prost_types::Duration) -> Result<Duration, Failure> {
    duration.try_into().map_err(invalid)
}
