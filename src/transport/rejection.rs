//! The statuses with which one node refuses a request of another.

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::pb;

use super::{CLIENT_PORT, PORT};
use crate::driver::Stopped;
use crate::error::NotMe;
use crate::proto::raft as proto;
use crate::types::{Answering, RaftId};
use crate::wire::{Envelope, PeerMessage, WireError, find_detail, pack_detail};

/// The message was for another process or another cluster.
pub(super) fn not_me(not_me: NotMe) -> Status {
    let code = Code::FailedPrecondition;
    let message = not_me.to_string();
    let details = pb::Status {
        code: code.into(),
        message: message.clone(),
        details: vec![pack_detail(&proto::NotMe::from(not_me))],
    };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// The process that answered instead of the addressed one, if `status` says so.
pub(super) fn find_not_me(status: &Status) -> Option<NotMe> {
    if status.code() != Code::FailedPrecondition {
        return None;
    }
    let pb::Status { details, .. } = pb::Status::decode(status.details()).ok()?;
    NotMe::try_from(find_detail::<proto::NotMe>(&details)?).ok()
}

/// The kind of a gRPC server that does not serve nodes.
pub(super) fn server(status: &Status) -> Answering {
    match status.metadata().get(PORT) {
        Some(port) if port == CLIENT_PORT => Answering::ClientPort,
        _ => Answering::OtherService,
    }
}

/// The message is not well formed.
pub(super) fn malformed(error: &WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The node is shutting down.
pub(super) fn stopped(stopped: Stopped) -> Status {
    Status::unavailable(stopped.to_string())
}

/// The error for a message on the stream of another leader, or for another process or cluster than the
/// first message.
pub(super) fn wrong_stream(message: &PeerMessage, envelope: Envelope, leader: RaftId) -> Status {
    let Envelope {
        cluster_id,
        from,
        to,
        term: _,
    } = envelope;
    Status::invalid_argument(format!(
        "{} from {from} to {to} in cluster {cluster_id} does not belong on this stream of {leader}",
        message.name(),
    ))
}

/// The error for a process that has the maximum of streams or calls open already.
pub(super) fn too_many(process: RaftId) -> Status {
    Status::resource_exhausted(format!("too many streams or calls of {process} are open"))
}
