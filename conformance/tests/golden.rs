//! Another language's protobuf writes and reads the same bytes, and the same JSON.
//!
//! The vectors in `golden/` were made by `golden/make.py` with Python's protobuf. Their JSON is the
//! canonical one, so they also show how a message of Seshat looks.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use seshat::types::{Introduction, NodeStatus};
use seshat::wire::{
    PeerMessage, WireError, claim_from_request, decode_command, offer_from_request,
};
use seshat_conformance::golden::{directory, golden};
use seshat_conformance::{any, config};
use seshat_proto::{FILE_DESCRIPTOR_SET, admin, kv, lock, raft};

fn schema() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// Compares the generated type `M` with the vectors of its message.
fn check<M: Message + Default + PartialEq + Debug>(message: &MessageDescriptor) {
    let golden = golden(message.full_name());
    // Of a message without fields there is only one.
    let enough = if message.fields().len() == 0 { 1 } else { 3 };
    assert!(golden.vectors.len() >= enough, "{}", message.full_name());
    for vector in golden.vectors {
        let what = format!("{}: {}", message.full_name(), vector.name);
        let bytes = vector.bytes();
        let typed = M::decode(bytes.clone()).expect(&what);
        assert_eq!(typed.encode_to_vec(), bytes, "{what}: {typed:?}");
        assert_eq!(typed.encoded_len(), bytes.len(), "{what}");

        let dynamic = DynamicMessage::decode(message.clone(), bytes.clone()).expect(&what);
        let json = serde_json::to_value(&dynamic).expect(&what);
        assert_eq!(json, vector.json, "{what}");

        let read = DynamicMessage::deserialize(message.clone(), vector.json).expect(&what);
        assert_eq!(read.encode_to_vec(), bytes, "{what}");
        assert_eq!(
            M::decode(read.encode_to_vec().as_slice()),
            Ok(typed),
            "{what}"
        );
    }
}

/// And compares the generated type with any message at all: it keeps everything that the schema
/// declares.
fn keep<M: Message + Default>(message: &MessageDescriptor) {
    let result = TestRunner::new(config(64)).run(&any::message(message), |dynamic| {
        let read = |bytes: &[u8]| DynamicMessage::decode(message.clone(), bytes).unwrap();
        let sent = Bytes::from(dynamic.encode_to_vec());
        let typed = M::decode(sent.clone()).unwrap();
        prop_assert_eq!(read(&typed.encode_to_vec()), read(&sent));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{}: {failure}", message.full_name());
    }
}

/// Both checks of every listed message, by the message's name.
macro_rules! checks {
    ($($package:ident { $($message:ident)* })*) => {
        [$($((
            concat!("seshat.", stringify!($package), ".v1.", stringify!($message)),
            check::<$package::v1::$message> as fn(&MessageDescriptor),
            keep::<$package::v1::$message> as fn(&MessageDescriptor),
        ),)*)*]
    };
}

#[test]
fn every_message_is_written_and_read_as_another_language_does() {
    let checks = checks! {
        admin {
            AddMemberRequest AddMemberResponse FormRequest FormResponse RecoverRequest
            RecoverResponse RecoverySurvivor RemoveMemberRequest RemoveMemberResponse
            MemberStatus StatusRequest StatusResponse TransferLeadershipRequest
            TransferLeadershipResponse
        }
        kv {
            AddMemberCommand FailedPrecondition Member RaiseProtocolLevelCommand RemoveMemberCommand
            OpenSessionCommand OpenSessionRequest OpenSessionResponse PipelineCommand PipelineError
            PipelineRequest PipelineResponse PipelineResult RememberedAnswer Session SessionExpired
            SessionRecord SessionStamp
            Command DeleteCommand DeleteRequest DeleteResponse ErrorDetail Forming Full GetRequest
            GetResponse InvalidRequest KeyValue NoQuorum NotLeader Overloaded SetCommand SetRequest
            SetResponse ShuttingDown SnapshotHeader SnapshotRecord TooLarge OtherCluster
            Condition DeleteOperation DeleteResult Entry GetOperation GetResult KeyCondition
            Operation OperationResult SetOperation SetResult TxnCommand TxnOutcome TxnRequest
            TxnResponse Interval KeyRange ScanRequest ScanResponse
            ClockCommand CloseSessionCommand CloseSessionRequest CloseSessionResponse Keep
            KeepAliveRequest KeepAliveResponse ListSessionsRequest ListSessionsResponse SessionInfo
            Event WatchEvents WatchProgress WatchRequest WatchReset WatchResponse WatchState
            WatchSynced
            AcquireCommand ClaimRecord HeldLock LockHolder ReleaseCommand
        }
        lock {
            AcquireRequest AcquireResponse AwaitRequest AwaitResponse Gone Held Holder InspectRequest
            InspectResponse ListLocksRequest ListLocksResponse Lock ObserveRequest ObserveResponse
            Occupied ReleaseRequest ReleaseResponse Waiting
        }
        raft {
            AppendEntriesRequest AppendEntriesResponse ConfChange ConfChangeSingle ConfChangeV2
            DoubledNode Following InitialMember MissedMember NodeLimits Reach SnapshotProgress
            ConfState Entry HeartbeatRequest HeartbeatResponse IdentifyRequest IdentifyResponse
            InstallSnapshotRequest InstallSnapshotResponse NotMe OfferRequest OfferResponse
            RequestVoteRequest RequestVoteResponse StartRequest StartResponse TimeoutNowRequest
            TimeoutNowResponse YieldRecoveryRequest YieldRecoveryResponse
        }
    };
    let schema = schema();
    for (name, check, keep) in checks {
        let message = schema.get_message_by_name(name).expect(name);
        check(&message);
        keep(&message);
    }

    // None of the schema's messages is left out, and no file belongs to none of them.
    let checked: BTreeSet<String> = checks.iter().map(|(name, ..)| (*name).to_owned()).collect();
    let messages = schema.all_messages().map(|m| m.full_name().to_owned());
    let ours = messages.filter(|name| name.starts_with("seshat."));
    assert_eq!(checked, ours.collect());
    let files = fs::read_dir(directory()).unwrap().filter_map(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".json").map(str::to_owned)
    });
    assert_eq!(checked, files.collect());
}

/// Takes the real vectors of the message `M` through a conversion, and returns how many there are.
fn accept<M: Message + Default, T: Debug>(
    name: &str,
    convert: impl Fn(M) -> Result<T, WireError>,
) -> usize {
    let real = golden(name)
        .vectors
        .into_iter()
        .filter(|vector| vector.real);
    real.map(|vector| {
        let converted = convert(M::decode(vector.bytes()).unwrap());
        assert!(converted.is_ok(), "{name}: {}: {converted:?}", vector.name);
    })
    .count()
}

#[test]
fn real_messages_are_well_formed() {
    /// To raft-rs and back.
    fn peer<M>(wrap: fn(M) -> PeerMessage) -> impl Fn(M) -> Result<(), WireError> {
        move |message| {
            let typed = wrap(message);
            let cluster_id = typed.envelope()?.cluster_id;
            let again = PeerMessage::from_raft(typed.clone().into_raft()?, cluster_id)?;
            assert_eq!(again, typed);
            Ok(())
        }
    }
    let counts = [
        accept(
            "seshat.raft.v1.RequestVoteRequest",
            peer(PeerMessage::RequestVote),
        ),
        accept(
            "seshat.raft.v1.RequestVoteResponse",
            peer(PeerMessage::RequestVoteReply),
        ),
        accept(
            "seshat.raft.v1.AppendEntriesRequest",
            peer(PeerMessage::AppendEntries),
        ),
        accept(
            "seshat.raft.v1.AppendEntriesResponse",
            peer(PeerMessage::AppendEntriesReply),
        ),
        accept(
            "seshat.raft.v1.HeartbeatRequest",
            peer(PeerMessage::Heartbeat),
        ),
        accept(
            "seshat.raft.v1.HeartbeatResponse",
            peer(PeerMessage::HeartbeatReply),
        ),
        accept(
            "seshat.raft.v1.InstallSnapshotRequest",
            peer(PeerMessage::InstallSnapshot),
        ),
        accept(
            "seshat.raft.v1.TimeoutNowRequest",
            peer(PeerMessage::TimeoutNow),
        ),
        accept::<raft::v1::InstallSnapshotResponse, _>(
            "seshat.raft.v1.InstallSnapshotResponse",
            PeerMessage::try_from,
        ),
        accept::<raft::v1::IdentifyRequest, _>(
            "seshat.raft.v1.IdentifyRequest",
            Introduction::try_from,
        ),
        accept::<raft::v1::IdentifyResponse, _>(
            "seshat.raft.v1.IdentifyResponse",
            NodeStatus::try_from,
        ),
        accept::<raft::v1::OfferRequest, _>("seshat.raft.v1.OfferRequest", offer_from_request),
        accept::<raft::v1::YieldRecoveryRequest, _>(
            "seshat.raft.v1.YieldRecoveryRequest",
            claim_from_request,
        ),
        accept::<raft::v1::NotMe, _>("seshat.raft.v1.NotMe", seshat::error::NotMe::try_from),
        accept::<kv::v1::Command, _>("seshat.kv.v1.Command", |command| {
            decode_command(command.encode_to_vec().into())
        }),
    ];
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
