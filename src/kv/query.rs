//! Linearizable reads.

use super::{ClaimId, LockName, Scan, TXN_LEVEL, Txn};
use crate::types::{ClientId, Key, ProtocolLevel};

/// A linearizable read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Reads a key.
    Get(Key),
    /// Reads some keys at one moment: gets that follow each other.
    Gets(Vec<Key>),
    /// Carries out a transaction that writes nothing.
    Txn(Box<Txn>),
    /// Reads the first part of a range.
    Scan {
        /// What is read.
        scan: Box<Scan>,
        /// Whether the state is to be kept for the other parts, if there are any.
        keeps: bool,
    },
    /// Reads a page of the living sessions.
    Sessions {
        /// The page begins behind this session.
        after: ClientId,
        /// Maximum number of sessions in the page.
        limit: usize,
    },
    /// Reads the state of a claim.
    Claim {
        /// The lock.
        name: LockName,
        /// The claim.
        id: ClaimId,
    },
    /// Reads the state of a lock.
    Lock(LockName),
    /// Reads a page of the locks that are held.
    Locks {
        /// The page begins behind this lock.
        after: Option<LockName>,
        /// Maximum number of locks in the page.
        limit: usize,
        /// Maximum bytes of their names and values, unless a single one has more.
        bytes: usize,
    },
}

impl From<Key> for Query {
    fn from(key: Key) -> Self {
        Self::Get(key)
    }
}

impl Query {
    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Get(key) => key.len(),
            Self::Gets(keys) => keys.iter().map(Key::len).sum(),
            Self::Txn(txn) => txn.bytes(),
            Self::Scan { scan, .. } => scan.range.bytes(),
            Self::Sessions { .. } => 0,
            Self::Claim { name, .. } | Self::Lock(name) => name.len(),
            Self::Locks { after, .. } => after.as_ref().map_or(0, |after| after.len()),
        }
    }

    /// The number of reads of clients that it is.
    pub fn reads(&self) -> usize {
        match self {
            Self::Gets(keys) => keys.len(),
            _ => 1,
        }
    }

    /// The protocol level that the cluster must speak.
    pub fn level(&self) -> ProtocolLevel {
        match self {
            Self::Get(_)
            | Self::Gets(_)
            | Self::Scan { .. }
            | Self::Sessions { .. }
            | Self::Claim { .. }
            | Self::Lock(_)
            | Self::Locks { .. } => ProtocolLevel::FIRST,
            Self::Txn(_) => TXN_LEVEL,
        }
    }
}
