//! raft-rs knows conf changes that no node of Seshat proposes. None of them travels, in either direction.

use bytes::Bytes;
use raft::RawNode;
use raft::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeV2, Message, MessageType,
};
use seshat::wire::{PeerMessage, WireError};
use seshat_conformance::cluster::{CLUSTER, Node, Store, raft_id};
use seshat_proto::raft::v1 as proto;

/// The append by which a leader would replicate what it has proposed, encoded by raft-rs itself.
fn append_after(propose: impl FnOnce(&mut RawNode<Store>) -> raft::Result<()>) -> Message {
    let mut node = Node::new(raft_id(1), Store::with_voters(vec![raft_id(1)]), 0, 7);
    node.raw.campaign().unwrap();
    let _ = node.ready();
    propose(&mut node.raw).unwrap();
    let log = &node.raw.raft.raft_log;
    let last = log.last_index();
    let entries = log
        .slice(last, last + 1, None, raft::GetEntriesContext::empty(false))
        .unwrap();
    Message {
        msg_type: MessageType::MsgAppend,
        from: raft_id(1),
        to: raft_id(2),
        term: node.raw.raft.term,
        index: last - 1,
        log_term: log.term(last - 1).unwrap(),
        entries: entries.into(),
        ..Message::default()
    }
}

fn append_of(change: ConfChangeV2) -> Message {
    append_after(|raw| raw.propose_conf_change(Vec::new(), change))
}

fn change(of: &[u64]) -> ConfChangeV2 {
    let single = |node: &u64| ConfChangeSingle {
        node_id: raft_id(*node),
        ..ConfChangeSingle::default()
    };
    ConfChangeV2 {
        changes: of.iter().map(single).collect(),
        ..ConfChangeV2::default()
    }
}

fn through(transition: ConfChangeTransition) -> ConfChangeV2 {
    ConfChangeV2 {
        transition,
        ..change(&[2])
    }
}

#[test]
fn a_leader_sends_a_change_of_one_process_alone() {
    let sent = |message| PeerMessage::from_raft(message, CLUSTER).map(drop);
    let refused = |message, field, reason: &str| Err(WireError::new(message, field, reason));
    assert_eq!(sent(append_of(change(&[2]))), Ok(()));
    // The change of no process is missing: raft-rs proposes it within a joint configuration alone.
    for (form, field, reason) in [
        (change(&[2, 3]), "changes", "2 instead of 1"),
        (
            through(ConfChangeTransition::Implicit),
            "transition",
            "not AUTO",
        ),
        (
            through(ConfChangeTransition::Explicit),
            "transition",
            "not AUTO",
        ),
        (
            ConfChangeV2 {
                context: Bytes::from_static(b"why"),
                ..change(&[2])
            },
            "context",
            "there is one",
        ),
    ] {
        let refusal = refused("ConfChangeV2", field, reason);
        assert_eq!(sent(append_of(form)), refusal);
    }
    let older = ConfChange {
        node_id: raft_id(2),
        ..ConfChange::default()
    };
    let reason = "entry 3: a change is a ConfChangeV2, never a ConfChange";
    let refusal = refused("eraftpb.Entry", "entry_type", reason);
    let older = append_after(|raw| raw.propose_conf_change(Vec::new(), older));
    assert_eq!(sent(older), refusal);
}

/// The append of a peer that changes its conf change of process 2.
fn spoilt(spoil: impl FnOnce(&mut proto::ConfChangeV2)) -> PeerMessage {
    let typed = PeerMessage::from_raft(append_of(change(&[2])), CLUSTER);
    let Ok(PeerMessage::AppendEntries(mut request)) = typed else {
        panic!("{typed:?}");
    };
    match &mut request.entries[0].payload {
        Some(proto::entry::Payload::ConfChangeV2(change)) => spoil(change),
        other => panic!("{other:?}"),
    }
    PeerMessage::AppendEntries(request)
}

#[test]
fn a_peer_may_send_a_change_of_one_process_alone() {
    assert!(spoilt(|_| ()).into_raft().is_ok());
    type Spoil = fn(&mut proto::ConfChangeV2);
    let spoils: [(Spoil, &str, &str); 6] = [
        (
            |c| c.changes.push(c.changes[0]),
            "changes",
            "2 instead of 1",
        ),
        (|c| c.changes.clear(), "changes", "0 instead of 1"),
        (|c| c.transition = 0, "transition", "not AUTO"),
        (|c| c.transition = 2, "transition", "not AUTO"),
        (|c| c.transition = 3, "transition", "not AUTO"),
        (|c| c.context = "why".into(), "context", "there is one"),
    ];
    for (spoil, field, reason) in spoils {
        let refusal = WireError::new("ConfChangeV2", field, reason);
        assert_eq!(spoilt(spoil).into_raft(), Err(refusal));
    }

    let PeerMessage::AppendEntries(mut request) = spoilt(|_| ()) else {
        panic!("not an append");
    };
    let older = proto::ConfChange::default();
    request.entries[0].payload = Some(proto::entry::Payload::ConfChange(older));
    let reason = "of entry 3: a change is a ConfChangeV2, never a ConfChange";
    assert_eq!(
        PeerMessage::AppendEntries(request).into_raft(),
        Err(WireError::new("Entry", "conf_change", reason))
    );
}
