//! The clients' history is linearizable, key by key.

use super::{Verdict, Violation};
use crate::checker;
use crate::clients::Clients;

pub(crate) fn check(clients: &Clients) -> Verdict {
    for (key, history) in &clients.history {
        checker::check(history).map_err(|reason| {
            Violation::safety("linearizable", format!("the history of {key:?}: {reason}"))
        })?;
    }
    Ok(())
}
