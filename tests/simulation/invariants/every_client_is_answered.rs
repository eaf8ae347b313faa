//! No caller waits for ever: after a while without faults, every caller of a running node has an answer.

use super::{Verdict, live};
use crate::clients::Clients;

pub(crate) fn check(clients: &Clients) -> Verdict {
    let waiting = clients.waiting();
    live(waiting == 0, "every_client_is_answered", || {
        format!("{waiting} still wait")
    })
}
