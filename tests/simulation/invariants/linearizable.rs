//! The clients' history is linearizable, key by key.

use super::{Verdict, Violation};
use seshat_test_support::linearizability;

use crate::clients::Clients;

pub(crate) fn check(clients: &Clients) -> Verdict {
    for (key, history) in &clients.history {
        linearizability::check(history).map_err(|reason| {
            Violation::safety("linearizable", format!("the history of {key:?}: {reason}"))
        })?;
    }
    Ok(())
}
