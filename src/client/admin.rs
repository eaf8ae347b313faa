//! What operators ask for: thin.

use super::Client;

/// The operators' side of a cluster.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }
}
