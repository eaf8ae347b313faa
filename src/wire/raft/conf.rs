//! Changes of voters and learners, and these sets themselves (dissertation, chapter 4).
//!
//! raft-rs keeps a conf change in the data of an entry, in its own encoding, which it parses again when a
//! change is proposed and when it is applied. Its parser is not safe for bytes from a network (it can be
//! driven into a stack overflow, RUSTSEC-2024-0437). So a change travels as a typed message and is
//! encoded for raft-rs again at the receiver. The two encodings have to be the same bytes, or the logs of
//! two nodes would differ. So a change that does not survive the round trip is an error at the sender.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft::eraftpb;

use super::is_empty;
use crate::proto::raft::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
};
use crate::wire::WireError;
use crate::wire::check::Check;

const CHANGE: Check = Check("ConfChange");
const CHANGE_V2: Check = Check("ConfChangeV2");
const SINGLE: Check = Check("ConfChangeSingle");
const STATE: Check = Check("ConfState");

/// The change that raft-rs encoded into `data` (`RawNode::propose_conf_change`).
pub(super) fn change_from_data(data: &Bytes) -> Result<ConfChange, WireError> {
    let eraftpb::ConfChange {
        change_type,
        node_id,
        context,
        id,
        unknown_fields: _, // They would not survive the round trip below.
        cached_size: _,
    } = parse(CHANGE, data)?;
    let change = ConfChange {
        id,
        change_type: type_from_raft(change_type).into(),
        raft_id: node_id,
        context,
    };
    same(CHANGE, data, encode_change(&change)?)?;
    Ok(change)
}

/// The bytes in which raft-rs keeps `change`.
pub(super) fn change_into_data(change: ConfChange) -> Result<Bytes, WireError> {
    CHANGE.raft_id("raft_id", change.raft_id)?;
    encode_change(&change)
}

fn encode_change(change: &ConfChange) -> Result<Bytes, WireError> {
    let ConfChange {
        id,
        change_type,
        raft_id,
        context,
    } = change;
    let change = eraftpb::ConfChange {
        id: *id,
        change_type: type_into_raft(CHANGE, *change_type)?,
        node_id: *raft_id,
        context: context.clone(),
        ..eraftpb::ConfChange::default()
    };
    encode(CHANGE, &change)
}

/// The changes that raft-rs encoded into `data`. No data at all is the change by which a leader
/// ends a joint configuration (`Raft::commit_apply`).
pub(super) fn change_v2_from_data(data: &Bytes) -> Result<ConfChangeV2, WireError> {
    let eraftpb::ConfChangeV2 {
        transition,
        changes,
        context,
        unknown_fields: _, // They would not survive the round trip below.
        cached_size: _,
    } = parse(CHANGE_V2, data)?;
    let change = ConfChangeV2 {
        transition: match transition {
            eraftpb::ConfChangeTransition::Auto => ConfChangeTransition::Auto,
            eraftpb::ConfChangeTransition::Implicit => ConfChangeTransition::Implicit,
            eraftpb::ConfChangeTransition::Explicit => ConfChangeTransition::Explicit,
        }
        .into(),
        changes: changes
            .into_iter()
            .map(|change| ConfChangeSingle {
                change_type: type_from_raft(change.change_type).into(),
                raft_id: change.node_id,
            })
            .collect(),
        context,
    };
    same(CHANGE_V2, data, encode_change_v2(&change)?)?;
    Ok(change)
}

/// The bytes in which raft-rs keeps `change`.
pub(super) fn change_v2_into_data(change: ConfChangeV2) -> Result<Bytes, WireError> {
    for single in &change.changes {
        SINGLE.raft_id("raft_id", single.raft_id)?;
    }
    encode_change_v2(&change)
}

fn encode_change_v2(change: &ConfChangeV2) -> Result<Bytes, WireError> {
    let ConfChangeV2 {
        transition,
        changes,
        context,
    } = change;
    let single = |&ConfChangeSingle {
                      change_type,
                      raft_id,
                  }: &ConfChangeSingle| {
        Ok(eraftpb::ConfChangeSingle {
            change_type: type_into_raft(SINGLE, change_type)?,
            node_id: raft_id,
            ..eraftpb::ConfChangeSingle::default()
        })
    };
    let change = eraftpb::ConfChangeV2 {
        transition: match ConfChangeTransition::try_from(*transition) {
            Ok(ConfChangeTransition::Auto) => eraftpb::ConfChangeTransition::Auto,
            Ok(ConfChangeTransition::Implicit) => eraftpb::ConfChangeTransition::Implicit,
            Ok(ConfChangeTransition::Explicit) => eraftpb::ConfChangeTransition::Explicit,
            Ok(ConfChangeTransition::Unspecified) | Err(_) => {
                let reason = format!("unknown transition {transition}");
                return Err(WireError::new(CHANGE_V2.0, "transition", reason));
            }
        },
        changes: changes
            .iter()
            .map(single)
            .collect::<Result<Vec<_>, WireError>>()?
            .into(),
        context: context.clone(),
        ..eraftpb::ConfChangeV2::default()
    };
    encode(CHANGE_V2, &change)
}

fn type_from_raft(change_type: eraftpb::ConfChangeType) -> ConfChangeType {
    match change_type {
        eraftpb::ConfChangeType::AddNode => ConfChangeType::AddNode,
        eraftpb::ConfChangeType::RemoveNode => ConfChangeType::RemoveNode,
        eraftpb::ConfChangeType::AddLearnerNode => ConfChangeType::AddLearnerNode,
    }
}

fn type_into_raft(check: Check, change_type: i32) -> Result<eraftpb::ConfChangeType, WireError> {
    match ConfChangeType::try_from(change_type) {
        Ok(ConfChangeType::AddNode) => Ok(eraftpb::ConfChangeType::AddNode),
        Ok(ConfChangeType::RemoveNode) => Ok(eraftpb::ConfChangeType::RemoveNode),
        Ok(ConfChangeType::AddLearnerNode) => Ok(eraftpb::ConfChangeType::AddLearnerNode),
        Ok(ConfChangeType::Unspecified) | Err(_) => Err(WireError::new(
            check.0,
            "change_type",
            format!("unknown type of change {change_type}"),
        )),
    }
}

/// Parses entry data that our own raft-rs encoded.
fn parse<M: protobuf::Message>(check: Check, data: &[u8]) -> Result<M, WireError> {
    M::parse_from_bytes(data)
        .map_err(|error| WireError::new(check.0, "entry data", error.to_string()))
}

/// Encodes as raft-rs does.
fn encode<M: protobuf::Message>(check: Check, change: &M) -> Result<Bytes, WireError> {
    change
        .write_to_bytes()
        .map(Bytes::from)
        .map_err(|error| WireError::new(check.0, "entry data", error.to_string()))
}

/// Refuses data that differs from the encoding of the typed change in any byte.
fn same(check: Check, data: &Bytes, encoded: Bytes) -> Result<(), WireError> {
    check.that(
        *data == encoded,
        "entry data",
        format_args!("{data:?} would arrive as {encoded:?}"),
    )
}

/// The voters and learners in our own snapshot.
pub(super) fn state_from_raft(state: eraftpb::ConfState) -> Result<ConfState, WireError> {
    let eraftpb::ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave,
        unknown_fields,
        cached_size: _,
    } = state;
    Check("eraftpb.ConfState").that(
        is_empty(&unknown_fields),
        "unknown_fields",
        format_args!("there are some"),
    )?;
    Ok(ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave,
    })
}

/// The voters and learners in a peer's snapshot.
///
/// `Raft::restore` builds its configuration by replaying them as conf changes (`confchange::restore`),
/// and stops the process if that fails or gives another configuration. These are the configurations that
/// it accepts:
///
/// * There is a voter, and no id occurs twice in one list.
/// * A learner is no voter, neither of the incoming nor of the outgoing configuration.
/// * Without outgoing voters (not joint) no id waits to become a learner, and `auto_leave` is not set.
/// * An id that waits to become a learner is an outgoing voter, and no incoming one.
pub(super) fn state_into_raft(state: ConfState) -> Result<eraftpb::ConfState, WireError> {
    let ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave,
    } = state;
    let incoming = distinct("voters", &voters)?;
    let outgoing = distinct("voters_outgoing", &voters_outgoing)?;
    let learning = distinct("learners", &learners)?;
    let waiting = distinct("learners_next", &learners_next)?;
    STATE.that(
        !incoming.is_empty(),
        "voters",
        format_args!("there are none"),
    )?;
    STATE.that(
        learning.is_disjoint(&incoming) && learning.is_disjoint(&outgoing),
        "learners",
        format_args!("{learners:?}: one of them is a voter"),
    )?;
    STATE.that(
        waiting.is_subset(&outgoing) && waiting.is_disjoint(&incoming),
        "learners_next",
        format_args!("{learners_next:?}: one of them is no voter that leaves"),
    )?;
    STATE.that(
        !auto_leave || !outgoing.is_empty(),
        "auto_leave",
        format_args!("there is no joint configuration to leave"),
    )?;
    Ok(eraftpb::ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave,
        ..eraftpb::ConfState::default()
    })
}

/// `ids` as a set, if they are raft ids and none occurs twice.
fn distinct(field: &'static str, ids: &[u64]) -> Result<BTreeSet<u64>, WireError> {
    let mut distinct = BTreeSet::new();
    for &id in ids {
        let raft_id = STATE.raft_id(field, id)?;
        STATE.that(
            distinct.insert(id),
            field,
            format_args!("{raft_id} is listed twice"),
        )?;
    }
    Ok(distinct)
}

#[cfg(test)]
mod tests {
    use protobuf::Message as _;

    use super::*;

    const ONE: u64 = 1 << 48;
    const TWO: u64 = 2 << 48;
    const THREE: u64 = 3 << 48;
    const FOUR: u64 = 4 << 48;

    fn change() -> ConfChange {
        ConfChange {
            id: 5,
            change_type: ConfChangeType::RemoveNode.into(),
            raft_id: ONE,
            context: Bytes::from_static(b"why"),
        }
    }

    fn change_v2() -> ConfChangeV2 {
        let single = |change_type: ConfChangeType, raft_id| ConfChangeSingle {
            change_type: change_type.into(),
            raft_id,
        };
        ConfChangeV2 {
            transition: ConfChangeTransition::Explicit.into(),
            changes: vec![
                single(ConfChangeType::AddNode, ONE),
                single(ConfChangeType::AddLearnerNode, TWO),
            ],
            context: Bytes::new(),
        }
    }

    fn joint() -> ConfState {
        ConfState {
            voters: vec![ONE, TWO],
            learners: vec![FOUR],
            voters_outgoing: vec![ONE, THREE],
            learners_next: vec![THREE],
            auto_leave: true,
        }
    }

    #[test]
    fn changes_are_encoded_as_raft_rs_does() {
        let mut raft = eraftpb::ConfChange::default();
        raft.set_id(5);
        raft.set_change_type(eraftpb::ConfChangeType::RemoveNode);
        raft.set_node_id(ONE);
        raft.set_context(Bytes::from_static(b"why"));
        let data = Bytes::from(raft.write_to_bytes().unwrap());
        assert_eq!(change_from_data(&data), Ok(change()));
        assert_eq!(change_into_data(change()), Ok(data));

        let data = change_v2_into_data(change_v2()).unwrap();
        let raft = eraftpb::ConfChangeV2::parse_from_bytes(&data).unwrap();
        assert_eq!(raft.enter_joint(), Some(false));
        assert_eq!(raft.changes.len(), 2);
        assert_eq!(change_v2_from_data(&data), Ok(change_v2()));
    }

    #[test]
    fn no_data_leaves_a_joint_configuration() {
        let leave = change_v2_from_data(&Bytes::new()).unwrap();
        assert_eq!(leave.transition(), ConfChangeTransition::Auto);
        assert!(leave.changes.is_empty());
        assert_eq!(change_v2_into_data(leave), Ok(Bytes::new()));
    }

    #[test]
    fn data_that_would_arrive_as_other_bytes_is_an_error() {
        // An unknown field, a default written out, and no message at all.
        for data in [&b"\x98\x06\x01"[..], b"\x08\x00", b"\xff"] {
            let data = Bytes::from_static(data);
            assert_eq!(change_from_data(&data).unwrap_err().field, "entry data");
            assert_eq!(change_v2_from_data(&data).unwrap_err().field, "entry data");
        }
        let nested = Bytes::from_static(b"\x12\x03\x98\x06\x01");
        let error = change_v2_from_data(&nested).unwrap_err();
        assert_eq!(error.field, "entry data");
    }

    #[test]
    fn a_change_that_breaks_a_rule_is_refused() {
        type Spoil = fn(&mut ConfChange);
        let spoils: [(&str, Spoil); 3] = [
            ("change_type", |c| c.change_type = 0),
            ("change_type", |c| c.change_type = 4),
            ("raft_id", |c| c.raft_id = 0),
        ];
        for (field, spoil) in spoils {
            let mut change = change();
            spoil(&mut change);
            let error = change_into_data(change).unwrap_err();
            assert_eq!((error.message, error.field), ("ConfChange", field));
        }
        type SpoilV2 = fn(&mut ConfChangeV2);
        let spoils: [(&str, &str, SpoilV2); 4] = [
            ("ConfChangeV2", "transition", |c| c.transition = 0),
            ("ConfChangeV2", "transition", |c| c.transition = 4),
            ("ConfChangeSingle", "change_type", |c| {
                c.changes[1].change_type = 0;
            }),
            ("ConfChangeSingle", "raft_id", |c| c.changes[1].raft_id = 3),
        ];
        for (message, field, spoil) in spoils {
            let mut change = change_v2();
            spoil(&mut change);
            let error = change_v2_into_data(change).unwrap_err();
            assert_eq!((error.message, error.field), (message, field));
        }
    }

    #[test]
    fn a_conf_state_survives() {
        let raft = state_into_raft(joint()).unwrap();
        assert_eq!(state_from_raft(raft), Ok(joint()));
    }

    #[test]
    fn a_conf_state_that_raft_rs_could_not_restore_is_refused() {
        type Spoil = fn(&mut ConfState);
        let spoils: [(&str, Spoil); 13] = [
            ("voters", |s| s.voters.clear()),
            ("voters", |s| s.voters.push(1)),
            ("voters", |s| s.voters.push(ONE)),
            ("learners", |s| s.learners.push(0)),
            ("learners", |s| s.learners.push(FOUR)),
            ("learners", |s| s.learners.push(ONE)),
            ("learners", |s| s.learners.push(THREE)),
            ("voters_outgoing", |s| s.voters_outgoing.push(ONE)),
            ("voters_outgoing", |s| s.voters_outgoing.push(7)),
            ("learners_next", |s| s.learners_next.push(THREE)),
            ("learners_next", |s| s.learners_next.push(ONE)),
            ("learners_next", |s| s.voters_outgoing.clear()),
            ("auto_leave", |s| {
                s.voters_outgoing.clear();
                s.learners_next.clear();
            }),
        ];
        for (field, spoil) in spoils {
            let mut state = joint();
            spoil(&mut state);
            let error = state_into_raft(state).unwrap_err();
            assert_eq!((error.message, error.field), ("ConfState", field));
        }
    }
}
