//! What must hold whatever happens: one property a file.

pub(crate) mod acknowledged_writes_are_kept;
pub(crate) mod equal_logs;
pub(crate) mod linearizable;
pub(crate) mod one_leader_a_term;
pub(crate) mod waiters_end_once;
