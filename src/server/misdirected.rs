//! Callers at the wrong one of the two ports, because a file or an endpoint list confuses the two
//! addresses of a node. The answer says so.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use crate::proto::raft::raft_service_server::RaftServiceServer;
use crate::transport::{CLIENT_PORT, Inbound, PORT};
use crate::types::{ClusterMembership, NodeId};

/// Answers every call to the service `S` with `UNIMPLEMENTED`, and states the purpose of the port.
#[derive(Debug)]
pub(super) struct Misdirected<S> {
    message: Arc<str>,
    /// The purpose of the port, as metadata that a node reads.
    port: Option<&'static str>,
    service: PhantomData<fn() -> S>,
}

impl Misdirected<RaftServiceServer<Inbound>> {
    /// For a node that calls the port for clients.
    pub(super) fn node() -> Self {
        Self {
            message: "this port is for clients: nodes have another one".into(),
            port: Some(CLIENT_PORT),
            service: PhantomData,
        }
    }
}

impl<S> Misdirected<S> {
    /// For a client that calls the port for nodes of `node`, which is one of `members`.
    pub(super) fn client(node: NodeId, members: &ClusterMembership) -> Self {
        let info = members.get(node);
        let client_addr = info.map_or_else(String::new, |info| format!(", {}", info.client_addr));
        let message = format!(
            "this is the internal_addr of node {node}, which is for nodes: clients use its \
             client_addr{client_addr}"
        );
        Self {
            message: message.into(),
            port: None,
            service: PhantomData,
        }
    }
}

impl<S> Clone for Misdirected<S> {
    fn clone(&self) -> Self {
        Self {
            message: Arc::clone(&self.message),
            port: self.port,
            service: PhantomData,
        }
    }
}

impl<S: NamedService> NamedService for Misdirected<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Misdirected<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let mut response = Status::unimplemented(&*self.message).into_http();
        if let Some(port) = self.port {
            let port = HeaderValue::from_static(port);
            response.headers_mut().insert(PORT, port);
        }
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
        let mut client = RaftServiceClient::new(Misdirected::node());
        let status = client.identify(IdentifyRequest::default()).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(status.metadata().get(PORT).unwrap(), CLIENT_PORT);
    }
}
