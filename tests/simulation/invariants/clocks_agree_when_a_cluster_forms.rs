//! No cluster with revisions forms of processes whose clocks differ by more than an hour, or are not
//! credible: its revisions would begin too high or too low.

use seshat::types::{ClusterId, RaftId, WallTime};

use super::{Verdict, safe};

/// The clocks of the processes that form `cluster`.
pub(crate) fn check(cluster: ClusterId, clocks: &[(RaftId, Option<WallTime>)]) -> Verdict {
    let times = || clocks.iter().map(|(_, time)| *time);
    let pairs = times().flat_map(|one| times().map(move |other| (one, other)));
    let mut agree = pairs.map(|pair| match pair {
        (Some(one), Some(other)) => one.agrees_with(other),
        _ => false,
    });
    let all = agree.all(|agree| agree);
    safe(all, "clocks_agree_when_a_cluster_forms", || {
        format!("{cluster} forms while the clocks are {clocks:?}")
    })
}
