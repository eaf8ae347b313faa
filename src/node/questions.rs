//! The questions of a process that takes part, by which it tells an answer of now from a late one.

use std::collections::BTreeMap;

use super::CallId;

/// Ticks within which an answer has to come. What comes later was said of a time that is over: it
/// would count as news although its sender may be dead.
const ANSWER_TICKS: u64 = 10;

/// The questions that may still be answered: no more than were asked within [`ANSWER_TICKS`].
#[derive(Debug, Default)]
pub(super) struct Questions {
    now: u64,
    asked: BTreeMap<CallId, u64>,
}

impl Questions {
    /// One tick has passed.
    pub(super) fn tick(&mut self) {
        self.now += 1;
        let now = self.now;
        self.asked.retain(|_, at| now - *at <= ANSWER_TICKS);
    }

    /// `question` is asked.
    pub(super) fn ask(&mut self, question: CallId) {
        self.asked.insert(question, self.now);
    }

    /// Whether `question` is answered in time, and for the first time.
    pub(super) fn answered(&mut self, question: CallId) -> bool {
        self.asked.remove(&question).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn an_answer_counts_for_its_question_once_and_in_time() {
        let question = |number| CallId {
            to: NodeId::new(2).expect("a node id"),
            number,
        };
        let mut questions = Questions::default();
        questions.ask(question(1));
        for _ in 0..ANSWER_TICKS {
            questions.tick();
        }
        questions.ask(question(2));
        assert!(!questions.answered(question(3)), "was never asked");
        assert!(questions.answered(question(1)));
        assert!(!questions.answered(question(1)), "a copy");
        for _ in 0..=ANSWER_TICKS {
            questions.tick();
        }
        assert!(!questions.answered(question(2)), "late");
    }
}
