//! The format of snapshots of the state machine.
//!
//! A snapshot may be larger than any message, and too large to hold twice. So it is written and read
//! piece by piece: a [`SnapshotWriter`] produces the next bytes on demand, and a [`SnapshotReader`] takes
//! bytes as they arrive and keeps a state machine, not bytes.

mod claims;
mod pairs;
mod sessions;

use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message as _;

use self::pairs::{pair_limit, pair_size};
use self::sessions::{Restored, Unwritten, session, unwritten};
use crate::kv::{Lifetimes, Limit, LockName, Pair, Revisions, Shards, StateMachine, shard_of};
use crate::proto::kv as proto;
use crate::proto::kv::snapshot_record::Record;
use crate::types::{
    ClientId, ClusterId, ClusterMembership, Key, NodeInfo, ProtocolLevel, Revision,
};
use crate::wire::WireError;
use crate::wire::identity::said;
use crate::wire::locks::{self, UnwrittenClaim};

/// Version of the format of snapshots of a cluster of this level. A release without levels refuses
/// version 2.
fn version_of(level: ProtocolLevel) -> u32 {
    match level {
        ProtocolLevel::FIRST => 1,
        _ => 2,
    }
}

/// Longest length prefix of a record: a 64-bit varint.
const MAX_PREFIX_BYTES: usize = 10;

/// Writes the snapshot of a state machine. Equal states give equal bytes.
///
/// Beside the state machine, of which it frees the written parts, it holds one record and the pairs of
/// one shard.
#[derive(Debug)]
pub struct SnapshotWriter {
    size: u64,
    sessions: std::vec::IntoIter<(ClientId, Unwritten)>,
    claims: std::vec::IntoIter<UnwrittenClaim>,
    lifetimes: Lifetimes,
    shards: Shards,
    pairs: std::vec::IntoIter<Pair>,
    buffer: BytesMut,
}

impl SnapshotWriter {
    /// A writer at the beginning of the snapshot of `state_machine`. Reads every pair once to compute the
    /// size.
    pub fn new(state_machine: StateMachine) -> Self {
        let mut buffer = BytesMut::new();
        let members = state_machine.members();
        let Revisions { base, oldest } = state_machine.revisions();
        let sessions = unwritten(state_machine.sessions());
        let claims = locks::unwritten(state_machine.locks());
        let header = record(Record::Header(proto::SnapshotHeader {
            version: version_of(state_machine.level()),
            pairs: number(state_machine.len()),
            members: number(members.len()),
            sessions: number(sessions.len()),
            protocol_level: said(state_machine.level()),
            recovered_from: state_machine
                .recovered_from()
                .iter()
                .map(|id| id.0)
                .collect(),
            revision_base: base,
            oldest_revision: oldest,
            clock_ms: state_machine.clock().now(),
            claims: number(claims.len()),
        }));
        write(&header, &mut buffer);
        for info in members.iter() {
            write(&record(Record::Member(info.clone().into())), &mut buffer);
        }
        let lifetimes = state_machine.lifetimes().clone();
        let pairs: u64 = state_machine
            .pairs()
            .map(|pair| pair_size(pair, lifetimes.limit(pair)))
            .sum();
        let session_bytes: u64 = sessions
            .iter()
            .map(|(client_id, session)| delimited_size(&of_session(*client_id, session)))
            .sum();
        let claim_bytes: u64 = claims.iter().map(|it| delimited_size(&of_claim(it))).sum();
        Self {
            size: number(buffer.len())
                .saturating_add(session_bytes)
                .saturating_add(claim_bytes)
                .saturating_add(pairs),
            sessions: sessions.into_iter(),
            claims: claims.into_iter(),
            lifetimes,
            shards: state_machine.into_shards(),
            pairs: Vec::new().into_iter(),
            buffer,
        }
    }

    /// Size of the whole snapshot in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next `bytes` bytes, fewer at the end, and none behind it.
    pub fn next(&mut self, bytes: usize) -> Bytes {
        self.buffer.reserve(bytes.saturating_sub(self.buffer.len()));
        while self.buffer.len() < bytes {
            let Some(next) = self.next_record() else {
                break;
            };
            write(&next, &mut self.buffer);
        }
        self.buffer.split_to(bytes.min(self.buffer.len())).freeze()
    }

    /// The next record behind the members.
    fn next_record(&mut self) -> Option<proto::SnapshotRecord> {
        if let Some((client_id, session)) = self.sessions.next() {
            return Some(of_session(client_id, &session));
        }
        if let Some(claim) = self.claims.next() {
            return Some(of_claim(&claim));
        }
        let pair = self.next_pair()?;
        let limit = self.lifetimes.limit(&pair);
        Some(record(Record::Pair(pairs::record(pair, limit))))
    }

    fn next_pair(&mut self) -> Option<Pair> {
        loop {
            if let Some(pair) = self.pairs.next() {
                return Some(pair);
            }
            self.pairs = self.shards.next()?.into_iter();
        }
    }
}

fn record(record: Record) -> proto::SnapshotRecord {
    proto::SnapshotRecord {
        record: Some(record),
    }
}

fn of_session(client_id: ClientId, session: &Unwritten) -> proto::SnapshotRecord {
    record(Record::Session(session.record(client_id)))
}

fn of_claim(claim: &UnwrittenClaim) -> proto::SnapshotRecord {
    record(Record::Claim(locks::claim_record(claim)))
}

fn write(record: &proto::SnapshotRecord, buffer: &mut BytesMut) {
    let written = record.encode_length_delimited(buffer);
    debug_assert!(
        written.is_ok(),
        "only a full buffer fails, and this one grows"
    );
}

fn delimited_size(record: &proto::SnapshotRecord) -> u64 {
    let size = record.encoded_len();
    number(prost::length_delimiter_len(size).saturating_add(size))
}

fn number(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// Reads a snapshot as its bytes arrive. Nothing that it keeps holds these bytes in memory, and it trusts
/// no length before the bytes are there.
#[derive(Debug)]
pub struct SnapshotReader {
    /// Bytes that have arrived and are no complete record yet.
    rest: BytesMut,
    /// The records that are still missing. `None` before the header.
    missing: Option<Missing>,
    members: ClusterMembership,
    level: ProtocolLevel,
    revisions: Revisions,
    last_session: Option<ClientId>,
    last_claim: Option<(LockName, Revision)>,
    /// Shard and key of the last pair. A key is never empty, so the first pair is past it.
    last: (usize, Key),
    state_machine: StateMachine,
}

impl Default for SnapshotReader {
    fn default() -> Self {
        Self {
            rest: BytesMut::new(),
            missing: None,
            members: ClusterMembership::default(),
            level: ProtocolLevel::FIRST,
            revisions: Revisions::default(),
            last_session: None,
            last_claim: None,
            last: (0, Key::new()),
            state_machine: StateMachine::default(),
        }
    }
}

impl SnapshotReader {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// If the bytes so far are not the beginning of a snapshot of a version that this node knows. The
    /// reader must not be used again then.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.rest.extend_from_slice(bytes);
        while let Some(record) = self.next_record()? {
            self.take(record)?;
        }
        Ok(())
    }

    /// Memory of the state read so far, in bytes.
    pub fn memory(&self) -> usize {
        self.state_machine.memory()
    }

    /// The next record, if it is complete.
    fn next_record(&mut self) -> Result<Option<Record>, WireError> {
        let mut prefix = self.rest.get(..).unwrap_or_default();
        let available = prefix.len();
        let size = match prost::decode_length_delimiter(&mut prefix) {
            Ok(size) => size,
            Err(_) if available < MAX_PREFIX_BYTES => return Ok(None),
            Err(error) => return Err(fault("record", error.to_string())),
        };
        let start = available - prefix.len();
        if prefix.len() < size {
            return Ok(None);
        }
        self.rest.advance(start);
        let record = proto::SnapshotRecord::decode(self.rest.split_to(size).freeze())
            .map_err(|error| fault("record", error.to_string()))?;
        let missing = || fault("record", "missing or unknown");
        record.record.ok_or_else(missing).map(Some)
    }

    fn take(&mut self, record: Record) -> Result<(), WireError> {
        match (record, &mut self.missing) {
            (Record::Header(header), None) => {
                let proto::SnapshotHeader {
                    version,
                    pairs,
                    members,
                    sessions,
                    protocol_level,
                    recovered_from,
                    revision_base: base,
                    oldest_revision: oldest,
                    clock_ms,
                    claims,
                } = header;
                let level = ProtocolLevel::new(protocol_level);
                let known = version_of(level);
                if version != known {
                    let reason = format!("{version} of level {level}: this node knows {known}");
                    return Err(WireError::new("SnapshotHeader", "version", reason));
                }
                self.level = level;
                self.revisions = Revisions { base, oldest };
                let recovered_from = recovered_from.into_iter().map(ClusterId);
                self.state_machine.restore_recovered_from(recovered_from);
                self.state_machine = std::mem::take(&mut self.state_machine).with_clock(clock_ms);
                self.missing = Some(Missing {
                    members,
                    sessions,
                    claims,
                    pairs,
                });
                Ok(())
            }
            (Record::Header(_), Some(_)) => Err(fault("record", "a second header")),
            (_, None) => Err(fault("record", "the header is missing")),
            (Record::Member(member), Some(missing)) => {
                missing.members = one_less(missing.members, "members")?;
                self.take_member(member.try_into()?)
            }
            (Record::Session(record), Some(missing)) if missing.members == 0 => {
                missing.sessions = one_less(missing.sessions, "sessions")?;
                self.take_session(record)
            }
            (Record::Claim(record), Some(missing))
                if (missing.members, missing.sessions) == (0, 0) =>
            {
                missing.claims = one_less(missing.claims, "claims")?;
                self.take_claim(record)
            }
            (Record::Pair(pair), Some(missing))
                if (missing.members, missing.sessions, missing.claims) == (0, 0, 0) =>
            {
                missing.pairs = one_less(missing.pairs, "pairs")?;
                self.take_pair(pair)
            }
            (Record::Session(_) | Record::Claim(_) | Record::Pair(_), Some(_)) => {
                Err(fault("record", "before others that come first"))
            }
        }
    }

    fn take_member(&mut self, info: NodeInfo) -> Result<(), WireError> {
        let members = &mut self.members.members;
        if members
            .last_key_value()
            .is_some_and(|(&last, _)| info.id <= last)
        {
            return Err(WireError::new("Member", "id", "not in ascending order"));
        }
        members.insert(info.id, info);
        Ok(())
    }

    fn take_session(&mut self, record: proto::SessionRecord) -> Result<(), WireError> {
        let (client_id, session) = session(record)?;
        if self.last_session.is_some_and(|last| client_id <= last) {
            let reason = "not in ascending order";
            return Err(WireError::new("SessionRecord", "client_id", reason));
        }
        self.last_session = Some(client_id);
        match session {
            Restored::Usual(session) => self.state_machine.restore_session(client_id, session),
            Restored::Living(session) => self
                .state_machine
                .restore_living_session(client_id, session),
        }
        Ok(())
    }

    fn take_pair(&mut self, pair: proto::KeyValue) -> Result<(), WireError> {
        let limit = pair_limit(&pair)?;
        let proto::KeyValue {
            key,
            value,
            revision,
            ..
        } = pair;
        if let Some(Limit::Owner(owner)) = limit
            && self.state_machine.sessions().living().get(owner).is_none()
        {
            return Err(WireError::new("KeyValue", "owner", "no living session"));
        }
        let position = (shard_of(&key), key);
        if position.1.is_empty() || position <= self.last {
            let reason = "empty, or not in order";
            return Err(WireError::new("KeyValue", "key", reason));
        }
        self.state_machine
            .restore(&position.1, &value, revision, limit);
        // A copy, because the key is a slice of the received bytes.
        self.last = (position.0, Key::copy_from_slice(&position.1));
        Ok(())
    }

    /// The state machine in the snapshot.
    ///
    /// # Errors
    ///
    /// If the snapshot is not complete.
    pub fn finish(self) -> Result<StateMachine, WireError> {
        if !self.rest.is_empty() {
            return Err(fault("record", "the last one is not whole"));
        }
        match self.missing {
            None => Err(fault("record", "the header is missing")),
            Some(Missing {
                members: 0,
                sessions: 0,
                claims: 0,
                pairs: 0,
            }) => Ok(self
                .state_machine
                .with_members(self.members)
                .with_level(self.level)
                .with_revisions(self.revisions)),
            Some(missing) => Err(WireError::new(
                "SnapshotHeader",
                missing.field(),
                format!("not all that it announces is there: {missing:?}"),
            )),
        }
    }
}

/// Records that a snapshot announced and has not brought yet.
#[derive(Debug, Clone, Copy)]
struct Missing {
    members: u64,
    sessions: u64,
    claims: u64,
    pairs: u64,
}

impl Missing {
    /// The first field of the header whose records are missing.
    fn field(&self) -> &'static str {
        match self {
            Self { members: 1.., .. } => "members",
            Self { sessions: 1.., .. } => "sessions",
            Self { claims: 1.., .. } => "claims",
            Self { .. } => "pairs",
        }
    }
}

/// The remaining announced number after one more record.
fn one_less(missing: u64, field: &'static str) -> Result<u64, WireError> {
    let more = || WireError::new("SnapshotHeader", field, "more there than announced");
    missing.checked_sub(1).ok_or_else(more)
}

fn fault(field: &'static str, reason: impl Into<String>) -> WireError {
    WireError::new("SnapshotRecord", field, reason)
}

/// The snapshot of `state_machine` as one piece.
pub fn encode_snapshot(state_machine: &StateMachine) -> Bytes {
    let mut writer = SnapshotWriter::new(state_machine.clone());
    writer.next(usize::try_from(writer.size()).unwrap_or(usize::MAX))
}

/// The state machine of a snapshot in one piece.
///
/// # Errors
///
/// If `data` is no snapshot of a version that this node knows, or is incomplete.
pub fn decode_snapshot(data: &[u8]) -> Result<StateMachine, WireError> {
    let mut reader = SnapshotReader::default();
    reader.read(data)?;
    reader.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use crate::kv::{
        Claim, ClaimId, ClaimState, Effect, Entry, Holder, KEY_TTL, Lifetime, LivingSession,
        MAX_REVISION, OperationResult, SESSION_TTL, Session, TxnOutcome, Written,
    };
    use crate::proto::kv::remembered_answer::Effect as Remembered;
    use crate::types::NodeId;

    fn map(pairs: &[(&'static str, &'static str)]) -> StateMachine {
        pairs
            .iter()
            .map(|&(key, value)| (Bytes::from(key), Bytes::from(value)))
            .collect()
    }

    fn pair(key: &'static str) -> Record {
        Record::Pair(proto::KeyValue {
            key: Bytes::from(key),
            value: Bytes::from("v"),
            revision: 0,
            ..proto::KeyValue::default()
        })
    }

    fn header(version: u32, pairs: u64) -> Record {
        Record::Header(proto::SnapshotHeader {
            version,
            pairs,
            ..proto::SnapshotHeader::default()
        })
    }

    fn snapshot(records: impl IntoIterator<Item = Record>) -> Bytes {
        records
            .into_iter()
            .flat_map(|r| record(r).encode_length_delimited_to_vec())
            .collect()
    }

    #[test]
    fn a_snapshot_is_a_header_and_the_pairs_in_order() {
        let encoded = encode_snapshot(&map(&[("b", "v"), ("a", "v")]));
        // The upper bits of their CRC-32 are 0x71B and 0xE8B.
        let expected = snapshot([header(1, 2), pair("b"), pair("a")]);
        assert_eq!(encoded, expected);
        assert_eq!(
            decode_snapshot(&encoded),
            Ok(map(&[("a", "v"), ("b", "v")]))
        );
    }

    #[test]
    fn the_snapshot_of_nothing_is_a_header() {
        let empty = encode_snapshot(&StateMachine::default());
        assert_eq!(empty, snapshot([header(1, 0)]));
        assert_eq!(decode_snapshot(&empty), Ok(StateMachine::default()));
    }

    #[test]
    fn a_snapshot_of_a_higher_level_has_a_version_that_older_nodes_refuse() {
        let higher = StateMachine::default().with_level(ProtocolLevel::new(2));
        let header = proto::SnapshotHeader {
            version: 2,
            protocol_level: 2,
            ..proto::SnapshotHeader::default()
        };
        let encoded = encode_snapshot(&higher);
        assert_eq!(encoded, snapshot([Record::Header(header.clone())]));
        assert_eq!(decode_snapshot(&encoded), Ok(higher));
        let disguised = snapshot([Record::Header(proto::SnapshotHeader {
            version: 1,
            ..header
        })]);
        assert_eq!(decode_snapshot(&disguised).unwrap_err().field, "version");
    }

    #[test]
    fn invalid_bytes_are_no_snapshot() {
        let cases = [
            (snapshot([]), "SnapshotRecord", "record"),
            (snapshot([pair("a")]), "SnapshotRecord", "record"),
            (
                snapshot([pair("a"), header(1, 1)]),
                "SnapshotRecord",
                "record",
            ),
            (snapshot([header(0, 0)]), "SnapshotHeader", "version"),
            (snapshot([header(2, 0)]), "SnapshotHeader", "version"),
            (
                snapshot([header(1, 1), header(1, 1), pair("a")]),
                "SnapshotRecord",
                "record",
            ),
            (snapshot([header(1, 1)]), "SnapshotHeader", "pairs"),
            (
                snapshot([header(1, u64::MAX), pair("a")]),
                "SnapshotHeader",
                "pairs",
            ),
            (
                snapshot([header(1, 0), pair("a")]),
                "SnapshotHeader",
                "pairs",
            ),
            (snapshot([header(1, 1), pair("")]), "KeyValue", "key"),
            (
                snapshot([header(1, 2), pair("a"), pair("b")]),
                "KeyValue",
                "key",
            ),
            (
                snapshot([header(1, 2), pair("a"), pair("a")]),
                "KeyValue",
                "key",
            ),
            // A record of a later version, and a length without its bytes.
            (
                Bytes::from_static(b"\x03\x1a\x01x"),
                "SnapshotRecord",
                "record",
            ),
            (
                Bytes::from_static(b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x0a"),
                "SnapshotRecord",
                "record",
            ),
        ];
        for (data, message, field) in cases {
            let error = decode_snapshot(&data).unwrap_err();
            assert_eq!((error.message, error.field), (message, field), "{data:?}");
        }
    }

    #[test]
    fn a_length_that_is_none_is_refused_at_once() {
        let read = |bytes: &[u8]| SnapshotReader::default().read(bytes);
        assert_eq!(read(&[0xff; MAX_PREFIX_BYTES - 1]), Ok(()));
        assert_eq!(read(&[0xff; MAX_PREFIX_BYTES]).unwrap_err().field, "record");
    }

    #[test]
    fn members_come_before_sessions_and_both_before_pairs() {
        let header = |members, sessions| {
            Record::Header(proto::SnapshotHeader {
                version: 1,
                members,
                sessions,
                pairs: 1,
                ..proto::SnapshotHeader::default()
            })
        };
        let session = || Record::Session(proto::SessionRecord::default());
        for (header, early) in [
            (header(1, 1), session()),
            (header(1, 1), pair("a")),
            (header(1, 0), pair("a")),
            (header(0, 1), pair("a")),
            (header(1, u64::MAX), pair("a")),
        ] {
            let error = SnapshotReader::default()
                .read(&snapshot([header.clone(), early]))
                .unwrap_err();
            assert_eq!(error.field, "record", "{header:?}: {error}");
        }
    }

    fn with_sessions(mut state: StateMachine, sessions: &BTreeMap<u64, Session>) -> StateMachine {
        for (&client_id, session) in sessions {
            state.restore_session(ClientId(client_id), session.clone());
        }
        state
    }

    fn result() -> impl Strategy<Value = OperationResult> {
        let bytes = || prop::collection::vec(any::<u8>(), 1..9).prop_map(Bytes::from);
        let lifetime = prop_oneof![
            Just(Lifetime::Unlimited),
            KEY_TTL.prop_map(Lifetime::Ttl),
            (1..=u64::MAX).prop_map(|id| Lifetime::Owner(ClientId(id))),
        ];
        let entry = (bytes(), bytes(), any::<u64>(), lifetime);
        let entry = entry.prop_map(|(key, value, revision, lifetime)| Entry {
            key,
            value,
            revision,
            lifetime,
        });
        prop_oneof![
            Just(OperationResult::Set),
            prop::option::of(entry).prop_map(OperationResult::Got),
            any::<bool>().prop_map(|existed| OperationResult::Deleted { existed }),
        ]
    }

    fn holder() -> impl Strategy<Value = Holder> {
        let value = prop::collection::vec(any::<u8>(), 0..9);
        let holder = (any::<u64>(), any::<u64>(), any::<u64>(), value);
        holder.prop_map(|(client_id, sequence, token, value)| Holder {
            claim: ClaimId {
                client_id: ClientId(client_id),
                sequence,
            },
            token,
            value: value.into(),
        })
    }

    /// The claims of a few sessions to a few locks: the lock, the claim, and whether it holds the lock if that
    /// is free.
    fn claims() -> impl Strategy<Value = Vec<(String, Holder, Option<u64>, bool)>> {
        let claim = (
            "[a-c]",
            holder(),
            prop::option::of(any::<u64>()),
            any::<bool>(),
        );
        prop::collection::vec(claim, 0..6)
    }

    /// A session that remembers the answers to some of the numbers from `first` on.
    fn sessions() -> impl Strategy<Value = BTreeMap<u64, Session>> {
        let effect = prop_oneof![
            Just(Effect::Set),
            any::<bool>().prop_map(|existed| Effect::Deleted { existed }),
            (any::<bool>(), prop::collection::vec(result(), 0..4)).prop_map(
                |(succeeded, results)| { Effect::Txn(Arc::new(TxnOutcome { succeeded, results })) }
            ),
            (0usize..1 << 30).prop_map(|limit| Effect::AnswerTooLarge { limit }),
            any::<u64>().prop_map(|id| Effect::OwnerExpired(ClientId(id))),
            Just(Effect::TooManyOwned),
            Just(Effect::Claimed(ClaimState::Gone)),
            Just(Effect::Released),
            holder().prop_map(|holder| Effect::Occupied(Box::new(holder))),
        ];
        let written =
            (effect, any::<u64>()).prop_map(|(effect, revision)| Written { effect, revision });
        let answers = prop::collection::btree_map(0u64..1024, written, 0..6);
        let first = prop_oneof![Just(1), Just(u64::MAX - 1024), 1..u64::MAX - 1024];
        let session = (any::<u64>(), first, answers).prop_map(|(last_used, first, answers)| {
            let answers = answers.into_iter();
            Session {
                last_used,
                first_outstanding: first,
                answers: answers.map(|(at, written)| (first + at, written)).collect(),
            }
        });
        prop::collection::btree_map(any::<u64>(), session, 0..5)
    }

    /// Living sessions, by ids of which some are also those of others.
    fn living() -> impl Strategy<Value = BTreeMap<u64, LivingSession>> {
        let session = (SESSION_TTL, any::<u64>(), sessions());
        let session = session.prop_map(|(ttl, deadline, sessions)| LivingSession {
            ttl,
            deadline,
            session: sessions.into_values().next().unwrap_or_default(),
            ..LivingSession::default()
        });
        prop::collection::btree_map(1..=u64::MAX, session, 0..4)
    }

    /// The lifetime of the pair at `at`, if it is limited.
    fn limit(at: u64, owners: &[u64], (ttl, deadline): (u64, u64)) -> Option<Limit> {
        let owner = usize::try_from(at).ok()?.checked_rem(owners.len());
        match at % 4 {
            1 => Some(Limit::Ttl { ttl, deadline }),
            2 => Some(Limit::Owner(ClientId(owners[owner?]))),
            _ => None,
        }
    }

    #[test]
    fn a_living_session_and_its_keys_go_on_after_a_snapshot() {
        use crate::kv::{Command, Operation, SetLifetime, Txn, Write};
        let mut before = StateMachine::default().with_level(ProtocolLevel::SECOND);
        let client_id = ClientId(7);
        before.apply(
            2,
            Command::OpenLivingSession {
                client_id,
                ttl: 2_000,
            },
        );
        let set = |key: &'static str, lifetime| Operation::Set {
            key: key.into(),
            value: Bytes::new(),
            lifetime: SetLifetime::To(lifetime),
        };
        let success = vec![
            set("timed", Lifetime::Ttl(1_000)),
            set("owned", Lifetime::Owner(client_id)),
        ];
        let txn = Txn {
            conditions: Vec::new(),
            success,
            failure: Vec::new(),
        };
        before.apply(3, Write::Txn(Box::new(txn)).into());
        let mut after = decode_snapshot(&encode_snapshot(&before)).unwrap();
        for (at, left) in [(4, 2), (5, 2), (6, 1), (7, 1), (8, 0)] {
            for state in [&mut before, &mut after] {
                let (step, renewed) = (500, Vec::new());
                state.apply(at, Command::Clock { step, renewed });
                assert_eq!(state.len(), left, "{at}");
            }
            assert_eq!(before, after);
        }
        assert_eq!(after.clock().now(), 2_500);
    }

    #[test]
    fn a_lock_goes_on_after_a_snapshot() {
        use crate::kv::{Acquire, Command, Stamp, Write};
        let mut before = StateMachine::default().with_level(ProtocolLevel::SECOND);
        for (at, client, ttl) in [(2, 7, 2_000), (3, 8, 60_000), (4, 9, 60_000)] {
            let client_id = ClientId(client);
            before.apply(at, Command::OpenLivingSession { client_id, ttl });
        }
        let acquire = |client, sequence, max_wait| Command::Write {
            write: Write::Acquire(Box::new(Acquire {
                name: "a".into(),
                value: Bytes::from("v"),
                max_wait,
            })),
            stamp: Some(Stamp {
                client_id: ClientId(client),
                sequence,
                first_outstanding: 1,
            }),
        };
        before.apply(5, acquire(7, 1, None));
        before.apply(6, acquire(8, 1, Some(1_000)));
        before.apply(7, acquire(9, 1, None));
        let occupied = before.apply(8, acquire(9, 2, Some(0)));
        let mut after = decode_snapshot(&encode_snapshot(&before)).unwrap();
        for at in 9..20 {
            for state in [&mut before, &mut after] {
                let (step, renewed) = (500, Vec::new());
                state.apply(at, Command::Clock { step, renewed });
                assert_eq!(state.apply(at, acquire(9, 2, Some(0))), occupied);
            }
            assert_eq!(before.holder("a"), after.holder("a"), "{at}");
        }
        let holder = after.holder("a").unwrap();
        assert_eq!(
            holder.claim.client_id,
            ClientId(9),
            "7 is over, 8 has waited enough"
        );
    }

    #[test]
    fn claims_that_make_no_sense_are_refused() {
        let living = |client_id| {
            Record::Session(proto::SessionRecord {
                client_id,
                ttl_ms: 2_000,
                ..proto::SessionRecord::default()
            })
        };
        let claim = |name: &str, sequence, revision, token| {
            Record::Claim(proto::ClaimRecord {
                name: name.to_owned(),
                client_id: 7,
                sequence,
                revision,
                token,
                ..proto::ClaimRecord::default()
            })
        };
        let header = |claims| {
            Record::Header(proto::SnapshotHeader {
                version: 1,
                sessions: 1,
                claims,
                ..proto::SnapshotHeader::default()
            })
        };
        let cases = [
            (vec![living(8), claim("a", 1, 5, 5)], "client_id"),
            (vec![living(7), claim("", 1, 5, 5)], "name"),
            (
                vec![living(7), claim("a", 1, 5, 5), claim("a", 1, 6, 0)],
                "sequence",
            ),
            (
                vec![living(7), claim("a", 1, 5, 5), claim("a", 2, 6, 6)],
                "token",
            ),
            (
                vec![living(7), claim("a", 1, 5, 5), claim("a", 2, 5, 0)],
                "name",
            ),
            (
                vec![living(7), claim("b", 1, 5, 5), claim("a", 2, 6, 6)],
                "name",
            ),
            (vec![living(7), claim("a", 1, 5, 5)], "claims"),
            (vec![claim("a", 1, 5, 5)], "record"),
        ];
        for (records, field) in cases {
            let all = std::iter::once(header(2)).chain(records.clone());
            let error = decode_snapshot(&snapshot(all)).unwrap_err();
            assert_eq!(error.field, field, "{records:?}: {error}");
        }
        let pair_first = [header(1), living(7), pair("a")];
        let error = decode_snapshot(&snapshot(pair_first)).unwrap_err();
        assert_eq!(error.field, "record");
    }

    #[test]
    fn a_session_goes_on_after_a_snapshot() {
        use crate::kv::{Command, Stamp, Write};
        let set = |value: &'static str, sequence, first_outstanding| Command::Write {
            write: Write::Set {
                key: Bytes::from("k"),
                value: Bytes::from(value),
            },
            stamp: Some(Stamp {
                client_id: ClientId(7),
                sequence,
                first_outstanding,
            }),
        };
        let mut before = StateMachine::default();
        before.apply(2, Command::OpenSession(ClientId(7)));
        let first = before.apply(3, set("first", 2, 2));
        before.apply(4, set("second", 4, 2));
        let mut after = decode_snapshot(&encode_snapshot(&before)).unwrap();
        for state in [&mut before, &mut after] {
            assert_eq!(state.apply(5, set("again", 2, 2)), first);
            let forgotten = state.apply(6, set("late", 1, 1));
            assert_eq!(forgotten.effect, Effect::SessionExpired);
            assert_eq!(state.get(b"k"), Some(&b"second"[..]));
            assert_eq!(state.apply(7, set("third", 3, 3)).revision, 7);
        }
        assert_eq!(before, after);
    }

    #[test]
    fn sessions_that_make_no_sense_are_refused() {
        let answer = |sequence, effect| proto::RememberedAnswer {
            sequence,
            applied_index: 1,
            effect,
        };
        let set = Some(Remembered::Set(true));
        let session = |client_id, answers| {
            Record::Session(proto::SessionRecord {
                client_id,
                last_used: 1,
                first_outstanding: 2,
                answers,
                ..proto::SessionRecord::default()
            })
        };
        let header = |sessions, pairs| {
            Record::Header(proto::SnapshotHeader {
                version: 1,
                pairs,
                sessions,
                ..proto::SnapshotHeader::default()
            })
        };
        let living = |ttl_ms| {
            Record::Session(proto::SessionRecord {
                client_id: 1,
                ttl_ms,
                ..proto::SessionRecord::default()
            })
        };
        let without_ttl = Record::Session(proto::SessionRecord {
            deadline_ms: 1,
            ..proto::SessionRecord::default()
        });
        let bound = |ttl_ms, deadline_ms, owner| {
            Record::Pair(proto::KeyValue {
                key: "k".into(),
                ttl_ms,
                deadline_ms,
                owner,
                ..proto::KeyValue::default()
            })
        };
        let too_high = Record::Pair(proto::KeyValue {
            key: "k".into(),
            revision: 1 << 63,
            ..proto::KeyValue::default()
        });
        let cases = [
            (vec![header(0, 1), too_high], "revision"),
            (
                vec![header(2, 0), session(2, vec![]), session(2, vec![])],
                "client_id",
            ),
            (
                vec![header(2, 0), session(2, vec![]), session(1, vec![])],
                "client_id",
            ),
            (
                vec![header(1, 0), session(1, vec![answer(1, set.clone())])],
                "answers",
            ),
            (
                vec![header(1, 0), session(1, vec![answer(3, None)])],
                "answers",
            ),
            (
                vec![
                    header(1, 0),
                    session(1, vec![answer(3, set.clone()), answer(3, set)]),
                ],
                "answers",
            ),
            (vec![header(1, 0)], "sessions"),
            (vec![header(0, 0), session(1, vec![])], "sessions"),
            (vec![header(1, 1), pair("a")], "record"),
            (vec![header(1, 0), living(1_999)], "ttl"),
            (vec![header(1, 0), without_ttl], "deadline_ms"),
            (
                vec![header(1, 1), living(2_000), bound(1_000, 5, 1)],
                "owner",
            ),
            (vec![header(1, 1), living(2_000), bound(0, 5, 1)], "owner"),
            (vec![header(1, 1), living(2_000), bound(999, 5, 0)], "ttl"),
            (vec![header(1, 1), living(2_000), bound(0, 0, 2)], "owner"),
        ];
        for (records, field) in cases {
            let error = decode_snapshot(&snapshot(records.clone())).unwrap_err();
            assert_eq!(error.field, field, "{records:?}: {error}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let session = Session {
            last_used: 3,
            first_outstanding: 1,
            answers: BTreeMap::from([(
                1,
                Written {
                    effect: Effect::Set,
                    revision: 3,
                },
            )]),
        };
        let state = map(&[("a", "1"), ("b", ""), ("c", "3")]);
        let whole = encode_snapshot(&with_sessions(state, &BTreeMap::from([(7, session)])));
        for size in 0..whole.len() {
            assert!(decode_snapshot(&whole.slice(..size)).is_err(), "{size}");
        }
    }

    proptest! {
        /// For every state, and every cut of its snapshot into pieces.
        #[test]
        fn every_state_survives(
            pairs in prop::collection::btree_map(
                prop::collection::vec(any::<u8>(), 1..6),
                prop::collection::vec(any::<u8>(), 0..200),
                0..50,
            ),
            members in prop::collection::btree_map(1u16.., "[a-z]{0,5}", 0..4),
            sessions in sessions(),
            living in living(),
            claims in claims(),
            clock in any::<u64>(),
            timed in (KEY_TTL, any::<u64>()),
            recovered_from in prop::collection::vec(any::<u64>(), 0..20),
            revisions in prop::option::of((1..u64::MAX, any::<u64>(), ..=MAX_REVISION)),
            cut in 1usize..300,
        ) {
            let (base, oldest, stored) = revisions.unwrap_or_default();
            let mut state = StateMachine::default()
                .with_revisions(Revisions { base, oldest })
                .with_clock(clock);
            let living = living.into_iter().filter(|(id, _)| !sessions.contains_key(id));
            let living: BTreeMap<_, _> = living.collect();
            let owners: Vec<_> = living.keys().copied().collect();
            for (client_id, session) in living {
                state.restore_living_session(ClientId(client_id), session);
            }
            for (at, (name, holder, deadline, holds)) in (1u64..).zip(claims) {
                let Some(owner) = usize::try_from(at).unwrap().checked_rem(owners.len()) else {
                    continue;
                };
                let client_id = ClientId(owners[owner]);
                let id = ClaimId { client_id, ..holder.claim };
                let claim = Claim { id, value: holder.value, deadline };
                let holds = holds && state.locks().holder(&name).is_none();
                if state.locks().claim(id).is_none() {
                    let token = holder.token.max(1);
                    state.restore_claim(&name.as_str().into(), at, claim, holds.then_some(token));
                }
            }
            if base > 0 {
                state = state.with_level(ProtocolLevel::SECOND);
            }
            for (at, (key, value)) in (0u64..).zip(pairs) {
                // Some were bound before there were revisions.
                let stored = if at % 3 == 0 { 0 } else { stored };
                state.restore(&key, &value, stored, limit(at, &owners, timed));
            }
            let members = members.into_iter().map(|(id, addr)| NodeInfo {
                id: NodeId::new(id).unwrap(),
                client_addr: addr.to_uppercase(),
                addr,
            });
            let mut state = with_sessions(state.with_members(members.collect()), &sessions);
            for cluster_id in recovered_from {
                state.recover_from(ClusterId(cluster_id));
            }
            let mut writer = SnapshotWriter::new(state.clone());
            let (size, mut written) = (writer.size(), 0);
            let mut reader = SnapshotReader::default();
            loop {
                let bytes = writer.next(cut);
                if bytes.is_empty() {
                    break;
                }
                prop_assert!(bytes.len() == cut || written + number(bytes.len()) == size);
                written += number(bytes.len());
                reader.read(&bytes).unwrap();
            }
            prop_assert_eq!(written, size);
            prop_assert_eq!(reader.finish(), Ok(state));
        }

        #[test]
        fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_snapshot(&data);
        }
    }
}
