//! How many file descriptors the process may have, and whether they are enough.
//!
//! Each connection takes one. Connections of clients are bounded below the limit of the process. So
//! clients can never take the descriptors with which nodes reach one another, send snapshots and serve
//! operators.

use super::listen_options::{LEAVING_CONNECTIONS, SPARE_CONNECTIONS};
use super::options::INTERNAL_CONNECTIONS;
use crate::config::{Config, ConfigError, Problem};

/// Descriptors of a listener for connections that are beyond its bound for a moment.
const BEYOND: usize = SPARE_CONNECTIONS + LEAVING_CONNECTIONS;

/// Connections to other nodes: three to each of 32, or a few more to fewer nodes when their addresses
/// have changed.
const OUTGOING: usize = 96;

/// Both listeners, the runtime, log lines, files.
const OWN: usize = 32;

/// Descriptors that a node needs besides one for each client connection.
pub const RESERVED_DESCRIPTORS: usize = BEYOND + INTERNAL_CONNECTIONS + BEYOND + OUTGOING + OWN;

/// Fewest client connections with which a node is worth starting: the lower bound of
/// `limits.max_connections`.
const FEWEST_CONNECTIONS: usize = 16;

/// How many descriptors a node may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors(usize);

impl Descriptors {
    /// Raises the limit of this process as far as the system lets it.
    pub fn of_this_process() -> Self {
        let raised = rlimit::increase_nofile_limit(u64::MAX);
        let limit = raised.or_else(|_| rlimit::Resource::NOFILE.get_soft());
        // A system without such a limit sets none.
        let limit = limit.unwrap_or(u64::MAX);
        Self(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// The share of each of `nodes` nodes in one process.
    #[must_use]
    pub fn shared_by(self, nodes: u16) -> Self {
        Self(self.0.checked_div(nodes.into()).unwrap_or(self.0))
    }

    /// Most client connections for which there are descriptors.
    pub fn connections(self) -> usize {
        self.0.saturating_sub(RESERVED_DESCRIPTORS)
    }

    /// Checks that the descriptors are enough for a node with `config`.
    ///
    /// # Errors
    ///
    /// A fault of `limits.max_connections`: the node would need more.
    pub fn suffice(self, config: &Config) -> Result<(), ConfigError> {
        let Self(limit) = self;
        let connections = config.limits.max_connections;
        let needed = connections.saturating_add(RESERVED_DESCRIPTORS);
        if needed <= limit {
            return Ok(());
        }
        let problem = format!(
            "{connections} connections of clients, and {RESERVED_DESCRIPTORS} descriptors for the node, \
             its peers and operators, are {needed}, and this process may have {limit}"
        );
        let raise = format!("a limit (ulimit -n; systemd: LimitNOFILE=) of at least {needed}");
        let expected = match self.connections() {
            FEWEST_CONNECTIONS.. => format!("at most {}, or {raise}", self.connections()),
            _ => raise,
        };
        Err(ConfigError {
            faults: vec![Problem {
                field: "limits.max_connections".to_owned(),
                problem,
                expected,
                origin: None,
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn a_node_that_would_run_out_of_descriptors_says_what_to_do() {
        let mut config = Config::for_dev(NodeId::new(1).unwrap(), 3, 6379, 7379).unwrap();
        config.limits.max_connections = 1_000;
        assert_eq!(RESERVED_DESCRIPTORS, 352, "docs/OPERATIONS.md says so");
        let needed = 1_000 + RESERVED_DESCRIPTORS;
        assert_eq!(Descriptors(needed).suffice(&config), Ok(()));
        let refused = |limit| Descriptors(limit).suffice(&config).unwrap_err().to_string();
        let error = refused(needed - 1);
        for part in [
            "limits.max_connections: 1000 connections",
            &format!("are {needed}, and this process may have {}", needed - 1),
            &format!(
                "expected at most 999, or a limit (ulimit -n; systemd: LimitNOFILE=) of at least {needed}"
            ),
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = refused(RESERVED_DESCRIPTORS + FEWEST_CONNECTIONS - 1);
        assert!(error.contains("expected a limit"), "{error}");
        assert_eq!(
            Descriptors(3 * needed + 2).shared_by(3),
            Descriptors(needed)
        );
    }
}
