//! Rules that several messages share, and the errors for their breach.

use std::fmt;

use super::WireError;
use crate::types::{LogIndex, RaftId, Term};

/// Highest term that a peer may name. raft-rs computes `term + 1` when it campaigns, so a term near
/// the top of its type would overflow; no cluster reaches this one.
pub const MAX_TERM: Term = 1 << 62;

/// Highest log index that a peer may name. raft-rs computes `index + 1` and `index + entries`.
pub const MAX_INDEX: LogIndex = 1 << 62;

/// Checks the fields of one message, which it knows by name.
#[derive(Clone, Copy)]
pub(in crate::wire) struct Check(pub(in crate::wire) &'static str);

impl Check {
    /// Refuses `field` with `reason` unless the rule `holds`.
    pub(in crate::wire) fn that(
        self,
        holds: bool,
        field: &'static str,
        reason: fmt::Arguments<'_>,
    ) -> Result<(), WireError> {
        if holds {
            Ok(())
        } else {
            Err(WireError::new(self.0, field, reason.to_string()))
        }
    }

    /// The raft id in `field`.
    pub(in crate::wire) fn raft_id(
        self,
        field: &'static str,
        id: u64,
    ) -> Result<RaftId, WireError> {
        RaftId::try_from(id).map_err(|error| WireError::new(self.0, field, error.to_string()))
    }

    /// Checks a term in which something happened: at least 1. raft-rs takes a message of term 0 for one
    /// of its own (`Raft::step`).
    pub(in crate::wire) fn term(self, field: &'static str, term: Term) -> Result<(), WireError> {
        self.that(
            (1..=MAX_TERM).contains(&term),
            field,
            format_args!("{term} is not between 1 and 2^62"),
        )
    }

    /// Checks an index that raft-rs has to compute with. 0 means none.
    pub(in crate::wire) fn index(
        self,
        field: &'static str,
        index: LogIndex,
    ) -> Result<(), WireError> {
        self.that(
            index <= MAX_INDEX,
            field,
            format_args!("{index} is past 2^62"),
        )
    }

    /// Checks a position in the log of a process whose term is `highest`: an index and the term of the
    /// entry there. Exactly index 0, the position before the first entry, has term 0.
    ///
    /// raft-rs relies on that: it takes the term of an index past its log to be 0 (`RaftLog::term`), so
    /// an append after such a position with term 0 would leave a gap.
    pub(in crate::wire) fn log_position(
        self,
        (index_field, index): (&'static str, LogIndex),
        (term_field, term): (&'static str, Term),
        highest: Term,
    ) -> Result<(), WireError> {
        self.index(index_field, index)?;
        self.that(
            (index == 0) == (term == 0),
            term_field,
            format_args!("{term} at index {index}: exactly index 0 has term 0"),
        )?;
        self.that(
            term <= highest,
            term_field,
            format_args!("{term} is past the sender's term {highest}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Check = Check("Message");

    #[test]
    fn an_error_names_message_field_and_reason() {
        let error = CHECK.index("index", MAX_INDEX + 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Message.index: 4611686018427387905 is past 2^62"
        );
        let error = CHECK.raft_id("to", 7).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Message.to: 0x7 is no raft id: its upper 16 bits, the node id, are 0"
        );
    }

    #[test]
    fn terms_are_1_to_2_to_the_62() {
        assert!(CHECK.term("term", 0).is_err());
        assert!(CHECK.term("term", 1).is_ok());
        assert!(CHECK.term("term", MAX_TERM).is_ok());
        assert!(CHECK.term("term", MAX_TERM + 1).is_err());
    }

    #[test]
    fn only_the_position_before_the_log_has_term_0() {
        let position = |index, term| CHECK.log_position(("index", index), ("term", term), 5);
        assert!(position(0, 0).is_ok());
        assert!(position(7, 5).is_ok());
        assert_eq!(position(7, 0).unwrap_err().field, "term");
        assert_eq!(position(0, 1).unwrap_err().field, "term");
        assert_eq!(position(7, 6).unwrap_err().field, "term");
        assert_eq!(position(MAX_INDEX + 1, 1).unwrap_err().field, "index");
    }
}
