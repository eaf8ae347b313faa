//! The transport of a message over the network.

use prost::{DecodeError, Message as _};
use raft::eraftpb;
use seshat::types::ClusterId;
use seshat::wire::{PeerMessage, WireError};

/// The bytes of `message`, as gRPC carries them.
pub fn encode(message: &PeerMessage) -> Vec<u8> {
    match message {
        PeerMessage::RequestVote(message) => message.encode_to_vec(),
        PeerMessage::RequestVoteReply(message) => message.encode_to_vec(),
        PeerMessage::AppendEntries(message) => message.encode_to_vec(),
        PeerMessage::AppendEntriesReply(message) => message.encode_to_vec(),
        PeerMessage::Heartbeat(message) => message.encode_to_vec(),
        PeerMessage::HeartbeatReply(message) => message.encode_to_vec(),
        PeerMessage::InstallSnapshot(message) => message.encode_to_vec(),
        PeerMessage::TimeoutNow(message) => message.encode_to_vec(),
    }
}

/// The message of the same type as `like` that `bytes` hold.
pub fn decode(like: &PeerMessage, bytes: Vec<u8>) -> Result<PeerMessage, DecodeError> {
    fn typed<M: prost::Message + Default>(
        wrap: fn(M) -> PeerMessage,
        bytes: Vec<u8>,
    ) -> Result<PeerMessage, DecodeError> {
        M::decode(bytes::Bytes::from(bytes)).map(wrap)
    }
    match like {
        PeerMessage::RequestVote(_) => typed(PeerMessage::RequestVote, bytes),
        PeerMessage::RequestVoteReply(_) => typed(PeerMessage::RequestVoteReply, bytes),
        PeerMessage::AppendEntries(_) => typed(PeerMessage::AppendEntries, bytes),
        PeerMessage::AppendEntriesReply(_) => typed(PeerMessage::AppendEntriesReply, bytes),
        PeerMessage::Heartbeat(_) => typed(PeerMessage::Heartbeat, bytes),
        PeerMessage::HeartbeatReply(_) => typed(PeerMessage::HeartbeatReply, bytes),
        PeerMessage::InstallSnapshot(_) => typed(PeerMessage::InstallSnapshot, bytes),
        PeerMessage::TimeoutNow(_) => typed(PeerMessage::TimeoutNow, bytes),
    }
}

/// Sends `message` over the wire and returns what arrives: eraftpb → typed → bytes → typed →
/// eraftpb.
///
/// # Errors
///
/// If it is not carried.
///
/// # Panics
///
/// If another message arrives than was sent, or the envelope or the size hint is wrong.
pub fn survives(
    message: eraftpb::Message,
    cluster_id: ClusterId,
) -> Result<eraftpb::Message, WireError> {
    let typed = PeerMessage::from_raft(message.clone(), cluster_id)?;
    let bytes = encode(&typed);
    assert_eq!(typed.size_hint(), bytes.len(), "{typed:?}");
    let arrived = decode(&typed, bytes).expect("our own bytes");
    assert_eq!(arrived, typed);
    let envelope = arrived.envelope()?;
    assert_eq!(
        (envelope.cluster_id, envelope.from.get(), envelope.to.get()),
        (cluster_id, message.from, message.to)
    );
    assert_eq!(envelope.term, message.term);
    let arrived = arrived.into_raft()?;
    assert_eq!(arrived, message);
    Ok(arrived)
}
