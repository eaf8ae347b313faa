//! Waits until the cluster is healed, and shows its state meanwhile.

use std::time::Duration;

use seshat::client::Error;
use seshat::proto::admin::{ClusterState, MemberRole, MemberStatus, StatusResponse};

use super::client::Cluster;
use super::failure::Failure;
use super::status::summary;
use super::tell;

/// Pause before the status is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether a command that changes the cluster waits for the end of the change.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitOptions {
    /// Wait until the cluster is healed; this is the default
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,

    /// Return as soon as the change is decided; seshat status shows how it goes on
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,

    /// While waiting, say nothing on standard error
    #[arg(long)]
    quiet: bool,
}

impl WaitOptions {
    /// Waits until a change is carried out, unless the user has chosen not to wait. Shows what it waits
    /// for, unless the answer is in JSON.
    pub(crate) async fn finish(
        &self,
        cluster: &Cluster,
        json: bool,
        suits: impl Fn(&StatusResponse) -> bool,
    ) -> Result<Option<StatusResponse>, Failure> {
        let look = async || cluster.admin().fresh_status().await;
        self.reach(Goal::Settled, look, cluster, json, suits).await
    }

    /// Waits until `goal` is reached, unless the user has chosen not to wait. `look` returns the status.
    pub(crate) async fn reach(
        &self,
        goal: Goal,
        look: impl AsyncFn() -> Result<StatusResponse, Error>,
        cluster: &Cluster,
        json: bool,
        suits: impl Fn(&StatusResponse) -> bool,
    ) -> Result<Option<StatusResponse>, Failure> {
        if self.no_wait {
            return Ok(None);
        }
        let progress = Progress::new(self.quiet || json);
        until(goal, look, cluster, progress, suits).await.map(Some)
    }
}

/// Prints the state of the cluster to standard error whenever it has changed.
pub(crate) struct Progress {
    quiet: bool,
    said: Option<String>,
}

impl Progress {
    /// A progress without a printed state. If `quiet`, it never prints.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, said: None }
    }

    fn tell(&mut self, summary: String) {
        if self.said.as_ref() == Some(&summary) {
            return;
        }
        if !self.quiet {
            tell(&summary);
        }
        self.said = Some(summary);
    }
}

/// The goal of a command that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Any one member may be restarted.
    Healed,
    /// A change is carried out: the cluster is healed, or all members take part but are too few to lose
    /// one.
    Settled,
    /// Every member votes except these, which cannot: they are gone, or have to be restarted first.
    AllVoteBut(Vec<u32>),
}

impl Goal {
    fn is_reached(&self, status: &StatusResponse) -> bool {
        let reached = match self {
            Self::Healed => false,
            Self::Settled => status.state() == ClusterState::NoSpare,
            Self::AllVoteBut(others) => {
                let members = status.members.iter();
                let mut wanted = members.filter(|member| !others.contains(&member.id));
                status.leader_id.is_some() && wanted.all(votes)
            }
        };
        status.healed || reached
    }
}

fn votes(member: &MemberStatus) -> bool {
    matches!(member.role(), MemberRole::Follower | MemberRole::Leader)
}

/// Asks for the status until the goal is reached and `suits` accepts the status.
///
/// # Errors
///
/// The cluster cannot reach the goal by itself, or the time limit passed: the last state of the cluster,
/// or the error of the last attempt if there was no state.
pub(crate) async fn until(
    goal: Goal,
    look: impl AsyncFn() -> Result<StatusResponse, Error>,
    cluster: &Cluster,
    mut progress: Progress,
    suits: impl Fn(&StatusResponse) -> bool,
) -> Result<StatusResponse, Failure> {
    loop {
        let failure = match look().await {
            Ok(status) if goal.is_reached(&status) && suits(&status) => return Ok(status),
            Ok(status) if is_hopeless(&status) && suits(&status) => {
                let summary = summary(&status);
                let message = format!("the cluster cannot be healed: {summary}");
                return Err(Failure::not_healed(message));
            }
            Ok(status) => {
                progress.tell(summary(&status));
                None
            }
            Err(error) => Some(Failure::from(error)),
        };
        let too_late = failure.is_some() || !cluster.pause(PAUSE).await;
        if too_late {
            let timeout = cluster.timeout();
            return Err(match (progress.said, failure) {
                (None, Some(failure)) => failure,
                (said, _) => Failure::not_healed(format!(
                    "the cluster was not healed within {timeout}: {}",
                    said.unwrap_or_default()
                )),
            });
        }
    }
}

/// Whether the cluster cannot heal by itself: an operator has to act.
fn is_hopeless(status: &StatusResponse) -> bool {
    matches!(status.state(), ClusterState::NoSpare | ClusterState::Halted)
}
