//! Snapshots: whole, in chunks, and with wrong chunks.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::super::TransportOptions;
use super::super::snapshot::encode;
use super::harness::*;
use crate::driver::{Network, Notice, OutgoingSnapshot, Workers};
use crate::proto::raft::{IdentifyRequest, InstallSnapshotRequest};
use crate::types::{NodeStatus, SnapshotId, SnapshotProgress};
use crate::wire::{PeerMessage, SnapshotChunks};

fn small() -> TransportOptions {
    TransportOptions {
        max_message_bytes: 16 << 10,
        snapshot_chunk_bytes: 8 << 10,
        max_snapshot_bytes: 16 << 20,
        window_bytes: 64 << 10,
        ..options()
    }
}

/// Number of keys whose snapshot exceeds what the connections and queues between two nodes can hold.
const MANY: u32 = 20_000;

/// The report of the snapshot to the leader's driver.
async fn report(leader: &mut Node) -> Option<PeerMessage> {
    loop {
        match leader.notice().await {
            Notice::SnapshotSent { to, answer } => {
                assert_eq!(to, raft_id_of(2));
                return answer;
            }
            Notice::Unreachable(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// `snapshot` in three chunks.
fn three_chunks(snapshot: OutgoingSnapshot) -> Vec<InstallSnapshotRequest> {
    let OutgoingSnapshot {
        header,
        state_machine,
    } = snapshot;
    let cut = |bytes| SnapshotChunks::new(header.clone(), state_machine.clone(), bytes);
    let total = usize::try_from(cut(1).total_bytes()).unwrap();
    let chunks: Vec<_> = cut(total.div_ceil(3)).collect();
    assert_eq!(chunks.len(), 3);
    chunks
}

#[tokio::test]
async fn a_peer_costs_two_connections_and_one_more_for_each_snapshot() {
    let mut follower = Node::new(2, &[], small()).await;
    let link = Link::new(follower.addr).await;
    let mut leader = Node::leader(link.addr, small()).await;
    for _ in 0..2 {
        leader.reach(&mut follower).await;
        let vote = PeerMessage::RequestVote(vote_request(raft_id_of(2), false));
        assert!(leader.network.send(vote.clone()));
        // Heartbeats of `reach` may come late.
        while follower.message().await != vote {}
        assert_eq!(link.connections(), 2);
    }
    for more in 1..=2 {
        assert!(leader.network.send_snapshot(outgoing(raft_id_of(2), MANY)));
        while !matches!(follower.notice().await, Notice::Install { .. }) {}
        let reply = PeerMessage::AppendEntriesReply(append_reply(10));
        follower.network.send(reply.clone());
        assert_eq!(report(&mut leader).await, Some(reply));
        assert_eq!(link.connections(), 2 + more);
    }
}

#[tokio::test]
async fn a_snapshot_larger_than_a_message_arrives_whole() {
    let mut follower = Node::new(2, &[], small()).await;
    let mut leader = Node::leader(follower.addr, small()).await;
    for keys in [MANY, 100, 1, 0] {
        let sent = outgoing(raft_id_of(2), keys);
        assert!(leader.network.send_snapshot(sent.clone()));
        let (header, state_machine) = follower.installed().await;
        assert_eq!(header.request().last_included_index, 10);
        assert_eq!(
            header.request().conf_state,
            sent.header.request().conf_state
        );
        assert!(state_machine == sent.state_machine);
        let reply = PeerMessage::AppendEntriesReply(append_reply(10));
        follower.network.send(reply.clone());
        assert_eq!(report(&mut leader).await, Some(reply));
    }
    assert!(leader.has_heard_nothing());
}

#[tokio::test]
async fn a_chunk_that_is_not_taken_is_not_encoded() {
    let mut chunks = encode(outgoing(raft_id_of(2), MANY), 0, 1 << 10, Workers::Threads);
    soon(chunks.recv()).await.unwrap();
    while chunks.is_empty() {
        tokio::task::yield_now().await;
    }
    chunks.close();
    let mut queued = 0;
    while soon(chunks.recv()).await.is_some() {
        queued += 1;
    }
    assert_eq!(queued, 1, "of a thousand");
    soon(async {
        while chunks.sender_strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_snapshot_at_a_time_goes_to_a_peer() {
    let mut follower = Node::new(2, &[], small()).await;
    let mut leader = Node::leader(follower.addr, small()).await;
    assert!(leader.network.send_snapshot(outgoing(raft_id_of(2), 1)));
    assert!(!leader.network.send_snapshot(outgoing(raft_id_of(2), 1)));
    follower.installed().await;
    assert!(!leader.network.send_snapshot(outgoing(raft_id_of(2), 1)));
    follower
        .network
        .send(PeerMessage::AppendEntriesReply(append_reply(10)));
    assert!(report(&mut leader).await.is_some());
    assert!(
        leader.network.send_snapshot(outgoing(raft_id_of(2), 1)),
        "the report makes room for the next"
    );
}

#[tokio::test]
async fn a_snapshot_is_no_message() {
    let follower = Node::new(2, &[], small()).await;
    let mut leader = Node::leader(follower.addr, small()).await;
    let whole = PeerMessage::InstallSnapshot(snapshot(raft_id_of(2), 1));
    assert!(!leader.network.send(whole));
}

#[tokio::test]
async fn a_refused_snapshot_is_reported() {
    let strict = TransportOptions {
        max_snapshot_bytes: 1000,
        ..small()
    };
    let mut follower = Node::new(2, &[], strict).await;
    let slow_retries = TransportOptions {
        backoff_min: Duration::from_secs(60),
        backoff_max: Duration::from_secs(60),
        ..small()
    };
    let mut leader = Node::leader(follower.addr, slow_retries).await;
    assert!(leader.network.send_snapshot(outgoing(raft_id_of(2), MANY)));
    assert_eq!(report(&mut leader).await, None);
    assert!(follower.has_heard_nothing());
    assert!(
        !leader.network.send_snapshot(outgoing(raft_id_of(2), 1)),
        "not at once"
    );
    // The refusal concerns the snapshot and not the peer.
    assert!(leader.network.send(heartbeat(raft_id_of(2))));
    assert_eq!(follower.message().await, heartbeat(raft_id_of(2)));
    assert!(leader.has_heard_nothing(), "reported once");
}

#[tokio::test]
async fn a_snapshot_on_a_link_that_is_cut_is_reported_and_the_next_arrives_whole() {
    let mut follower = Node::new(2, &[], small()).await;
    let link = Link::new(follower.addr).await;
    // Without a backoff a snapshot waits for nothing but the check of a peer whose connection broke.
    let impatient = TransportOptions {
        bulk_timeout: Duration::from_millis(50),
        backoff_min: Duration::ZERO,
        ..small()
    };
    let mut leader = Node::leader(link.addr, impatient).await;
    let sent = outgoing(raft_id_of(2), MANY);
    let send = async |leader: &mut Node| {
        soon(async {
            while !leader.network.send_snapshot(sent.clone()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    for _ in 0..3 {
        link.cut();
        send(&mut leader).await;
        assert_eq!(report(&mut leader).await, None);
        assert!(leader.has_heard_nothing(), "reported once");
    }
    link.mend();
    send(&mut leader).await;
    let (_, state_machine) = follower.installed().await;
    assert!(state_machine == sent.state_machine);
}

/// Seen: a snapshot of 40 MiB over 4 Mbit/s, on connections that break after 80 % of it, never arrived.
#[tokio::test]
async fn a_snapshot_that_takes_longer_than_a_connection_lasts_goes_on_where_it_was() {
    let mut follower = Node::new(2, &[], small()).await;
    // A good third of the snapshot, and more than the windows.
    let link = Link::lasting(follower.addr, 800 << 10).await;
    let mut leader = Node::leader(link.addr, small()).await;
    let sent = outgoing(raft_id_of(2), MANY);
    assert!(leader.network.send_snapshot(sent.clone()));
    let (_, state_machine) = follower.installed().await;
    assert!(state_machine == sent.state_machine);
    let reply = PeerMessage::AppendEntriesReply(append_reply(10));
    follower.network.send(reply.clone());
    assert_eq!(report(&mut leader).await, Some(reply));
    assert!(leader.has_heard_nothing(), "reported once");
}

/// Sends the first two of `chunks` in a call that is then cancelled.
async fn interrupted(follower: &Node, chunks: &[InstallSnapshotRequest]) {
    let mut client = client(follower.addr).await;
    let (feed, stream) = mpsc::channel(3);
    for chunk in &chunks[..2] {
        feed.send(chunk.clone()).await.unwrap();
    }
    let call =
        tokio::spawn(async move { client.install_snapshot(ReceiverStream::new(stream)).await });
    let reached = chunks[2].offset;
    soon(async { while receiving(follower).await.map(|it| it.received) != Some(reached) {} }).await;
    call.abort();
    let _ = call.await;
    drop(feed);
}

async fn receiving(node: &Node) -> Option<SnapshotProgress> {
    let mut client = client(node.addr).await;
    let response = client.identify(IdentifyRequest::default()).await.unwrap();
    NodeStatus::try_from(response.into_inner())
        .unwrap()
        .receiving
}

#[tokio::test]
async fn a_call_goes_on_behind_what_an_earlier_one_has_brought_of_the_same_snapshot() {
    let mut follower = Node::new(2, &[], small()).await;
    let whole = outgoing(raft_id_of(2), 100);
    let chunks = three_chunks(whole.clone());
    let refused = async |follower: &Node, first: &InstallSnapshotRequest| {
        let mut client = client(follower.addr).await;
        let call = client.install_snapshot(tokio_stream::once(first.clone()));
        let status = soon(call).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains("offset: "), "{status}");
    };
    // No chunk has come yet.
    refused(&follower, &chunks[2]).await;
    interrupted(&follower, &chunks).await;
    // Neither a chunk of another snapshot nor another chunk of the same one is accepted.
    let mut other = chunks[2].clone();
    other.last_included_index += 1;
    refused(&follower, &other).await;
    refused(&follower, &chunks[1]).await;

    let mut client = client(follower.addr).await;
    let rest = tokio_stream::once(chunks[2].clone());
    let call = tokio::spawn(async move { client.install_snapshot(rest).await });
    let (_, state_machine) = follower.installed().await;
    assert!(state_machine == whole.state_machine);
    follower
        .network
        .send(PeerMessage::AppendEntriesReply(append_reply(10)));
    soon(call).await.unwrap().unwrap();
    assert_eq!(receiving(&follower).await, None);
}

#[tokio::test]
async fn the_chunks_of_an_interrupted_call_are_not_kept_for_ever() {
    let impatient = TransportOptions {
        bulk_timeout: Duration::from_millis(20),
        ..small()
    };
    let follower = Node::new(2, &[], impatient).await;
    let mut client = client(follower.addr).await;
    let chunks = three_chunks(outgoing(raft_id_of(2), 100));
    let unfinished = tokio_stream::iter(chunks)
        .take(2)
        .chain(tokio_stream::pending());
    let status = client.install_snapshot(unfinished).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    soon(async { while receiving(&follower).await.is_some() {} }).await;
}

#[tokio::test]
async fn a_snapshot_that_stands_still_is_given_up() {
    let impatient = TransportOptions {
        rpc_timeout: Duration::from_millis(50),
        bulk_timeout: Duration::from_millis(50),
        ..small()
    };
    // The follower's driver does not answer.
    let follower = Node::new(2, &[], small()).await;
    let mut leader = Node::leader(follower.addr, impatient.clone()).await;
    assert!(leader.network.send_snapshot(outgoing(raft_id_of(2), 100)));
    assert_eq!(report(&mut leader).await, None);

    // The link carries nothing to the follower.
    let link = Link::new(follower.addr).await;
    link.swallow();
    let mut leader = Node::leader(link.addr, impatient).await;
    assert!(leader.network.send_snapshot(outgoing(raft_id_of(2), MANY)));
    assert_eq!(report(&mut leader).await, None);
}

#[tokio::test]
async fn a_node_that_stops_leading_stops_sending() {
    let mut follower = Node::new(2, &[], small()).await;
    let mut leader = Node::leader(follower.addr, small()).await;
    assert!(leader.network.send_snapshot(outgoing(raft_id_of(2), MANY)));
    follower.installed().await;
    leader.network.set_leading(false);
    assert_eq!(report(&mut leader).await, None);
    assert!(leader.has_heard_nothing(), "reported once");
}

#[tokio::test]
async fn chunks_that_make_no_snapshot_are_refused() {
    type Spoil = fn(&mut Vec<InstallSnapshotRequest>);
    let spoils: [(&str, Spoil); 13] = [
        ("without a chunk", |chunks| chunks.clear()),
        ("offset: ", |chunks| drop(chunks.remove(1))),
        ("offset: ", |chunks| drop(chunks.remove(0))),
        ("offset: 0, where ", |chunks| chunks[1].offset = 0),
        ("done: the call ended before", |chunks| drop(chunks.pop())),
        ("done: false at ", |chunks| chunks[2].done = false),
        ("done: true at ", |chunks| chunks[1].done = true),
        ("done: a chunk after the last", |chunks| {
            chunks.push(chunks[2].clone());
        }),
        ("data: an empty chunk", |chunks| {
            chunks[1].data = Bytes::new();
        }),
        ("crc32: the snapshot is damaged", |chunks| {
            let mut data = chunks[1].data.to_vec();
            data[5] ^= 1;
            chunks[1].data = data.into();
        }),
        ("data: a chunk of another", |chunks| chunks[1].term = 2),
        ("conf_state: missing", |chunks| chunks[0].conf_state = None),
        ("total_size: the state takes more memory", |chunks| {
            chunks[0].total_size = (16 << 20) + 1;
        }),
    ];
    let mut follower = Node::new(2, &[], small()).await;
    let mut client = client(follower.addr).await;
    let whole = outgoing(raft_id_of(2), 100);
    for (words, spoil) in spoils {
        let mut chunks = three_chunks(whole.clone());
        spoil(&mut chunks);
        let status = client
            .install_snapshot(tokio_stream::iter(chunks))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{words}: {status}");
        assert!(status.message().contains(words), "{words}: {status}");
        assert!(follower.has_heard_nothing());
    }

    // The same chunks in the right order make a snapshot.
    let chunks = three_chunks(whole.clone());
    let call =
        tokio::spawn(async move { client.install_snapshot(tokio_stream::iter(chunks)).await });
    let (_, state_machine) = follower.installed().await;
    assert!(state_machine == whole.state_machine);
    follower
        .network
        .send(PeerMessage::AppendEntriesReply(append_reply(10)));
    assert_eq!(
        soon(call).await.unwrap().unwrap().into_inner().log,
        Some(append_reply(10))
    );
}

#[tokio::test]
async fn a_transfer_shows_how_far_it_has_come_while_it_lasts() {
    let follower = Node::new(2, &[], small()).await;
    let client = client(follower.addr).await;
    let chunks = three_chunks(outgoing(raft_id_of(2), 100));
    let progress = async || {
        let mut client = client.clone();
        let response = client.identify(IdentifyRequest::default()).await.unwrap();
        NodeStatus::try_from(response.into_inner())
            .unwrap()
            .receiving
    };
    assert_eq!(progress().await, None);
    let (feed, stream) = mpsc::channel(3);
    let call = {
        let mut client = client.clone();
        tokio::spawn(async move { client.install_snapshot(ReceiverStream::new(stream)).await })
    };
    let mut received = 0;
    for chunk in &chunks[..2] {
        received += u64::try_from(chunk.data.len()).unwrap();
        feed.send(chunk.clone()).await.unwrap();
        let expected = Some(SnapshotProgress {
            received,
            total: chunk.total_size,
            id: SnapshotId {
                leader: chunk.leader_id,
                term: chunk.term,
                index: chunk.last_included_index,
            },
        });
        soon(async { while progress().await != expected {} }).await;
    }
    drop(feed);
    assert!(soon(call).await.unwrap().is_err());
    // The next call may resume there.
    assert_eq!(progress().await.map(|it| it.received), Some(received));
}

#[tokio::test]
async fn a_transfer_that_stops_is_given_up() {
    let impatient = TransportOptions {
        bulk_timeout: Duration::from_millis(20),
        ..small()
    };
    let mut follower = Node::new(2, &[], impatient).await;
    let mut client = client(follower.addr).await;
    let chunks = three_chunks(outgoing(raft_id_of(2), 100));
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
    let chunks = three_chunks(outgoing(raft_id_of(2), 100));
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
    // Each transfer supersedes the one before it.
    let mut newer = Vec::new();
    while !older.is_finished() {
        newer.push(begin(5));
        tokio::task::yield_now().await;
    }
    assert_eq!(older.await.unwrap().unwrap_err().code(), Code::Aborted);

    // A transfer of an earlier leader does not.
    let mut stale = chunks[0].clone();
    stale.term = 4;
    let status = client
        .install_snapshot(tokio_stream::once(stale))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert!(follower.has_heard_nothing());
}
