//! The notation of the traces.
//!
//! Messages carry the names of the Raft paper. Processes and clusters get short names: `n2` is the
//! first incarnation of node 2, `n2'` its second, and clusters are `A`, `B`, … in the order in which they
//! were first heard of.

use std::collections::BTreeSet;
use std::fmt::Display;

use bytes::Bytes;
use seshat::error::Refusal;
use seshat::kv::{
    Cause, ClaimId, ClaimState, Command, Condition, Effect, Entry, Holder, KeyTest, Lifetime,
    Limit, Operation, OperationResult, Session, SetLifetime, StateMachine, Txn, Write,
};
use seshat::node::{Answer, Call, Event, Outcome, OutgoingSnapshot, PeerMessage, Recovery, Reply};
use seshat::proto::raft as proto;
use seshat::types::{
    ClientId, ClusterId, EntryPayload, NodeState, NodeStatus, Offer, RaftId, Rank, Revision,
    VersionedLogEntry, WallTime,
};
use seshat::watch::WatchMessage;
use seshat::wire;

/// The names that were given so far.
#[derive(Default)]
pub(crate) struct Names {
    clusters: Vec<ClusterId>,
    processes: BTreeSet<RaftId>,
}

/// `n2`, and a prime for every further incarnation. The runner numbers incarnations from 1.
pub(crate) fn process(id: RaftId) -> String {
    let primes = (1..id.incarnation()).map(|_| '\'');
    format!("n{}{}", id.node_id(), primes.collect::<String>())
}

fn raw_process(id: u64) -> String {
    RaftId::try_from(id).map_or_else(|_| format!("{id:#x}"), process)
}

pub(crate) fn processes(ids: impl IntoIterator<Item = RaftId>) -> String {
    let names: Vec<_> = ids.into_iter().map(process).collect();
    format!("{{{}}}", names.join(" "))
}

fn bytes(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `if k=1 then set k=2, get k else del k`.
pub(crate) fn txn(txn: &Txn) -> String {
    let conditions = txn.conditions.iter().map(|condition| {
        let (key, test) = match condition {
            Condition::Key { key, test } => (bytes(key), test),
            Condition::Held { name, token } => return format!("{name} held@{}", revision(*token)),
        };
        match test {
            KeyTest::Exists(true) => format!("{key} exists"),
            KeyTest::Exists(false) => format!("no {key}"),
            KeyTest::Revision(at) => format!("{key}@{}", revision(*at)),
            KeyTest::Value(value) => format!("{key}={}", bytes(value)),
        }
    });
    let conditions: Vec<_> = conditions.collect();
    let branch = |operations: &[Operation]| {
        let operations = operations.iter().map(|operation| match operation {
            Operation::Set {
                key,
                value,
                lifetime,
            } => {
                let lifetime = match lifetime {
                    SetLifetime::To(to) => self::lifetime(*to),
                    SetLifetime::Keep => " kept".to_owned(),
                };
                format!("set {}={}{lifetime}", bytes(key), bytes(value))
            }
            Operation::Get(key) => format!("get {}", bytes(key)),
            Operation::Delete(key) => format!("del {}", bytes(key)),
        });
        operations.collect::<Vec<_>>().join(", ")
    };
    let mut text = branch(&txn.success);
    if !conditions.is_empty() {
        text = format!("if {} then {text}", conditions.join(" and "));
    }
    if !txn.failure.is_empty() {
        text += &format!(" else {}", branch(&txn.failure));
    }
    text
}

/// ` for 5000 ms` or ` of 7`.
pub(crate) fn lifetime(lifetime: Lifetime) -> String {
    match lifetime {
        Lifetime::Unlimited => String::new(),
        Lifetime::Ttl(ttl) => format!(" for {ttl} ms"),
        Lifetime::Owner(owner) => format!(" of {}", owner.0),
    }
}

/// `clock 750, keys [a until 2500, b of 7], living [7 until 11500]`.
pub(crate) fn lifetimes(state: &StateMachine) -> String {
    let keys = state.lifetimes().iter().map(|(key, limit)| {
        let key = bytes(key);
        match limit {
            Limit::Ttl { deadline, .. } => format!("{key} until {deadline}"),
            Limit::Owner(owner) => format!("{key} of {}", owner.0),
        }
    });
    let keys: Vec<_> = keys.collect();
    let living = state.sessions().living().iter();
    let living = living.map(|(id, session)| format!("{} until {}", id.0, session.deadline));
    let living: Vec<_> = living.collect();
    format!(
        "clock {}, keys [{}], living [{}]",
        state.clock().now(),
        keys.join(", "),
        living.join(", ")
    )
}

/// `locks [a: 7#1 since 5 under 5, 8#1 since 6 until 3500]`: the claims in their order; a holder has a token,
/// and a claim that waits may have a deadline.
pub(crate) fn locks(state: &StateMachine) -> String {
    let claims = state.locks().all().map(|(name, began, claim, token)| {
        let ClaimId {
            client_id,
            sequence,
        } = claim.id;
        let ends = match (token, claim.deadline) {
            (Some(token), _) => format!(" under {}", revision(token)),
            (None, Some(deadline)) => format!(" until {deadline}"),
            (None, None) => String::new(),
        };
        let began = revision(began);
        format!("{name}: {}#{sequence} since {began}{ends}", client_id.0)
    });
    format!("locks {}", list(claims))
}

fn claim_state(state: ClaimState) -> String {
    match state {
        ClaimState::Held(token) => format!("held under {}", revision(token)),
        ClaimState::Waiting(ahead) => format!("{ahead} ahead"),
        ClaimState::Gone => "gone".to_owned(),
    }
}

fn holder(holder: &Holder) -> String {
    let Holder {
        claim: ClaimId {
            client_id,
            sequence,
        },
        token,
        ..
    } = holder;
    format!("{}#{sequence} under {}", client_id.0, revision(*token))
}

pub(crate) fn command(command: &Command) -> String {
    match command {
        Command::Write { write, stamp } => {
            let write = match write {
                Write::Set { key, value } => format!("set {}={}", bytes(key), bytes(value)),
                Write::Delete { key } => format!("del {}", bytes(key)),
                Write::Txn(it) => txn(it),
                Write::Acquire(acquire) => {
                    let wait = acquire.max_wait;
                    let wait = wait.map_or_else(String::new, |wait| format!(" for {wait} ms"));
                    format!("acquire {}{wait}", acquire.name)
                }
                Write::Release(name) => format!("release {name}"),
            };
            match stamp {
                Some(stamp) => format!("{write} ({}#{})", stamp.client_id.0, stamp.sequence),
                None => write,
            }
        }
        Command::OpenSession(client_id) => format!("open session {}", client_id.0),
        Command::OpenLivingSession { client_id, ttl } => {
            format!("open session {} for {ttl} ms", client_id.0)
        }
        Command::CloseSession(client_id) => format!("close session {}", client_id.0),
        Command::Clock { step, renewed } => {
            let renewed: Vec<_> = renewed.iter().map(|id| format!(" {}", id.0)).collect();
            let renews = if renewed.is_empty() { "" } else { ", renew" };
            format!("clock +{step}{renews}{}", renewed.concat())
        }
        Command::AddMember(info) => format!("add member {}", info.id),
        Command::RemoveMember(id) => format!("remove member {id}"),
        Command::RaiseLevel { level, .. } => format!("raise level to {level}"),
    }
}

/// `7: from 2, 2→ok@5 3→removed@6`: the lowest number that is not forgotten, and the answers.
pub(crate) fn session((client_id, session): (ClientId, &Session)) -> String {
    let Session {
        last_used: _,
        first_outstanding,
        answers,
    } = session;
    let answers = answers.iter().map(|(sequence, written)| {
        let what = match &written.effect {
            Effect::Deleted { existed: true } => "removed",
            Effect::Deleted { existed: false } => "was not there",
            Effect::Txn(outcome) if outcome.succeeded => "succeeded",
            Effect::Txn(_) => "failed",
            Effect::AnswerTooLarge { .. } => "too large",
            Effect::Claimed(_) => "claimed",
            Effect::Occupied(_) => "occupied",
            Effect::Released => "released",
            _ => "ok",
        };
        format!(" {sequence}→{what}@{}", revision(written.revision))
    });
    let answers: String = answers.collect();
    format!("{}: from {first_outstanding},{answers}", client_id.0)
}

fn encoded_command(data: Bytes) -> String {
    wire::decode_command(data).map_or_else(|error| error.to_string(), |it| command(&it))
}

pub(crate) fn log_entry(entry: VersionedLogEntry) -> String {
    let payload = match entry.payload {
        EntryPayload::Empty => "nothing".to_owned(),
        EntryPayload::Command(data) => encoded_command(data),
        EntryPayload::ConfChange(_) => "conf change".to_owned(),
    };
    format!("{}@{} {payload}", entry.index, entry.term)
}

fn wire_entry(entry: &proto::Entry) -> String {
    let payload = match &entry.payload {
        None => "nothing".to_owned(),
        Some(proto::entry::Payload::Command(data)) => encoded_command(data.clone()),
        Some(_) => "conf change".to_owned(),
    };
    format!("{}@{} {payload}", entry.index, entry.term)
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// The name of a message and its content, without sender and receiver.
pub(crate) fn message(message: &PeerMessage) -> String {
    let name = message.name();
    let text = match message {
        PeerMessage::RequestVote(m) => {
            let transfer = m.campaign() == proto::CampaignKind::Transfer;
            let kind = match (m.pre_vote, transfer) {
                (true, _) => " pre-vote",
                (false, true) => " transfer",
                (false, false) => "",
            };
            format!(
                "{kind} term={} last={}@{}",
                m.term, m.last_log_index, m.last_log_term
            )
        }
        PeerMessage::RequestVoteReply(m) => {
            let kind = if m.pre_vote { " pre-vote" } else { "" };
            let vote = if m.vote_granted { "granted" } else { "refused" };
            format!("{kind} term={} {vote}", m.term)
        }
        PeerMessage::AppendEntries(m) => format!(
            " term={} prev={}@{} entries={} commit={}",
            m.term,
            m.prev_log_index,
            m.prev_log_term,
            list(m.entries.iter().map(wire_entry)),
            m.leader_commit
        ),
        PeerMessage::AppendEntriesReply(m) if m.success => {
            format!(
                " term={} match={} commit={}",
                m.term, m.index, m.commit_index
            )
        }
        PeerMessage::AppendEntriesReply(m) => format!(
            " term={} refused={} hint={}@{} commit={}",
            m.term, m.index, m.reject_hint_index, m.reject_hint_term, m.commit_index
        ),
        PeerMessage::Heartbeat(m) => {
            let round = round(&m.read_context);
            format!(" term={} commit={}{round}", m.term, m.leader_commit)
        }
        PeerMessage::HeartbeatReply(m) => {
            let round = round(&m.read_context);
            format!(" term={} commit={}{round}", m.term, m.commit_index)
        }
        PeerMessage::InstallSnapshot(m) => snapshot_header(m),
        PeerMessage::TimeoutNow(m) => format!(" term={}", m.term),
    };
    format!("{name}{text}")
}

/// The term, position and members of a snapshot.
fn snapshot_header(m: &proto::InstallSnapshotRequest) -> String {
    let members = m.conf_state.as_ref().map_or_else(String::new, |conf| {
        let names: Vec<_> = conf.voters.iter().map(|&id| raw_process(id)).collect();
        names.join(" ")
    });
    format!(
        " term={} last={}@{} members={{{members}}}",
        m.term, m.last_included_index, m.last_included_term
    )
}

/// The header of a snapshot and its pairs.
pub(crate) fn snapshot(snapshot: &OutgoingSnapshot) -> String {
    let OutgoingSnapshot {
        header,
        state_machine,
    } = snapshot;
    let pairs = state_machine.sorted_pairs().into_iter();
    let data = list(pairs.map(|(key, value)| format!("{}={}", bytes(&key), bytes(&value))));
    format!(
        "InstallSnapshot{} data={data}",
        snapshot_header(header.request())
    )
}

/// A batch of reads is named by the process that reads and a counter.
fn round(context: &[u8]) -> String {
    let counter = context.split_at_checked(8).map(|(_, counter)| counter);
    let counter = counter.and_then(|counter| <[u8; 8]>::try_from(counter).ok());
    match counter {
        None if context.is_empty() => String::new(),
        None => format!(" round={context:02x?}"),
        Some(counter) => format!(" round={}", u64::from_be_bytes(counter)),
    }
}

/// A revision, counted from the time at which the clocks of all nodes stand still.
fn revision(revision: Revision) -> Revision {
    revision
        .checked_sub(WallTime::FIRST.micros())
        .unwrap_or(revision)
}

fn result(result: &OperationResult) -> String {
    match result {
        OperationResult::Set => "ok".to_owned(),
        OperationResult::Got(None) => "nothing".to_owned(),
        OperationResult::Got(Some(entry)) => {
            let lifetime = lifetime(entry.lifetime);
            let revision = revision(entry.revision);
            format!("{}@{revision}{lifetime}", bytes(&entry.value))
        }
        OperationResult::Deleted { existed: true } => "removed".to_owned(),
        OperationResult::Deleted { existed: false } => "was not there".to_owned(),
    }
}

pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Ok(Answer::Set { applied_index }) => format!("ok, index {}", revision(*applied_index)),
        Ok(Answer::Deleted {
            existed,
            applied_index,
        }) => {
            let what = if *existed { "removed" } else { "was not there" };
            format!("{what}, index {}", revision(*applied_index))
        }
        Ok(Answer::SessionOpened { ttl, applied_index }) => {
            let ttl = ttl.map_or_else(String::new, |ttl| format!(" for {ttl} ms"));
            format!("session open{ttl}, index {}", revision(*applied_index))
        }
        Ok(Answer::SessionClosed {
            existed,
            applied_index,
        }) => {
            let what = if *existed { "closed" } else { "was not open" };
            format!("session {what}, index {}", revision(*applied_index))
        }
        Ok(Answer::Renewed { ttl, revision: at }) => {
            format!("renewed for {ttl} ms, index {}", revision(*at))
        }
        Ok(Answer::Sessions {
            sessions,
            more,
            revision: at,
        }) => {
            let sessions = sessions.iter().map(|it| {
                let (id, owned) = (it.client_id.0, it.owned_keys);
                format!("{id}: {} of {} ms, {owned} keys", it.remaining, it.ttl)
            });
            let sessions: Vec<_> = sessions.collect();
            let more = if *more { ", …" } else { "" };
            format!(
                "[{}{more}], as of index {}",
                sessions.join("; "),
                revision(*at)
            )
        }
        Ok(Answer::Claim {
            state,
            revision: at,
        }) => format!("{}, index {}", claim_state(*state), revision(*at)),
        Ok(Answer::Occupied {
            holder: by,
            revision: at,
        }) => format!("occupied by {}, index {}", holder(by), revision(*at)),
        Ok(Answer::Released { revision: at }) => format!("released, index {}", revision(*at)),
        Ok(Answer::Lock { lock, revision: at }) => {
            let by = lock.holder.as_ref();
            let by = by.map_or_else(|| "free".to_owned(), |by| format!("held by {}", holder(by)));
            format!("{by}, {} wait, as of index {}", lock.waiting, revision(*at))
        }
        Ok(Answer::Locks { page, revision: at }) => {
            let names = page.locks.iter().map(|(name, _)| name.to_string());
            format!("{}, as of index {}", list(names), revision(*at))
        }
        Ok(Answer::MembersDecided { applied_index }) => {
            format!("members decided, index {applied_index}")
        }
        Ok(Answer::Got {
            found,
            applied_index,
        }) => {
            let value = found.as_ref().map(|(pair, _)| bytes(pair.value()));
            let value = value.unwrap_or_else(|| "nothing".to_owned());
            format!("{value}, as of index {}", revision(*applied_index))
        }
        Ok(Answer::GotEach {
            found,
            applied_index,
        }) => {
            let values = found.iter().map(|found| match found {
                Some((pair, _)) => bytes(pair.value()),
                None => "nothing".to_owned(),
            });
            format!("{}, as of index {}", list(values), revision(*applied_index))
        }
        Ok(Answer::Part {
            part, revision: at, ..
        }) => {
            let entries = part.0.entries.iter();
            let entries: Vec<_> = entries
                .map(|entry| {
                    let (key, value) = (bytes(&entry.key), bytes(&entry.value));
                    format!("{key}={value}@{}", revision(entry.revision))
                })
                .collect();
            format!("[{}], as of revision {}", entries.join(", "), revision(*at))
        }
        Ok(Answer::Txn {
            outcome,
            revision: at,
        }) => {
            let verdict = if outcome.succeeded {
                "succeeded"
            } else {
                "failed"
            };
            let results: Vec<_> = outcome.results.iter().map(result).collect();
            format!(
                "{verdict} [{}], revision {}",
                results.join(", "),
                revision(*at)
            )
        }
        Err(refusal) => format!("refused: {refusal}"),
    }
}

impl Names {
    /// Learns of a process.
    pub(crate) fn learn(&mut self, id: RaftId) {
        self.processes.insert(id);
    }

    pub(crate) fn cluster(&mut self, id: ClusterId) -> String {
        let known = self.clusters.iter().position(|&known| known == id);
        let position = known.unwrap_or_else(|| {
            self.clusters.push(id);
            self.clusters.len() - 1
        });
        ('A'..='Z')
            .nth(position)
            .map_or_else(|| id.to_string(), String::from)
    }

    /// A text of the library with short names for the ids in it.
    pub(crate) fn tidy(&mut self, text: &impl Display) -> String {
        let mut text = text.to_string();
        for &id in &self.processes {
            text = text.replace(&id.to_string(), &process(id));
        }
        for id in self.clusters.clone() {
            text = text.replace(&id.to_string(), &self.cluster(id));
        }
        text
    }

    /// `reset; a=1@3; synced A@4; 5: set a=2, deleted b; at 6`.
    pub(crate) fn bundle(
        &mut self,
        bundle: &std::result::Result<Vec<WatchMessage>, Refusal>,
    ) -> String {
        match bundle {
            Ok(messages) => {
                let messages: Vec<_> = messages.iter().map(|it| self.watch_message(it)).collect();
                messages.join("; ")
            }
            Err(refusal) => format!("ended: {refusal}"),
        }
    }

    fn watch_message(&mut self, message: &WatchMessage) -> String {
        match message {
            WatchMessage::Reset => "reset".to_owned(),
            WatchMessage::State { entries, deleted } => {
                let entries = entries.iter().map(|entry| {
                    let Entry { key, value, .. } = entry;
                    let (at, lifetime) = (revision(entry.revision), lifetime(entry.lifetime));
                    format!("{}={}@{at}{lifetime}", bytes(key), bytes(value))
                });
                let deleted = deleted.iter().map(|key| format!("no {}", bytes(key)));
                entries.chain(deleted).collect::<Vec<_>>().join(", ")
            }
            WatchMessage::Synced {
                cluster_id,
                revision: at,
            } => format!("synced {}@{}", self.cluster(*cluster_id), revision(*at)),
            WatchMessage::Events {
                revision: at,
                events,
                more,
            } => {
                let events = events.iter().map(|event| {
                    let (key, value) = (bytes(&event.entry.key), bytes(&event.entry.value));
                    match event.cause {
                        Cause::Set => {
                            format!("set {key}={value}{}", lifetime(event.entry.lifetime))
                        }
                        Cause::Deleted => format!("deleted {key}"),
                        Cause::Expired => format!("expired {key}"),
                        Cause::SessionEnded => format!("with its session ended {key}"),
                    }
                });
                let events = events.collect::<Vec<_>>().join(", ");
                let more = if *more { ", more" } else { "" };
                format!("{}: {events}{more}", revision(*at))
            }
            WatchMessage::Progress { revision: at } => format!("at {}", revision(*at)),
        }
    }

    fn offer(&mut self, offer: &Offer) -> String {
        let members = processes(offer.members.iter().copied());
        format!("{} {members}", self.cluster(offer.cluster_id))
    }

    pub(crate) fn call(&mut self, call: &Call) -> String {
        match call {
            Call::Identify(_) => "Identify".to_owned(),
            Call::Offer(offer) => format!("Offer {}", self.offer(offer)),
            Call::Start(offer) => format!("Start {}", self.offer(offer)),
            Call::Yield { claim, to } => format!(
                "Yield {} to attempt {} of {}, which has {}",
                process(*to),
                claim.attempt,
                process(claim.rank.raft_id),
                claim.rank
            ),
        }
    }

    pub(crate) fn reply(&mut self, reply: &Reply) -> String {
        match reply {
            Reply::Identified(status) => format!("I am {}", self.state(status)),
            Reply::Offered {
                cluster_id,
                accepted,
            } => {
                let verdict = if *accepted { "accepted" } else { "refused" };
                format!("offer {} {verdict}", self.cluster(*cluster_id))
            }
            Reply::Started => "heard".to_owned(),
            Reply::Yielded { attempt, answer } => match answer {
                Ok(()) => format!("yields to attempt {attempt}"),
                Err(reason) => format!("does not yield to attempt {attempt}: {reason}"),
            },
            Reply::Failed => "failed".to_owned(),
            Reply::Misdirected(answering) => format!("its address {answering}"),
        }
    }

    /// The description of a recovery for an operator.
    pub(crate) fn recovery(&mut self, recovery: &Recovery) -> String {
        let Recovery {
            old,
            new,
            term,
            kept,
            keys,
            ref others,
            ref without,
            time: _,
            revisions: _,
        } = *recovery;
        let Rank {
            last_index,
            commit_index,
            ..
        } = kept;
        let verb = match new {
            Some(new) => format!("makes cluster {}", self.cluster(new)),
            None => "could make a cluster".to_owned(),
        };
        let old = self.cluster(old);
        let mut text = format!(
            "{verb} of cluster {old}: term={term} commit={commit_index} last={last_index} keys={keys}"
        );
        for other in others {
            text += &format!(", {} has {other}", process(other.raft_id));
        }
        for node in without {
            text += &format!(", without n{node}");
        }
        text
    }

    /// The identity and the state of a process.
    pub(crate) fn state(&mut self, status: &NodeStatus) -> String {
        let cluster = status
            .cluster_id
            .map(|id| self.cluster(id))
            .unwrap_or_default();
        let state = match status.state {
            NodeState::Fresh => "fresh".to_owned(),
            NodeState::Prepared => format!("bound to {cluster}"),
            NodeState::Started => format!("started in {cluster}"),
            NodeState::Outside => format!("outside {cluster}"),
        };
        format!("{}, {state}", process(status.raft_id))
    }

    pub(crate) fn event(&mut self, event: &Event) -> String {
        match event {
            Event::TracedApplied { context, index, .. } => {
                format!("applied {index}, traced as {}", bytes(context))
            }
            Event::Prepared { cluster_id } => format!("bound to {}", self.cluster(*cluster_id)),
            Event::Started { cluster_id } => format!("started in {}", self.cluster(*cluster_id)),
            Event::Yielded { to } => format!("leaves the recovery to {}", process(*to)),
            Event::ClaimVoid { from } => {
                format!("takes part again, as {} recovers nothing", process(*from))
            }
            Event::Outside {
                cluster_id,
                is_member,
            } => {
                let cluster = self.cluster(*cluster_id);
                let who = if *is_member { "" } else { ", no member" };
                format!("outside {cluster}{who}")
            }
            Event::Removed { cluster_id } => {
                format!("was removed from {}, and ends", self.cluster(*cluster_id))
            }
            Event::Recovered {
                old,
                new,
                commit_index,
                last_index,
            } => {
                let old = self.cluster(*old);
                let new = self.cluster(*new);
                format!("recovered {old} as {new} up to {last_index}, committed {commit_index}")
            }
            Event::Doubled {
                processes: [one, other],
                ..
            } => format!("{} and {} are one node", process(*one), process(*other)),
            Event::TooOld {
                process: id,
                level,
                needed,
            } => format!(
                "does not let {} in, which speaks {level}: {needed} is spoken here",
                process(*id)
            ),
            Event::TakesLess {
                process: id,
                limit,
                there,
                ..
            } => format!("{limit} of {} is {there} only", process(*id)),
            Event::LevelRaised { level, index, .. } => {
                format!("the cluster speaks {level} from index {index}")
            }
            Event::Unreadable {
                from,
                index,
                reason,
            } => format!("cannot read {index} of {}: {reason}", process(*from)),
            Event::ClocksDiffer { nodes } => format!("clocks differ: {nodes:?}"),
            Event::TermChanged { term } => format!("term {term}"),
            Event::RoleChanged {
                role, last_index, ..
            } => format!("{role}, log ends at {last_index}"),
            Event::GaveUp { commit_index, .. } => {
                format!("gives up leadership, committed {commit_index}")
            }
            Event::LeaderChanged {
                leader: Some(leader),
                ..
            } => format!("leader {}", process(*leader)),
            Event::LeaderChanged { leader: None, .. } => "no leader".to_owned(),
            Event::ConfChanged {
                voters,
                learners,
                index,
            } => format!(
                "voters {} learners {} from index {index}",
                processes(voters.iter().copied()),
                processes(learners.iter().copied())
            ),
            Event::SnapshotSent { to, index, .. } => {
                format!("sends {} a snapshot up to index {index}", process(*to))
            }
            Event::SnapshotInstalled { index, term, keys } => {
                format!("installed a snapshot up to {index}@{term} with {keys} keys")
            }
            Event::LogCompacted { first_index } => {
                format!("compacted its log, which now begins at {first_index}")
            }
        }
    }
}
