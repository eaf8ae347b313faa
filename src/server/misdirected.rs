//! Nodes that call the port for clients, because a file has the two addresses of a member the wrong
//! way round: they are told so.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use crate::proto::raft::raft_service_server::RaftServiceServer;
use crate::transport::{CLIENT_PORT, Inbound, PORT};

/// Answers every call to the service for nodes with `UNIMPLEMENTED`, and says what the port is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Misdirected;

impl NamedService for Misdirected {
    const NAME: &'static str = <RaftServiceServer<Inbound> as NamedService>::NAME;
}

impl Service<Request<Body>> for Misdirected {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let status = Status::unimplemented("this port is for clients: nodes have another one");
        let mut response = status.into_http();
        let port = HeaderValue::from_static(CLIENT_PORT);
        response.headers_mut().insert(PORT, port);
        ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::proto::raft::IdentifyRequest;
    use crate::proto::raft::raft_service_client::RaftServiceClient;

    #[tokio::test]
    async fn a_node_learns_that_it_has_called_the_port_for_clients() {
        let mut client = RaftServiceClient::new(Misdirected);
        let status = client.identify(IdentifyRequest::default()).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(status.metadata().get(PORT).unwrap(), CLIENT_PORT);
    }
}
