//! Two nodes over real gRPC: the five RPCs of Raft between whole cores, and a third member that sends
//! false messages.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seshat::driver::{Answer, Driver, DriverHandle, DriverOptions};
use seshat::kv::{Command, Write};
use seshat::node::{RaftOptions, Replica, ReplicaOptions};
use seshat::proto::raft::raft_service_client::RaftServiceClient;
use seshat::proto::raft::{
    AppendEntriesRequest, ConfState, Entry, FormationState, HeartbeatRequest, IdentifyResponse,
    InstallSnapshotRequest, RequestVoteRequest, StartRequest, TimeoutNowRequest, entry,
};
use seshat::telemetry;
use seshat::transport::{Connector, Transport, TransportOptions};
use seshat::types::{
    ClusterId, ClusterMembership, Key, NodeInfo, NodeState, NodeStatus, Offer, RaftId, Role,
    WallTime,
};
use seshat::wire;
use seshat_test_support::{InTime as _, TEST_TIMEOUT, eventually, node_id};
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Streaming};
use tonic_prost::ProstCodec;

const CLUSTER: ClusterId = ClusterId(0xc1);
const TICK: Duration = Duration::from_millis(20);

/// How often each RPC was called on a node.
type Calls = Arc<Mutex<BTreeMap<String, usize>>>;

struct Node {
    raft_id: RaftId,
    handle: DriverHandle,
    channel: Channel,
    client: RaftServiceClient<Channel>,
    calls: Calls,
}

fn info(id: u16) -> NodeInfo {
    NodeInfo {
        id: node_id(id),
        addr: format!("n{id}:7379"),
        client_addr: format!("n{id}:6379"),
    }
}

fn raft_id_of(id: u16) -> RaftId {
    RaftId::new(node_id(id), 0xa11)
}

impl Node {
    /// Node `id`, which listens on `listener` and reaches the nodes of `peers`.
    async fn new(id: u16, listener: TcpListener, peers: &[(u16, SocketAddr)]) -> Self {
        let raft_id = raft_id_of(id);
        let replica = Replica::new(ReplicaOptions {
            raft_id,
            members: [1, 2, 3].map(info).into_iter().collect(),
            bootstrap: true,
            remembered: ClusterMembership::default(),
            formation_wait_ticks: 0,
            time: Some(WallTime::FIRST),
            raft: RaftOptions::default(),
            seed: u64::from(id),
            logger: telemetry::raft_logger(id, |id| id.to_string()),
        });
        let options = DriverOptions {
            workers: seshat::driver::Workers::default(),
            tick: TICK,
            max_pending_requests: 100,
            peer_inbox_messages: 16,
            max_batch_requests: 100,
            max_batch_bytes: 1 << 20,
        };
        let (driver, handle) = Driver::new(replica, options);
        let options = TransportOptions {
            peers: peers
                .iter()
                .map(|(id, addr)| NodeInfo {
                    addr: addr.to_string(),
                    ..NodeInfo::nowhere(node_id(*id))
                })
                .collect(),
            vote_timeout: TICK * 5,
            rpc_timeout: Duration::from_millis(200),
            ..TransportOptions::default()
        };
        let transport = Transport::new(options, handle.clone(), &Connector::tcp()).unwrap();
        tokio::spawn(driver.run(transport.network));
        let calls = Calls::default();
        let counted = Arc::clone(&calls);
        let addr = listener.local_addr().unwrap();
        let server = Server::builder()
            .trace_fn(move |request| {
                let rpc = request.uri().path().rsplit('/').next().unwrap().to_owned();
                *counted.lock().unwrap().entry(rpc).or_default() += 1;
                tracing::Span::none()
            })
            .add_service(transport.service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        tokio::spawn(server);
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
        let channel = endpoint.timeout(TEST_TIMEOUT).connect_lazy();
        Self {
            raft_id,
            handle,
            client: RaftServiceClient::new(channel.clone()),
            channel,
            calls,
        }
    }

    fn calls(&self, rpc: &str) -> usize {
        self.calls.lock().unwrap().get(rpc).copied().unwrap_or(0)
    }

    fn status(&self) -> NodeStatus {
        self.handle.status()
    }

    async fn set(&self, key: &str, value: &str) -> u64 {
        let command = wire::encode_command(&Command::from(Write::Set {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
        }));
        match self
            .handle
            .write(command)
            .unwrap()
            .in_time("a write")
            .await
            .unwrap()
        {
            Ok(Answer::Set { applied_index }) => applied_index,
            other => panic!("{other:?}"),
        }
    }
}

/// Nodes 2 and 3 of a cluster whose node 1, the coordinator, has started it and is silent since: the
/// leader, and the follower.
async fn two_of_three() -> (Node, Node) {
    let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (two, three) = (listener().await, listener().await);
    // No listener is at the address of node 1.
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let addrs = [two.local_addr().unwrap(), three.local_addr().unwrap()];
    let mut nodes = [
        Node::new(2, two, &[(1, nowhere), (3, addrs[1])]).await,
        Node::new(3, three, &[(1, nowhere), (2, addrs[0])]).await,
    ];
    let offer = Offer {
        cluster_id: CLUSTER,
        coordinator: raft_id_of(1),
        members: vec![raft_id_of(1), raft_id_of(2), raft_id_of(3)],
        membership: [1, 2, 3].map(info).into_iter().collect(),
        absent: BTreeSet::new(),
        level: seshat::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    for node in &mut nodes {
        let request = wire::offer_request(offer.clone(), node.raft_id);
        let response = node.client.offer(request).await.unwrap();
        assert!(response.into_inner().accepted);
    }
    for node in &mut nodes {
        let request = StartRequest {
            cluster_id: CLUSTER.0,
            coordinator_id: raft_id_of(1).get(),
            to: node.raft_id.get(),
        };
        let response = node.client.start(request).await.unwrap();
        assert!(response.into_inner().started);
    }
    let [two, three] = nodes;
    eventually("a leader", async || {
        let leads = |node: &Node| node.status().role == Some(Role::Leader);
        (leads(&two) || leads(&three)).then_some(())
    })
    .await;
    match two.status().role {
        Some(Role::Leader) => (two, three),
        _ => (three, two),
    }
}

#[tokio::test]
async fn two_nodes_exchange_votes_and_appends_and_act_on_them() {
    let (leader, follower) = two_of_three().await;
    // Both were asked for in one election at least: the pre-vote and the vote.
    assert!(follower.calls("RequestVote") >= 2);
    leader.set("colour", "green").await;
    eventually("the write on the follower", async || {
        (follower.status().keys == 1).then_some(())
    })
    .await;
    assert_eq!(follower.status().leader, Some(leader.raft_id));
    assert_eq!(follower.status().term, leader.status().term);
    // A stream each, and not a call for each message.
    for _ in 0..100 {
        leader.set("colour", "blue").await;
    }
    assert_eq!(follower.calls("AppendEntries"), 1);
    assert_eq!(follower.calls("Heartbeat"), 1);

    let read = leader.handle.read(Key::from("colour")).unwrap();
    let Ok(Answer::Got { found, .. }) = read.in_time("a read").await.unwrap() else {
        panic!("a value");
    };
    assert_eq!(
        found.map(|(pair, _)| pair.into_value()).as_deref(),
        Some(&b"blue"[..])
    );
}

#[tokio::test]
async fn leadership_moves_by_timeout_now() {
    let (leader, follower) = two_of_three().await;
    leader.set("colour", "green").await;
    let to = leader
        .handle
        .transfer_leader(None)
        .in_time("a transfer")
        .await
        .unwrap();
    assert_eq!(to, follower.raft_id.node_id());
    eventually("the new leader", async || {
        (follower.status().role == Some(Role::Leader)).then_some(())
    })
    .await;
    assert_eq!(follower.calls("TimeoutNow"), 1);
    follower.set("colour", "blue").await;
    eventually("the write on the former leader", async || {
        (leader.status().applied_index >= follower.status().applied_index).then_some(())
    })
    .await;
}

/// The node ends the stream, or answers within a tick. Either is fine.
async fn hear_out<T>(mut replies: Streaming<T>) {
    let listen = async { while let Ok(Some(_)) = replies.message().await {} };
    let _ = tokio::time::timeout(TICK, listen).await;
}

/// Messages that node 1 would never send, in the terms before, of, and after the node's.
async fn lie_to(node: &Node) {
    let mut client = node.client.clone();
    let NodeStatus {
        term, commit_index, ..
    } = node.status();
    let (from, to, cluster_id) = (raft_id_of(1).get(), node.raft_id.get(), CLUSTER.0);
    for term in [1, term.saturating_sub(1).max(1), term, term + 1] {
        let append = AppendEntriesRequest {
            term,
            leader_id: from,
            prev_log_index: commit_index,
            prev_log_term: term,
            entries: Vec::new(),
            leader_commit: commit_index,
            cluster_id,
            to,
        };
        let entry = |term, index, payload: &'static [u8]| Entry {
            term,
            index,
            context: Default::default(),
            payload: Some(entry::Payload::Command(payload.into())),
        };
        let with = |prev_log_index, entries| AppendEntriesRequest {
            prev_log_index,
            entries,
            ..append.clone()
        };
        let appends = [
            // Gaps: after the log, and within the message.
            with(1 << 40, vec![entry(term, (1 << 40) + 1, b"")]),
            with(commit_index, vec![entry(term, commit_index + 9, b"")]),
            // Would replace committed entries.
            with(0, vec![entry(term, 1, b"x"), entry(term, 2, b"x")]),
            // No command.
            with(
                commit_index,
                vec![entry(term, commit_index + 1, b"\xff\xff")],
            ),
            // Entries of a later term than the leader's.
            with(commit_index, vec![entry(term + 5, commit_index + 1, b"")]),
            // A commit past everything.
            AppendEntriesRequest {
                leader_commit: u64::MAX,
                ..append.clone()
            },
            AppendEntriesRequest {
                prev_log_index: u64::MAX,
                ..append.clone()
            },
        ];
        for append in appends {
            let stream = tokio_stream::once(append).chain(tokio_stream::pending());
            hear_out(client.append_entries(stream).await.unwrap().into_inner()).await;
        }
        for leader_commit in [commit_index + 1_000, u64::MAX] {
            let heartbeat = HeartbeatRequest {
                term,
                leader_id: from,
                leader_commit,
                read_context: Default::default(),
                cluster_id,
                to,
            };
            let stream = tokio_stream::once(heartbeat).chain(tokio_stream::pending());
            hear_out(client.heartbeat(stream).await.unwrap().into_inner()).await;
        }
        let vote = RequestVoteRequest {
            term,
            candidate_id: from,
            last_log_index: u64::MAX,
            last_log_term: u64::MAX,
            pre_vote: false,
            commit_index: u64::MAX,
            commit_term: u64::MAX,
            priority: i64::MIN,
            campaign: 99,
            cluster_id,
            to,
        };
        let _ = client.request_vote(vote).await;
        let snapshot = InstallSnapshotRequest {
            term,
            leader_id: from,
            last_included_index: 1 << 40,
            last_included_term: term,
            crc32: 0,
            data: b"no snapshot"[..].into(),
            done: true,
            offset: 0,
            total_size: 11,
            conf_state: Some(ConfState {
                voters: vec![from, to],
                ..ConfState::default()
            }),
            cluster_id,
            to,
        };
        assert!(
            client
                .install_snapshot(tokio_stream::once(snapshot))
                .await
                .is_err()
        );
    }
    // A member that does not even lead, and one that is no member.
    for leader_id in [from, RaftId::new(node_id(9), 1).get()] {
        let request = TimeoutNowRequest {
            term: 1,
            leader_id,
            cluster_id,
            to,
        };
        let _ = client.timeout_now(request).await;
    }
}

#[tokio::test]
async fn a_member_that_lies_stops_no_other_and_changes_nothing() {
    let (leader, follower) = two_of_three().await;
    leader.set("colour", "green").await;
    for node in [&leader, &follower] {
        lie_to(node).await;
    }
    // The false messages may have deposed the leader; the two elect one again.
    let value = eventually("a leader that writes and reads", async || {
        let nodes = [&leader, &follower];
        let node = nodes
            .into_iter()
            .find(|node| node.status().role == Some(Role::Leader))?;
        let command = wire::encode_command(&Command::from(Write::Set {
            key: "shape".into(),
            value: "round".into(),
        }));
        let written = node.handle.write(command).ok()?.await.ok()?;
        let Ok(Answer::Set { .. }) = written else {
            return None;
        };
        let Ok(Answer::Got { found, .. }) =
            node.handle.read(Key::from("colour")).ok()?.await.ok()?
        else {
            return None;
        };
        Some(found.map(|(pair, _)| pair.into_value()))
    })
    .await;
    assert_eq!(
        value.as_deref(),
        Some(&b"green"[..]),
        "what was written stays"
    );
    for node in [&leader, &follower] {
        eventually("the write on both", async || {
            let status = node.status();
            assert_eq!(status.state, NodeState::Started);
            (status.keys == 2).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_vote_that_stays_silent_says_so() {
    let (leader, follower) = two_of_three().await;
    eventually("the follower to hear its leader", async || {
        (follower.status().leader == Some(leader.raft_id)).then_some(())
    })
    .await;
    // So it does not even look at the vote.
    let vote = RequestVoteRequest {
        term: follower.status().term + 1,
        candidate_id: raft_id_of(1).get(),
        last_log_index: 100,
        last_log_term: follower.status().term,
        pre_vote: false,
        commit_index: 1,
        commit_term: 1,
        priority: 0,
        campaign: 1,
        cluster_id: CLUSTER.0,
        to: follower.raft_id.get(),
    };
    let status = follower
        .client
        .clone()
        .request_vote(vote)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("silent"), "{status}");
}

/// An `IdentifyRequest` of a later version.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterIdentifyRequest {
    #[prost(fixed64, tag = "1")]
    from: u64,
    #[prost(enumeration = "FormationState", tag = "3")]
    state: i32,
    #[prost(string, tag = "1000")]
    later: String,
}

/// Nodes of different versions understand each other: what one of them does not know, it leaves out.
#[tokio::test]
async fn a_node_ignores_the_unknown_fields_of_another_node() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = Node::new(2, listener, &[]).await;
    let mut grpc = tonic::client::Grpc::new(node.channel.clone());
    grpc.ready().await.unwrap();
    let request = LaterIdentifyRequest {
        from: raft_id_of(1).get(),
        state: FormationState::Fresh.into(),
        later: "new".to_owned(),
    };
    let path = "/seshat.raft.v1.RaftService/Identify";
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    let codec = ProstCodec::<_, IdentifyResponse>::default();
    let answer = grpc
        .unary(Request::new(request), path, codec)
        .in_time("an answer")
        .await
        .unwrap();
    assert_eq!(answer.into_inner().raft_id, node.raft_id.get());
}
