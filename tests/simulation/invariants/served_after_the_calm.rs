//! After a while without faults clients are served again: a write is acknowledged, unless the state is
//! full, and a read is answered.

use super::{Verdict, live};
use crate::clients::Clients;

/// `since` is the time by which the cluster must have healed.
pub(crate) fn check(clients: &Clients, since: u64) -> Verdict {
    let (write, read) = (clients.last_write, clients.last_read);
    live(write.min(read) >= since, "served_after_the_calm", || {
        format!(
            "the last write was acknowledged at {write} ms, the last read answered at {read} ms"
        )
    })
}
