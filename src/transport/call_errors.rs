//! The errors of a failed call to a peer.

use std::time::Duration;

use super::peer::Peer;
use crate::error::RpcError;
use crate::types::Answering;

impl Peer {
    pub(super) fn timeout(&self, rpc: &'static str, timeout: Duration) -> RpcError {
        RpcError::Timeout {
            node: self.node(),
            addr: self.addr().to_owned(),
            rpc,
            millis: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn refused(&self, rpc: &'static str, reason: String) -> RpcError {
        RpcError::Refused {
            node: self.node(),
            addr: self.addr().to_owned(),
            rpc,
            reason,
        }
    }

    pub(super) fn misdirected(&self, answering: Answering) -> RpcError {
        RpcError::Misdirected {
            node: self.node(),
            addr: self.addr().to_owned(),
            answering,
        }
    }

    pub(super) fn unreachable(&self, reason: String) -> RpcError {
        RpcError::Unreachable {
            node: self.node(),
            addr: self.addr().to_owned(),
            reason,
        }
    }
}
