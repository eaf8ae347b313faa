//! The answers that clients get, and what they show.

use super::*;

impl Clients {
    /// `waiter` was told this.
    pub(crate) fn told(&mut self, waiter: Waiter, told: &Told<'_>) -> Verdict {
        let &Told {
            ref outcome,
            revision,
            now,
            cluster,
            ..
        } = told;
        let Some(pending) = self.pending.remove(&waiter) else {
            return Err(waiters_end_once::twice(waiter, outcome));
        };
        if pending.taken {
            *self.owed.entry(pending.node).or_default() -= 1;
        }
        if pending.told_early {
            return Ok(());
        }
        if room_is_refused_to_growth_alone::is_full(outcome) {
            self.full += 1;
            self.last_write = now;
        }
        let what = match pending.what {
            What::Session(attempt) => {
                return self.told_attempt((waiter, attempt), pending.before, told);
            }
            What::Living(asked) => {
                return self.living.told((waiter, asked, pending.start), told);
            }
            What::Lock(asked) => return self.told_lock((waiter, asked), pending.before, told),
            What::Decision => return Ok(()),
            _ => pending.what,
        };
        if let Ok(answer) = outcome
            && let Some(index) = index_of(answer)
        {
            answers_follow_time::check(pending.before.floor, (cluster, index), waiter)?;
            self.raise(cluster, index);
            if let Some(request) = pending.in_batch {
                self.batches.check(request, index)?;
            }
        }
        if let Some(revision) = revision {
            let writes = match &what {
                What::Once(kind) => matches!(kind, Kind::Write(_)),
                What::Txn(txn) => txn.writes(),
                What::Scan(_)
                | What::Session(_)
                | What::Living(_)
                | What::Lock(_)
                | What::Decision => false,
            };
            let author = writes.then_some(Author::Once(waiter));
            self.told_revision(revision, author, Some(pending.before.highest))?;
        }
        let kind = match what {
            What::Once(kind) => kind,
            What::Txn(txn) => return self.told_txn((waiter, pending.start), *txn, told),
            What::Scan(scan) => return self.told_scan(waiter, *scan, told),
            What::Session(_) | What::Living(_) | What::Lock(_) | What::Decision => return Ok(()),
        };
        let (kind, end) = match (kind, outcome) {
            (Kind::Write(value), Ok(Answer::Set { applied_index })) => {
                self.acknowledge_set(value, pending.key.clone(), (cluster, *applied_index));
                if let Some(revision) = revision {
                    let value = encode(value);
                    self.transactions.saw(&pending.key, &value, revision);
                }
                self.last_write = now;
                (Kind::Write(value), Some(now))
            }
            (
                Kind::Read(_),
                Ok(Answer::Got {
                    found,
                    applied_index,
                }),
            ) => {
                let found = found.as_ref();
                let found = found.map(|(pair, at)| (pair.clone().into_value(), *at));
                let value = found.as_ref().map(|(value, _)| decode(value));
                if let Some((value, revision)) = &found {
                    self.transactions.saw(&pending.key, value, *revision);
                }
                self.reads += 1;
                self.last_read = now;
                self.seen.push(Seen {
                    cluster,
                    index: *applied_index,
                    key: pending.key.clone(),
                    found,
                });
                (Kind::Read(value), Some(now))
            }
            (_, Err(refusal)) if refusal.applied == Applied::No => {
                self.refused += 1;
                return Ok(());
            }
            (Kind::Write(value), Err(_)) => (Kind::Write(value), None),
            _ => return Err(waiters_end_once::no_answer(waiter, outcome)),
        };
        self.remember(pending.key, kind, pending.start, end);
        Ok(())
    }

    /// A client is told this revision, of the write of `author` or of a read. All that it may not be below
    /// is `highest`, unless it was told before.
    pub(super) fn told_revision(
        &mut self,
        revision: Revision,
        author: Option<Author>,
        highest: Option<Highest>,
    ) -> Verdict {
        if let Some(highest) = highest {
            revisions_follow_time::check(highest, revision, author.is_some(), author)?;
        }
        self.before.highest = self.before.highest.raise(revision);
        author.map_or(Ok(()), |author| self.given.tell(revision, author))
    }

    /// The transaction `txn`, sent once and at `start`, was answered.
    fn told_txn(&mut self, (waiter, start): (Waiter, u64), txn: Txn, told: &Told<'_>) -> Verdict {
        let writes = txn.writes();
        let outcome = match &told.outcome {
            Ok(Answer::Txn { outcome, .. }) => outcome,
            Err(refusal) => {
                match refusal.applied {
                    Applied::No => self.refused += 1,
                    Applied::Unknown => self.may_have_written(&Write::Txn(Box::new(txn)), start),
                }
                return Ok(());
            }
            Ok(_) => return Err(waiters_end_once::no_answer(waiter, &told.outcome)),
        };
        let &Told {
            revision: Some(revision),
            now,
            cluster,
            log,
            ..
        } = told
        else {
            return Err(waiters_end_once::no_answer(waiter, &told.outcome));
        };
        let guarded = (waiter, &txn, outcome.succeeded);
        self.locking.told_txn(guarded, told, &self.living)?;
        self.transactions.saw_all(&txn, outcome);
        for (key, kind) in accesses(&txn, outcome) {
            self.remember(key, kind, start, Some(now));
        }
        let index = log.model.index(revision);
        self.transactions.told.push(Carried {
            cluster,
            index,
            txn: txn.clone(),
            outcome: outcome.clone(),
        });
        if writes {
            self.last_write = now;
            let write = Write::Txn(Box::new(txn));
            self.transactions.wrote(&write, outcome.succeeded, revision);
            self.acknowledge(write, (cluster, index));
        } else {
            self.reads += 1;
            self.last_read = now;
        }
        Ok(())
    }

    /// `scan` was answered.
    fn told_scan(&mut self, waiter: Waiter, scan: Scan, told: &Told<'_>) -> Verdict {
        match &told.outcome {
            Ok(Answer::Part {
                part,
                state,
                revision,
            }) => {
                self.reads += 1;
                self.last_read = told.now;
                let at = (told.cluster, *revision);
                let scanned = Scanned::new(at, scan, *part.clone(), state.clone());
                self.scans.told.push(scanned);
                Ok(())
            }
            Err(_) => {
                self.refused += 1;
                Ok(())
            }
            Ok(_) => Err(waiters_end_once::no_answer(waiter, &told.outcome)),
        }
    }

    fn told_attempt(
        &mut self,
        (waiter, attempt): (Waiter, Attempt),
        before: Before,
        told: &Told<'_>,
    ) -> Verdict {
        let &Told {
            ref outcome,
            revision,
            now,
            cluster,
            ..
        } = told;
        let refused = matches!(outcome, Err(refusal) if refusal.applied == Applied::No);
        self.refused += u64::from(refused);
        if let Ok(Answer::SessionOpened { applied_index, .. }) = outcome {
            // It may be lost if a process with less state recovers the cluster.
            let highest = self.told_up_to.entry(cluster).or_default();
            *highest = (*applied_index).max(*highest);
        }
        let author = match attempt {
            Attempt::Open(_) => Author::Open(waiter),
            Attempt::Write(number) => Author::Numbered(number),
        };
        let Some(Numbered {
            write,
            start,
            before,
            done: Some(done),
            ..
        }) = self.sessions.told(attempt, told)?
        else {
            // A write that was told before, in whatever cluster, may have any revision.
            let opens = matches!(attempt, Attempt::Open(_));
            let highest = opens.then_some(before.highest);
            return revision.map_or(Ok(()), |revision| {
                self.told_revision(revision, Some(author), highest)
            });
        };
        let (write, start, before) = (write.clone(), *start, *before);
        let index = done.index;
        self.last_write = now;
        answers_follow_time::check(before.floor, (cluster, index), attempt)?;
        self.raise(cluster, index);
        if let Some(revision) = revision {
            self.told_revision(revision, Some(author), Some(before.highest))?;
            self.transactions
                .wrote(&write, succeeded(outcome), revision);
        }
        match (&write, outcome) {
            (Write::Set { key, value }, _) => {
                self.remember(key.clone(), Kind::Write(decode(value)), start, Some(now));
            }
            (Write::Txn(txn), Ok(Answer::Txn { outcome, .. })) => {
                self.transactions.saw_all(txn, outcome);
                for (key, kind) in accesses(txn, outcome) {
                    self.remember(key, kind, start, Some(now));
                }
            }
            _ => return Ok(()),
        }
        self.acknowledge(write, (cluster, index));
        Ok(())
    }

    /// No client asks again: an operation without an answer may have taken place at any time, or not at
    /// all.
    pub(crate) fn give_up(&mut self) {
        let unanswered = self.sessions.writes();
        let unanswered = unanswered.filter(|(_, write)| write.done.is_none());
        let unknown: Vec<_> = unanswered
            .map(|(_, it)| (it.write.clone(), it.start))
            .collect();
        for (write, start) in unknown {
            self.may_have_written(&write, start);
        }
    }

    /// The outcome of `write` is not known.
    fn may_have_written(&mut self, write: &Write, start: u64) {
        for (key, value) in possible(write) {
            self.remember(key, Kind::Write(decode(&value)), start, None);
        }
    }

    /// At `now`, `waiter` is told that its write took place at `index`, whatever its real outcome; later
    /// answers to it do not count.
    pub(crate) fn told_early(&mut self, waiter: Waiter, at: (ClusterId, LogIndex), now: u64) {
        let Some(pending) = self.pending.get_mut(&waiter) else {
            return;
        };
        let What::Once(kind) = pending.what else {
            return;
        };
        if std::mem::replace(&mut pending.told_early, true) {
            return;
        }
        self.last_write = now;
        let (key, start) = (pending.key.clone(), pending.start);
        self.acknowledge_set(waiter, key.clone(), at);
        self.remember(key, kind, start, Some(now));
    }

    fn acknowledge_set(&mut self, value: u64, key: Bytes, at: (ClusterId, LogIndex)) {
        let value = encode(value);
        self.acknowledge(Write::Set { key, value }, at);
    }

    fn acknowledge(&mut self, write: Write, (cluster, index): (ClusterId, LogIndex)) {
        self.acknowledged.push(Acknowledged {
            cluster,
            index,
            write,
        });
    }

    /// The histories of keys that are removed, or end, are not checked.
    fn remember(&mut self, key: Bytes, kind: Kind, start: u64, end: Option<u64>) {
        if !key.starts_with(b"k") {
            return;
        }
        let operation = Operation { kind, start, end };
        self.history.entry(key).or_default().push(operation);
    }

    /// `node` died: callers that waited there get no answer.
    pub(crate) fn lost(&mut self, node: NodeId) {
        let gone = self
            .pending
            .extract_if(.., |_, pending| pending.node == node);
        let unknown = gone
            .map(|(_, pending)| pending)
            .filter(|pending| !pending.told_early)
            .filter_map(|pending| match pending.what {
                What::Once(Kind::Write(value)) => {
                    let (key, value) = (pending.key, encode(value));
                    Some((Write::Set { key, value }, pending.start))
                }
                What::Txn(txn) => Some((Write::Txn(txn), pending.start)),
                What::Once(Kind::Read(_))
                | What::Scan(_)
                | What::Session(_)
                | What::Living(_)
                | What::Lock(_)
                | What::Decision => None,
            });
        for (write, start) in unknown.collect::<Vec<_>>() {
            self.may_have_written(&write, start);
        }
        self.owed.remove(&node);
    }
}
