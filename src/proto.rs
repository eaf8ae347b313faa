//! The only door to the generated code: the packages of `proto/`, under their short names.

pub use seshat_proto::FILE_DESCRIPTOR_SET;
pub use seshat_proto::{admin::v1 as admin, kv::v1 as kv, lock::v1 as lock, raft::v1 as raft};
