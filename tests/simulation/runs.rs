//! Gets of a batch that follow each other go to the core as one query, as the driver sends them.

use std::collections::BTreeMap;

use seshat::kv::Query;
use seshat::node::{Answer, Input, Outcome};

use crate::clients::Waiter;

/// Maximum number of gets in a run: few, so that there are runs, single gets, and runs that end at their bound.
const MAX_RUN: usize = 3;

/// The waiters of each run, under the first of them.
#[derive(Debug, Default)]
pub(crate) struct Runs(BTreeMap<Waiter, Vec<Waiter>>);

impl Runs {
    /// The inputs, with runs of gets as one.
    pub(crate) fn join(&mut self, inputs: Vec<Input<Waiter>>) -> Vec<Input<Waiter>> {
        let mut joined: Vec<Input<Waiter>> = Vec::new();
        for input in inputs {
            match (joined.last_mut(), input) {
                (
                    Some(Input::Read {
                        query: run,
                        waiter: first,
                    }),
                    Input::Read {
                        query: Query::Get(key),
                        waiter,
                    },
                ) if matches!(run, Query::Get(_) | Query::Gets(_)) && run.reads() < MAX_RUN => {
                    match run {
                        Query::Gets(keys) => keys.push(key),
                        Query::Get(one) => *run = Query::Gets(vec![one.clone(), key]),
                        _ => panic!("only gets are a run"),
                    }
                    self.0.entry(*first).or_insert(vec![*first]).push(waiter);
                }
                (_, input) => joined.push(input),
            }
        }
        joined
    }

    /// The outcome for each waiter of a run, or for the only one.
    pub(crate) fn split(&mut self, first: Waiter, outcome: Outcome) -> Vec<(Waiter, Outcome)> {
        let Some(waiters) = self.0.remove(&first) else {
            return vec![(first, outcome)];
        };
        match outcome {
            Ok(Answer::GotEach {
                found,
                applied_index,
            }) => {
                assert_eq!(found.len(), waiters.len(), "one for each");
                let each = found.into_iter().map(|found| {
                    Ok(Answer::Got {
                        found,
                        applied_index,
                    })
                });
                waiters.into_iter().zip(each).collect()
            }
            other => {
                let each = waiters.into_iter().map(|waiter| (waiter, other.clone()));
                each.collect()
            }
        }
    }
}
