//! The open questions of a process that takes part. They distinguish a current answer from a late one.

use std::collections::BTreeMap;

use super::CallId;

/// The questions that may still be answered: those asked within the last `max_wait` ticks. A later answer
/// describes the past. It would count as news although its sender may be dead.
#[derive(Debug)]
pub(super) struct Questions {
    max_wait: u64,
    now: u64,
    asked: BTreeMap<CallId, u64>,
}

impl Questions {
    /// No questions yet. The timeout of an answer is `max_wait` ticks: an election timeout, because a
    /// leader could not lead over links that take longer.
    pub(super) fn new(max_wait: u64) -> Self {
        Self {
            max_wait,
            now: 0,
            asked: BTreeMap::new(),
        }
    }

    /// Counts one tick.
    pub(super) fn tick(&mut self) {
        self.now += 1;
        let (now, max_wait) = (self.now, self.max_wait);
        self.asked.retain(|_, at| now - *at <= max_wait);
    }

    /// Records that `question` is asked.
    pub(super) fn ask(&mut self, question: CallId) {
        self.asked.insert(question, self.now);
    }

    /// How many ticks ago `question` was asked, if this is its first answer and in time.
    pub(super) fn answered(&mut self, question: CallId) -> Option<u64> {
        self.asked.remove(&question).map(|at| self.now - at)
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
        let mut questions = Questions::new(10);
        questions.ask(question(1));
        for _ in 0..10 {
            questions.tick();
        }
        questions.ask(question(2));
        assert_eq!(questions.answered(question(3)), None, "was never asked");
        assert_eq!(questions.answered(question(1)), Some(10));
        assert_eq!(questions.answered(question(1)), None, "a copy");
        for _ in 0..=10 {
            questions.tick();
        }
        assert_eq!(questions.answered(question(2)), None, "late");
    }
}
