//! gRPC clients of a peer.

use tonic::transport::{Channel, Endpoint};

use super::Connector;
use super::options::TransportOptions;
use crate::proto::raft::raft_service_client::RaftServiceClient;

/// A client of a peer.
pub(super) type Client = RaftServiceClient<Channel>;

/// A client with a connection of its own.
pub(super) fn client(
    connector: &Connector,
    endpoint: &Endpoint,
    options: &TransportOptions,
) -> Client {
    Client::new(connector.connect(endpoint))
        .max_decoding_message_size(options.max_message_bytes)
        .max_encoding_message_size(options.max_message_bytes)
}
