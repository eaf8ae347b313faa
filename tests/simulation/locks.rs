//! Clients that share locks. Those whose session lives claim locks, wait, write under the locks that they hold, and
//! release them, or forget to. They send everything again, and copies long afterwards, and write under locks that
//! they have lost.
//!
//! They are drawn apart, from random numbers of their own.

mod answers;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use seshat::kv::{
    Acquire, ClaimId, Command, Condition, LockName, Operation, Query, SetLifetime, Stamp, Txn,
    Write,
};
use seshat::node::Answer;
use seshat::types::{ClientId, ClusterId, LogIndex, Revision};

use crate::clients::{Waiter, encode};
use crate::invariants::tokens_ascend::{Highest, Tokens};

/// Locks that the clients share: few, so that they meet.
const LOCKS: u64 = 2;
/// Claims that a session has at most.
const CLAIMS: usize = 3;
/// Commands and tokens of which clients send copies.
const MEMORY: usize = 40;

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Acquire(ClaimId),
    Release(ClaimId),
    /// The state of a claim.
    Claim(ClaimId),
    /// The state of the lock.
    Lock,
}

/// A request about a lock.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) name: LockName,
    pub(crate) about: About,
    /// What had been told when it was made.
    highest: Highest,
}

/// An answer to it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) cluster: ClusterId,
    pub(crate) index: LogIndex,
    pub(crate) asked: Asked,
    pub(crate) answer: Answer,
}

/// The next request of a client.
#[derive(Debug)]
pub(crate) enum Act {
    Command(Asked, Command),
    Read(Asked, Query),
    /// A write that is guarded by a lock. The claim, if its client believes that it holds that.
    Write(LockName, Revision, Option<ClaimId>),
}

/// What the client of a claim knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing.
    Asked,
    Waits,
    Holds(Revision),
    /// The client has released it.
    Released,
}

/// A claim that a client makes.
#[derive(Debug, Clone)]
struct Claim {
    name: LockName,
    max_wait: Option<u64>,
    stage: Stage,
    /// Whether the client has forgotten it.
    forgotten: bool,
}

/// Counts of what they did.
#[derive(Debug, Default, Clone)]
pub(crate) struct Hands {
    /// Claims that have begun to hold a lock, in some log.
    pub(crate) granted: u64,
    /// Claims that clients were told to wait with.
    pub(crate) waited: u64,
    /// Claims that found their lock held, and did not wait.
    pub(crate) occupied: u64,
    /// Guarded writes that have succeeded.
    pub(crate) written: u64,
    /// Guarded writes that have not.
    pub(crate) fenced: u64,
    /// Late copies.
    pub(crate) copies: u64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Locking {
    rng: StdRng,
    claims: BTreeMap<ClaimId, Claim>,
    /// The number of claims that each session has made.
    made: BTreeMap<u64, u64>,
    /// When each claim was first asked for, and how long it waits.
    asked: BTreeMap<ClaimId, (u64, Option<u64>)>,
    /// When each token was given.
    granted: BTreeMap<(ClusterId, LockName, Revision), u64>,
    /// Writes that are guarded by a lock which their client holds.
    guarded: BTreeMap<Waiter, ClaimId>,
    /// What copies are made of.
    sent: VecDeque<(LockName, About, Command)>,
    /// Tokens that clients were told.
    held: VecDeque<(LockName, Revision)>,
    pub(crate) tokens: Tokens,
    pub(crate) told: Vec<Answered>,
    pub(crate) hands: Hands,
}

impl Locking {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed ^ 0x006c_6f63_6b73),
            claims: BTreeMap::new(),
            made: BTreeMap::new(),
            asked: BTreeMap::new(),
            granted: BTreeMap::new(),
            guarded: BTreeMap::new(),
            sent: VecDeque::new(),
            held: VecDeque::new(),
            tokens: Tokens::default(),
            told: Vec::new(),
            hands: Hands::default(),
        }
    }

    /// Milliseconds until the next request.
    pub(crate) fn pause(&mut self, calm: bool) -> u64 {
        match calm {
            true => self.rng.gen_range(30..120),
            false => self.rng.gen_range(60..240),
        }
    }

    /// When the claim was first asked for, and how long it waits.
    pub(crate) fn asked(&self, claim: ClaimId) -> (u64, Option<u64>) {
        self.asked.get(&claim).copied().unwrap_or_default()
    }

    /// When the lock was granted under this token.
    pub(crate) fn granted(&self, cluster: ClusterId, name: &LockName, token: Revision) -> u64 {
        let granted = self.granted.get(&(cluster, name.clone(), token));
        granted.copied().unwrap_or_default()
    }

    /// The next request, when clients believe in these `sessions`. When it is `calm`, they forget nothing.
    pub(crate) fn act(&mut self, sessions: &[u64], calm: bool, now: u64) -> Act {
        self.claims
            .retain(|id, _| sessions.contains(&id.client_id.0));
        let chance = self.rng.gen_range(0..20);
        if chance == 0
            && let Some((name, about, command)) = self.one_of_sent()
        {
            self.hands.copies += 1;
            return Act::Command(self.ask(name, about), command);
        }
        if chance == 1
            && let Some((name, token)) = self.one_of_held()
        {
            return Act::Write(name, token, None);
        }
        let Some(session) = sessions.choose(&mut self.rng).copied() else {
            return self.read_lock();
        };
        let own = self.claims.keys().filter(|id| id.client_id.0 == session);
        let own: Vec<_> = own.copied().collect();
        if own.is_empty() || own.len() < CLAIMS && chance < 7 {
            return self.claim(session, now);
        }
        let any = self.rng.gen_range(0..own.len());
        match calm {
            true => self.finish(own[0]),
            false => self.go_on(own[any]),
        }
    }

    fn one_of_sent(&mut self) -> Option<(LockName, About, Command)> {
        let at = self.rng.gen_range(0..self.sent.len().max(1));
        self.sent.get(at).cloned()
    }

    fn one_of_held(&mut self) -> Option<(LockName, Revision)> {
        let at = self.rng.gen_range(0..self.held.len().max(1));
        self.held.get(at).cloned()
    }

    fn ask(&self, name: LockName, about: About) -> Asked {
        let highest = self.tokens.highest(&name);
        Asked {
            name,
            about,
            highest,
        }
    }

    fn any_lock(&mut self) -> LockName {
        format!("l{}", self.rng.gen_range(0..LOCKS)).into()
    }

    fn read_lock(&mut self) -> Act {
        let name = self.any_lock();
        let query = Query::Lock(name.clone());
        Act::Read(self.ask(name, About::Lock), query)
    }

    /// A new claim of `session`.
    fn claim(&mut self, session: u64, now: u64) -> Act {
        let made = self.made.entry(session).or_default();
        *made += 1;
        let id = ClaimId {
            client_id: ClientId(session),
            sequence: *made,
        };
        let max_wait = match self.rng.gen_range(0..4) {
            0 => Some(0),
            1 => Some(self.rng.gen_range(1..1_500)),
            _ => None,
        };
        let claim = Claim {
            name: self.any_lock(),
            max_wait,
            stage: Stage::Asked,
            forgotten: false,
        };
        self.asked.insert(id, (now, max_wait));
        self.claims.insert(id, claim);
        self.acquire(id)
    }

    /// The client of the claim does something.
    fn go_on(&mut self, id: ClaimId) -> Act {
        let Claim {
            name,
            stage,
            forgotten,
            ..
        } = self.claims[&id].clone();
        match (stage, self.rng.gen_range(0..10)) {
            _ if forgotten => self.read_lock(),
            (Stage::Released, _) | (Stage::Asked, 0 | 1) | (Stage::Waits, 0) => self.release(id),
            (Stage::Asked, _) | (Stage::Waits | Stage::Holds(_), 1) => self.acquire(id),
            (Stage::Waits, _) | (Stage::Holds(_), 0) => self.read_claim(id),
            (Stage::Holds(_), 2..=4) => self.release(id),
            (Stage::Holds(_), 5) => {
                self.change(id, |claim| claim.forgotten = true);
                self.read_lock()
            }
            (Stage::Holds(token), _) => Act::Write(name, token, Some(id)),
        }
    }

    /// The client of the claim ends it rather soon.
    fn finish(&mut self, id: ClaimId) -> Act {
        match self.claims[&id].stage {
            Stage::Asked if self.rng.gen_bool(0.5) => self.acquire(id),
            Stage::Waits if self.rng.gen_bool(0.5) => self.read_claim(id),
            _ => self.release(id),
        }
    }

    fn change(&mut self, id: ClaimId, change: impl FnOnce(&mut Claim)) {
        if let Some(claim) = self.claims.get_mut(&id) {
            change(claim);
        }
    }

    fn read_claim(&mut self, id: ClaimId) -> Act {
        let name = self.claims[&id].name.clone();
        let query = Query::Claim {
            name: name.clone(),
            id,
        };
        Act::Read(self.ask(name, About::Claim(id)), query)
    }

    fn acquire(&mut self, id: ClaimId) -> Act {
        let Claim { name, max_wait, .. } = self.claims[&id].clone();
        let acquire = Acquire {
            name: name.clone(),
            value: encode(id.sequence),
            max_wait,
        };
        let write = Write::Acquire(Box::new(acquire));
        self.send(name, About::Acquire(id), write, id)
    }

    fn release(&mut self, id: ClaimId) -> Act {
        self.change(id, |claim| claim.stage = Stage::Released);
        let name = self.claims[&id].name.clone();
        self.send(name.clone(), About::Release(id), Write::Release(name), id)
    }

    fn send(&mut self, name: LockName, about: About, write: Write, id: ClaimId) -> Act {
        let stamp = Some(Stamp {
            client_id: id.client_id,
            sequence: id.sequence,
            first_outstanding: self.first_outstanding(id),
        });
        let command = Command::Write { write, stamp };
        if self.sent.len() == MEMORY {
            self.sent.pop_front();
        }
        self.sent.push_back((name.clone(), about, command.clone()));
        Act::Command(self.ask(name, about), command)
    }

    /// The lowest number for which the client waits, or any lower one.
    fn first_outstanding(&mut self, id: ClaimId) -> u64 {
        let waits = |claim: &Claim| !matches!(claim.stage, Stage::Waits | Stage::Holds(_));
        let mut claims = self.claims.iter();
        let first = claims.find(|(other, it)| other.client_id == id.client_id && waits(it));
        let first = first.map_or(id.sequence, |(other, _)| other.sequence.min(id.sequence));
        match self.rng.gen_bool(0.5) {
            true => first,
            false => self.rng.gen_range(1..=first),
        }
    }

    /// `waiter` asks for a write that is guarded by the lock of `claim`, which its client holds.
    pub(crate) fn guards(&mut self, waiter: Waiter, claim: Option<ClaimId>) {
        if let Some(claim) = claim {
            self.guarded.insert(waiter, claim);
        }
    }
}

/// A write of `value` that is guarded by the lock `name`.
pub(crate) fn guarded(name: LockName, token: Revision, value: Bytes) -> Txn {
    let key = Bytes::from(format!("g{name}"));
    let set = Operation::Set {
        key: key.clone(),
        value,
        lifetime: SetLifetime::default(),
    };
    Txn {
        conditions: vec![Condition::Held { name, token }],
        success: vec![Operation::Get(key.clone()), set],
        failure: vec![Operation::Get(key)],
    }
}
