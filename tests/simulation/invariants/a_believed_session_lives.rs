//! A session lives as long as its client believes so: for 90 % of its TTL after the moment when it sent the last
//! renewal that was answered, by a clock whose rate is wrong by 2.5 % at most.

use super::{Verdict, safe};
use crate::living::Session;

const NAME: &str = "a_believed_session_lives";

/// The session has ended in the log of its cluster, and its client `believes` that it lives.
pub(crate) fn ended(session: &Session, believes: bool) -> Verdict {
    safe(!believes, NAME, || format!("{session:?} has ended"))
}

/// The client of the session was told that it does not live, and `believes` that it does.
pub(crate) fn expired(session: &Session, believes: bool) -> Verdict {
    safe(!believes, NAME, || {
        format!("the client of {session:?} was told that it has expired")
    })
}
