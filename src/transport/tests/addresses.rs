//! Messages for another process or another cluster, and faulty envelopes.

use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

use super::super::rejection::find_not_me;
use super::super::{FOLLOWER_ID, LEADER_ID};
use super::harness::*;
use crate::driver::Network;
use crate::error::NotMe;
use crate::proto::raft::{
    AppendEntriesRequest, HeartbeatRequest, InstallSnapshotRequest, OfferRequest,
    RequestVoteRequest, StartRequest, TimeoutNowRequest,
};
use crate::types::{ClusterId, NodeState, NodeStatus, RaftId};
use crate::wire::PeerMessage;

const ELSEWHERE: ClusterId = ClusterId(0xbad);

/// The answer of a node to each RPC whose message is for `to`, of `cluster` and from `leader`.
async fn answers(
    node: &Node,
    to: RaftId,
    cluster: ClusterId,
    leader: u64,
) -> Vec<(&'static str, Status)> {
    let mut client = client(node.addr).await;
    let cluster_id = cluster.0;
    let vote = RequestVoteRequest {
        cluster_id,
        candidate_id: leader,
        ..vote_request(to, false)
    };
    let append = AppendEntriesRequest {
        cluster_id,
        leader_id: leader,
        ..append(to, 1, 1)
    };
    let heartbeat = HeartbeatRequest {
        cluster_id,
        leader_id: leader,
        ..heartbeat_request(to)
    };
    let snapshot = InstallSnapshotRequest {
        cluster_id,
        leader_id: leader,
        ..snapshot(to, 10)
    };
    let timeout = TimeoutNowRequest {
        cluster_id,
        leader_id: leader,
        ..timeout_now(to)
    };
    // The client keeps the streams open, so the node has to end them.
    let append = tokio_stream::once(append).chain(tokio_stream::pending());
    let heartbeat = tokio_stream::once(heartbeat).chain(tokio_stream::pending());
    let mut appends = client.append_entries(append).await.unwrap().into_inner();
    let mut heartbeats = client.heartbeat(heartbeat).await.unwrap().into_inner();
    vec![
        ("RequestVote", client.request_vote(vote).await.unwrap_err()),
        ("AppendEntries", soon(appends.message()).await.unwrap_err()),
        ("Heartbeat", soon(heartbeats.message()).await.unwrap_err()),
        (
            "InstallSnapshot",
            client
                .install_snapshot(tokio_stream::once(snapshot))
                .await
                .unwrap_err(),
        ),
        ("TimeoutNow", client.timeout_now(timeout).await.unwrap_err()),
    ]
}

#[tokio::test]
async fn a_message_for_another_process_is_refused_with_the_own_identity() {
    let mut node = Node::new(2, &[], options()).await;
    let former = RaftId::new(node_id(2), 0xdead);
    for (to, cluster) in [
        (former, CLUSTER),
        (raft_id_of(2), ELSEWHERE),
        (former, ELSEWHERE),
    ] {
        for (rpc, status) in answers(&node, to, cluster, raft_id_of(1).get()).await {
            assert_eq!(status.code(), Code::FailedPrecondition, "{rpc}: {status}");
            let not_me = NotMe {
                raft_id: raft_id_of(2),
                cluster_id: Some(CLUSTER),
            };
            assert_eq!(find_not_me(&status), Some(not_me), "{rpc}");
            assert_eq!(status.message(), not_me.to_string(), "{rpc}");
        }
    }
    assert!(node.has_heard_nothing());

    // A node in the state `Outside` belongs to no cluster.
    node.driver.status.send_replace(NodeStatus {
        state: NodeState::Outside,
        ..started(raft_id_of(2))
    });
    for (rpc, status) in answers(&node, former, CLUSTER, raft_id_of(1).get()).await {
        let not_me = NotMe {
            raft_id: raft_id_of(2),
            cluster_id: None,
        };
        assert_eq!(find_not_me(&status), Some(not_me), "{rpc}");
    }
}

#[tokio::test]
async fn formation_calls_are_for_one_process_too() {
    let node = Node::new(2, &[], options()).await;
    let mut client = client(node.addr).await;
    let former = RaftId::new(node_id(2), 0xdead);
    let offer = OfferRequest {
        cluster_id: ELSEWHERE.0,
        coordinator_id: raft_id_of(1).get(),
        members: vec![raft_id_of(1).get(), former.get(), raft_id_of(3).get()],
        to: former.get(),
        initial_members: [1, 2, 3].map(initial_member).to_vec(),
        absent: Vec::new(),
        protocol_level: 0,
        limits: None,
        revision_base: 0,
    };
    let start = StartRequest {
        cluster_id: ELSEWHERE.0,
        coordinator_id: raft_id_of(1).get(),
        to: former.get(),
    };
    let statuses = [
        client.offer(offer.clone()).await.unwrap_err(),
        client.start(start).await.unwrap_err(),
    ];
    for status in statuses {
        assert_eq!(
            find_not_me(&status).unwrap().raft_id,
            raft_id_of(2),
            "{status}"
        );
    }

    let no_members = OfferRequest {
        members: Vec::new(),
        ..offer
    };
    let unknown = StartRequest {
        coordinator_id: 5,
        ..start
    };
    let refusals = [
        (
            client.offer(no_members).await.unwrap_err(),
            "OfferRequest.members",
        ),
        (
            client.start(unknown).await.unwrap_err(),
            "StartRequest.coordinator_id",
        ),
    ];
    for (status, field) in refusals {
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{status}");
    }
}

#[tokio::test]
async fn a_faulty_envelope_is_refused_by_its_field() {
    let mut node = Node::new(2, &[], options()).await;
    for (rpc, status) in answers(&node, raft_id_of(2), CLUSTER, 7).await {
        assert_eq!(status.code(), Code::InvalidArgument, "{rpc}: {status}");
        let field = if rpc == "RequestVote" {
            "candidate_id"
        } else {
            "leader_id"
        };
        let named = format!("{rpc}Request.{field}");
        assert!(status.message().starts_with(&named), "{status}");
    }
    assert!(node.has_heard_nothing());
}

#[tokio::test]
async fn a_bound_node_leaves_the_cluster_to_its_core() {
    let mut node = Node::new(2, &[], options()).await;
    node.driver.status.send_replace(NodeStatus {
        state: NodeState::Prepared,
        ..started(raft_id_of(2))
    });
    let mut client = client(node.addr).await;
    let request = TimeoutNowRequest {
        cluster_id: ELSEWHERE.0,
        ..timeout_now(raft_id_of(2))
    };
    client.timeout_now(request).await.unwrap();
    assert_eq!(node.message().await, PeerMessage::TimeoutNow(request));
}

#[tokio::test]
async fn a_stream_belongs_to_one_leader() {
    let mut node = Node::new(2, &[], options()).await;
    let mut client = client(node.addr).await;
    let mine = heartbeat_request(raft_id_of(2));
    let of_another = HeartbeatRequest {
        leader_id: raft_id_of(3).get(),
        ..mine.clone()
    };
    let of_another_cluster = HeartbeatRequest {
        cluster_id: ELSEWHERE.0,
        ..mine.clone()
    };
    for second in [of_another.clone(), of_another_cluster] {
        let stream = tokio_stream::iter([mine.clone(), second]).chain(tokio_stream::pending());
        let mut replies = client.heartbeat(stream).await.unwrap().into_inner();
        let status = soon(replies.message()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status.message().contains("does not belong on this stream"),
            "{status}"
        );
        assert_eq!(node.message().await, PeerMessage::Heartbeat(mine.clone()));
    }

    // Nor may the leader in a message differ from the one that opened the stream.
    let mut replies = client
        .heartbeat(opened(tokio_stream::once(of_another), raft_id_of(2)))
        .await
        .unwrap()
        .into_inner();
    let status = soon(replies.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(node.has_heard_nothing());
}

/// A stream request whose metadata says that leader 1 opens it to `to`.
fn opened<T>(messages: T, to: RaftId) -> Request<T> {
    let mut request = Request::new(messages);
    request
        .metadata_mut()
        .insert(LEADER_ID, raft_id_of(1).get().into());
    request.metadata_mut().insert(FOLLOWER_ID, to.get().into());
    request
}

#[tokio::test]
async fn a_stream_to_an_earlier_incarnation_does_not_even_open() {
    let mut node = Node::new(2, &[], options()).await;
    let mut client = client(node.addr).await;
    let former = RaftId::new(node_id(2), 0xdead);
    let status = client
        .append_entries(opened(tokio_stream::pending(), former))
        .await
        .unwrap_err();
    assert_eq!(find_not_me(&status).unwrap().raft_id, raft_id_of(2));

    for name in [LEADER_ID, FOLLOWER_ID] {
        let mut request = opened(tokio_stream::pending(), raft_id_of(2));
        request.metadata_mut().insert(name, "me".parse().unwrap());
        let status = client.heartbeat(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(name), "{status}");
    }
    assert!(node.has_heard_nothing());
}

#[tokio::test]
async fn a_stream_without_a_name_is_known_by_its_first_message() {
    let mut node = Node::new(2, &[], options()).await;
    let mut client = client(node.addr).await;
    let stream = tokio_stream::once(append(raft_id_of(2), 1, 1)).chain(tokio_stream::pending());
    let mut replies = client.append_entries(stream).await.unwrap().into_inner();
    node.message().await;
    node.network
        .send(PeerMessage::AppendEntriesReply(append_reply(2)));
    assert_eq!(
        soon(replies.message()).await.unwrap(),
        Some(append_reply(2))
    );
}
