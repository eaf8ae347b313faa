//! The plan of a run.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Most batches that a node accepts in flight on one stream.
const MAX_WINDOW: usize = 1024;
/// Most commands that a node accepts in one batch.
const MAX_BATCH: usize = 4096;

/// The operation of the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Op {
    /// Write
    Set,
    /// Read, of keys that were written before
    Get,
    /// Delete, of keys that were written before
    Del,
    /// Half reads, half writes
    Mixed,
}

impl Op {
    /// Whether the keys must exist before the run.
    pub(super) fn needs_keys(self) -> bool {
        self != Self::Set
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "set",
            Self::Get => "get",
            Self::Del => "del",
            Self::Mixed => "mixed",
        })
    }
}

/// The load on one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pipelining {
    /// Commands of one batch.
    pub(super) batch: usize,
    /// Batches in flight.
    pub(super) window: usize,
}

impl FromStr for Pipelining {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str, bound: usize| {
            let number = text.parse::<usize>().ok();
            number.filter(|number| (1..=bound).contains(number))
        };
        let parts = text.split_once('x').and_then(|(batch, window)| {
            let batch = number(batch, MAX_BATCH)?;
            let window = number(window, MAX_WINDOW)?;
            Some(Self { batch, window })
        });
        parts.ok_or_else(|| {
            format!(
                "write BATCHxWINDOW, e.g. 1x256 or 100x16: a batch of 1 to {MAX_BATCH}, a window \
                 of 1 to {MAX_WINDOW}"
            )
        })
    }
}

impl fmt::Display for Pipelining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.batch, self.window)
    }
}

/// The settings of a run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) op: Op,
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    /// Number of different keys.
    pub(crate) keys: u32,
    pub(crate) value_size: usize,
    /// Each client uses one stream; `None`: one call after another.
    pub(crate) pipeline: Option<Pipelining>,
    /// Operations a second over all clients; `None`: as many as possible.
    pub(crate) rate: Option<u32>,
    pub(crate) seed: u64,
    /// Longest wait for an answer.
    pub(crate) timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_a_batch_and_a_window() {
        for (text, batch, window) in [
            ("1x256", 1, 256),
            ("100x16", 100, 16),
            ("4096x1024", 4096, 1024),
        ] {
            assert_eq!(text.parse(), Ok(Pipelining { batch, window }));
        }
        for text in [
            "", "256", "0x1", "1x0", "4097x1", "1x1025", "1X2", "1x2x3", "-1x1", "x",
        ] {
            assert!(text.parse::<Pipelining>().is_err(), "{text:?}");
        }
    }
}
