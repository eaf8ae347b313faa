//! Clients that misbehave, by mistake or on purpose. A node has to serve others meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::{GetRequest, SetRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Request;

use seshat_test_support::cluster::channel;

/// Connections of one kind at once.
const CONNECTIONS: usize = 150;
/// Pause before a disconnected client connects again.
const PAUSE: Duration = Duration::from_millis(20);
/// The value that slow readers request, and the number of their requests at once.
const LARGE: usize = 256 << 10;
const GETS: u32 = 64;
const LARGE_KEY: &str = "large";
/// Calls that one cancelling client makes at once, and the time until it cancels them.
const CANCELLED_CALLS: usize = 40;
const CANCEL_AFTER: Duration = Duration::from_millis(1);

/// The behaviours.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Misbehaviour {
    /// Connects, and sends nothing.
    Idle,
    /// Sends the first byte of a preface.
    Stuck,
    /// Requests large values and takes no byte of them.
    SlowReader,
    /// Cancels many requests at once, again and again.
    Cancelling,
    /// Speaks another protocol.
    OtherProtocol,
}

/// Misbehaving clients of one node, until this is dropped.
#[derive(Debug)]
pub(crate) struct MisbehavingClients(
    #[expect(dead_code, reason = "ends them when it is dropped")] JoinSet<()>,
);

impl MisbehavingClients {
    /// Clients with the behaviour `what` at `addr`.
    pub(crate) async fn at(addr: SocketAddr, what: Misbehaviour) -> Self {
        if matches!(what, Misbehaviour::SlowReader) {
            let set = SetRequest {
                key: LARGE_KEY.into(),
                value: vec![7; LARGE].into(),
                ..SetRequest::default()
            };
            // Only the leader takes it; elsewhere the answers are small.
            let _ = KvServiceClient::new(channel(&addr.to_string()))
                .set(set)
                .await;
        }
        let mut clients = JoinSet::new();
        let connections = match what {
            Misbehaviour::Cancelling | Misbehaviour::SlowReader => CONNECTIONS / 15,
            Misbehaviour::Idle | Misbehaviour::Stuck | Misbehaviour::OtherProtocol => CONNECTIONS,
        };
        for _ in 0..connections {
            clients.spawn(async move {
                loop {
                    // The node may close the connection or refuse it.
                    let _ = visit(addr, what).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self(clients)
    }
}

/// Misbehaves until the node ends the connection.
async fn visit(addr: SocketAddr, what: Misbehaviour) -> std::io::Result<()> {
    let said = match what {
        Misbehaviour::Idle => Vec::new(),
        Misbehaviour::Stuck => b"P".to_vec(),
        Misbehaviour::OtherProtocol => b"GET / HTTP/1.1\r\nHost: kv\r\n\r\n".to_vec(),
        Misbehaviour::SlowReader => reads_that_are_not_taken(),
        Misbehaviour::Cancelling => {
            give_up(addr).await;
            return Ok(());
        }
    };
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(&said).await?;
    if matches!(what, Misbehaviour::SlowReader) {
        std::future::pending::<()>().await;
    }
    let mut heard = [0; 256];
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}

/// Many calls on one connection, all of which end before they are answered.
async fn give_up(addr: SocketAddr) {
    let client = KvServiceClient::new(channel(&addr.to_string()));
    for _ in 0..CANCELLED_CALLS {
        let mut calls = JoinSet::new();
        for _ in 0..CANCELLED_CALLS {
            let mut client = client.clone();
            let mut get = Request::new(GetRequest {
                key: LARGE_KEY.into(),
                ..GetRequest::default()
            });
            get.set_timeout(CANCEL_AFTER);
            calls.spawn(async move {
                let _ = tokio::time::timeout(CANCEL_AFTER, client.get(get)).await;
            });
        }
        calls.join_all().await;
    }
}

/// The requests of an HTTP/2 client for many large values, with a window for none of their bytes
/// (RFC 9113, sections 3.4, 6.5 and 6.9.2).
fn reads_that_are_not_taken() -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const DATA: u8 = 0;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    const INITIAL_WINDOW_SIZE: [u8; 6] = [0, 4, 0, 0, 0, 0];

    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/seshat.kv.v1.KvService/Get"),
        (":authority", "kv"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).expect("short"));
            headers.extend(text.as_bytes());
        }
    }
    let key = LARGE_KEY.as_bytes();
    let length = u8::try_from(key.len()).expect("short");
    let message = [&[0x0a, length], key].concat();
    let body = [&[0, 0, 0, 0, length + 2], message.as_slice()].concat();

    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut said, SETTINGS, 0, 0, &INITIAL_WINDOW_SIZE);
    for call in 0..GETS {
        let stream = 2 * call + 1;
        frame(&mut said, HEADERS, END_HEADERS, stream, &headers);
        frame(&mut said, DATA, END_STREAM, stream, &body);
    }
    said
}

/// A frame (RFC 9113, section 4.1).
fn frame(said: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    said.extend(&length[1..]);
    said.extend([kind, flags]);
    said.extend(stream.to_be_bytes());
    said.extend(payload);
}
