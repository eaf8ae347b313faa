//! Writes on conditions, and `txn`.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use serde_json::{Value, json};

use super::cluster::Dev;
use super::mock::{Fate, Mock};
use super::surroundings::{closed_pipe, full_disk};
use super::{Ran, client, client_command, ran, with_input, with_input_only};

/// Runs `txn` with `input`.
fn txn(endpoints: &str, args: &[&str], input: impl AsRef<[u8]>) -> Ran {
    let command = client_command(endpoints, &[&["txn"], args].concat());
    ran(with_input(command, input.as_ref()))
}

/// The output of a command whose condition did not hold.
#[track_caller]
fn unmet(ran: Ran) -> String {
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""), "{ran:?}");
    ran.stdout
}

#[test]
fn a_condition_that_does_not_hold_is_an_outcome_with_a_code_of_its_own() {
    let node = Mock::leader();
    let seshat = |args: &[&str]| client(&node.address, args);
    let set = |flags: &[&str]| seshat(&[&["set", "k", "v"], flags].concat());
    assert_eq!(
        unmet(set(&["--if-value", "v"])),
        "not written: no such key\n"
    );
    assert_eq!(
        unmet(set(&["--if-revision=7", "--json"])),
        "{\"succeeded\":false,\"key\":\"k\",\"revision\":0,\"applied_index\":2}\n"
    );
    assert_eq!(set(&["--if-absent"]).ok(), "OK\n");
    let bound = "not written: the key is bound, by revision 3\n";
    assert_eq!(unmet(set(&["--if-absent"])), bound);
    assert_eq!(
        unmet(set(&["--if-revision", "0", "--json"])),
        "{\"succeeded\":false,\"key\":\"k\",\"value\":\"v\",\"revision\":3,\"applied_index\":5}\n"
    );
    assert_eq!(
        set(&["--if-revision", "3", "--json"]).ok(),
        "{\"succeeded\":true,\"applied_index\":6}\n"
    );
    assert_eq!(set(&["--if-value", "v"]).ok(), "OK\n");

    let delete = |revision: &str, flags: &[&str]| {
        seshat(&[&["del", "k", "--if-revision", revision], flags].concat())
    };
    assert_eq!(
        unmet(delete("6", &[])),
        "not deleted: the key is bound, by revision 7\n"
    );
    assert_eq!(delete("7", &[]).ok(), "deleted\n");
    assert_eq!(unmet(delete("7", &[])), "not deleted: no such key\n");
    assert_eq!(
        delete("0", &["--json"]).ok(),
        "{\"succeeded\":true,\"existed\":false,\"applied_index\":11}\n"
    );

    let mut binary = client_command(&node.address, &["set", "k", "-", "--if-value="]);
    binary.arg("--json");
    assert_eq!(seshat(&["set", "k", ""]).ok(), "OK\n");
    ran(with_input(binary, b"\xff")).ok();
    assert_eq!(
        unmet(set(&["--if-absent", "--json"])),
        "{\"succeeded\":false,\"key\":\"k\",\"value_base64\":\"/w==\",\"revision\":13,\
         \"applied_index\":14}\n"
    );
}

#[test]
fn a_write_on_a_condition_whose_outcome_is_unknown_is_not_repeated() {
    for args in [
        ["set", "k", "v", "--if-absent"],
        ["del", "k", "--if-revision", "1"],
    ] {
        let node = Mock::leader().next_write(Fate::Silence);
        let args = [&args[..], &["--timeout", "2s", "--json"]].concat();
        let error = client(&node.address, &args).failed_in_json(3);
        assert_eq!(error["applied"], "unknown", "{error}");
        assert_eq!(node.writes(), 1);
    }
}

#[test]
fn a_node_of_an_older_version_is_named() {
    let node = Mock::older();
    let words = format!(
        "error: {}: this node runs an older version, which knows no transactions (not applied)\n",
        node.address
    );
    assert_eq!(
        client(&node.address, &["set", "k", "v", "--if-absent"]).failed(3),
        words
    );
    assert_eq!(txn(&node.address, &[], "get k").failed(3), words);
    assert_eq!(client(&node.address, &["set", "k", "v"]).ok(), "OK\n");
}

#[test]
fn several_keys_change_at_once_on_a_real_cluster() {
    let dev = Dev::start();
    let endpoints = dev.endpoints();
    let claim = "if missing owner\n\nset owner node-1 # mine\nset 'at time' \"\\x1b[2J\\xff\"\n\
                 get 'at time'\ndel lease\nelse\nget owner\nget lease\ndel \"at time\"";
    let said = txn(&endpoints, &[], claim).ok();
    let revision: u64 = said
        .strip_prefix("succeeded at revision ")
        .and_then(|it| it.lines().next()?.parse().ok())
        .unwrap();
    let expected = format!(
        "succeeded at revision {revision}\nset owner: OK\nset \"at time\": OK\n\
         get \"at time\": \"\\x1b[2J\\xff\" (revision {revision})\ndel lease: no such key\n"
    );
    assert_eq!(said, expected);

    let said = unmet(txn(&endpoints, &[], claim));
    let (first, rest) = said.split_once('\n').unwrap();
    assert!(
        first.starts_with("a condition does not hold at revision "),
        "{said}"
    );
    let expected = format!(
        "get owner: node-1 (revision {revision})\nget lease: no such key\ndel \"at time\": deleted\n"
    );
    assert_eq!(rest, expected);

    let get = client(&endpoints, &["get", "owner", "--json"]).ok();
    assert_eq!(
        serde_json::from_str::<Value>(&get).unwrap()["revision"],
        revision
    );
    let flag = revision.to_string();
    let held = client(
        &endpoints,
        &["set", "owner", "node-2", "--if-revision", &flag],
    );
    assert_eq!(held.ok(), "OK\n");
    let met = client(
        &endpoints,
        &["del", "owner", "--if-revision", &flag, "--json"],
    );
    let met: Value = serde_json::from_str(&unmet(met)).unwrap();
    assert_eq!(
        (&met["succeeded"], &met["value"]),
        (&json!(false), &json!("node-2"))
    );

    // A transaction that only reads.
    let read = txn(&endpoints, &[], "if revision owner 0\nelse\nget owner");
    assert!(unmet(read).contains("\nget owner: node-2 (revision "));

    // What goes in as JSON, comes out in the same form.
    let request = json!({
        "conditions": [{"key": {"key": "b3duZXI=", "value": "bm9kZS0y"}}],
        "success": [
            {"set": {"key": "/w=="}},
            {"get": {"key": "/w=="}},
            {"get": {"key": "bGVhc2U="}},
            {"delete": {"key": "b3duZXI="}},
        ],
    });
    let answer = txn(&endpoints, &["--json"], request.to_string()).ok();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let results = json!([
        {"set": {}},
        {"get": {"entry": {"key": "/w==", "value": "", "revision": answer["revision"]}}},
        {"get": {}},
        {"delete": {"existed": true}},
    ]);
    assert_eq!(
        (&answer["succeeded"], &answer["results"]),
        (&json!(true), &results)
    );
    assert!(answer["revision"].as_str().unwrap().parse::<u64>().unwrap() > revision);
    let answer = unmet(txn(&endpoints, &["--json"], request.to_string()));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&answer["succeeded"], &answer["results"]),
        (&json!(false), &json!([]))
    );

    // What the cluster refuses.
    let twice = txn(&endpoints, &[], "set k v\ndel k").failed(3);
    assert!(twice.contains("a key is written twice"), "{twice}");
    let large = [b"set k ", &[b'v'; 2_000_000][..]].concat();
    let large = txn(&endpoints, &[], large).failed(3);
    assert!(
        large.contains("value too large: at most 1048576 bytes"),
        "{large}"
    );
}

#[test]
fn a_fault_of_the_input_is_named_and_nothing_is_sent() {
    let node = Mock::leader();
    let usage = |input: &[u8], fault: &str| {
        let error = txn(&node.address, &[], input).failed(2);
        assert!(
            error.starts_with(&format!("error: standard input: {fault}")),
            "{error}"
        );
    };
    usage(b"", "no condition and no operation");
    usage(
        b"get k\nput k v\n",
        "line 2: if, set, get, del or else, not put",
    );
    usage(b"\0", "line 1: if, set, get, del or else, not \"\\x00\"");
    usage(b"set \xff", "line 1: set KEY VALUE");
    usage(
        b"if exists k\nget 'k",
        "line 2: a single quote is not closed",
    );
    usage(
        &[b'x'; 10_000_000],
        "line 1: if, set, get, del or else, not xxxxx",
    );
    usage(
        &b"k ".repeat(5_000_000),
        "line 1: if, set, get, del or else, not k",
    );
    usage(&[b'\n'; 10_000_000], "no condition and no operation");
    usage(&b"get k\n".repeat(1_700_000), "line 129: more than 128");
    usage(
        b"{\"success\":[{\"get\":{}}]}",
        "success[0].get.key: a key has at least one byte",
    );
    usage(
        &b"{\"success\":".repeat(1_000_000),
        "recursion limit exceeded at line 1",
    );
    usage(b" {\xff", "key must be a string at line 1 column 3");
    let error = txn(&node.address, &["--json"], "put").failed_in_json(2);
    assert_eq!(error["kind"], "usage", "{error}");
    assert_eq!(node.writes(), 0);
}

#[test]
fn bytes_of_any_kind_are_words() {
    let node = Mock::leader();
    let said = txn(&node.address, &[], b"set k\0 \xff\r\nget k\0\r\n").ok();
    assert_eq!(
        said,
        "succeeded at revision 1\nset \"k\\x00\": OK\nget \"k\\x00\": \"\\xff\" (revision 1)\n"
    );
    let large = [b"set k ", &[b'v'; 1_000_000][..], b"\nget k"].concat();
    let said = txn(&node.address, &[], large).ok();
    assert_eq!(
        said.len(),
        1_000_000 + "succeeded at revision 2\nset k: OK\nget k:  (revision 2)\n".len()
    );
}

#[test]
fn a_transaction_whose_answer_cannot_be_written_is_said_to_be_carried_out_if_it_was() {
    let node = Mock::leader();
    let run = |input: &str, stdout: OwnedFd, args: &[&str]| {
        let mut command = client_command(&node.address, &[&["txn"], args].concat());
        command.stdout(stdout).stderr(Stdio::piped());
        ran(with_input_only(command, input.as_bytes()))
    };
    let full = "the answer could not be written: No space left on device (os error 28)\n";
    let set = run("set k v", full_disk(), &[]).failed(5);
    assert_eq!(set, format!("error: carried out (revision 1), but {full}"));
    let error = run("if missing k\nelse\ndel k", closed_pipe(), &["--json"]).failed_in_json(5);
    let results = json!([{"delete": {"existed": true}}]);
    assert_eq!(
        error["answer"],
        json!({"succeeded": false, "results": results, "revision": "2"})
    );
    // Nothing was written.
    let read = run("if exists k\nset k v\nelse\nget k", full_disk(), &[]).failed(3);
    assert_eq!(read, format!("error: {full}"));
    assert_eq!(run("get k", closed_pipe(), &[]).failed(0), "");

    // Without standard input there is no transaction.
    let mut closed = std::process::Command::new("sh");
    let seshat = env!("CARGO_BIN_EXE_seshat");
    closed.args([
        "-c",
        &format!("{seshat} txn --endpoints {} <&-", node.address),
    ]);
    let error = ran(closed.output().unwrap()).failed(2);
    assert_eq!(
        error,
        "error: standard input: no condition and no operation\n"
    );
}
