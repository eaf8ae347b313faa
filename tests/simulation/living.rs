//! Clients with sessions that live. Each opens one and renews it, binds keys that the session owns and keys with a
//! TTL, and closes it after a while, or neglects it.
//!
//! They are drawn apart, from random numbers of their own.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use seshat::error::Reason;
use seshat::kv::{Lifetime, SetLifetime};
use seshat::node::Answer;
use seshat::types::{ClientId, ClusterId};

use crate::clients::{Waiter, decode};
use crate::invariants::equal_logs::Ending;
use crate::invariants::{
    Verdict, a_believed_session_lives, no_lifetime_is_cut_short, waiters_end_once,
};
use crate::process::RATE_ERROR;
use crate::revisions::Told;

/// Clients with a session that lives.
const CLIENTS: u64 = 3;
/// Keys that get a TTL.
const KEYS: u64 = 4;
/// Milliseconds after which a client opens another session.
const PATIENCE: u64 = 500;
/// Ids of their sessions are higher.
const FIRST: u64 = 1 << 40;

/// A session that its client holds.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    id: u64,
    ttl: u64,
    /// The cluster that has opened it.
    cluster: ClusterId,
    /// When the client sent the last renewal that was answered.
    renewed: u64,
    /// Whether the client renews it no more.
    neglected: bool,
}

/// A request for a session.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Open { client: u64, session: u64, ttl: u64 },
    Renew { client: u64, session: u64 },
    Close,
}

/// The next request of a client.
#[derive(Debug)]
pub(crate) enum Act {
    Ask(Asked, u64),
    Read(Bytes),
    Bind(Bytes, SetLifetime),
}

/// A write that binds a key with a TTL, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed {
    pub(crate) start: u64,
    pub(crate) ttl: u64,
}

/// Counts of what they did.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lives {
    pub(crate) opened: u64,
    pub(crate) renewed: u64,
    /// Sessions that have ended in some log.
    pub(crate) ended: u64,
    /// Sessions that their clients have neglected.
    pub(crate) neglected: u64,
    /// Keys that have ended in some log.
    pub(crate) keys: u64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Living {
    rng: StdRng,
    /// How many milliseconds the clock of a client counts in a second.
    rates: BTreeMap<u64, u64>,
    sessions: BTreeMap<u64, Session>,
    /// When each client has opened a session last.
    opened: BTreeMap<u64, u64>,
    /// When each session was last opened or renewed.
    asked: BTreeMap<u64, u64>,
    /// Writes that bind a key with a TTL, by their values.
    timed: BTreeMap<u64, Timed>,
    pub(crate) lives: Lives,
}

impl Living {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5e55_1045);
        let mut rate = |client| {
            (
                client,
                rng.gen_range(1_000 - RATE_ERROR..=1_000 + RATE_ERROR),
            )
        };
        Self {
            rates: (0..CLIENTS).map(&mut rate).collect(),
            rng,
            sessions: BTreeMap::new(),
            opened: BTreeMap::new(),
            asked: BTreeMap::new(),
            timed: BTreeMap::new(),
            lives: Lives::default(),
        }
    }

    /// When the session was last opened or renewed, whether or not that was answered.
    pub(crate) fn asked(&self, session: u64) -> u64 {
        self.asked.get(&session).copied().unwrap_or_default()
    }

    /// The write that binds a key with a TTL to `value`.
    pub(crate) fn timed(&self, value: u64) -> Option<Timed> {
        self.timed.get(&value).copied()
    }

    /// The sessions that clients hold, and one that never was.
    pub(crate) fn ids(&self) -> Vec<u64> {
        let held = self.sessions.values().map(|session| session.id);
        held.chain([FIRST]).collect()
    }

    /// Whether `client` believes at `now` that its session lives.
    fn believes(&self, client: u64, session: &Session, now: u64) -> bool {
        let elapsed = (now - session.renewed) * self.rates[&client] / 1_000;
        elapsed < session.ttl * 9 / 10
    }

    /// The next request of some client.
    pub(crate) fn act(&mut self, now: u64) -> Act {
        let client = self.rng.gen_range(0..CLIENTS);
        let held = self.sessions.get(&client);
        if held.is_some_and(|it| !self.believes(client, it, now)) {
            self.sessions.remove(&client);
        }
        let key = Bytes::from(format!("t{}", self.rng.gen_range(0..KEYS)));
        let chance = self.rng.gen_range(0..20);
        let Some(session) = self.sessions.get_mut(&client) else {
            return match chance {
                0..=9 if self.opens(client, now) => self.open(client, now),
                10..=12 => Act::Read(key),
                _ => self.set_timed(key),
            };
        };
        let own = Bytes::from(format!("o{client}"));
        let id = session.id;
        match chance {
            0..=9 if !session.neglected => {
                self.asked.insert(id, now);
                let session = id;
                Act::Ask(Asked::Renew { client, session }, id)
            }
            10 if session.neglected => {
                self.sessions.remove(&client);
                Act::Ask(Asked::Close, id)
            }
            11 if self.rng.gen_bool(0.3) => {
                self.lives.neglected += u64::from(!session.neglected);
                session.neglected = true;
                Act::Read(own)
            }
            12 | 13 => Act::Bind(own, SetLifetime::To(Lifetime::Owner(ClientId(id)))),
            14 => Act::Read(own),
            11 | 15 | 16 => Act::Read(key),
            _ => self.set_timed(key),
        }
    }

    /// Whether the client has waited long enough for an answer to the last opening.
    fn opens(&self, client: u64, now: u64) -> bool {
        let last = self.opened.get(&client);
        last.is_none_or(|last| now > last + PATIENCE)
    }

    fn open(&mut self, client: u64, now: u64) -> Act {
        self.opened.insert(client, now);
        let ttl = [2_000, 2_500, 4_000][self.rng.gen_range(0..3)];
        let session = FIRST + 1 + u64::try_from(self.asked.len()).expect("small");
        self.asked.insert(session, now);
        let open = Asked::Open {
            client,
            session,
            ttl,
        };
        Act::Ask(open, session)
    }

    fn set_timed(&mut self, key: Bytes) -> Act {
        let lifetime = match self.rng.gen_range(0..5) {
            0 => SetLifetime::Keep,
            1 => SetLifetime::default(),
            _ => SetLifetime::To(Lifetime::Ttl(self.rng.gen_range(1_000..2_500))),
        };
        Act::Bind(key, lifetime)
    }

    /// `waiter` asks at `now` to bind a key to its own number.
    pub(crate) fn binds(&mut self, waiter: Waiter, lifetime: SetLifetime, now: u64) {
        if let SetLifetime::To(Lifetime::Ttl(ttl)) = lifetime {
            self.timed.insert(waiter, Timed { start: now, ttl });
        }
    }

    /// `waiter`, which asked at `start`, was answered.
    pub(crate) fn told(
        &mut self,
        (waiter, asked, start): (Waiter, Asked, u64),
        told: &Told<'_>,
    ) -> Verdict {
        let &Told {
            ref outcome,
            now,
            cluster,
            ..
        } = told;
        match (asked, outcome) {
            (
                Asked::Open {
                    client,
                    session: id,
                    ttl,
                },
                Ok(Answer::SessionOpened { ttl: said, .. }),
            ) if *said == Some(ttl) => {
                self.lives.opened += 1;
                let session = Session {
                    id,
                    ttl,
                    cluster,
                    renewed: start,
                    neglected: false,
                };
                if self.believes(client, &session, now) {
                    self.sessions.entry(client).or_insert(session);
                }
            }
            (Asked::Renew { client, session }, Ok(Answer::Renewed { .. })) => {
                self.lives.renewed += 1;
                if let Some(held) = self.held(client, session, cluster) {
                    held.renewed = held.renewed.max(start);
                }
            }
            (Asked::Renew { client, session }, Err(refusal))
                if matches!(refusal.reason, Reason::SessionNotLiving { .. }) =>
            {
                if self.held(client, session, cluster).is_some() {
                    self.expired(session, cluster, now)?;
                }
            }
            (Asked::Close, Ok(Answer::SessionClosed { .. })) | (_, Err(_)) => {}
            (_, Ok(_)) => return Err(waiters_end_once::no_answer(waiter, outcome)),
        }
        Ok(())
    }

    /// A client is told in `cluster` that its session does not live.
    pub(crate) fn expired(&mut self, id: u64, cluster: ClusterId, now: u64) -> Verdict {
        let mut held = self.sessions.iter();
        let held = held.find(|(_, it)| it.id == id && it.cluster == cluster);
        let Some((client, session)) = held.map(|(client, it)| (*client, it.clone())) else {
            return Ok(());
        };
        let believes = self.believes(client, &session, now);
        self.sessions.remove(&client);
        a_believed_session_lives::expired(&session, believes)
    }

    /// The sessions in which their clients believe at `now`. The others are lost.
    pub(crate) fn believed(&mut self, now: u64) -> Vec<u64> {
        let mut held = std::mem::take(&mut self.sessions);
        held.retain(|client, session| self.believes(*client, session, now));
        self.sessions = held;
        self.sessions.values().map(|session| session.id).collect()
    }

    /// Whether a client believes at `now` that this session of `cluster` lives.
    pub(crate) fn is_held(&self, id: u64, cluster: ClusterId, now: u64) -> bool {
        self.sessions.iter().any(|(client, it)| {
            it.id == id && it.cluster == cluster && self.believes(*client, it, now)
        })
    }

    /// The session, if `client` holds it. An answer of another cluster ends it.
    fn held(&mut self, client: u64, id: u64, cluster: ClusterId) -> Option<&mut Session> {
        let held = self.sessions.get(&client)?;
        if held.id != id {
            return None;
        }
        if held.cluster != cluster {
            self.sessions.remove(&client);
        }
        self.sessions.get_mut(&client)
    }

    /// This has ended in the log of `cluster`, as some node has applied it at `now`.
    pub(crate) fn ended(&mut self, cluster: ClusterId, ended: &[Ending], now: u64) -> Verdict {
        for ending in ended {
            match ending {
                Ending::Session(id) => self.session_ended(cluster, *id, now)?,
                Ending::Key(value) => {
                    self.lives.keys += 1;
                    let value = decode(value);
                    if let Some(timed) = self.timed(value) {
                        no_lifetime_is_cut_short::check(value, timed, now)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn session_ended(&mut self, cluster: ClusterId, id: u64, now: u64) -> Verdict {
        self.lives.ended += 1;
        let held = self.sessions.iter();
        let mut held = held.filter(|(_, it)| it.id == id && it.cluster == cluster);
        let Some((client, session)) = held.next().map(|(client, it)| (*client, it.clone())) else {
            return Ok(());
        };
        let believes = self.believes(client, &session, now);
        self.sessions.remove(&client);
        a_believed_session_lives::ended(&session, believes)
    }
}
