//! Votes, and the calls by which nodes find one another.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::server::TcpIncoming;

use super::super::TransportOptions;
use super::harness::*;
use crate::driver::{Call, CallId, Network, Notice, Probe, Reply};
use crate::error::RpcError;
use crate::proto::raft::RequestVoteResponse;
use crate::types::{Answering, Introduction, NodeState, NodeStatus, Offer};
use crate::wire::PeerMessage;

pub(super) fn call_id(to: u16) -> CallId {
    let to = node_id(to);
    CallId { to, number: 7 }
}

pub(super) fn identify() -> Call {
    Call::Identify(Introduction {
        raft_id: raft_id_of(1),
        state: NodeState::Started,
        cluster_id: Some(CLUSTER),
        members: Arc::new([1, 2, 3].map(node_id).into()),
    })
}

fn vote(pre_vote: bool, term: u64) -> RequestVoteResponse {
    RequestVoteResponse {
        term,
        vote_granted: true,
        pre_vote,
        voter_id: raft_id_of(2).get(),
        cluster_id: CLUSTER.0,
        to: raft_id_of(1).get(),
        ..RequestVoteResponse::default()
    }
}

#[tokio::test]
async fn a_vote_is_asked_and_answered() {
    let mut voter = Node::new(2, &[], options()).await;
    let mut candidate = Node::new(1, &[(2, voter.addr)], options()).await;
    // The answers cross: each goes to the call that waits for it, whatever its term.
    for pre_vote in [true, false] {
        assert!(
            candidate
                .network
                .send(PeerMessage::RequestVote(vote_request(
                    raft_id_of(2),
                    pre_vote
                )))
        );
        let asked = PeerMessage::RequestVote(vote_request(raft_id_of(2), pre_vote));
        assert_eq!(voter.message().await, asked);
    }
    for pre_vote in [false, true] {
        let reply = PeerMessage::RequestVoteReply(vote(pre_vote, 9));
        assert!(voter.network.send(reply.clone()));
        assert_eq!(candidate.message().await, reply);
    }
}

#[tokio::test]
async fn a_silent_voter_ends_the_call_with_words() {
    let impatient = TransportOptions {
        vote_timeout: Duration::from_millis(20),
        ..options()
    };
    let mut voter = Node::new(2, &[], impatient).await;
    let mut client = client(voter.addr).await;
    let status = client
        .request_vote(vote_request(raft_id_of(2), false))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("silent for 20ms"), "{status}");
    voter.message().await;

    // A vote now would come too late for that call, but the next call works.
    voter
        .network
        .send(PeerMessage::RequestVoteReply(vote(false, 2)));
    let mut candidate = Node::new(1, &[(2, voter.addr)], options()).await;
    assert!(
        candidate
            .network
            .send(PeerMessage::RequestVote(vote_request(raft_id_of(2), true)))
    );
    voter.message().await;
    let reply = PeerMessage::RequestVoteReply(vote(true, 2));
    voter.network.send(reply.clone());
    assert_eq!(candidate.message().await, reply);
}

#[tokio::test]
async fn a_vote_answers_every_call_of_its_candidate() {
    let mut voter = Node::new(2, &[], options()).await;
    let mut client = client(voter.addr).await;
    let mut again = client.clone();
    let first = tokio::spawn(async move {
        client
            .request_vote(vote_request(raft_id_of(2), false))
            .await
    });
    voter.message().await;
    let second =
        tokio::spawn(async move { again.request_vote(vote_request(raft_id_of(2), false)).await });
    voter.message().await;
    voter
        .network
        .send(PeerMessage::RequestVoteReply(vote(false, 2)));
    // A second call under the raft id of a candidate takes no answer from the first.
    for call in [first, second] {
        let reply = soon(call).await.unwrap().unwrap().into_inner();
        assert_eq!(reply, vote(false, 2));
    }
}

#[tokio::test]
async fn calls_under_way_are_bounded() {
    let bounds = TransportOptions {
        max_calls: 2,
        ..options()
    };
    let voter = Node::new(2, &[], options()).await;
    let mut candidate = Node::new(1, &[(2, voter.addr)], bounds).await;
    let ask = || PeerMessage::RequestVote(vote_request(raft_id_of(2), true));
    assert!(candidate.network.send(ask()));
    assert!(candidate.network.send(ask()));
    assert!(!candidate.network.send(ask()));
}

#[tokio::test]
async fn timeout_now_arrives() {
    let mut follower = Node::new(2, &[], options()).await;
    let mut leader = Node::leader(follower.addr, options()).await;
    let message = PeerMessage::TimeoutNow(timeout_now(raft_id_of(2)));
    assert!(leader.network.send(message.clone()));
    assert_eq!(follower.message().await, message);
}

#[tokio::test]
async fn a_node_reports_its_identity() {
    let mut other = Node::new(2, &[], options()).await;
    let mut node = Node::new(1, &[(2, other.addr)], options()).await;
    node.network.call(call_id(2), identify());
    let Notice::Replied(from, Reply::Identified(status)) = node.notice().await else {
        panic!("a reply");
    };
    assert_eq!((from, *status), (call_id(2), started(raft_id_of(2))));
    // The receiver may have to know who asked.
    let Notice::Asked(_) = other.notice().await else {
        panic!("a question");
    };

    let fresh = NodeStatus {
        state: NodeState::Fresh,
        cluster_id: None,
        role: None,
        term: 0,
        commit_index: 0,
        applied_index: 0,
        ..started(raft_id_of(2))
    };
    other.driver.status.send_replace(fresh.clone());
    let status = node
        .prober
        .identify(node_id(2), Duration::from_secs(20))
        .await;
    assert_eq!(status, Ok(fresh));
    let Notice::Asked(by) = other.notice().await else {
        panic!("a question");
    };
    let expected = Introduction {
        raft_id: raft_id_of(1),
        state: NodeState::Started,
        cluster_id: Some(CLUSTER),
        members: Arc::default(),
    };
    assert_eq!(by, expected);
    assert!(other.has_heard_nothing());
}

#[tokio::test]
async fn a_cluster_is_offered_and_started() {
    let mut member = Node::new(2, &[], options()).await;
    let mut coordinator = Node::new(1, &[(2, member.addr)], options()).await;
    let offer = Offer {
        cluster_id: CLUSTER,
        coordinator: raft_id_of(1),
        members: vec![raft_id_of(1), raft_id_of(2), raft_id_of(3)],
        membership: [1, 2, 3].map(node_id).into(),
        absent: [node_id(7)].into(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    for accepted in [true, false] {
        coordinator
            .network
            .call(call_id(2), Call::Offer(offer.clone()));
        let Notice::Offered(offered, answer) = member.notice().await else {
            panic!("an offer");
        };
        assert_eq!(offered, offer);
        answer.send(accepted).unwrap();
        let Notice::Replied(_, reply) = coordinator.notice().await else {
            panic!("a reply");
        };
        let cluster_id = CLUSTER;
        assert_eq!(
            reply,
            Reply::Offered {
                cluster_id,
                accepted
            }
        );
    }
    for (took_part, expected) in [(true, Reply::Started), (false, Reply::Failed)] {
        coordinator
            .network
            .call(call_id(2), Call::Start(offer.clone()));
        let Notice::Start {
            cluster_id,
            coordinator: by,
            started,
        } = member.notice().await
        else {
            panic!("a start");
        };
        assert_eq!((cluster_id, by), (CLUSTER, raft_id_of(1)));
        started.send(took_part).unwrap();
        let Notice::Replied(_, reply) = coordinator.notice().await else {
            panic!("a reply");
        };
        assert_eq!(reply, expected);
    }
}

#[tokio::test]
async fn a_call_that_fails_is_answered_too() {
    // A port without a listener.
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let mut node = Node::new(1, &[(2, nowhere)], options()).await;
    let offer = Offer {
        cluster_id: CLUSTER,
        coordinator: raft_id_of(1),
        members: vec![raft_id_of(1), raft_id_of(3), raft_id_of(4)],
        membership: [1, 2, 3].map(node_id).into(),
        absent: [node_id(7)].into(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    for (to, call) in [
        (2, identify()),
        // At once, as the backoff has not ended.
        (2, identify()),
        // Not a member.
        (2, Call::Offer(offer)),
        // A node without a known address.
        (9, identify()),
    ] {
        node.network.call(call_id(to), call);
        let Notice::Replied(from, reply) = node.notice().await else {
            panic!("a reply");
        };
        assert_eq!((from, reply), (call_id(to), Reply::Failed));
    }
    let error = node
        .prober
        .identify(node_id(2), Duration::from_secs(20))
        .await
        .unwrap_err();
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

/// Listens, answers every connection with `answer`, and serves no HTTP/2.
async fn answers_nonsense(answer: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(answer).await.unwrap();
            // Until the other side closes the connection.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    addr
}

/// Serves gRPC, but none of the calls of nodes.
async fn serves_clients() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    addr
}

#[tokio::test]
async fn another_process_at_the_address_is_distinguished_from_silence() {
    let other = Node::new(3, &[], options()).await;
    let http1 = answers_nonsense(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    for (addr, answering) in [
        (other.addr, Answering::OtherNode(node_id(3))),
        (serves_clients().await, Answering::OtherService),
        (http1, Answering::NotGrpc),
        (
            answers_nonsense(b"SSH-2.0-OpenSSH_9.2p1\r\n").await,
            Answering::NotGrpc,
        ),
    ] {
        let mut node = Node::new(1, &[(2, addr)], options()).await;
        // Once after a call, and once during the backoff.
        for _ in 0..2 {
            node.network.call(call_id(2), identify());
            let Notice::Replied(from, reply) = node.notice().await else {
                panic!("a reply");
            };
            assert_eq!((from, reply), (call_id(2), Reply::Misdirected(answering)));
        }
        let max_wait = Duration::from_secs(20);
        let error = node.prober.identify(node_id(2), max_wait).await;
        let addr = addr.to_string();
        let node = node_id(2);
        assert_eq!(
            error,
            Err(RpcError::Misdirected {
                node,
                addr,
                answering
            })
        );
    }
}

/// Many health checks and operators delay no vote and no formation.
#[tokio::test]
async fn questions_votes_and_reports_share_no_bound() {
    let bounds = TransportOptions {
        max_calls: 1,
        ..options()
    };
    let silent = silent().await;
    let mut node = Node::new(1, &[(2, silent)], bounds).await;
    let prober = node.prober.clone();
    let report = async move { prober.identify(node_id(2), MAX_WAIT).await };
    let report = tokio::spawn(report);
    tokio::task::yield_now().await;
    let too_many = node.prober.identify(node_id(2), MAX_WAIT).await;
    assert!(matches!(too_many, Err(RpcError::Unanswered { .. })));
    let ask = || PeerMessage::RequestVote(vote_request(raft_id_of(2), true));
    assert!(node.network.send(ask()));
    assert!(!node.network.send(ask()));
    // The first question is in flight: there is no answer to it yet.
    node.network.call(call_id(2), identify());
    node.network.call(call_id(2), identify());
    let Notice::Replied(_, Reply::Misdirected(Answering::Hung)) = node.notice().await else {
        panic!("the second one is too many");
    };
    assert!(node.has_heard_nothing());
    report.abort();
}

/// A port that accepts connections and never answers.
async fn silent() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    addr
}
