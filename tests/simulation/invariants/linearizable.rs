//! The clients' history is linearizable, key by key.

use crate::checker;
use crate::clients::Clients;

pub(crate) fn check(clients: &Clients) {
    for (key, history) in &clients.history {
        if let Err(reason) = checker::check(history) {
            panic!("the history of {key:?} is not linearizable: {reason}\n{history:#?}");
        }
    }
}
