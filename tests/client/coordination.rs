//! The page about coordination: it shows the recipes as they are here, and they do what it says.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use seshat::client::{Client, Session, TxnOperation};
use tokio::sync::watch;

use super::mock::{Fate, Mock};
use super::recipes::{
    Number, Resource, Settings, add_job, add_once, admit, alone, basics, book, do_jobs, edit,
    finish_job, follow_service, follow_settings, initialise, lead_when_elected, leader, numbers,
    reserve, stay_listed, take_job, transfer,
};
use seshat_test_support::cluster::Cluster;
use seshat_test_support::{InTime as _, eventually};

const PAGE: &str = include_str!("../../docs/COORDINATION.md");
const RECIPES: &str = include_str!("recipes.rs");

/// A client of `endpoints` that has all the time that a busy machine may need.
fn client(endpoints: &[&str]) -> Client {
    let builder = Client::builder().endpoints(endpoints.iter().copied());
    builder.timeout(Duration::from_secs(60)).build().unwrap()
}

/// A cluster, and sessions of `N` clients.
async fn sessions<const N: usize>() -> ([Session; N], Cluster) {
    let cluster = Cluster::started(3).await;
    let endpoints = [0, 1, 2].map(|index| cluster.client_addr(index));
    let opened = join_all((0..N).map(async |_| client(&endpoints).session().await.unwrap()));
    (opened.await.try_into().unwrap(), cluster)
}

#[test]
fn the_page_shows_the_recipes_as_they_are_tested() {
    let blocks = PAGE.split("```rust\n").skip(1);
    let blocks: Vec<_> = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let code = RECIPES.split_once("\n\n").unwrap().1;
    assert_eq!(blocks.join("\n"), code);
}

#[tokio::test]
async fn the_basics_run() {
    let ([session], cluster) = sessions().await;
    let client = client(&[cluster.client_addr(0)]);
    basics(&client).await.unwrap();
    let values = [session.get("limits").await, session.get("paused").await];
    let values = values.map(Result::unwrap);
    assert_eq!(values, [None, Some(Bytes::from("by node-1"))]);
}

#[tokio::test]
async fn no_edit_of_another_writer_is_lost() {
    let (sessions, _cluster) = sessions::<4>().await;
    let edits = sessions.iter().enumerate().map(async |(writer, session)| {
        for number in 0..5 {
            let word = format!("{writer}.{number} ");
            let edited = edit(session, "config", |value| format!("{value}{word}")).await;
            edited.unwrap();
        }
    });
    join_all(edits).await;
    let value = sessions[0].get("config").await.unwrap().unwrap();
    let value = String::from_utf8(value.into()).unwrap();
    let words: BTreeSet<_> = value.split_whitespace().collect();
    assert_eq!(
        (words.len(), value.len()),
        (20, 20 * "0.0 ".len()),
        "{value}"
    );
}

#[tokio::test]
async fn settings_that_were_written_at_once_change_at_once() {
    let ([session], cluster) = sessions().await;
    let (settings, mut changes) = watch::channel(Settings::new());
    let client = client(&[cluster.client_addr(0)]);
    let following = tokio::spawn(async move { follow_settings(&client, &settings).await });
    for number in 1..=20 {
        let both = ["config/a", "config/b"].map(|key| TxnOperation::set(key, number.to_string()));
        let [a, b] = both;
        assert!(session.txn().then(a).then(b).await.unwrap().succeeded);
    }
    let last = changes.wait_for(|settings| {
        let values: Vec<_> = settings.values().collect();
        assert!(
            values.is_empty() || values.len() == 2 && values[0] == values[1],
            "{values:?}"
        );
        values.first().is_some_and(|value| *value == "20")
    });
    last.in_time("the last settings").await.unwrap();
    assert!(!following.is_finished());
}

#[tokio::test]
async fn every_caller_gets_what_the_first_one_has_written() {
    let (sessions, _cluster) = sessions::<3>().await;
    let calls = sessions
        .iter()
        .enumerate()
        .map(async |(number, session)| initialise(session, "id", number.to_string().into()).await);
    let ids: Vec<_> = join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let stored = sessions[0].get("id").await.unwrap().unwrap();
    assert_eq!(ids, [(); 3].map(|()| stored.clone()));
}

#[tokio::test]
async fn a_window_admits_as_many_as_the_limit_says() {
    let (sessions, _cluster) = sessions::<3>().await;
    let callers = sessions.iter().map(async |session| {
        let mut admitted = 0;
        for _ in 0..4 {
            admitted += u64::from(admit(session, "ada", 7, 5).await.unwrap());
        }
        admitted
    });
    let admitted: u64 = join_all(callers).await.into_iter().sum();
    assert_eq!(admitted, 5);
    let [session, ..] = &sessions;
    let admit = async |window| admit(session, "ada", window, 2).await.unwrap();
    assert!(admit(8).await);
    // A clock that is behind: the request counts in the window that has begun.
    assert!(admit(7).await && !admit(7).await && !admit(8).await);
    assert!(admit(9).await);
}

#[tokio::test]
async fn transfers_keep_the_sum_at_every_moment() {
    let (sessions, _cluster) = sessions::<4>().await;
    let [one, two, three, auditor] = &sessions;
    for account in ["a", "b", "c"] {
        auditor.set(account, "100").await.unwrap();
    }
    let total = async || {
        let accounts: [Number; 3] = numbers(auditor, ["a", "b", "c"]).await.unwrap();
        accounts.iter().map(|account| account.value).sum::<u64>()
    };
    let pairs = [(one, "a", "b"), (two, "b", "c"), (three, "c", "a")];
    let transfers = pairs.map(async |(session, from, to)| {
        for _ in 0..10 {
            transfer(session, from, to, 7).await.unwrap();
        }
    });
    let audits = async {
        for _ in 0..20 {
            assert_eq!(total().await, 300);
        }
    };
    futures_util::future::join(join_all(transfers), audits).await;
    assert_eq!(total().await, 300);
    assert!(!transfer(one, "a", "b", 301).await.unwrap());
}

#[tokio::test]
async fn a_job_is_taken_once_and_has_one_result() {
    let (sessions, _cluster) = sessions::<3>().await;
    let [session, ..] = &sessions;
    for number in 1..=8 {
        let job = format!("job {number}");
        assert_eq!(add_job(session, &job).await.unwrap(), number);
    }
    let workers = sessions.iter().enumerate().map(async |(number, session)| {
        let (worker, mut done) = (format!("worker {number}"), Vec::new());
        while let Some((id, job)) = take_job(session, &worker).await.unwrap() {
            assert_eq!(job, format!("job {id}"));
            assert!(!finish_job(session, "another", id, "wrong").await.unwrap());
            assert!(finish_job(session, &worker, id, &worker).await.unwrap());
            assert!(!finish_job(session, &worker, id, "again").await.unwrap());
            let result = session.get(format!("results/{id}")).await.unwrap();
            assert_eq!(result.unwrap(), worker);
            done.push(id);
        }
        done
    });
    let mut done: Vec<_> = join_all(workers).await.concat();
    done.sort_unstable();
    assert_eq!(done, Vec::from_iter(1..=8));
}

#[tokio::test]
async fn a_former_owner_writes_nothing_any_more() {
    let cluster = Cluster::started(3).await;
    let client = client(&[cluster.client_addr(0), cluster.client_addr(1)]);
    let mut disk = Resource::default();
    let one = client.lock("disk").await.unwrap();
    let first = one.token();
    assert!(disk.write(first, "of one") && disk.write(first, "of one again"));
    let written = client.set("state", "of one").if_held(&one).await.unwrap();
    assert!(written.succeeded());
    one.release().await.unwrap();

    let two = client.lock("disk").await.unwrap();
    assert!(two.token() > first);
    assert!(disk.write(two.token(), "of two") && !disk.write(first, "late"));
    assert_eq!(disk.content, "of two");
    let late = client.set("state", "late").if_token("disk", first);
    assert!(!late.await.unwrap().succeeded());
    assert_eq!(client.get("state").await.unwrap().unwrap(), "of one");
}

#[tokio::test]
async fn one_client_works_and_the_others_go_away() {
    let cluster = Cluster::started(3).await;
    let client = client(&[cluster.client_addr(0), cluster.client_addr(1)]);
    let at_once = async {
        let no = async || panic!("it works, too");
        assert!(!alone(&client, "report", "result", no()).await.unwrap());
        "one".to_owned()
    };
    assert!(alone(&client, "report", "result", at_once).await.unwrap());
    assert_eq!(client.get("result").await.unwrap().unwrap(), "one");
    let next = async { "two".to_owned() };
    assert!(alone(&client, "report", "result", next).await.unwrap());
    assert_eq!(client.get("result").await.unwrap().unwrap(), "two");
}

#[tokio::test]
async fn jobs_are_done_in_order_and_each_has_one_result() {
    let ([session], cluster) = sessions().await;
    let client = client(&[cluster.client_addr(0), cluster.client_addr(1)]);
    for number in 1..=6 {
        let job = format!("job {number}");
        add_job(&session, &job).await.unwrap();
    }
    let first = client.lock("jobs").await.unwrap();
    let token = first.token();
    let one = tokio::spawn(async move {
        let session = first.session().clone();
        let work = |job: Bytes| {
            let session = session.clone();
            async move {
                if job == "job 3" {
                    // It loses the lock in the middle of a job.
                    session.close().await.unwrap();
                }
                format!("{job:?} of one")
            }
        };
        do_jobs(&first, work).await
    });
    let error = one.await.unwrap().unwrap_err();
    assert!(error.is_session_expired(), "{error:?}");
    let second = client.lock("jobs").await.unwrap();
    assert!(second.token() > token);
    let work = |job: Bytes| async move { format!("{job:?} of two") };
    do_jobs(&second, work).await.unwrap();
    let results = client.scan("results/").collect().await.unwrap();
    let results = results.iter().map(|entry| entry.value.clone());
    let expected = (1..=6).map(|id| {
        let worker = if id < 3 { "one" } else { "two" };
        Bytes::from(format!("b\"job {id}\" of {worker}"))
    });
    assert_eq!(results.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_service_has_a_leader_and_another_one_when_that_is_gone() {
    let cluster = Cluster::started(3).await;
    let client = client(&[cluster.client_addr(0), cluster.client_addr(1)]);
    let stand = |address: &'static str| {
        let client = client.clone();
        tokio::spawn(async move {
            let lead = |token| {
                let client = client.clone();
                async move {
                    let write = client.set("leader", address).if_token("service", token);
                    assert!(write.await.unwrap().succeeded());
                    std::future::pending::<()>().await;
                }
            };
            lead_when_elected(&client, "service", address, lead).await
        })
    };
    let leads = async |address: &'static str| {
        let led = async || {
            let written = client.get("leader").await.unwrap();
            (written.as_deref() == Some(address.as_bytes())).then_some(())
        };
        eventually("a leader", led).await;
        assert_eq!(leader(&client, "service").await.unwrap(), address);
    };
    let one = stand("a:80");
    leads("a:80").await;
    let two = stand("b:80");
    let waits = async || {
        let lock = client.inspect_lock("service").await.unwrap();
        (lock.waiting == 1).then_some(())
    };
    eventually("a candidate", waits).await;
    one.abort();
    leads("b:80").await;
    two.abort();
    let lead = |_| async {};
    lead_when_elected(&client, "service", "c:80", lead)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_request_with_a_marker_counts_once() {
    let (sessions, _cluster) = sessions::<3>().await;
    let calls = sessions.iter().map(async |session| {
        for request in ["r1", "r2", "r1"] {
            add_once(session, request, "sum", 5).await.unwrap();
        }
    });
    join_all(calls).await;
    assert_eq!(numbers(&sessions[0], ["sum"]).await.unwrap()[0].value, 10);
}

#[tokio::test]
async fn a_reservation_ends_and_a_booking_stays() {
    let ([ada, eve], cluster) = sessions().await;
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    assert!(reserve(&ada, "seat/1", "ada", hour).await.unwrap());
    assert!(!reserve(&eve, "seat/1", "eve", hour).await.unwrap());
    assert!(!book(&eve, "seat/1", "eve").await.unwrap());
    assert!(book(&ada, "seat/1", "ada").await.unwrap());
    let client = client(&[cluster.client_addr(0)]);
    let entries = client.scan("seat/").collect().await.unwrap();
    assert_eq!(entries[0].ttl, None);

    assert!(reserve(&ada, "seat/2", "ada", second).await.unwrap());
    let reserved = async || {
        let reserved = reserve(&eve, "seat/2", "eve", hour).await.unwrap();
        reserved.then_some(())
    };
    eventually("the end of a reservation", reserved).await;
    assert!(!book(&ada, "seat/2", "ada").await.unwrap());
}

#[tokio::test]
async fn callers_know_the_instances_that_run() {
    let cluster = Cluster::started(3).await;
    let client = client(&[cluster.client_addr(0), cluster.client_addr(1)]);
    let (known, mut changes) = watch::channel(Vec::new());
    let caller = client.clone();
    let following = tokio::spawn(async move {
        let update = |addresses| drop(known.send_replace(addresses));
        follow_service(&caller, "web", update).await
    });
    let mut known = async |expected: &[&str]| {
        let known = changes.wait_for(|known| known == expected);
        drop(known.in_time("the instances").await.unwrap());
    };
    let instances = [("services/web/1", "a:80"), ("services/web/2", "b:80")];
    let [one, two] = instances.map(|(key, address)| {
        let client = client.clone();
        tokio::spawn(async move { stay_listed(&client, key, address).await })
    });
    client.set("services/api/1", "c:80").await.unwrap();
    known(&["a:80", "b:80"]).await;
    one.abort();
    known(&["b:80"]).await;
    two.abort();
    known(&[]).await;
    assert!(!following.is_finished());
}

#[tokio::test]
async fn in_a_session_a_lost_answer_changes_nothing() {
    let node = Mock::leader().await;
    let session = client(&[&node.address]).session().await.unwrap();
    let lose = |count| (0..count).for_each(|_| node.next_write(Fate::AppliedAndLost));
    lose(2);
    let key = initialise(&session, "key", Bytes::from("mine"))
        .await
        .unwrap();
    assert_eq!((key, node.applied()), (Bytes::from("mine"), 1));
    lose(2);
    edit(&session, "key", |value| format!("{value}!"))
        .await
        .unwrap();
    assert_eq!((node.applied(), node.writes().len()), (2, 6));
    lose(2);
    assert!(admit(&session, "ada", 1, 1).await.unwrap());
    assert!(!admit(&session, "ada", 1, 1).await.unwrap());
    let values = [session.get("key").await, session.get("rate/ada").await];
    assert_eq!(
        values.map(|value| value.unwrap().unwrap()),
        ["mine!", "1 1"].map(Bytes::from)
    );
}
