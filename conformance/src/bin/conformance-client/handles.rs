//! What the runner has a name for: clients, sessions, watches, locks and observations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seshat::client::{Client, Holders, LivingSession, Lock, LockAttempt, Lost, Session, Updates};
use seshat_conformance::protocol::caller::Caller as Of;
use seshat_conformance::protocol::response::Outcome;
use seshat_conformance::protocol::watch::Range;
use seshat_conformance::protocol::{
    self, Acquired, Caller, Done, Failure, NotAcquired, SessionOpened,
};
use tokio::sync::watch;

use crate::Answer;
use crate::convert::{duration, failure, invalid};

/// All that is open.
#[derive(Debug, Default)]
pub(crate) struct Handles(Mutex<BTreeMap<String, Handle>>);

#[derive(Debug)]
struct Handle {
    /// The client that it belongs to.
    client: String,
    thing: Thing,
    /// Ends what is under way with it.
    closed: watch::Sender<bool>,
}

#[derive(Debug, Clone)]
enum Thing {
    Client(Client),
    Session(Session),
    Living(LivingSession),
    Lock(Arc<Mutex<Option<Lock>>>, LivingSession),
    Watch(Arc<tokio::sync::Mutex<Updates>>),
    Observation(Arc<tokio::sync::Mutex<Holders>>),
}

/// Where a call is made.
#[derive(Debug)]
pub(crate) enum At {
    /// With a client.
    Client(Client),
    /// In a session.
    Session(Session),
}

/// A stream of news.
pub(crate) enum Stream {
    /// Of a watch.
    Watch(Arc<tokio::sync::Mutex<Updates>>),
    /// Of an observation.
    Observation(Arc<tokio::sync::Mutex<Holders>>),
}

fn done() -> Answer {
    Ok(Outcome::Done(Done {}))
}

impl Handles {
    fn lock_all(&self) -> MutexGuard<'_, BTreeMap<String, Handle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<(Thing, String, watch::Receiver<bool>), Failure> {
        let handles = self.lock_all();
        let handle = handles
            .get(name)
            .ok_or_else(|| invalid(format!("nothing is named {name:?}")))?;
        Ok((
            handle.thing.clone(),
            handle.client.clone(),
            handle.closed.subscribe(),
        ))
    }

    fn add(&self, name: String, client: String, thing: Thing) -> Result<(), Failure> {
        let handle = Handle {
            client,
            thing,
            closed: watch::Sender::new(false),
        };
        match self.lock_all().insert(name, handle) {
            None => Ok(()),
            Some(_) => Err(invalid("the name is taken")),
        }
    }

    /// Carries out `call` until the client of `name` is closed.
    async fn while_open<T>(
        &self,
        name: &str,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let (_, client, _) = self.find(name)?;
        let (_, _, mut closed) = self.find(&client)?;
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => Err(crate::cancellation()),
            outcome = call => outcome,
        }
    }

    /// The client of a name, and the name of the client.
    fn client(&self, name: &str) -> Result<Client, Failure> {
        match self.find(name)?.0 {
            Thing::Client(client) => Ok(client),
            _ => Err(invalid(format!("{name:?} is no client"))),
        }
    }

    /// Makes a client.
    pub(crate) fn connect(&self, connect: protocol::Connect) -> Answer {
        let mut builder = Client::builder().endpoints(connect.endpoints);
        if let Some(timeout) = connect.timeout {
            builder = builder.timeout(duration(timeout)?);
        }
        if let Some(cluster) = connect.only_cluster {
            builder = builder.only_cluster(cluster);
        }
        let client = builder.build().map_err(|error| failure(&error))?;
        self.add(
            connect.client.clone(),
            connect.client,
            Thing::Client(client),
        )?;
        done()
    }

    /// Closes what `name` names. A session and a lock keep their names: a request that came before, and waits
    /// until they are lost, may be carried out only now.
    pub(crate) async fn close(&self, name: &str) -> Answer {
        let (thing, ..) = self.find(name)?;
        if !matches!(thing, Thing::Living(_) | Thing::Lock(..))
            && let Some(handle) = self.lock_all().remove(name)
        {
            handle.closed.send_replace(true);
        }
        match thing {
            Thing::Living(session) => session.close().await.map_err(|error| failure(&error))?,
            Thing::Lock(lock, _) => {
                let lock = lock.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(lock) = lock {
                    lock.release().await.map_err(|error| failure(&error))?;
                }
            }
            Thing::Client(_) => self.lock_all().retain(|_, it| it.client != name),
            Thing::Session(_) | Thing::Watch(_) | Thing::Observation(_) => {}
        }
        done()
    }

    /// Drops all.
    pub(crate) fn close_all(&self) {
        self.lock_all().clear();
    }

    /// Where a call is made, with its timeout, until the client is closed.
    pub(crate) async fn call<T>(
        &self,
        caller: Option<Caller>,
        call: impl AsyncFnOnce(At) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let caller = caller.ok_or_else(|| invalid("a call without a caller"))?;
        let timeout = caller.timeout.map(duration).transpose()?;
        let (name, at) = match caller.caller {
            Some(Of::Client(name)) => {
                let client = self.client(&name)?;
                (
                    name,
                    At::Client(with(client, timeout, Client::with_timeout)),
                )
            }
            Some(Of::Session(name)) => {
                let session = self.session(&name)?;
                (
                    name,
                    At::Session(with(session, timeout, Session::with_timeout)),
                )
            }
            None => return Err(invalid("a caller is a client or a session")),
        };
        self.while_open(&name, call(at)).await
    }

    /// The session of a name, living or not.
    fn session(&self, name: &str) -> Result<Session, Failure> {
        match self.find(name)?.0 {
            Thing::Session(session) => Ok(session),
            Thing::Living(session) => Ok(Session::clone(&session)),
            _ => Err(invalid(format!("{name:?} is no session"))),
        }
    }

    /// The id of a session.
    pub(crate) fn session_id(&self, name: &str) -> Result<u64, Failure> {
        self.session(name).map(|session| session.id())
    }

    /// The name and the token of a lock.
    pub(crate) fn token(&self, name: &str) -> Result<(String, u64), Failure> {
        let Thing::Lock(lock, _) = self.find(name)?.0 else {
            return Err(invalid(format!("{name:?} is no lock")));
        };
        let lock = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let token = lock
            .as_ref()
            .map(|lock| (lock.name().to_owned(), lock.token()));
        token.ok_or_else(|| invalid("the lock is released"))
    }

    /// Opens a session.
    pub(crate) async fn open_session(&self, open: protocol::OpenSession) -> Answer {
        let client = self.client(&open.client)?;
        let ttl = open.ttl.map(duration).transpose()?;
        let opening = async {
            match ttl {
                None => client.session().await.map(Thing::Session),
                Some(ttl) => client.session().ttl(ttl).await.map(Thing::Living),
            }
            .map_err(|error| failure(&error))
        };
        let session = self.while_open(&open.client, opening).await?;
        self.add(open.session.clone(), open.client, session)?;
        let id = self.session_id(&open.session)?;
        Ok(Outcome::SessionOpened(SessionOpened { id }))
    }

    /// Acquires a lock.
    pub(crate) async fn lock(&self, asked: protocol::Lock) -> Answer {
        let caller = asked
            .caller
            .and_then(|it| it.caller)
            .ok_or_else(|| invalid("no caller"))?;
        let (name, mut acquire) = match caller {
            Of::Client(name) => {
                let client = self.client(&name)?;
                (name, client.lock(asked.name))
            }
            Of::Session(name) => match self.find(&name)?.0 {
                Thing::Living(session) => (name, session.lock(asked.name)),
                _ => return Err(invalid("the session has no TTL")),
            },
        };
        acquire = acquire.value(asked.value);
        if let Some(ttl) = asked.ttl {
            acquire = acquire.ttl(duration(ttl)?);
        }
        let max_wait = asked.max_wait.map(duration).transpose()?;
        let acquiring = async {
            match max_wait {
                None => acquire.await.map(Some),
                Some(max_wait) => acquire.max_wait(max_wait).await.map(LockAttempt::acquired),
            }
            .map_err(|error| failure(&error))
        };
        let Some(lock) = self.while_open(&name, acquiring).await? else {
            return Ok(Outcome::NotAcquired(NotAcquired {}));
        };
        let (token, session) = (lock.token(), lock.session().clone());
        let (_, client, _) = self.find(&name)?;
        self.add(
            asked.lock,
            client,
            Thing::Lock(Arc::new(Mutex::new(Some(lock))), session),
        )?;
        Ok(Outcome::Acquired(Acquired { token }))
    }

    /// Waits until a session or a lock is lost.
    pub(crate) async fn lost(&self, name: &str) -> Answer {
        let lost =
            async |session: LivingSession| -> Result<Lost, Failure> { Ok(session.lost().await) };
        match self.find(name)?.0 {
            Thing::Living(session) | Thing::Lock(_, session) => {
                self.while_open(name, lost(session)).await?;
            }
            _ => return Err(invalid(format!("{name:?} cannot be lost"))),
        }
        done()
    }

    /// Begins a watch.
    pub(crate) fn watch(&self, watch: protocol::Watch) -> Answer {
        let client = self.client(&watch.client)?;
        let updates = match watch.range {
            Some(Range::Key(key)) => client.watch_key(key).stream(),
            Some(Range::Prefix(prefix)) => client.watch(prefix).stream(),
            None => return Err(invalid("a watch without a range")),
        };
        self.add(
            watch.watch,
            watch.client,
            Thing::Watch(Arc::new(updates.into())),
        )?;
        done()
    }

    /// Begins to observe a lock.
    pub(crate) fn observe(&self, observe: protocol::Observe) -> Answer {
        let holders = self.client(&observe.client)?.observe(observe.name);
        self.add(
            observe.observation,
            observe.client,
            Thing::Observation(Arc::new(holders.into())),
        )?;
        done()
    }

    /// The stream of a name, for as long as it is open.
    pub(crate) async fn stream<T>(
        &self,
        name: &str,
        next: impl AsyncFnOnce(Stream) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (thing, _, mut closed) = self.find(name)?;
        let stream = match thing {
            Thing::Watch(updates) => Stream::Watch(updates),
            Thing::Observation(holders) => Stream::Observation(holders),
            _ => return Err(invalid(format!("{name:?} has no news"))),
        };
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => Err(crate::cancellation()),
            news = self.while_open(name, next(stream)) => news,
        }
    }
}

fn with<T>(it: T, timeout: Option<Duration>, with: fn(&T, Duration) -> T) -> T {
    match timeout {
        Some(timeout) => with(&it, timeout),
        None => it,
    }
}
