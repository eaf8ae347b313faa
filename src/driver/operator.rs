//! The part of a [`DriverHandle`] for what only an operator may decide.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::handle::{DriverHandle, Notice};
use crate::cluster::Answers;
use crate::cluster::recovery::Order;
use crate::error::Refusal;
use crate::node::Recovery;
use crate::types::{ClusterId, NodeId};

impl DriverHandle {
    /// Begins to form a cluster without the initial members that are fresh according to an operator's
    /// statement. Watch [`status`](Self::watch) for the outcome. See
    /// [`Formation::form_without`](crate::node::Formation::form_without).
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidRequest`], [`Reason::FailedPrecondition`], or [`Reason::ShuttingDown`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn form_without(&self, without: BTreeSet<NodeId>) -> Result<(), Refusal> {
        let (begun, outcome) = oneshot::channel();
        self.decide(Notice::Form { without, begun }, outcome).await
    }

    /// Ends what [`form_without`](Self::form_without) has begun: surely nothing forms any more because of
    /// it. Returns the cluster that this node takes part in by now, if any. See
    /// [`Formation::stop_forming`](crate::node::Formation::stop_forming).
    ///
    /// # Errors
    ///
    /// Those of [`form_without`](Self::form_without).
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn stop_forming(
        &self,
        without: BTreeSet<NodeId>,
    ) -> Result<Option<ClusterId>, Refusal> {
        let (stopped, outcome) = oneshot::channel();
        self.decide(Notice::StopForming { without, stopped }, outcome)
            .await
    }

    /// Recovers a new cluster from the state of this node on an operator's order, or in a dry run only
    /// returns what that would do. `answers` are the answers of all nodes, which have just been asked.
    /// See [`Replica::recover`](crate::node::Replica::recover).
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidRequest`], [`Reason::FailedPrecondition`], or [`Reason::ShuttingDown`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn recover(
        &self,
        order: Order,
        answers: Answers,
        dry_run: bool,
    ) -> Result<Recovery, Refusal> {
        let (recovered, outcome) = oneshot::channel();
        let notice = Notice::Recover {
            order,
            answers,
            dry_run,
            recovered,
        };
        self.decide(notice, outcome).await
    }
}
