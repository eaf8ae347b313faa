//! Snapshots: whole, in pieces, and in the wrong pieces.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::super::TransportOptions;
use super::harness::*;
use crate::driver::{Network, Notice};
use crate::proto::raft::InstallSnapshotRequest;
use crate::wire::PeerMessage;

fn small() -> TransportOptions {
    TransportOptions {
        max_message_bytes: 16 << 10,
        snapshot_chunk_bytes: 8 << 10,
        max_snapshot_bytes: 1 << 20,
        window_bytes: 64 << 10,
        ..options()
    }
}

/// What the leader's driver was told of the snapshot.
async fn report(leader: &mut Node) -> bool {
    loop {
        match leader.notice().await {
            Notice::SnapshotSent { to, delivered } => {
                assert_eq!(to, life(2));
                return delivered;
            }
            Notice::Unreachable(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// `snapshot` in chunks of `size` bytes.
fn chunks(snapshot: &InstallSnapshotRequest, size: usize) -> Vec<InstallSnapshotRequest> {
    let pieces = snapshot.data.chunks(size).enumerate();
    pieces
        .map(|(number, piece)| InstallSnapshotRequest {
            data: Bytes::copy_from_slice(piece),
            offset: u64::try_from(number * size).unwrap(),
            done: number * size + piece.len() == snapshot.data.len(),
            ..snapshot.clone()
        })
        .collect()
}

#[tokio::test]
async fn a_snapshot_larger_than_a_message_arrives_whole() {
    let mut follower = Node::new(2, &[], small()).await;
    let mut leader = Node::leader(follower.addr, small()).await;
    for bytes in [1 << 20, (8 << 10) + 1, 8 << 10, 1, 0] {
        let message = PeerMessage::InstallSnapshot(snapshot(life(2), bytes));
        assert!(leader.network.send(message.clone()));
        assert_eq!(follower.message().await, message);
        let reply = PeerMessage::AppendEntriesReply(append_reply(10));
        follower.network.send(reply.clone());
        assert!(report(&mut leader).await);
        assert_eq!(leader.message().await, reply);
    }
    assert!(leader.has_heard_nothing());
}

#[tokio::test]
async fn one_snapshot_at_a_time_goes_to_a_peer() {
    let mut follower = Node::new(2, &[], small()).await;
    let mut leader = Node::leader(follower.addr, small()).await;
    let message = PeerMessage::InstallSnapshot(snapshot(life(2), 100));
    assert!(leader.network.send(message.clone()));
    assert!(!leader.network.send(message.clone()));
    follower.message().await;
    assert!(!leader.network.send(message.clone()));
    follower
        .network
        .send(PeerMessage::AppendEntriesReply(append_reply(10)));
    assert!(report(&mut leader).await);
    assert!(
        leader.network.send(message),
        "the report makes room for the next"
    );
}

#[tokio::test]
async fn a_refused_snapshot_is_reported() {
    let mut follower = Node::new(2, &[], small()).await;
    let patient = TransportOptions {
        backoff_min: Duration::from_secs(60),
        backoff_max: Duration::from_secs(60),
        ..small()
    };
    let mut leader = Node::leader(follower.addr, patient).await;
    let too_large = snapshot(life(2), (1 << 20) + 1);
    assert!(leader.network.send(PeerMessage::InstallSnapshot(too_large)));
    assert!(!report(&mut leader).await);
    assert!(follower.has_heard_nothing());
    let again = snapshot(life(2), 1);
    assert!(
        !leader.network.send(PeerMessage::InstallSnapshot(again)),
        "not at once"
    );
    // The refusal speaks of the snapshot and not of the peer.
    assert!(leader.network.send(heartbeat(life(2))));
    assert_eq!(follower.message().await, heartbeat(life(2)));
    assert!(leader.has_heard_nothing(), "reported once");
}

#[tokio::test]
async fn a_snapshot_on_a_link_that_breaks_is_reported() {
    let follower = Node::new(2, &[], small()).await;
    let link = Link::new(follower.addr).await;
    let mut leader = Node::leader(link.addr, small()).await;
    assert!(
        leader
            .network
            .send(PeerMessage::InstallSnapshot(snapshot(life(2), 1 << 20)))
    );
    while link.connections() == 0 {
        tokio::task::yield_now().await;
    }
    link.cut();
    assert!(!report(&mut leader).await);
    assert!(leader.has_heard_nothing(), "reported once");
}

#[tokio::test]
async fn a_snapshot_that_stands_still_is_given_up() {
    let impatient = TransportOptions {
        rpc_timeout: Duration::from_millis(50),
        ..small()
    };
    // Nobody answers at the other end.
    let follower = Node::new(2, &[], small()).await;
    let mut leader = Node::leader(follower.addr, impatient.clone()).await;
    assert!(
        leader
            .network
            .send(PeerMessage::InstallSnapshot(snapshot(life(2), 1 << 20)))
    );
    assert!(!report(&mut leader).await);

    // Nobody reads at the other end.
    let link = Link::new(follower.addr).await;
    link.swallow();
    let mut leader = Node::leader(link.addr, impatient).await;
    assert!(
        leader
            .network
            .send(PeerMessage::InstallSnapshot(snapshot(life(2), 1 << 20)))
    );
    assert!(!report(&mut leader).await);
}

#[tokio::test]
async fn a_node_that_stops_leading_stops_sending() {
    let mut follower = Node::new(2, &[], small()).await;
    let mut leader = Node::leader(follower.addr, small()).await;
    assert!(
        leader
            .network
            .send(PeerMessage::InstallSnapshot(snapshot(life(2), 1 << 20)))
    );
    follower.message().await;
    leader.network.set_leading(false);
    assert!(!report(&mut leader).await);
    assert!(leader.has_heard_nothing(), "reported once");
}

#[tokio::test]
async fn chunks_that_make_no_snapshot_are_refused() {
    type Spoil = fn(&mut Vec<InstallSnapshotRequest>);
    let spoils: [(&str, Spoil); 13] = [
        ("without a chunk", |chunks| chunks.clear()),
        ("offset: 200, where 100 is next", |chunks| {
            drop(chunks.remove(1))
        }),
        ("offset: 100, where 0 is next", |chunks| {
            drop(chunks.remove(0))
        }),
        ("offset: 0, where 100 is next", |chunks| {
            chunks[1].offset = 0
        }),
        ("done: the call ended before", |chunks| drop(chunks.pop())),
        ("done: false at 300 of 300", |chunks| chunks[2].done = false),
        ("done: true at 200 of 300", |chunks| chunks[1].done = true),
        ("done: a chunk after the last", |chunks| {
            chunks.push(chunks[2].clone())
        }),
        ("data: 350 bytes, where 300", |chunks| {
            chunks[2].data = vec![0; 150].into()
        }),
        ("data: an empty chunk", |chunks| {
            chunks[1].data = Bytes::new()
        }),
        ("data: a chunk of another", |chunks| chunks[1].term = 2),
        ("data: a chunk of another", |chunks| {
            chunks[2].conf_state = None
        }),
        ("total_size: 1048577 bytes are too large", |chunks| {
            chunks[0].total_size = (1 << 20) + 1;
        }),
    ];
    let mut follower = Node::new(2, &[], small()).await;
    let mut client = client(follower.addr).await;
    for (words, spoil) in spoils {
        let mut chunks = chunks(&snapshot(life(2), 300), 100);
        assert_eq!(chunks.len(), 3);
        spoil(&mut chunks);
        let status = client
            .install_snapshot(tokio_stream::iter(chunks))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{words}: {status}");
        assert!(status.message().contains(words), "{words}: {status}");
        assert!(follower.has_heard_nothing());
    }

    // And these make one.
    let chunks = chunks(&snapshot(life(2), 300), 100);
    let call =
        tokio::spawn(async move { client.install_snapshot(tokio_stream::iter(chunks)).await });
    let whole = PeerMessage::InstallSnapshot(snapshot(life(2), 300));
    assert_eq!(follower.message().await, whole);
    follower
        .network
        .send(PeerMessage::AppendEntriesReply(append_reply(10)));
    assert_eq!(
        soon(call).await.unwrap().unwrap().into_inner().log,
        Some(append_reply(10))
    );
}

#[tokio::test]
async fn a_transfer_that_stops_is_given_up() {
    let impatient = TransportOptions {
        rpc_timeout: Duration::from_millis(20),
        ..small()
    };
    let mut follower = Node::new(2, &[], impatient).await;
    let mut client = client(follower.addr).await;
    let chunks = chunks(&snapshot(life(2), 300), 100);
    let unfinished = tokio_stream::iter(chunks)
        .take(2)
        .chain(tokio_stream::pending());
    let status = client.install_snapshot(unfinished).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let status = client
        .install_snapshot(tokio_stream::pending())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(follower.has_heard_nothing());
}

#[tokio::test]
async fn a_newer_transfer_takes_the_place_of_an_older_one() {
    let mut follower = Node::new(2, &[], small()).await;
    let mut client = client(follower.addr).await;
    let chunks = chunks(&snapshot(life(2), 300), 100);
    let begin = |term: u64| {
        let (feed, stream) = mpsc::channel(3);
        let mut client = client.clone();
        let call =
            tokio::spawn(async move { client.install_snapshot(ReceiverStream::new(stream)).await });
        let mut first = chunks[0].clone();
        first.term = term;
        feed.try_send(first).unwrap();
        (feed, call)
    };
    let (_older_feed, older) = begin(5);
    // Each takes the place of the one before it.
    let mut newer = Vec::new();
    while !older.is_finished() {
        newer.push(begin(5));
        tokio::task::yield_now().await;
    }
    assert_eq!(older.await.unwrap().unwrap_err().code(), Code::Aborted);

    // A former leader does not.
    let mut stale = chunks[0].clone();
    stale.term = 4;
    let status = client
        .install_snapshot(tokio_stream::once(stale))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert!(follower.has_heard_nothing());
}
