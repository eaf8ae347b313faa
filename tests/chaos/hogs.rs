//! Clients that request much and read next to nothing of the answers.

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::Request;
use prost::Message as _;
use seshat::proto::kv::GetRequest;
use tokio::net::TcpStream;

/// A connection with answers that the client does not read. Dropping it ends it.
pub(crate) struct Hog {
    #[expect(dead_code, reason = "held")]
    connection: SendRequest<Bytes>,
    /// The answers of which a part has arrived.
    waiting: Vec<RecvStream>,
    refused: usize,
}

impl Hog {
    /// Reads `key` at `addr` `count` times at once, and takes `window` bytes of each answer. Waits until
    /// each read has its answer or a refusal.
    pub(crate) async fn reads(addr: &str, key: &str, count: usize, window: u32) -> Self {
        let socket = TcpStream::connect(addr).await.expect("a connection");
        let builder = Builder::new().initial_window_size(window).to_owned();
        let handshake = builder.handshake::<_, Bytes>(socket);
        let (mut connection, driver) = handshake.await.expect("HTTP/2");
        tokio::spawn(driver);
        let mut answers = Vec::new();
        for _ in 0..count {
            connection = connection.ready().await.expect("room for a call");
            let request = Request::post(format!("http://{addr}/seshat.kv.v1.KvService/Get"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .expect("a request");
            let (answer, mut body) = connection.send_request(request, false).expect("sent");
            body.send_data(get(key), true).expect("sent");
            answers.push(answer);
        }
        let (mut waiting, mut refused) = (Vec::new(), 0);
        for answer in answers {
            let (head, body) = answer.await.expect("the head of an answer").into_parts();
            // A refusal has no body, and its status in its head.
            match head.headers.get("grpc-status") {
                Some(_) => refused += 1,
                None => waiting.push(body),
            }
        }
        Self {
            connection,
            waiting,
            refused,
        }
    }

    /// The number of reads whose answers wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The number of refused reads.
    pub(crate) fn refused(&self) -> usize {
        self.refused
    }
}

/// A message of gRPC: not compressed, its length, and itself.
fn get(key: &str) -> Bytes {
    let request = GetRequest {
        key: key.to_owned().into(),
        ..GetRequest::default()
    };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(request.encoded_len()).expect("short"));
    request.encode(&mut message).expect("room");
    message.freeze()
}
