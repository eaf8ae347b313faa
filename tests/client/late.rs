//! Answers that come too late: they were on their way when the call was given up.
//!
//! The connections are in memory, and time passes only while all wait, so the speed of the machine is of no account.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use seshat::client::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::advance;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The mark of a call that is answered once it has been given up.
const LATE: &[u8] = b"too late";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field without any compression.
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let mut field = vec![0, length(name)];
    field.extend(name.as_bytes());
    field.push(length(value));
    field.extend(value.as_bytes());
    field
}

/// Status 0 and a message of no bytes.
fn answer(stream: u32) -> Vec<u8> {
    // `:status: 200` of the static table.
    let head = [&[0x88][..], &field("content-type", "application/grpc")].concat();
    let mut answer = frame(HEADERS, END_HEADERS, stream, &head);
    answer.extend(frame(DATA, 0, stream, &[0; 5]));
    let status = field("grpc-status", "0");
    answer.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &status));
    answer
}

/// Answers each call, those that hold [`LATE`] when they have been given up. Reports the arrival of each
/// of those.
async fn serve(mut io: DuplexStream, came: mpsc::UnboundedSender<()>) -> io::Result<()> {
    io.read_exact(&mut [0; 24]).await?;
    io.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    let mut late = HashSet::new();
    loop {
        let mut header = [0; 9];
        io.read_exact(&mut header).await?;
        let [kind, flags] = [header[3], header[4]];
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        io.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes(header[5..].try_into().unwrap());
        let is_late = payload.windows(LATE.len()).any(|part| part == LATE);
        match kind {
            SETTINGS if flags & ACK == 0 => io.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            PING if flags & ACK == 0 => io.write_all(&frame(PING, ACK, 0, &payload)).await?,
            DATA if is_late => {
                late.insert(stream);
                let _ = came.send(());
            }
            DATA if !payload.is_empty() => io.write_all(&answer(stream)).await?,
            // It resets the stream once more when it gets another frame of it.
            RST_STREAM if late.remove(&stream) => io.write_all(&answer(stream)).await?,
            _ => {}
        }
    }
}

/// The node of a test.
struct Node {
    came: mpsc::UnboundedSender<()>,
    connections: usize,
}

thread_local! {
    static NODE: RefCell<Option<Node>> = const { RefCell::new(None) };
}

/// Starts the node of this test. Returns a client of it, and the calls that are answered late.
fn start() -> (Client, mpsc::UnboundedReceiver<()>) {
    let (came, calls) = mpsc::unbounded_channel();
    let connections = 0;
    NODE.set(Some(Node { came, connections }));
    let builder = Client::builder()
        .endpoints(["n1:6379"])
        .simulated(connect, 0);
    let builder = builder.timeout(Duration::from_secs(30));
    (builder.build().unwrap(), calls)
}

/// A channel to the node of this test.
fn connect(endpoint: &Endpoint) -> Channel {
    endpoint.connect_with_connector_lazy(service_fn(|_: Uri| async {
        let (near, far) = tokio::io::duplex(1 << 16);
        NODE.with_borrow_mut(|node| {
            let node = node.as_mut().unwrap();
            node.connections += 1;
            tokio::spawn(serve(far, node.came.clone()));
        });
        Ok::<_, io::Error>(TokioIo::new(near))
    }))
}

fn connections() -> usize {
    NODE.with_borrow(|node| node.as_ref().unwrap().connections)
}

/// h2 counts them over the lifetime of a connection, and would break it at 1 024.
#[tokio::test(start_paused = true)]
async fn they_cost_no_write_beside_them() {
    let (client, mut calls) = start();
    for _ in 0..30 {
        let mut reads: JoinSet<_> = (0..100)
            .map(|_| {
                let client = client.clone();
                async move { client.get(LATE.to_vec()).await.is_ok() }
            })
            .collect();
        for _ in 0..100 {
            calls.recv().await.unwrap();
        }
        reads.abort_all();
        while reads.join_next().await.is_some() {}
        client.set("k", "v").await.unwrap();
    }
    assert_eq!(connections(), 1);
}

/// A deadline of a few milliseconds tells something about its caller, and nothing about the node; no more does a
/// machine that stands still meanwhile.
#[tokio::test(start_paused = true)]
async fn a_node_that_serves_others_is_not_given_up_for_a_hasty_call() {
    let (client, mut calls) = start();
    for turn in 0..100 {
        client.set("k", "v").await.unwrap();
        let hasty = client.within(Duration::from_millis(5));
        let read = tokio::spawn(async move { hasty.get(LATE.to_vec()).await });
        calls.recv().await.unwrap();
        advance(Duration::from_millis(turn * 2)).await;
        read.await.unwrap().unwrap_err();
    }
    client.set("k", "v").await.unwrap();
    assert_eq!(connections(), 1);
}

/// A node that had long enough, and was silent, may be gone with its connection.
#[tokio::test(start_paused = true)]
async fn a_silent_node_is_dialled_anew() {
    let (client, _calls) = start();
    client.set("k", "v").await.unwrap();
    let patient = client.within(Duration::from_secs(1));
    patient.get(LATE.to_vec()).await.unwrap_err();
    client.set("k", "v").await.unwrap();
    assert!(connections() > 1);
}
