//! Snapshots, cut into chunks by the sender and assembled by the receiver.
//!
//! A snapshot may be far larger than the largest message. Each chunk is made on demand, and becomes a
//! part of a state machine on arrival, so neither side ever holds the bytes of the whole. Every chunk
//! repeats the header, states its offset, and carries the CRC-32 of all bytes up to its end: a chunk that
//! is lost, duplicated, damaged or of another snapshot is detected at once.

use bytes::Bytes;

use super::{InstallSnapshotHeader, SnapshotReader, SnapshotWriter, WireError};
use crate::kv::StateMachine;
use crate::proto::raft::InstallSnapshotRequest;

/// The chunks of a snapshot, in order. There is always at least one.
#[derive(Debug)]
pub struct SnapshotChunks {
    snapshot: SnapshotWriter,
    crc32: crc32fast::Hasher,
    chunk_bytes: usize,
    /// The next chunk, without data. `None` behind the last.
    next: Option<InstallSnapshotRequest>,
}

impl SnapshotChunks {
    /// The snapshot of `state_machine` in chunks of `chunk_bytes` bytes of data. The last one may be
    /// shorter. Reads every pair once to know the size.
    pub fn new(
        header: InstallSnapshotHeader,
        state_machine: StateMachine,
        chunk_bytes: usize,
    ) -> Self {
        let snapshot = SnapshotWriter::new(state_machine);
        let next = InstallSnapshotRequest {
            total_size: snapshot.size(),
            ..header.into()
        };
        Self {
            snapshot,
            crc32: crc32fast::Hasher::new(),
            chunk_bytes: chunk_bytes.max(1),
            next: Some(next),
        }
    }

    /// Size of the whole snapshot in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.snapshot.size()
    }
}

impl Iterator for SnapshotChunks {
    type Item = InstallSnapshotRequest;

    fn next(&mut self) -> Option<InstallSnapshotRequest> {
        let mut chunk = self.next.take()?;
        chunk.data = self.snapshot.next(self.chunk_bytes);
        let reached = chunk.offset.saturating_add(size(chunk.data.len()));
        // A chunk without data is behind the end, whatever size was announced.
        chunk.done = reached >= chunk.total_size || chunk.data.is_empty();
        self.crc32.update(&chunk.data);
        chunk.crc32 = self.crc32.clone().finalize();
        if !chunk.done {
            self.next = Some(InstallSnapshotRequest {
                data: Bytes::new(),
                offset: reached,
                ..chunk.clone()
            });
        }
        Some(chunk)
    }
}

/// An incoming snapshot. After an error it must not be used again.
#[derive(Debug)]
pub struct SnapshotAssembly {
    /// The fields that every chunk repeats.
    header: InstallSnapshotRequest,
    received: u64,
    crc32: crc32fast::Hasher,
    snapshot: SnapshotReader,
    /// Maximum memory of the state in bytes.
    max_bytes: usize,
    done: bool,
}

impl SnapshotAssembly {
    /// Begins with the header in the first chunk. The chunk itself is still to be added.
    ///
    /// # Errors
    ///
    /// If the snapshot has more than `max_bytes` bytes, or if its header is not well formed.
    pub fn new(first: &InstallSnapshotRequest, max_bytes: usize) -> Result<Self, WireError> {
        let total = first.total_size;
        // The resulting state takes more memory than these bytes.
        if total > size(max_bytes) {
            return Err(too_large("total_size", max_bytes));
        }
        // Refused early, before the rest is transferred.
        InstallSnapshotHeader::from(first.clone()).into_raft()?;
        Ok(Self {
            header: without_data(first),
            received: 0,
            crc32: crc32fast::Hasher::new(),
            snapshot: SnapshotReader::default(),
            max_bytes,
            done: false,
        })
    }

    /// Adds the next chunk.
    ///
    /// # Errors
    ///
    /// If it is not the next chunk of this snapshot, or is damaged, or if the state takes too much memory
    /// with it.
    pub fn add(&mut self, mut chunk: InstallSnapshotRequest) -> Result<(), WireError> {
        let data = std::mem::take(&mut chunk.data);
        let offset = std::mem::take(&mut chunk.offset);
        let done = std::mem::take(&mut chunk.done);
        let crc32 = std::mem::take(&mut chunk.crc32);
        let (received, total) = (self.received, self.header.total_size);
        let reached = received.saturating_add(size(data.len()));
        if self.done {
            return Err(fault("done", "a chunk after the last"));
        }
        if chunk != self.header {
            return Err(fault("data", "a chunk of another snapshot"));
        }
        if offset != received {
            let reason = format!("{offset}, where {received} is next");
            return Err(fault("offset", reason));
        }
        if reached > total {
            let reason = format!("{reached} bytes, where {total} were announced");
            return Err(fault("data", reason));
        }
        if done != (reached == total) {
            let reason = format!("{done} at {reached} of {total} bytes");
            return Err(fault("done", reason));
        }
        // Without this check a peer could send chunks for ever.
        if data.is_empty() {
            return Err(fault("data", "an empty chunk"));
        }
        self.crc32.update(&data);
        if crc32 != self.crc32.clone().finalize() {
            return Err(fault("crc32", "the snapshot is damaged"));
        }
        self.snapshot.read(&data)?;
        if self.snapshot.memory() > self.max_bytes {
            return Err(too_large("data", self.max_bytes));
        }
        self.received = reached;
        self.done = done;
        Ok(())
    }

    /// Whether `chunk` is the next one of this snapshot, according to its header and offset.
    pub fn goes_on_with(&self, chunk: &InstallSnapshotRequest) -> bool {
        chunk.offset == self.received && !self.done && without_data(chunk) == self.header
    }

    /// Bytes that have arrived.
    pub fn received_bytes(&self) -> u64 {
        self.received
    }

    /// Whether the last chunk has arrived.
    ///
    /// # Errors
    ///
    /// If the last chunk has not arrived.
    pub fn is_whole(&self) -> Result<(), WireError> {
        match self.done {
            true => Ok(()),
            false => Err(fault("done", "the call ended before the last chunk")),
        }
    }

    /// The header and the state machine of the whole snapshot.
    ///
    /// # Errors
    ///
    /// If the last chunk has not arrived, or if the snapshot ends within a record.
    pub fn finish(self) -> Result<(InstallSnapshotHeader, StateMachine), WireError> {
        self.is_whole()?;
        Ok((self.header.into(), self.snapshot.finish()?))
    }
}

/// The fields that every chunk of a snapshot repeats.
fn without_data(chunk: &InstallSnapshotRequest) -> InstallSnapshotRequest {
    InstallSnapshotRequest {
        data: Bytes::new(),
        offset: 0,
        done: false,
        crc32: 0,
        ..chunk.clone()
    }
}

/// The error for a state larger than this node may hold.
fn too_large(field: &'static str, max_bytes: usize) -> WireError {
    let reason = format!(
        "the state takes more memory than the {max_bytes} bytes that this node may give it: raise its \
         limits.max_state_bytes"
    );
    fault(field, reason)
}

fn fault(field: &'static str, reason: impl Into<String>) -> WireError {
    WireError::new("InstallSnapshotRequest", field, reason)
}

fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::raft::ConfState;
    use crate::wire::encode_snapshot;

    const CHUNK: usize = 100;

    fn header() -> InstallSnapshotHeader {
        InstallSnapshotRequest {
            term: 9,
            leader_id: 1 << 48,
            last_included_index: 100,
            last_included_term: 8,
            conf_state: Some(ConfState {
                voters: vec![1 << 48, 2 << 48],
                ..ConfState::default()
            }),
            cluster_id: 7,
            to: 2 << 48,
            ..InstallSnapshotRequest::default()
        }
        .into()
    }

    fn state(keys: u32) -> StateMachine {
        (0..keys)
            .map(|key| (key.to_be_bytes().to_vec().into(), vec![b'v'; 30].into()))
            .collect()
    }

    fn chunks(state: &StateMachine) -> Vec<InstallSnapshotRequest> {
        SnapshotChunks::new(header(), state.clone(), CHUNK).collect()
    }

    #[test]
    fn only_the_next_chunk_of_the_same_snapshot_goes_on() {
        let chunks = chunks(&state(20));
        let mut assembly = SnapshotAssembly::new(&chunks[0], usize::MAX).unwrap();
        assembly.add(chunks[0].clone()).unwrap();
        assert!(assembly.goes_on_with(&chunks[1]));
        assert!(!assembly.goes_on_with(&chunks[0]), "it has come");
        assert!(!assembly.goes_on_with(&chunks[2]), "there is a gap");
        let other = InstallSnapshotRequest {
            last_included_index: 101,
            ..chunks[1].clone()
        };
        assert!(!assembly.goes_on_with(&other), "of another snapshot");
        for chunk in &chunks[1..] {
            assert_eq!(assembly.is_whole().unwrap_err().field, "done");
            assert!(assembly.goes_on_with(chunk));
            assembly.add(chunk.clone()).unwrap();
        }
        let last = chunks.last().unwrap();
        assert_eq!(assembly.is_whole(), Ok(()));
        assert!(!assembly.goes_on_with(last), "it is whole");
    }

    fn assemble(
        chunks: Vec<InstallSnapshotRequest>,
        max_bytes: usize,
    ) -> Result<(InstallSnapshotHeader, StateMachine), WireError> {
        let mut assembly = SnapshotAssembly::new(&chunks[0], max_bytes)?;
        for chunk in chunks {
            assembly.add(chunk)?;
        }
        assembly.finish()
    }

    #[test]
    fn a_snapshot_survives_its_chunks() {
        for keys in [0, 1, 10, 1000] {
            let state = state(keys);
            let chunks = chunks(&state);
            let size = encode_snapshot(&state).len();
            assert_eq!(chunks.len(), size.div_ceil(CHUNK));
            let mut sent = SnapshotChunks::new(header(), state.clone(), CHUNK);
            assert_eq!(sent.total_bytes(), super::size(size));
            let first = sent.next().unwrap();
            let held = sent.next.as_ref().map(|next| next.data.len());
            assert!(
                held.is_none_or(|held| held == 0),
                "sent bytes are held on to"
            );
            let mut assembly = SnapshotAssembly::new(&first, 1 << 20).unwrap();
            assert_eq!(assembly.received_bytes(), 0);
            let received = super::size(first.data.len());
            assembly.add(first).unwrap();
            assert_eq!(assembly.received_bytes(), received);
            assert!(chunks.iter().all(|chunk| chunk.data.len() <= CHUNK));
            assert_eq!(assemble(chunks, 1 << 20), Ok((header(), state)));
        }
    }

    #[test]
    fn a_snapshot_whose_state_takes_too_much_is_refused_as_soon_as_that_shows() {
        let state = state(1000);
        let memory = state.memory();
        assert!(assemble(chunks(&state), memory).is_ok());
        let error = assemble(chunks(&state), memory - 1).unwrap_err();
        assert_eq!(error.field, "data");
        let mut assembly = SnapshotAssembly::new(&chunks(&state)[0], memory / 2).unwrap();
        let mut chunks = chunks(&state).into_iter();
        assert!(chunks.any(|chunk| assembly.add(chunk).is_err()));
        assert!(assembly.snapshot.memory() < memory / 2 + CHUNK * 10);
    }

    #[test]
    fn a_snapshot_beyond_the_bound_is_refused_with_its_first_chunk() {
        let chunks = chunks(&state(10));
        let total = encode_snapshot(&state(10)).len();
        assert!(SnapshotAssembly::new(&chunks[0], total).is_ok());
        let error = SnapshotAssembly::new(&chunks[0], total - 1).unwrap_err();
        assert_eq!(error.field, "total_size");
        let without_conf = InstallSnapshotRequest {
            conf_state: None,
            ..chunks[0].clone()
        };
        let error = SnapshotAssembly::new(&without_conf, total).unwrap_err();
        assert_eq!(error.field, "conf_state");
    }

    /// Any damage to any chunk: no state machine results.
    #[test]
    fn a_fault_in_any_chunk_is_noticed() {
        type Spoil = fn(&mut Vec<InstallSnapshotRequest>, usize);
        let spoils: [(&str, Spoil); 9] = [
            ("lost", |chunks, at| drop(chunks.remove(at))),
            ("doubled", |chunks, at| {
                chunks.insert(at, chunks[at].clone());
            }),
            ("the last", |chunks, at| chunks.truncate(at)),
            ("called the last", |chunks, at| {
                chunks[at].done = !chunks[at].done;
            }),
            ("of another leader", |chunks, at| chunks[at].leader_id += 1),
            ("shorter", |chunks, at| {
                let data = &mut chunks[at].data;
                data.truncate(data.len() - 1);
            }),
            ("empty", |chunks, at| chunks[at].data = Bytes::new()),
            ("damaged", |chunks, at| {
                let mut data = chunks[at].data.to_vec();
                data[0] ^= 1;
                chunks[at].data = data.into();
            }),
            ("of another sum", |chunks, at| chunks[at].crc32 ^= 1),
        ];
        let state = state(20);
        let whole = chunks(&state);
        assert!(whole.len() > 5);
        for (words, spoil) in spoils {
            for at in 0..whole.len() {
                let mut chunks = whole.clone();
                spoil(&mut chunks, at);
                let fault = chunks.is_empty() || assemble(chunks, 1 << 20).is_err();
                assert!(fault, "chunk {at} is {words}");
            }
        }
        assert!(assemble(whole, 1 << 20).is_ok());
    }

    #[test]
    fn a_snapshot_whose_bytes_are_no_state_machine_is_refused() {
        let mut chunk = chunks(&state(1)).remove(0);
        chunk.data = vec![0xff; chunk.data.len()].into();
        chunk.crc32 = crc32fast::hash(&chunk.data);
        assert!(assemble(vec![chunk], 1 << 20).is_err());
    }
}
