//! Linearizable reads.

use super::{Scan, TXN_LEVEL, Txn};
use crate::types::{Key, ProtocolLevel};

/// A linearizable read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Reads a key.
    Get(Key),
    /// Carries out a transaction that writes nothing.
    Txn(Box<Txn>),
    /// Reads the first part of a range.
    Scan {
        /// What is read.
        scan: Box<Scan>,
        /// Whether the state is to be kept for the other parts, if there are any.
        keeps: bool,
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
            Self::Txn(txn) => txn.bytes(),
            Self::Scan { scan, .. } => scan.range.bytes(),
        }
    }

    /// The protocol level that the cluster must speak.
    pub fn level(&self) -> ProtocolLevel {
        match self {
            Self::Get(_) | Self::Scan { .. } => ProtocolLevel::FIRST,
            Self::Txn(_) => TXN_LEVEL,
        }
    }
}
