//! Order and bounds of streams, and routes of replies.

use tonic::{Code, Request};

use super::super::{FOLLOWER_ID, LEADER_ID, TransportOptions};
use super::harness::*;
use crate::driver::{Network, Notice};
use crate::wire::PeerMessage;

#[tokio::test]
async fn messages_and_replies_keep_their_order() {
    const COUNT: u64 = 2_000;
    // A busy driver holds the streams back, and no message is lost.
    let mut follower = Node::with_inbox(2, &[], options(), 4).await;
    let mut leader = Node::leader(follower.addr, options()).await;
    for index in 1..=COUNT {
        assert!(leader.network.send(PeerMessage::AppendEntries(append(
            raft_id_of(2),
            index,
            100
        ))));
    }
    for index in 1..=COUNT {
        let PeerMessage::AppendEntries(request) = follower.message().await else {
            panic!("an append");
        };
        assert_eq!(request, append(raft_id_of(2), index, 100));
        let reply = PeerMessage::AppendEntriesReply(append_reply(index));
        assert!(follower.network.send(reply));
    }
    for index in 1..=COUNT {
        let reply = PeerMessage::AppendEntriesReply(append_reply(index));
        assert_eq!(leader.message().await, reply);
    }
}

#[tokio::test]
async fn a_heartbeat_is_answered_on_either_stream() {
    let mut follower = Node::new(2, &[], options()).await;
    let mut leader = Node::leader(follower.addr, options()).await;
    assert!(leader.network.send(heartbeat(raft_id_of(2))));
    assert_eq!(follower.message().await, heartbeat(raft_id_of(2)));

    let reply = PeerMessage::HeartbeatReply(heartbeat_reply());
    follower.network.send(reply.clone());
    assert_eq!(leader.message().await, reply);

    // A follower tells a stale leader of the later term by an append reply, even if no append has been
    // sent.
    let reply = PeerMessage::AppendEntriesReply(append_reply(9));
    follower.network.send(reply.clone());
    assert_eq!(leader.message().await, reply);
}

#[tokio::test]
async fn a_message_that_does_not_fit_is_refused_and_one_that_fits_arrives() {
    let bounds = TransportOptions {
        peer_queue_bytes: 256 << 10,
        window_bytes: 64 << 10,
        ..options()
    };
    let mut follower = Node::with_inbox(2, &[], bounds.clone(), 1).await;
    let mut leader = Node::leader(follower.addr, bounds).await;
    // The test leaves the follower's inbox full, so flow control holds the stream back.
    let mut taken = 0;
    soon(async {
        while leader.network.send(PeerMessage::AppendEntries(append(
            raft_id_of(2),
            taken,
            16 << 10,
        ))) {
            taken += 1;
            // Lets the stream send as much as it can.
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(taken >= 16, "{taken}");
    assert!(
        leader.network.send(heartbeat(raft_id_of(2))),
        "bulk does not keep heartbeats out"
    );

    for index in 0..taken {
        let message = loop {
            match follower.message().await {
                PeerMessage::Heartbeat(_) => {}
                other => break other,
            }
        };
        assert_eq!(
            message,
            PeerMessage::AppendEntries(append(raft_id_of(2), index, 16 << 10))
        );
    }
    assert!(
        leader
            .network
            .send(PeerMessage::AppendEntries(append(raft_id_of(2), taken, 1)))
    );
    assert!(leader.has_heard_nothing(), "a full queue breaks nothing");
}

#[tokio::test]
async fn a_heartbeat_overtakes_bulk_that_is_stuck() {
    let bounds = TransportOptions {
        window_bytes: 64 << 10,
        ..options()
    };
    let mut follower = Node::with_inbox(2, &[], bounds.clone(), 8).await;
    let mut leader = Node::leader(follower.addr, bounds).await;
    for index in 0..1_000 {
        leader.network.send(PeerMessage::AppendEntries(append(
            raft_id_of(2),
            index,
            32 << 10,
        )));
    }
    assert_eq!(
        follower.message().await,
        PeerMessage::AppendEntries(append(raft_id_of(2), 0, 32 << 10)),
    );
    leader.network.send(heartbeat(raft_id_of(2)));
    let mut overtaken = 0;
    while follower.message().await != heartbeat(raft_id_of(2)) {
        overtaken += 1;
    }
    assert!(
        overtaken < 500,
        "the heartbeat came after {overtaken} appends"
    );
}

#[tokio::test]
async fn only_a_leader_has_streams() {
    let mut follower = Node::new(2, &[], options()).await;
    let mut leader = Node::new(1, &[(2, follower.addr)], options()).await;
    assert!(!leader.network.send(heartbeat(raft_id_of(2))));

    leader.network.set_leading(true);
    assert!(leader.network.send(heartbeat(raft_id_of(2))));
    follower.message().await;
    leader.network.set_leading(false);
    assert!(!leader.network.send(heartbeat(raft_id_of(2))));

    // The node leads again, on new streams. No peer was reported as unreachable.
    leader.network.set_leading(true);
    assert!(leader.network.send(heartbeat(raft_id_of(2))));
    follower.message().await;
    follower
        .network
        .send(PeerMessage::HeartbeatReply(heartbeat_reply()));
    assert!(matches!(
        leader.notice().await,
        Notice::Step(PeerMessage::HeartbeatReply(_))
    ));
    assert!(leader.has_heard_nothing());
}

#[tokio::test]
async fn a_reply_without_a_waiting_call_is_dropped() {
    let mut follower = Node::new(2, &[], options()).await;
    assert!(
        follower
            .network
            .send(PeerMessage::AppendEntriesReply(append_reply(1)))
    );
    assert!(
        follower
            .network
            .send(PeerMessage::HeartbeatReply(heartbeat_reply()))
    );
}

#[tokio::test]
async fn a_stream_under_the_name_of_a_leader_takes_none_of_its_replies() {
    let mut follower = Node::new(2, &[], options()).await;
    let mut leader = Node::leader(follower.addr, options()).await;
    assert!(leader.network.send(heartbeat(raft_id_of(2))));
    assert_eq!(follower.message().await, heartbeat(raft_id_of(2)));

    // Another process opens streams under the same leader's raft id, and sends nothing.
    let mut other = client(follower.addr).await;
    let mut taken = Vec::new();
    let refused = soon(async {
        loop {
            let mut request = Request::new(tokio_stream::pending());
            let metadata = request.metadata_mut();
            metadata.insert(LEADER_ID, raft_id_of(1).get().into());
            metadata.insert(FOLLOWER_ID, raft_id_of(2).get().into());
            match other.heartbeat(request).await {
                Ok(stream) => taken.push(stream),
                Err(status) => break status,
            }
        }
    });
    assert_eq!(refused.await.code(), Code::ResourceExhausted);
    follower
        .network
        .send(PeerMessage::HeartbeatReply(heartbeat_reply()));
    let reply = PeerMessage::HeartbeatReply(heartbeat_reply());
    assert_eq!(leader.message().await, reply);
}
