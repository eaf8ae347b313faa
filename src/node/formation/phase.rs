//! The state machine of formation: the phases of a process, and every possible transition.
//!
//! | from | event | to |
//! |---|---|---|
//! | fresh | [`Offer`](Event::Offer): it coordinates | offering |
//! | offering | [`Withdraw`](Event::Withdraw): not every member accepts | fresh |
//! | offering, prepared | [`Start`](Event::Start): its own offer, or one that it has accepted | started |
//! | fresh, prepared | [`Accept`](Event::Accept): an offer of another process | prepared |
//! | prepared | [`Abandon`](Event::Abandon): a cluster runs that it has not accepted | fresh |
//! | fresh | [`LetIn`](Event::LetIn): by the leader of a running cluster | joined |
//! | any | [`Recover`](Event::Recover): an operator recovers a new cluster from its state | joined |
//!
//! Every other transition is impossible. `docs/FORMATION.md` proves that these make one cluster.

use std::collections::BTreeSet;

use crate::types::{ClusterId, NodeId, Offer};

/// Earlier offers that a prepared process remembers.
const MAX_EARLIER_OFFERS: usize = 16;

/// The phase of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Takes part in no cluster.
    Fresh,
    /// Coordinates an offer, and counts the nodes that have accepted.
    Offering {
        offer: Offer,
        accepted: BTreeSet<NodeId>,
        /// The tick of the offer.
        since: u64,
    },
    /// Has accepted an offer.
    Prepared {
        offer: Offer,
        /// Offers accepted before this one, the latest first.
        earlier: Vec<Offer>,
        /// The tick at which the offer was accepted.
        since: u64,
    },
    /// Takes part in the cluster of an offer.
    Started { offer: Offer },
    /// Takes part in a running cluster that has let it in.
    Joined { cluster_id: ClusterId },
}

/// An event that takes a process from one phase to the next. Ticks are those of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// It makes an offer.
    Offer { offer: Offer, now: u64 },
    /// It withdraws its offer.
    Withdraw,
    /// It accepts the offer of another process.
    Accept { offer: Offer, now: u64 },
    /// The cluster of this offer starts for it.
    Start(Offer),
    /// It has found a running cluster that it has not accepted.
    Abandon,
    /// The leader of this cluster sends to it.
    LetIn(ClusterId),
    /// An operator recovers a lost quorum from it, as this cluster.
    Recover(ClusterId),
}

impl Phase {
    /// The phase after `event`; `None` if the event is impossible in this phase.
    pub(super) fn after(&self, event: Event) -> Option<Self> {
        let next = match (self, event) {
            (Self::Fresh, Event::Offer { offer, now }) => Self::Offering {
                offer,
                accepted: BTreeSet::new(),
                since: now,
            },
            (Self::Offering { .. }, Event::Withdraw) => Self::Fresh,
            (Self::Fresh, Event::Accept { offer, now }) => Self::Prepared {
                offer,
                earlier: Vec::new(),
                since: now,
            },
            (
                Self::Prepared {
                    offer: current,
                    earlier,
                    ..
                },
                Event::Accept { offer, now },
            ) => {
                let before = std::iter::once(current).chain(earlier).cloned();
                Self::Prepared {
                    offer,
                    earlier: before.take(MAX_EARLIER_OFFERS).collect(),
                    since: now,
                }
            }
            (Self::Offering { offer: own, .. }, Event::Start(offer)) if *own == offer => {
                Self::Started { offer }
            }
            (Self::Prepared { .. }, Event::Start(offer)) if self.has_accepted(&offer) => {
                Self::Started { offer }
            }
            (Self::Prepared { .. }, Event::Abandon) => Self::Fresh,
            (Self::Fresh, Event::LetIn(cluster_id)) => Self::Joined { cluster_id },
            (_, Event::Recover(cluster_id)) => Self::Joined { cluster_id },
            _ => return None,
        };
        Some(next)
    }

    /// The offers that a prepared process has accepted, the latest first.
    pub(super) fn accepted(&self) -> impl Iterator<Item = &Offer> {
        let offers = match self {
            Self::Prepared { offer, earlier, .. } => Some(std::iter::once(offer).chain(earlier)),
            _ => None,
        };
        offers.into_iter().flatten()
    }

    fn has_accepted(&self, offer: &Offer) -> bool {
        self.accepted().any(|accepted| accepted == offer)
    }

    /// Whether the process takes part in a cluster.
    pub(super) fn takes_part(&self) -> bool {
        matches!(self, Self::Started { .. } | Self::Joined { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterMembership, ProtocolLevel, RaftId};

    fn offer(id: u64) -> Offer {
        let coordinator = RaftId::new(NodeId::new(1).unwrap(), id);
        Offer {
            cluster_id: ClusterId(id),
            coordinator,
            members: vec![coordinator],
            membership: ClusterMembership::default(),
            absent: BTreeSet::new(),
            level: ProtocolLevel::default(),
            limits: None,
            time: None,
        }
    }

    fn all_events() -> [Event; 7] {
        [
            Event::Offer {
                offer: offer(1),
                now: 1,
            },
            Event::Withdraw,
            Event::Accept {
                offer: offer(2),
                now: 2,
            },
            Event::Start(offer(1)),
            Event::Abandon,
            Event::LetIn(ClusterId(3)),
            Event::Recover(ClusterId(4)),
        ]
    }

    /// The phase after every event, in the order of [`all_events`]: one row of the table at the head.
    fn row(phase: &Phase) -> [&'static str; 7] {
        all_events().map(|event| match phase.after(event) {
            None => "-",
            Some(Phase::Fresh) => "fresh",
            Some(Phase::Offering { .. }) => "offering",
            Some(Phase::Prepared { .. }) => "prepared",
            Some(Phase::Started { .. }) => "started",
            Some(Phase::Joined { .. }) => "joined",
        })
    }

    #[test]
    fn the_table_is_what_the_head_says() {
        let fresh = Phase::Fresh;
        let after = |phase: &Phase, event| phase.after(event).unwrap();
        let offering = after(
            &fresh,
            Event::Offer {
                offer: offer(1),
                now: 1,
            },
        );
        let prepared = after(
            &fresh,
            Event::Accept {
                offer: offer(1),
                now: 1,
            },
        );
        let started = after(&prepared, Event::Start(offer(1)));
        let joined = after(&fresh, Event::LetIn(ClusterId(3)));
        assert_eq!(
            row(&fresh),
            ["offering", "-", "prepared", "-", "-", "joined", "joined"]
        );
        assert_eq!(
            row(&offering),
            ["-", "fresh", "-", "started", "-", "-", "joined"]
        );
        assert_eq!(
            row(&prepared),
            ["-", "-", "prepared", "started", "fresh", "-", "joined"]
        );
        assert_eq!(row(&started), ["-", "-", "-", "-", "-", "-", "joined"]);
        assert_eq!(row(&joined), ["-", "-", "-", "-", "-", "-", "joined"]);
    }

    #[test]
    fn a_prepared_process_starts_what_it_has_accepted_and_nothing_else() {
        let mut phase = Phase::Fresh;
        let last = u64::try_from(MAX_EARLIER_OFFERS).unwrap() + 2;
        for id in 1..=last {
            phase = phase
                .after(Event::Accept {
                    offer: offer(id),
                    now: id,
                })
                .unwrap();
        }
        assert_eq!(phase.accepted().count(), MAX_EARLIER_OFFERS + 1);
        assert_eq!(phase.accepted().next(), Some(&offer(last)));
        assert_eq!(phase.after(Event::Start(offer(1))), None, "forgotten");
        for id in [2, last] {
            let started = phase.after(Event::Start(offer(id)));
            assert_eq!(started, Some(Phase::Started { offer: offer(id) }));
        }
        let offering = Phase::Fresh.after(Event::Offer {
            offer: offer(1),
            now: 1,
        });
        assert_eq!(offering.unwrap().after(Event::Start(offer(2))), None);
    }
}
