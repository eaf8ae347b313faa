//! What single reads and writes return.

use bytes::Bytes;

use crate::proto::kv::{DeleteResponse, GetResponse, SetResponse};

/// The result of a write: the key was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Revision of the write: writes take effect in ascending order of it.
    pub applied_index: u64,
}

/// The result of a removal: the key was removed, or was not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// Whether the key was bound before.
    pub existed: bool,
    /// Revision of the removal.
    pub applied_index: u64,
}

/// The result of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The value. `None` if the key is missing; an empty value is a value.
    pub value: Option<Bytes>,
    /// Revision up to which the answering node had applied the writes.
    pub applied_index: u64,
    /// Revision of the write that has bound the key. 0 if the key is missing, and while a process takes
    /// part that runs a version without revisions.
    pub revision: u64,
}

impl From<SetResponse> for Written {
    fn from(response: SetResponse) -> Self {
        let SetResponse { applied_index, .. } = response;
        Self { applied_index }
    }
}

impl From<DeleteResponse> for Deleted {
    fn from(response: DeleteResponse) -> Self {
        let DeleteResponse {
            existed,
            applied_index,
            ..
        } = response;
        Self {
            existed,
            applied_index,
        }
    }
}

impl From<GetResponse> for Found {
    fn from(response: GetResponse) -> Self {
        let GetResponse {
            value,
            applied_index,
            revision,
            cluster_id: _,
        } = response;
        Self {
            value,
            applied_index,
            revision,
        }
    }
}
