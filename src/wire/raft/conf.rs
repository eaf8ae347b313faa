//! Changes of voters and learners, and these sets themselves (dissertation, chapter 4).
//!
//! A leader changes one process at a time, and every change takes effect at once (section 4.1). So one form
//! of change travels: a `ConfChangeV2` of one part, `AUTO`, without context. raft-rs knows others: the
//! older `ConfChange`, several parts, joint configurations and the empty change that ends one. No node
//! proposes them, so they are errors in both directions.
//!
//! raft-rs keeps a conf change in the data of an entry, in its own encoding, which it parses again when a
//! change is proposed and when it is applied. Its parser is not safe for bytes from a network (it can be
//! driven into a stack overflow, RUSTSEC-2024-0437). So a change travels as a typed message and is
//! encoded for raft-rs again at the receiver. The two encodings have to be the same bytes, or the logs of
//! two nodes would differ. So a change that does not survive the round trip is an error at the sender.

use std::collections::BTreeSet;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb;

use super::is_empty;
use crate::proto::raft::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
};
use crate::wire::WireError;
use crate::wire::check::Check;

const CHANGE: Check = Check("ConfChangeV2");
const SINGLE: Check = Check("ConfChangeSingle");
const STATE: Check = Check("ConfState");

/// The change that raft-rs encoded into `data` (`RawNode::propose_conf_change`).
pub(super) fn change_from_data(data: &Bytes) -> Result<ConfChangeV2, WireError> {
    let eraftpb::ConfChangeV2 {
        transition,
        changes,
        context,
        unknown_fields: _, // They would not survive the round trip below.
        cached_size: _,
    } = eraftpb::ConfChangeV2::parse_from_bytes(data).map_err(not_entry_data)?;
    let auto = transition == eraftpb::ConfChangeTransition::Auto;
    let single = single(auto, changes.into_vec(), &context)?;
    let single = ConfChangeSingle {
        change_type: type_from_raft(single.change_type).into(),
        raft_id: single.node_id,
    };
    let encoded = encode(single)?;
    CHANGE.that(
        *data == encoded,
        "entry data",
        format_args!("{data:?} would arrive as {encoded:?}"),
    )?;
    Ok(ConfChangeV2 {
        transition: ConfChangeTransition::Auto.into(),
        changes: vec![single],
        context,
    })
}

/// The bytes in which raft-rs keeps `change`.
pub(super) fn change_into_data(change: ConfChangeV2) -> Result<Bytes, WireError> {
    let ConfChangeV2 {
        transition,
        changes,
        context,
    } = change;
    let auto = transition == i32::from(ConfChangeTransition::Auto);
    let single = single(auto, changes, &context)?;
    SINGLE.raft_id("raft_id", single.raft_id)?;
    encode(single)
}

/// The only part of a change in the form that a leader proposes.
fn single<S>(auto: bool, changes: Vec<S>, context: &Bytes) -> Result<S, WireError> {
    CHANGE.that(auto, "transition", format_args!("not AUTO"))?;
    CHANGE.that(context.is_empty(), "context", format_args!("there is one"))?;
    let [single] = <[S; 1]>::try_from(changes).map_err(|changes| {
        let reason = format!("{} instead of 1", changes.len());
        WireError::new(CHANGE.0, "changes", reason)
    })?;
    Ok(single)
}

/// The change of `single` alone, encoded as raft-rs does.
fn encode(single: ConfChangeSingle) -> Result<Bytes, WireError> {
    let single = eraftpb::ConfChangeSingle {
        change_type: type_into_raft(single.change_type)?,
        node_id: single.raft_id,
        ..eraftpb::ConfChangeSingle::default()
    };
    let change = eraftpb::ConfChangeV2 {
        changes: vec![single].into(),
        ..eraftpb::ConfChangeV2::default()
    };
    let data = change.write_to_bytes().map_err(not_entry_data)?;
    Ok(data.into())
}

fn not_entry_data(error: protobuf::ProtobufError) -> WireError {
    WireError::new(CHANGE.0, "entry data", error.to_string())
}

fn type_from_raft(change_type: eraftpb::ConfChangeType) -> ConfChangeType {
    match change_type {
        eraftpb::ConfChangeType::AddNode => ConfChangeType::AddNode,
        eraftpb::ConfChangeType::RemoveNode => ConfChangeType::RemoveNode,
        eraftpb::ConfChangeType::AddLearnerNode => ConfChangeType::AddLearnerNode,
    }
}

fn type_into_raft(change_type: i32) -> Result<eraftpb::ConfChangeType, WireError> {
    match ConfChangeType::try_from(change_type) {
        Ok(ConfChangeType::AddNode) => Ok(eraftpb::ConfChangeType::AddNode),
        Ok(ConfChangeType::RemoveNode) => Ok(eraftpb::ConfChangeType::RemoveNode),
        Ok(ConfChangeType::AddLearnerNode) => Ok(eraftpb::ConfChangeType::AddLearnerNode),
        Ok(ConfChangeType::Unspecified) | Err(_) => Err(WireError::new(
            SINGLE.0,
            "change_type",
            format!("unknown type of change {change_type}"),
        )),
    }
}

/// The voters and learners in our own snapshot.
pub(super) fn state_from_raft(state: eraftpb::ConfState) -> Result<ConfState, WireError> {
    const STATE: Check = Check("eraftpb.ConfState");
    let eraftpb::ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave,
        unknown_fields,
        cached_size: _,
    } = state;
    not_joint(STATE, &voters_outgoing, &learners_next, auto_leave)?;
    STATE.that(
        is_empty(&unknown_fields),
        "unknown_fields",
        format_args!("there are some"),
    )?;
    Ok(ConfState {
        voters,
        learners,
        ..ConfState::default()
    })
}

/// The voters and learners in a peer's snapshot.
///
/// `Raft::restore` builds its configuration by replaying them as conf changes (`confchange::restore`),
/// and stops the process if that fails or gives another configuration. Without a joint configuration it
/// accepts these: there is a voter, no id occurs twice in one list, and no learner is a voter.
pub(super) fn state_into_raft(state: ConfState) -> Result<eraftpb::ConfState, WireError> {
    let ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave,
    } = state;
    not_joint(STATE, &voters_outgoing, &learners_next, auto_leave)?;
    let voting = distinct("voters", &voters)?;
    let learning = distinct("learners", &learners)?;
    STATE.that(!voting.is_empty(), "voters", format_args!("there are none"))?;
    STATE.that(
        learning.is_disjoint(&voting),
        "learners",
        format_args!("{learners:?}: one of them is a voter"),
    )?;
    Ok(eraftpb::ConfState {
        voters,
        learners,
        ..eraftpb::ConfState::default()
    })
}

/// Refuses a joint configuration. No change that a leader proposes enters one.
fn not_joint(
    check: Check,
    voters_outgoing: &[u64],
    learners_next: &[u64],
    auto_leave: bool,
) -> Result<(), WireError> {
    for (field, set) in [
        ("voters_outgoing", !voters_outgoing.is_empty()),
        ("learners_next", !learners_next.is_empty()),
        ("auto_leave", auto_leave),
    ] {
        check.that(!set, field, format_args!("a joint configuration"))?;
    }
    Ok(())
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
    use super::*;

    const ONE: u64 = 1 << 48;
    const TWO: u64 = 2 << 48;
    const THREE: u64 = 3 << 48;

    const TYPES: [(ConfChangeType, eraftpb::ConfChangeType); 3] = [
        (ConfChangeType::AddNode, eraftpb::ConfChangeType::AddNode),
        (
            ConfChangeType::RemoveNode,
            eraftpb::ConfChangeType::RemoveNode,
        ),
        (
            ConfChangeType::AddLearnerNode,
            eraftpb::ConfChangeType::AddLearnerNode,
        ),
    ];

    fn change(change_type: ConfChangeType) -> ConfChangeV2 {
        ConfChangeV2 {
            transition: ConfChangeTransition::Auto.into(),
            changes: vec![ConfChangeSingle {
                change_type: change_type.into(),
                raft_id: ONE,
            }],
            context: Bytes::new(),
        }
    }

    /// The same for raft-rs.
    fn raft_change(change_type: eraftpb::ConfChangeType) -> eraftpb::ConfChangeV2 {
        let single = eraftpb::ConfChangeSingle {
            change_type,
            node_id: ONE,
            ..eraftpb::ConfChangeSingle::default()
        };
        eraftpb::ConfChangeV2 {
            changes: vec![single].into(),
            ..eraftpb::ConfChangeV2::default()
        }
    }

    fn data(change: &eraftpb::ConfChangeV2) -> Bytes {
        change.write_to_bytes().unwrap().into()
    }

    fn state() -> ConfState {
        ConfState {
            voters: vec![ONE, TWO],
            learners: vec![THREE],
            ..ConfState::default()
        }
    }

    #[test]
    fn a_change_of_one_process_is_encoded_as_raft_rs_does() {
        for (change_type, raft_type) in TYPES {
            let data = data(&raft_change(raft_type));
            assert_eq!(change_from_data(&data), Ok(change(change_type)));
            assert_eq!(change_into_data(change(change_type)), Ok(data));
        }
    }

    #[test]
    fn forms_that_no_leader_proposes_have_no_typed_form() {
        type Spoil = fn(&mut eraftpb::ConfChangeV2);
        let spoils: [(&str, &str, Spoil); 5] = [
            ("transition", "not AUTO", |c| {
                c.transition = eraftpb::ConfChangeTransition::Implicit;
            }),
            ("transition", "not AUTO", |c| {
                c.transition = eraftpb::ConfChangeTransition::Explicit;
            }),
            ("context", "there is one", |c| c.context = "why".into()),
            ("changes", "0 instead of 1", |c| c.changes.clear()),
            ("changes", "2 instead of 1", |c| {
                c.changes.push(c.changes[0].clone());
            }),
        ];
        for (field, reason, spoil) in spoils {
            let mut change = raft_change(eraftpb::ConfChangeType::AddNode);
            spoil(&mut change);
            let error = change_from_data(&data(&change)).unwrap_err();
            assert_eq!(error, WireError::new("ConfChangeV2", field, reason));
        }
    }

    #[test]
    fn forms_that_no_leader_proposes_are_refused() {
        type Spoil = fn(&mut ConfChangeV2);
        let spoils: [(&str, &str, Spoil); 7] = [
            ("transition", "not AUTO", |c| c.transition = 0),
            ("transition", "not AUTO", |c| {
                c.transition = ConfChangeTransition::Implicit.into();
            }),
            ("transition", "not AUTO", |c| {
                c.transition = ConfChangeTransition::Explicit.into();
            }),
            ("transition", "not AUTO", |c| c.transition = 4),
            ("context", "there is one", |c| c.context = "why".into()),
            ("changes", "0 instead of 1", |c| c.changes.clear()),
            ("changes", "2 instead of 1", |c| {
                c.changes.push(c.changes[0])
            }),
        ];
        for (field, reason, spoil) in spoils {
            let mut change = change(ConfChangeType::AddNode);
            spoil(&mut change);
            let error = change_into_data(change).unwrap_err();
            assert_eq!(error, WireError::new("ConfChangeV2", field, reason));
        }
    }

    #[test]
    fn a_change_that_breaks_a_rule_is_refused() {
        type Spoil = fn(&mut ConfChangeSingle);
        let spoils: [(&str, Spoil); 4] = [
            ("change_type", |c| c.change_type = 0),
            ("change_type", |c| c.change_type = 4),
            ("raft_id", |c| c.raft_id = 0),
            ("raft_id", |c| c.raft_id = 3),
        ];
        for (field, spoil) in spoils {
            let mut change = change(ConfChangeType::RemoveNode);
            spoil(&mut change.changes[0]);
            let error = change_into_data(change).unwrap_err();
            assert_eq!((error.message, error.field), ("ConfChangeSingle", field));
        }
    }

    #[test]
    fn data_that_would_arrive_as_other_bytes_is_an_error() {
        let data = data(&raft_change(eraftpb::ConfChangeType::RemoveNode));
        // An unknown field, a default written out, and no message at all.
        for odd in [&b"\x98\x06\x01"[..], b"\x08\x00", b"\xff"] {
            let data = [&data[..], odd].concat().into();
            assert_eq!(change_from_data(&data).unwrap_err().field, "entry data");
        }
        let nested = Bytes::from_static(b"\x12\x03\x98\x06\x01");
        assert_eq!(change_from_data(&nested).unwrap_err().field, "entry data");
    }

    #[test]
    fn a_conf_state_survives() {
        let raft = state_into_raft(state()).unwrap();
        assert_eq!(state_from_raft(raft), Ok(state()));
    }

    #[test]
    fn a_conf_state_that_raft_rs_could_not_restore_is_refused() {
        type Spoil = fn(&mut ConfState);
        let spoils: [(&str, Spoil); 6] = [
            ("voters", |s| s.voters.clear()),
            ("voters", |s| s.voters.push(1)),
            ("voters", |s| s.voters.push(ONE)),
            ("learners", |s| s.learners.push(0)),
            ("learners", |s| s.learners.push(THREE)),
            ("learners", |s| s.learners.push(ONE)),
        ];
        for (field, spoil) in spoils {
            let mut state = state();
            spoil(&mut state);
            let error = state_into_raft(state).unwrap_err();
            assert_eq!((error.message, error.field), ("ConfState", field));
        }
    }

    #[test]
    fn a_joint_configuration_is_refused_in_both_directions() {
        type Spoil = fn(&mut ConfState);
        let spoils: [(&str, Spoil); 3] = [
            ("voters_outgoing", |s| s.voters_outgoing.push(TWO)),
            ("learners_next", |s| s.learners_next.push(TWO)),
            ("auto_leave", |s| s.auto_leave = true),
        ];
        for (field, spoil) in spoils {
            let mut state = state();
            spoil(&mut state);
            let raft = eraftpb::ConfState {
                voters: state.voters.clone(),
                learners: state.learners.clone(),
                voters_outgoing: state.voters_outgoing.clone(),
                learners_next: state.learners_next.clone(),
                auto_leave: state.auto_leave,
                ..eraftpb::ConfState::default()
            };
            let reason = "a joint configuration";
            let error = state_into_raft(state).unwrap_err();
            assert_eq!(error, WireError::new("ConfState", field, reason));
            let error = state_from_raft(raft).unwrap_err();
            assert_eq!(error, WireError::new("eraftpb.ConfState", field, reason));
        }
    }
}
