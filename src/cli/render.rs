//! Parts of a status in words, for every command that shows one.

use seshat::proto::admin::{ClusterState, MemberRole, MemberStatus, StatusResponse};

use super::failure::printable;

/// The state of the cluster in words: the node's summary, which contains the reason.
pub(crate) fn summary(status: &StatusResponse) -> String {
    match status.summary.as_str() {
        "" => state(status.state()).unwrap_or("unknown state").to_owned(),
        summary => printable(summary),
    }
}

pub(crate) fn state(state: ClusterState) -> Option<&'static str> {
    match state {
        ClusterState::Unspecified => None,
        ClusterState::Forming => Some("forming"),
        ClusterState::Healthy => Some("healthy"),
        ClusterState::Degraded => Some("degraded"),
        ClusterState::NoQuorum => Some("no_quorum"),
        ClusterState::Healing => Some("healing"),
        ClusterState::Halted => Some("halted"),
        ClusterState::NoSpare => Some("no_spare"),
    }
}

/// Lines with aligned columns. A column with only numbers below its header is right-aligned.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    let mut numeric = [true; COLUMNS];
    for (index, row) in rows.iter().enumerate() {
        for ((cell, width), numeric) in row.iter().zip(&mut widths).zip(&mut numeric) {
            *width = cell.chars().count().max(*width);
            let is_number = cell == "-" || cell.bytes().all(|byte| byte.is_ascii_digit());
            *numeric &= index == 0 || is_number;
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).zip(numeric);
        let cells = cells.map(|((cell, width), numeric)| match numeric {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `follower`, or `learner 81 %`.
pub(crate) fn role_and_percent(member: &MemberStatus) -> String {
    let role = role(member.role()).unwrap_or("-");
    match member.caught_up_percent {
        Some(percent) => format!("{role} {percent} %"),
        None => role.to_owned(),
    }
}

pub(crate) fn role(role: MemberRole) -> Option<&'static str> {
    match role {
        MemberRole::Unspecified => None,
        MemberRole::Forming => Some("forming"),
        MemberRole::Outside => Some("outside"),
        MemberRole::Learner => Some("learner"),
        MemberRole::Follower => Some("follower"),
        MemberRole::Candidate => Some("candidate"),
        MemberRole::Leader => Some("leader"),
    }
}
