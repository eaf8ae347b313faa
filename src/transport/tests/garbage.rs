//! A peer that sends garbage harms only its own calls.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

use super::super::TransportOptions;
use super::harness::*;
use crate::driver::{Network, Notice};
use crate::proto::raft::IdentifyRequest;
use crate::wire::PeerMessage;

/// Sends bytes unchanged.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Random bytes, or a message with some of its bytes changed.
fn garbage(random: &mut StdRng) -> Bytes {
    use prost::Message as _;

    let mut bytes = match random.gen_range(0..4) {
        0 => {
            let mut bytes = vec![0; random.gen_range(0..64)];
            random.fill_bytes(&mut bytes);
            return bytes.into();
        }
        1 => append(raft_id_of(2), 1, 20).encode_to_vec(),
        2 => heartbeat_request(raft_id_of(2)).encode_to_vec(),
        _ => snapshot(raft_id_of(2), 20).encode_to_vec(),
    };
    for _ in 0..random.gen_range(1..4) {
        let at = random.gen_range(0..bytes.len());
        bytes[at] = random.r#gen();
    }
    bytes.into()
}

async fn still_serves(node: &Node) {
    let mut client = client(node.addr).await;
    let response = client.identify(IdentifyRequest::default()).await.unwrap();
    assert_eq!(response.into_inner().raft_id, raft_id_of(2).get());
}

#[tokio::test]
async fn fuzzed_frames_end_their_own_call_only() {
    // A message that is well formed by chance gets no answer, so the timeouts are short.
    let impatient = TransportOptions {
        vote_timeout: Duration::from_millis(1),
        rpc_timeout: Duration::from_millis(1),
        ..options()
    };
    let mut node = Node::new(2, &[], impatient).await;
    // The driver: it answers offers, and drops all other notices.
    let mut notices = std::mem::replace(&mut node.driver.notices, tokio::sync::mpsc::channel(1).1);
    tokio::spawn(async move {
        while let Some(notice) = notices.recv().await {
            if let Notice::Offered(_, answer) = notice {
                let _ = answer.send(false);
            }
        }
    });
    let channel = Endpoint::from_shared(format!("http://{}", node.addr))
        .unwrap()
        .connect_lazy();
    let mut random = StdRng::seed_from_u64(0x6a72_6261_6765);
    for round in 0..300 {
        for rpc in [
            "RequestVote",
            "AppendEntries",
            "Heartbeat",
            "InstallSnapshot",
            "TimeoutNow",
            "Identify",
            "Offer",
            "Start",
        ] {
            let path: PathAndQuery = format!("/seshat.raft.v1.RaftService/{rpc}")
                .parse()
                .unwrap();
            let frames: Vec<_> = (0..random.gen_range(1..4))
                .map(|_| garbage(&mut random))
                .collect();
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            grpc.ready().await.unwrap();
            let request = Request::new(tokio_stream::iter(frames));
            let call = async {
                let mut replies = grpc.streaming(request, path, Raw).await?.into_inner();
                while replies.message().await?.is_some() {}
                Ok::<_, Status>(())
            };
            if let Err(status) = soon(call).await {
                let expected = [
                    Code::InvalidArgument,
                    Code::FailedPrecondition,
                    Code::DeadlineExceeded,
                    // The code that tonic gives a unary request that it cannot decode.
                    Code::Internal,
                ];
                assert!(
                    expected.contains(&status.code()),
                    "round {round}, {rpc}: {status:?}"
                );
            }
        }
    }
    still_serves(&node).await;
}

#[tokio::test]
async fn bytes_that_are_no_http2_end_their_own_connection_only() {
    let node = Node::new(2, &[], options()).await;
    let mut random = StdRng::seed_from_u64(1);
    for preface in [
        &b""[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut bytes = vec![0; 10_000];
        random.fill_bytes(&mut bytes);
        let mut stream = TcpStream::connect(node.addr).await.unwrap();
        stream.write_all(preface).await.unwrap();
        // The node may close the connection before it has read all.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let _ = soon(stream.read_to_end(&mut Vec::new())).await;
    }
    still_serves(&node).await;
}

#[tokio::test]
async fn a_message_beyond_the_bound_ends_its_stream_and_not_the_peer() {
    let bounds = TransportOptions {
        max_message_bytes: 4 << 10,
        ..options()
    };
    let mut follower = Node::new(2, &[], bounds).await;
    let mut leader = Node::leader(follower.addr, options()).await;
    leader.network.send(PeerMessage::AppendEntries(append(
        raft_id_of(2),
        1,
        8 << 10,
    )));
    let Notice::Unreachable(peer) = leader.notice().await else {
        panic!("a report");
    };
    assert_eq!(peer, raft_id_of(2));
    leader.reach(&mut follower).await;
}
