//! The code of `docs/COORDINATION.md`, which shows all that follows.
#![allow(
    unreachable_pub,
    reason = "the page shows functions as a library has them"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use seshat::client::{
    Client, Condition, Conditional, Error, LivingSession, Lock, Session, TxnCall, TxnOperation,
    TxnResult,
};
use tokio::sync::watch;

pub async fn basics(client: &Client) -> Result<(), Error> {
    let found = client.get_with_index("limits").await?; // value and revision; 0: the key is missing
    let write = client.set("limits", "rate=15").if_revision(found.revision);
    match write.await? {
        Conditional::Succeeded(written) => println!("revision {}", written.applied_index),
        Conditional::Failed(newer) => println!("another client has written {:?}", newer.value),
    }
    let outcome = client
        .txn()
        .when(Condition::exists("limits")) // all conditions see the keys as they are before
        .when(Condition::missing("paused"))
        .then(TxnOperation::set("paused", "by node-1"))
        .then(TxnOperation::delete("limits"))
        .otherwise(TxnOperation::get("paused"))
        .await?;
    println!("{} at revision {}", outcome.succeeded, outcome.revision);
    Ok(())
}

/// Binds `key` for as long as `session` lives.
pub async fn own(session: &LivingSession, key: &'static str, value: &str) -> Result<(), Error> {
    session.set(key, value.to_owned()).owned_by(session).await?;
    Ok(())
}

/// Does `work` while no other client holds the lock `name`, and writes the result to `key`. Returns false if the
/// lock is held by another client, or was lost before the result was written.
pub async fn alone(
    client: &Client,
    name: &str,
    key: &'static str,
    work: impl Future<Output = String>,
) -> Result<bool, Error> {
    let Some(lock) = client.lock(name).no_wait().await?.acquired() else {
        return Ok(false);
    };
    let result = tokio::select! {
        result = work => result,
        _ = lock.lost() => return Ok(false),
    };
    let written = client.set(key, result).if_held(&lock).await?;
    lock.release().await?;
    Ok(written.succeeded())
}

/// Replaces the value of `key` by what `change` makes of it. Returns the revision of the write.
pub async fn edit(
    session: &Session,
    key: &'static str,
    change: impl Fn(&str) -> String,
) -> Result<u64, Error> {
    let mut found = session.get_with_index(key).await?;
    loop {
        let value = found.value.unwrap_or_default();
        let changed = change(&String::from_utf8_lossy(&value));
        let write = session.set(key, changed).if_revision(found.revision);
        match write.await? {
            Conditional::Succeeded(written) => return Ok(written.applied_index),
            Conditional::Failed(newer) => found = newer,
        }
    }
}

/// Settings by their keys.
pub type Settings = BTreeMap<Bytes, Bytes>;

/// Keeps `settings` as the keys below `config/` are. Returns only if that cannot begin, or will never
/// work again.
pub async fn follow_settings(
    client: &Client,
    settings: &watch::Sender<Settings>,
) -> Result<(), Error> {
    let mut mirror = client.watch("config/").mirror().await?;
    loop {
        let entries = mirror.entries();
        let present = entries.map(|entry| (entry.key.clone(), entry.value.clone()));
        settings.send_replace(present.collect());
        mirror.changed().await?;
    }
}

/// Binds `key` to `value` unless it is bound. Returns what it is bound to: the same for every caller.
pub async fn initialise(
    session: &Session,
    key: &'static str,
    value: Bytes,
) -> Result<Bytes, Error> {
    match session.set(key, value.clone()).if_absent().await? {
        Conditional::Succeeded(_) => Ok(value),
        Conditional::Failed(found) => Ok(found.value.unwrap_or_default()),
    }
}

/// Counts a request of `caller` in `window`, a number that grows with time, and returns true. Returns
/// false if `limit` of them are counted already.
pub async fn admit(
    session: &Session,
    caller: &str,
    window: u64,
    limit: u64,
) -> Result<bool, Error> {
    let key = format!("rate/{caller}");
    let mut found = session.get_with_index(key.clone()).await?;
    loop {
        let value = found.value.unwrap_or_default();
        let value = String::from_utf8_lossy(&value);
        let (begun, count) = value.split_once(' ').unwrap_or(("0", "0"));
        let (begun, count) = (begun.parse().unwrap_or(0), count.parse().unwrap_or(0));
        // A caller whose clock is behind does not begin an earlier window again.
        let (window, count) = match window > begun {
            true => (window, 0),
            false => (begun, count),
        };
        if count >= limit {
            return Ok(false);
        }
        let value = format!("{window} {}", count + 1);
        let write = session.set(key.clone(), value).if_revision(found.revision);
        match write.await? {
            Conditional::Succeeded(_) => return Ok(true),
            Conditional::Failed(newer) => found = newer,
        }
    }
}

/// A number in decimal digits, and the write that has bound its key. Both are 0 if the key is missing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Number {
    pub value: u64,
    pub revision: u64,
}

/// Reads several numbers at one moment.
pub async fn numbers<const N: usize>(
    session: &Session,
    keys: [&'static str; N],
) -> Result<[Number; N], Error> {
    let reads = keys.into_iter().map(TxnOperation::get);
    let outcome = reads.fold(session.txn(), TxnCall::then).await?;
    let mut numbers = [Number::default(); N];
    for (number, result) in numbers.iter_mut().zip(outcome.results) {
        if let TxnResult::Found(Some(entry)) = result {
            number.value = String::from_utf8_lossy(&entry.value).parse().unwrap_or(0);
            number.revision = entry.revision;
        }
    }
    Ok(numbers)
}

/// Moves `amount` from one account to another, or returns false if the first one holds less.
pub async fn transfer(
    session: &Session,
    from: &'static str,
    to: &'static str,
    amount: u64,
) -> Result<bool, Error> {
    loop {
        let [source, target] = numbers(session, [from, to]).await?;
        let Some(rest) = source.value.checked_sub(amount) else {
            return Ok(false);
        };
        let sum = target.value + amount;
        let outcome = session
            .txn()
            .when(Condition::revision(from, source.revision))
            .when(Condition::revision(to, target.revision))
            .then(TxnOperation::set(from, rest.to_string()))
            .then(TxnOperation::set(to, sum.to_string()))
            .await?;
        if outcome.succeeded {
            return Ok(true);
        }
    }
}

/// Adds a job to the list, and returns its number.
pub async fn add_job(session: &Session, job: &str) -> Result<u64, Error> {
    loop {
        let [added] = numbers(session, ["jobs/added"]).await?;
        let id = added.value + 1;
        let outcome = session
            .txn()
            .when(Condition::revision("jobs/added", added.revision))
            .then(TxnOperation::set("jobs/added", id.to_string()))
            .then(TxnOperation::set(format!("jobs/{id}"), job.to_owned()))
            .await?;
        if outcome.succeeded {
            return Ok(id);
        }
    }
}

/// Takes the oldest job off the list, for `worker` alone. `None`: there is none.
pub async fn take_job(session: &Session, worker: &str) -> Result<Option<(u64, Bytes)>, Error> {
    loop {
        let [taken, added] = numbers(session, ["jobs/taken", "jobs/added"]).await?;
        if taken.value == added.value {
            return Ok(None);
        }
        let id = taken.value + 1;
        let mut outcome = session
            .txn()
            .when(Condition::revision("jobs/taken", taken.revision))
            .then(TxnOperation::set("jobs/taken", id.to_string()))
            .then(TxnOperation::set(
                format!("jobs/{id}/worker"),
                worker.to_owned(),
            ))
            .then(TxnOperation::get(format!("jobs/{id}")))
            .await?;
        if let (true, Some(TxnResult::Found(Some(job)))) =
            (outcome.succeeded, outcome.results.pop())
        {
            return Ok(Some((id, job.value)));
        }
    }
}

/// Removes a job and writes its result, once. Returns false if `worker` does not hold it (any more).
pub async fn finish_job(
    session: &Session,
    worker: &str,
    id: u64,
    result: &str,
) -> Result<bool, Error> {
    let held_by = format!("jobs/{id}/worker");
    let outcome = session
        .txn()
        .when(Condition::value(held_by.clone(), worker.to_owned()))
        .then(TxnOperation::delete(held_by))
        .then(TxnOperation::delete(format!("jobs/{id}")))
        .then(TxnOperation::set(
            format!("results/{id}"),
            result.to_owned(),
        ))
        .await?;
    Ok(outcome.succeeded)
}

/// A resource outside of Seshat, such as a disk or another service.
#[derive(Debug, Default)]
pub struct Resource {
    /// The highest token that it has seen. It has to survive with the content.
    highest: u64,
    pub content: String,
}

impl Resource {
    /// Refuses a write whose token is older than one that it has seen.
    pub fn write(&mut self, token: u64, content: &str) -> bool {
        if token < self.highest {
            return false;
        }
        self.highest = token;
        content.clone_into(&mut self.content);
        true
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Adds `amount` to the number at `key`, once for each `request`, however often it is called within a day:
/// after an error, after a restart, by another process.
pub async fn add_once(
    session: &Session,
    request: &str,
    key: &'static str,
    amount: u64,
) -> Result<(), Error> {
    let marker = format!("done/{request}");
    loop {
        let [number] = numbers(session, [key]).await?;
        let sum = number.value + amount;
        let outcome = session
            .txn()
            .when(Condition::missing(marker.clone()))
            .when(Condition::revision(key, number.revision))
            .then(TxnOperation::set(marker.clone(), "").ttl(DAY))
            .then(TxnOperation::set(key, sum.to_string()))
            .otherwise(TxnOperation::get(marker.clone()))
            .await?;
        if outcome.succeeded || outcome.results != [TxnResult::Found(None)] {
            return Ok(());
        }
    }
}

/// Reserves `seat` for `time`. Returns false if it is taken.
pub async fn reserve(
    session: &Session,
    seat: &'static str,
    guest: &str,
    time: Duration,
) -> Result<bool, Error> {
    let write = session.set(seat, guest.to_owned()).ttl(time);
    Ok(write.if_absent().await?.succeeded())
}

/// Makes the reservation of `guest` a booking, which stays. Returns false if it has expired.
pub async fn book(session: &Session, seat: &'static str, guest: &str) -> Result<bool, Error> {
    let write = session.set(seat, guest.to_owned());
    Ok(write.if_value(guest.to_owned()).await?.succeeded())
}

/// Lists this process at `key` until the future is dropped. If the session is lost, it is listed again.
pub async fn stay_listed(
    client: &Client,
    key: &'static str,
    address: &str,
) -> Result<Infallible, Error> {
    loop {
        let session = client.session().ttl(Duration::from_secs(10)).await?;
        own(&session, key, address).await?;
        let why = session.lost().await;
        eprintln!("{key} is listed again: {why}");
    }
}

/// Calls `update` with the addresses of the instances of `service`, now and after each change. Returns
/// only if that cannot begin, or will never work again.
pub async fn follow_service(
    client: &Client,
    service: &str,
    mut update: impl FnMut(Vec<Bytes>),
) -> Result<(), Error> {
    let instances = client.watch(format!("services/{service}/"));
    let mut instances = instances.mirror().await?;
    loop {
        update(instances.entries().map(|it| it.value.clone()).collect());
        instances.changed().await?;
    }
}

/// Does the jobs of the list for as long as this process holds `lock`, or until there is none left.
pub async fn do_jobs<F: Future<Output = String>>(
    lock: &Lock,
    work: impl Fn(Bytes) -> F,
) -> Result<(), Error> {
    let session = lock.session();
    loop {
        let [done, added] = numbers(session, ["jobs/done", "jobs/added"]).await?;
        if done.value == added.value {
            return Ok(());
        }
        let id = done.value + 1;
        let job = session.get(format!("jobs/{id}")).await?.unwrap_or_default();
        let result = work(job).await;
        let outcome = session
            .txn()
            .when(Condition::held(lock))
            .then(TxnOperation::set("jobs/done", id.to_string()))
            .then(TxnOperation::delete(format!("jobs/{id}")))
            .then(TxnOperation::set(format!("results/{id}"), result))
            .await?;
        if !outcome.succeeded {
            return Ok(());
        }
    }
}

/// Does `lead`, with the token, whenever this process is elected, until that returns.
pub async fn lead_when_elected<F: Future<Output = ()>>(
    client: &Client,
    election: &str,
    address: &str,
    lead: impl Fn(u64) -> F,
) -> Result<(), Error> {
    loop {
        let leadership = match client.elect(election, address.to_owned()).await {
            Err(error) if error.is_session_expired() => continue,
            elected => elected?,
        };
        tokio::select! {
            () = lead(leadership.token()) => return leadership.resign().await,
            why = leadership.lost() => eprintln!("{address} leads no more: {why}"),
        }
    }
}

/// The address of the leader, as soon as there is one.
pub async fn leader(client: &Client, election: &str) -> Result<Bytes, Error> {
    let mut leaders = client.observe(election);
    loop {
        if let Some(Some(leader)) = leaders.next().await.transpose()? {
            return Ok(leader.value);
        }
    }
}
