//! Keys with a TTL, and living sessions: against a node that leads, and against a cluster.

use std::time::{Duration, Instant};

use seshat::client::Client;
use seshat_proto::kv::v1::SessionInfo;

use super::cluster::Dev;
use super::mock::{Mock, dead};
use super::surroundings::full_disk;
use super::{client, client_command, ran, with_input};

#[test]
fn json_shows_how_long_a_key_stays_bound() {
    let node = Mock::leader();
    let seshat = |args: &[&str]| client(&node.address, args);
    let txn = |input: &str| {
        let command = client_command(&node.address, &["txn"]);
        ran(with_input(command, input.as_bytes())).ok()
    };
    let set = |flags: &[&str]| seshat(&[&["set", "k", "v"], flags].concat()).ok();
    let shown = |lifetime: &str, revision: u64| {
        let entry = format!("{{\"key\":\"k\",\"value\":\"v\",\"revision\":{revision}{lifetime}");
        assert_eq!(seshat(&["scan", "--json"]).ok(), format!("{entry}}}\n"));
        let got = format!("{entry},\"applied_index\":{revision}}}\n");
        assert_eq!(seshat(&["get", "k", "--json"]).ok(), got);
        assert_eq!(seshat(&["get", "k"]).ok(), "v");
    };
    assert_eq!(set(&["--ttl", "1m 30s"]), "OK\n");
    shown(",\"ttl_ms\":90000", 1);
    txn("set k v keep");
    shown(",\"ttl_ms\":90000", 2);
    txn("set k v ttl 1500ms");
    shown(",\"ttl_ms\":1500", 3);
    assert_eq!(
        set(&["--ttl=2s", "--if-value=v", "--json"]),
        "{\"succeeded\":true,\"applied_index\":4}\n"
    );
    shown(",\"ttl_ms\":2000", 4);
    set(&[]);
    shown("", 5);
    txn(r#"{"success": [{"set": {"key": "aw==", "value": "dg==", "owner": "171"}}]}"#);
    shown(",\"owner\":\"00000000000000ab\"", 6);
}

#[test]
fn a_transaction_in_json_shows_it_as_protobuf_does() {
    let node = Mock::leader();
    let txn = |input: &str| {
        let command = client_command(&node.address, &["txn", "--json"]);
        ran(with_input(command, input.as_bytes())).ok()
    };
    for (lifetime, shown) in [
        (r#""ttl": "90s""#, r#","ttl":"90s""#),
        (r#""ttl": "1.05s""#, r#","ttl":"1.050s""#),
        (r#""owner": 171"#, r#","owner":"171""#),
        (r#""keep": {}"#, r#","owner":"171""#),
    ] {
        txn(&format!(
            r#"{{"success": [{{"set": {{"key": "aw==", {lifetime}}}}}]}}"#
        ));
        let read = txn(r#"{"success": [{"get": {"key": "aw=="}}]}"#);
        assert!(read.contains(shown), "{lifetime}: {read}");
    }
}

#[test]
fn an_older_node_shows_its_keys_in_json_too() {
    let node = Mock::older();
    assert_eq!(client(&node.address, &["set", "k", "v"]).ok(), "OK\n");
    assert_eq!(
        client(&node.address, &["get", "k", "--json"]).ok(),
        "{\"key\":\"k\",\"value\":\"v\",\"revision\":1,\"applied_index\":1}\n"
    );
    assert_eq!(client(&node.address, &["get", "l", "--json"]).failed(1), "");
    let error = client(&node.address, &["set", "k", "v", "--ttl", "1m"]).failed(3);
    assert!(error.contains("runs an older version"), "{error}");
}

#[test]
fn living_sessions_are_listed() {
    let list = |node: &Mock, args: &[&str]| {
        client(&node.address, &[&["session", "list"], args].concat()).ok()
    };
    let empty = Mock::leader();
    assert_eq!(list(&empty, &[]), "SESSION  TTL  LEFT  KEYS\n");
    assert_eq!(list(&empty, &["--json"]), "{\"sessions\":[]}\n");

    let session = |client_id, ttl, remaining, owned_keys| SessionInfo {
        client_id,
        ttl: Some(Duration::from_millis(ttl).try_into().unwrap()),
        remaining: Some(Duration::from_millis(remaining).try_into().unwrap()),
        owned_keys,
    };
    let sessions = [
        session(0xab, 10_000, 7_349, 2),
        session(u64::MAX, 3_600_000, 3_600_250, 1024),
    ];
    let node = Mock::leader().with_sessions(sessions);
    assert_eq!(
        list(&node, &[]),
        "SESSION           TTL  LEFT     KEYS\n\
         00000000000000ab  10s  7.3s        2\n\
         ffffffffffffffff  1h   3600.2s  1024\n"
    );
    assert_eq!(
        list(&node, &["--json"]),
        "{\"sessions\":[\
         {\"id\":\"00000000000000ab\",\"ttl_ms\":10000,\"remaining_ms\":7349,\"owned_keys\":2},\
         {\"id\":\"ffffffffffffffff\",\"ttl_ms\":3600000,\"remaining_ms\":3600250,\
         \"owned_keys\":1024}]}\n"
    );
}

#[test]
fn a_session_is_closed_or_was_closed_before() {
    let sessions = [1, 2].map(|client_id| SessionInfo {
        client_id,
        ..SessionInfo::default()
    });
    let node = Mock::leader().with_sessions(sessions);
    let close = |args: &[&str]| {
        let args = [&["session", "close"], args].concat();
        client(&node.address, &args)
    };
    assert_eq!(close(&["0000000000000001"]).ok(), "closed\n");
    assert_eq!(close(&["0000000000000001"]).ok(), "no such session\n");
    assert_eq!(
        close(&["0000000000000002", "--json"]).ok(),
        "{\"existed\":true,\"revision\":3}\n"
    );
    let mut full = client_command(&node.address, &["session", "close", "0000000000000002"]);
    let error = ran(full.stdout(full_disk()).output().unwrap()).failed(5);
    assert!(
        error.contains("carried out (no such session, at revision 4), but "),
        "{error}"
    );
    let (_socket, dead) = dead();
    let args = ["session", "close", "0000000000000002", "--timeout", "200ms"];
    let error = client(&dead, &args).failed(3);
    assert!(error.contains("cannot be reached within 200ms"), "{error}");
}

#[test]
fn a_cluster_ends_a_session_with_its_keys_and_its_locks() {
    let dev = Dev::start();
    let endpoints = dev.endpoints();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let held = async {
        let client = Client::connect(endpoints.split(',')).unwrap();
        let client = client.with_timeout(Duration::from_secs(60));
        let session = client
            .session()
            .ttl(Duration::from_secs(3600))
            .await
            .unwrap();
        session.set("k", "v").owned_by(&session).await.unwrap();
        let lock = session.lock("backup").await.unwrap();
        (session, lock)
    };
    let (session, _lock) = runtime.block_on(held);
    let id = format!("{:016x}", session.id());
    let seshat = |args: &[&str]| client(&endpoints, args);
    assert_eq!(seshat(&["session", "close", &id]).ok(), "closed\n");
    assert_eq!(seshat(&["session", "list"]).ok().lines().count(), 1);
    assert_eq!(seshat(&["get", "k"]).failed(1), "");
    assert_eq!(seshat(&["locks", "backup"]).failed(1), "");
    assert_eq!(seshat(&["session", "close", &id]).ok(), "no such session\n");
}

#[test]
fn a_cluster_shows_its_sessions_and_what_they_own() {
    let dev = Dev::start();
    let endpoints = dev.endpoints();
    let seshat = |args: &[&str]| client(&endpoints, args);
    let json = |args: &[&str]| serde_json::from_str::<serde_json::Value>(&seshat(args).ok());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let opened = async {
        let client = Client::connect(endpoints.split(',')).unwrap();
        let client = client.with_timeout(Duration::from_secs(60));
        let hour = Duration::from_secs(3600);
        let session = client.session().ttl(hour).await.unwrap();
        session.set("k", "v").owned_by(&session).await.unwrap();
        session
    };
    let session = runtime.block_on(opened);
    let id = format!("{:016x}", session.id());
    let table = seshat(&["session", "list"]).ok();
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[3]), (&*id, "1h", "1"), "{table}");
    let listed = json(&["session", "list", "--json"]).unwrap();
    let listed = &listed["sessions"][0];
    assert_eq!(
        (&listed["id"], &listed["ttl_ms"]),
        (&id.clone().into(), &3_600_000.into())
    );
    assert!(
        listed["remaining_ms"].as_u64().unwrap() <= 3_600_500,
        "{listed}"
    );
    for shown in [&["scan", "--json"][..], &["get", "k", "--json"]] {
        assert_eq!(json(shown).unwrap()["owner"], id, "{shown:?}");
    }
    // A transaction that names an owner which does not live says so, and speaks of no earlier attempt.
    let input = r#"{"success": [{"set": {"key": "aw==", "value": "dg==", "owner": "171"}}]}"#;
    let txn = ran(with_input(
        client_command(&endpoints, &["txn"]),
        input.as_bytes(),
    ));
    let error = txn.failed(3);
    assert!(
        error.contains("session 00000000000000ab does not live: its TTL has passed"),
        "{error}"
    );
    runtime.block_on(session.close()).unwrap();
    assert_eq!(seshat(&["session", "list"]).ok().lines().count(), 1);
    assert_eq!(seshat(&["get", "k"]).failed(1), "");
}

#[test]
fn a_cluster_removes_a_key_when_its_ttl_has_passed() {
    let dev = Dev::start();
    let seshat = |args: &[&str]| client(&dev.endpoints(), args);
    let begun = Instant::now();
    assert_eq!(seshat(&["set", "k", "v", "--ttl", "1s"]).ok(), "OK\n");
    let limit = Duration::from_secs(60);
    while seshat(&["get", "k"]).code == 0 {
        assert!(begun.elapsed() < limit, "the key stays");
    }
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(seshat(&["get", "k"]).failed(1), "");
    assert_eq!(seshat(&["set", "k", "w", "--if-absent"]).ok(), "OK\n");
}
