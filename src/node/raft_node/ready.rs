//! The output of a Raft server: raft-rs's `Ready` loop, and the answers that result from it.

use std::sync::Arc;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, Entry, EntryType, Message, MessageType};

use super::RaftNode;
use crate::error::{OWNED_KEYS, Reason, Refusal};
use crate::kv::{
    Changes, Effect, Found, MAX_CLAIMS, MAX_LIVING_ANSWER_BYTES, MAX_LIVING_SESSIONS,
    MAX_OWNED_KEYS, MAX_SESSION_ANSWER_BYTES, MAX_TXN_ANSWER_BYTES, Written,
};
use crate::node::waiters::Sight;
use crate::node::{Answer, CutEntries, Event, NodeError, Outcome, Output, Retired};
use crate::types::{ClientId, LogIndex, Revision, Term};
use crate::wire::PeerMessage;

/// Why a session cannot have a claim.
const WITHOUT_TTL: &str = "a claim needs a session that was opened with a TTL";

/// Number of entries up to which they are freed at once. Freeing more takes longer than a turn under
/// load, and is left to another thread.
const FREED_AT_ONCE: usize = 16_384;

impl<W> RaftNode<W> {
    /// All output since the last call.
    ///
    /// # Errors
    ///
    /// [`NodeError`]: an invariant is broken, and the node must stop.
    pub fn output(&mut self) -> Result<Output<W>, NodeError> {
        // Compacts first, so that entries applied by this call stay readable until the next.
        self.compact()?;
        self.begin_read_round();
        while self.raw.has_ready() {
            self.handle_ready()?;
            self.answer_reads();
            self.begin_read_round();
        }
        self.emit_snapshots()?;
        self.serve_watches();
        self.show_changes();
        Ok(std::mem::take(&mut self.output))
    }

    /// Handles one `Ready`, in the order that raft-rs prescribes: first the leader's messages may leave;
    /// then snapshot, entries and hard state are kept; then the other messages may leave. Committed
    /// entries are applied after `advance_append`, when raft-rs may be called again.
    fn handle_ready(&mut self) -> Result<(), NodeError> {
        let mut ready = self.raw.ready();
        self.send(ready.take_messages())?;
        if !ready.snapshot().is_empty() {
            self.restore(ready.snapshot())?;
        }
        let storage = self.raw.mut_store();
        storage.append(ready.take_entries())?;
        if let Some(hard_state) = ready.hs() {
            storage.set_hard_state(hard_state);
        }
        self.send(ready.take_persisted_messages())?;
        for state in ready.take_read_states() {
            self.waiters.confirm_round(&state.request_ctx, state.index);
        }
        let committed = ready.take_committed_entries();

        let mut light = self.raw.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.raw.mut_store().set_commit(commit);
        }
        self.send(light.take_messages())?;
        self.apply(committed)?;
        self.apply(light.take_committed_entries())?;
        self.growth.applied(self.raw.store().applied());
        self.raw.advance_apply();
        self.settle();
        Ok(())
    }

    fn send(&mut self, messages: Vec<Message>) -> Result<(), NodeError> {
        for message in messages {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.outgoing.push(message);
                continue;
            }
            let mut message =
                PeerMessage::from_raft(message, self.cluster_id).map_err(NodeError::Emitted)?;
            self.show_watched(&mut message);
            self.output.messages.push(message);
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), NodeError> {
        for entry in entries {
            let (index, term) = (entry.index, entry.term);
            match entry.get_entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => {
                    let storage = self.raw.mut_store();
                    storage.apply(index, term, None, &mut Changes::ignored())?;
                }
                EntryType::EntryNormal => {
                    if !entry.context.is_empty() {
                        let context = entry.context.clone();
                        let revisions = self.raw.store().state_machine().revisions();
                        let traced = Event::TracedApplied {
                            context,
                            index,
                            term,
                            revision: revisions.at(index),
                        };
                        self.output.events.push(traced);
                    }
                    self.apply_command(index, term, entry.data)?;
                }
                EntryType::EntryConfChangeV2 => self.apply_conf_change(&entry)?,
                EntryType::EntryConfChange => {
                    // `change_members` proposes none, and `wire` takes none.
                    let reason = "a conf change of the older form".to_owned();
                    return Err(NodeError::Apply { index, reason });
                }
            }
            self.see_placed_reads();
        }
        Ok(())
    }

    /// Executes the placed reads whose place among the writes has been reached.
    pub(super) fn see_placed_reads(&mut self) {
        let storage = self.raw.store();
        let applied = storage.applied();
        while let Some((query, waiter)) = self.waiters.take_placed(applied) {
            let found = storage.state_machine().find(&query, applied);
            self.waiters.push_read(Sight::Seen(found, applied), waiter);
        }
    }

    fn apply_command(&mut self, index: LogIndex, term: Term, data: Bytes) -> Result<(), NodeError> {
        let command = self.decode(data);
        let command = command.map_err(|reason| NodeError::Apply { index, reason })?;
        let client_id = command.client_id();
        let storage = self.raw.mut_store();
        let changes = self.watches.changes();
        let written = storage.apply(index, term, Some(command), changes)?;
        self.output.locks.extend(changes.take_locks());
        self.watches.note();
        match written.as_ref().map(|written| &written.effect) {
            Some(Effect::MembersDecided) => self.conf = Arc::new(storage.conf()),
            Some(Effect::LevelRaised) => {
                let level = storage.state_machine().level();
                let raised = Event::LevelRaised { level, index, term };
                self.output.events.push(raised);
                // It may have given the keys their first revisions.
                self.reset_watches();
            }
            Some(Effect::ClockAdvanced) => {
                let revision = storage.state_machine().revisions().at(index);
                self.clock_advanced(index, revision);
            }
            _ => {}
        }
        if let (Some(written), Some(waiter)) = (written, self.waiters.take_write(index, term)) {
            let outcome = outcome(written, index, client_id);
            self.output.answers.push((waiter, outcome));
        }
        Ok(())
    }

    fn apply_conf_change(&mut self, entry: &Entry) -> Result<(), NodeError> {
        let damaged = |error: protobuf::ProtobufError| NodeError::Apply {
            index: entry.index,
            reason: error.to_string(),
        };
        let mut change = ConfChangeV2::default();
        change.merge_from_bytes(&entry.data).map_err(damaged)?;
        let conf_state = self.raw.apply_conf_change(&change)?;
        self.step_down_if_no_voter();
        self.conf_index = entry.index;
        let storage = self.raw.mut_store();
        storage.set_conf_state(conf_state);
        storage.apply(entry.index, entry.term, None, &mut Changes::ignored())?;
        self.conf = Arc::new(storage.conf());
        self.output.events.push(Event::ConfChanged {
            voters: self.conf.voters.clone(),
            learners: self.conf.learners.clone(),
            index: entry.index,
        });
        Ok(())
    }

    /// raft-rs silently drops a read before the leader has committed in its term. Until then reads wait here.
    fn begin_read_round(&mut self) {
        if self.waiters.wants_round()
            && self.leads_in.is_some()
            && self.raw.raft.commit_to_current_term()
        {
            self.read_rounds += 1;
            // raft-rs drops a context that it has seen: this one is unique in the cluster.
            let context = [
                self.raft_id.get().to_be_bytes(),
                self.read_rounds.to_be_bytes(),
            ]
            .concat();
            self.waiters
                .begin_round(context.clone(), self.options.max_read_batch);
            self.raw.read_index(context);
        }
    }

    fn answer_reads(&mut self) {
        let storage = self.raw.store();
        let applied = storage.applied();
        let state = storage.state_machine();
        while let Some(reads) = self.waiters.take_reads(applied) {
            for read in reads {
                let (found, at) = match read.what {
                    Sight::Ahead(query) => (state.find(&query, applied), applied),
                    Sight::Seen(found, at) => (found, at),
                };
                let outcome = answer(found, state.revisions().at(at));
                self.output.answers.push((read.waiter, outcome));
            }
        }
    }

    fn show_changes(&mut self) {
        let (term, role, leader) = (self.term(), self.role(), self.leader());
        let shown = std::mem::replace(&mut self.shown, (term, role, leader));
        let events = &mut self.output.events;
        if shown.0 != term {
            events.push(Event::TermChanged { term });
        }
        if shown.1 != role {
            events.push(Event::RoleChanged {
                role,
                term,
                last_index: self.raw.raft.raft_log.last_index(),
            });
        }
        if shown.2 != leader {
            events.push(Event::LeaderChanged { leader, term });
        }
    }

    /// Hands out many entries, so that another thread frees them.
    pub(super) fn retire_log(&mut self, cut: CutEntries) {
        if cut.len() > FREED_AT_ONCE {
            self.output.retired.push(Retired::Log(cut));
        }
    }

    /// Compacts the log when it has grown past a bound. A tail stays, so that a follower that is only a
    /// little behind needs no snapshot. The entries that a follower needs behind its snapshot stay too.
    fn compact(&mut self) -> Result<(), NodeError> {
        let options = self.options;
        let storage = self.raw.store();
        if storage.applied_entries() <= options.compact_after_entries
            && storage.applied_bytes() <= options.compact_after_bytes
        {
            return Ok(());
        }
        let keep_bytes = options.compact_after_bytes / 2;
        let excess = storage.excess(options.compact_keep_entries, keep_bytes);
        let tail = excess.unwrap_or(storage.compacted());
        let index = match self.kept_for_followers(tail) {
            Some(kept) => self.excess_before(kept, tail),
            None => tail,
        };
        if index > self.raw.store().compacted() {
            let cut = self.raw.mut_store().compact(index)?;
            self.retire_log(cut);
            self.output.events.push(Event::LogCompacted {
                first_index: index + 1,
            });
        }
        Ok(())
    }
}

/// The outcome for the caller of a read that saw the state at `revision`.
fn answer(found: Found, revision: Revision) -> Outcome {
    match found {
        Found::Value(found) => Ok(Answer::Got {
            found,
            applied_index: revision,
        }),
        Found::Values(found) => Ok(Answer::GotEach {
            found,
            applied_index: revision,
        }),
        Found::Part(part, state) => Ok(Answer::Part {
            part,
            state,
            revision,
        }),
        Found::Sessions(sessions, more) => Ok(Answer::Sessions {
            sessions,
            more,
            revision,
        }),
        Found::Claim(state) => Ok(Answer::Claim { state, revision }),
        Found::Lock(lock) => Ok(Answer::Lock { lock, revision }),
        Found::Locks(page) => Ok(Answer::Locks {
            page: Box::new(page),
            revision,
        }),
        Found::Txn(outcome) if outcome.bytes() > MAX_TXN_ANSWER_BYTES => {
            Err(answer_too_large(MAX_TXN_ANSWER_BYTES))
        }
        Found::Txn(outcome) => Ok(Answer::Txn {
            outcome: Arc::new(outcome),
            revision,
        }),
    }
}

fn full(what: &'static str, limit: usize) -> Refusal {
    Refusal::not_applied(Reason::Overloaded {
        what,
        limit: u64::try_from(limit).unwrap_or(u64::MAX),
    })
}

fn answer_too_large(limit: usize) -> Refusal {
    let what = match limit {
        MAX_SESSION_ANSWER_BYTES => "answers of the session",
        _ => "answer",
    };
    Refusal::not_applied(Reason::TooLarge {
        what,
        limit: u64::try_from(limit).unwrap_or(u64::MAX),
        node_id: None,
    })
}

/// The outcome for the caller of the command at `index`. `client_id` is the session of the command, if it
/// has one.
fn outcome(written: Written, index: LogIndex, client_id: Option<ClientId>) -> Outcome {
    let Written {
        effect,
        revision: applied_index,
    } = written;
    match (effect, client_id) {
        (Effect::Set, _) => Ok(Answer::Set { applied_index }),
        (Effect::Deleted { existed }, _) => Ok(Answer::Deleted {
            existed,
            applied_index,
        }),
        (Effect::Txn(outcome), _) => Ok(Answer::Txn {
            outcome,
            revision: applied_index,
        }),
        (Effect::AnswerTooLarge { limit }, _) => Err(answer_too_large(limit)),
        // No caller waits for a raised level, or for the clock: both are like decisions about members.
        (Effect::MembersDecided | Effect::LevelRaised | Effect::ClockAdvanced, _) => {
            Ok(Answer::MembersDecided {
                applied_index: index,
            })
        }
        (Effect::SessionOpened { ttl }, _) => Ok(Answer::SessionOpened { ttl, applied_index }),
        (Effect::SessionClosed { existed }, _) => Ok(Answer::SessionClosed {
            existed,
            applied_index,
        }),
        (Effect::OwnerExpired(client_id), _) => {
            Err(Refusal::not_applied(Reason::SessionNotLiving { client_id }))
        }
        (Effect::TooManyOwned, _) => Err(Refusal::not_applied(Reason::TooLarge {
            what: OWNED_KEYS,
            limit: u64::try_from(MAX_OWNED_KEYS).unwrap_or(u64::MAX),
            node_id: None,
        })),
        (Effect::Claimed(state), _) => Ok(Answer::Claim {
            state,
            revision: applied_index,
        }),
        (Effect::Occupied(holder), _) => Ok(Answer::Occupied {
            holder,
            revision: applied_index,
        }),
        (Effect::Released, _) => Ok(Answer::Released {
            revision: applied_index,
        }),
        (Effect::SessionDoesNotLive, _) => Err(Refusal::invalid("session", WITHOUT_TTL)),
        (Effect::TooManyClaims, _) => Err(full("claims", MAX_CLAIMS)),
        (Effect::TooManySessions, _) => Err(full("living_sessions", MAX_LIVING_SESSIONS)),
        (Effect::AnswersFull, _) => Err(full("living_session_answers", MAX_LIVING_ANSWER_BYTES)),
        (Effect::SessionExpired, client_id) => {
            // Only a write of a session can expire with it.
            let client_id = client_id.unwrap_or(ClientId(0));
            Err(Refusal::not_applied(Reason::SessionExpired { client_id }))
        }
    }
}
