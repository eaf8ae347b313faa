//! The limits of a process.

use crate::proto::raft::NodeLimits as ProtoLimits;
use crate::types::NodeLimits;

impl From<NodeLimits> for ProtoLimits {
    fn from(limits: NodeLimits) -> Self {
        let NodeLimits {
            key,
            value,
            append,
            message,
        } = limits;
        Self {
            max_key_bytes: key,
            max_value_bytes: value,
            max_append_bytes: append,
            max_message_bytes: message,
        }
    }
}

impl From<ProtoLimits> for NodeLimits {
    fn from(limits: ProtoLimits) -> Self {
        let ProtoLimits {
            max_key_bytes,
            max_value_bytes,
            max_append_bytes,
            max_message_bytes,
        } = limits;
        Self {
            key: max_key_bytes,
            value: max_value_bytes,
            append: max_append_bytes,
            message: max_message_bytes,
        }
    }
}
