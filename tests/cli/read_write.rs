//! `set`, `get` and `del` against a node that leads.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use serde_json::json;

use super::mock::Mock;
use super::{client, client_command, ran, with_input};

#[test]
fn a_value_is_got_after_its_set_and_until_its_delete() {
    let node = Mock::leader();
    let seshat = |args: &[&str]| client(&node.address, args);
    assert_eq!(seshat(&["set", "greeting", "hello"]).ok(), "OK\n");
    assert_eq!(seshat(&["get", "greeting"]).ok(), "hello");
    assert_eq!(seshat(&["del", "greeting"]).ok(), "deleted\n");
    assert_eq!(seshat(&["get", "greeting"]).failed(1), "");
    assert_eq!(seshat(&["del", "greeting"]).ok(), "no such key\n");
}

#[test]
fn json_is_one_object_on_one_line() {
    let node = Mock::leader();
    let seshat = |args: &[&str]| client(&node.address, args);
    assert_eq!(
        seshat(&["set", "k", "v", "--json"]).ok(),
        "{\"applied_index\":1}\n"
    );
    assert_eq!(
        seshat(&["get", "k", "--json"]).ok(),
        "{\"key\":\"k\",\"value\":\"v\",\"revision\":1,\"applied_index\":1}\n"
    );
    assert_eq!(
        seshat(&["del", "k", "--json"]).ok(),
        "{\"existed\":true,\"applied_index\":2}\n"
    );
    assert_eq!(
        seshat(&["del", "k", "--json"]).ok(),
        "{\"existed\":false,\"applied_index\":3}\n"
    );
    assert_eq!(seshat(&["get", "k", "--json"]).failed(1), "");
}

#[test]
fn values_are_any_bytes() {
    let node = Mock::leader();
    let every_byte: Vec<u8> = (0..=u8::MAX).chain(*b"\n\r\n").collect();
    for value in [every_byte.as_slice(), b"", b"\n", b"-", &[0xff; 1_000_000]] {
        let set = with_input(client_command(&node.address, &["set", "k", "-"]), value);
        assert_eq!(ran(set).ok(), "OK\n");
        let got = client_command(&node.address, &["get", "k"])
            .output()
            .unwrap();
        assert!(got.status.success());
        assert_eq!(got.stdout, value);
    }
}

#[test]
fn bytes_that_are_no_text_are_base64_in_json() {
    let node = Mock::leader();
    let key = OsStr::from_bytes(b"\xfe");
    let mut set = client_command(&node.address, &["set"]);
    set.arg(key).arg(OsStr::from_bytes(b"\xff\x00"));
    // The operating system takes no zero bytes in arguments.
    assert!(set.output().is_err());

    let mut set = client_command(&node.address, &["set"]);
    set.arg(key).arg(OsStr::from_bytes(b"\xff\xee"));
    assert_eq!(ran(set.output().unwrap()).ok(), "OK\n");
    let mut get = client_command(&node.address, &["get", "--json"]);
    get.arg(key);
    assert_eq!(
        ran(get.output().unwrap()).ok(),
        "{\"key_base64\":\"/g==\",\"value_base64\":\"/+4=\",\"revision\":1,\"applied_index\":1}\n"
    );
}

#[test]
fn values_may_look_like_numbers_and_flags() {
    let node = Mock::leader();
    let seshat = |args: &[&str]| client(&node.address, args);
    seshat(&["set", "k", "-1.5"]).ok();
    assert_eq!(seshat(&["get", "k"]).ok(), "-1.5");
    let mut set = super::command(&["set", "--endpoints", &node.address, "--", "-k", "--json"]);
    assert_eq!(ran(set.output().unwrap()).ok(), "OK\n");
    let mut get = super::command(&["get", "--endpoints", &node.address, "--", "-k"]);
    assert_eq!(ran(get.output().unwrap()).ok(), "--json");
}

#[test]
fn a_value_larger_than_a_message_is_surely_not_applied() {
    let node = Mock::leader();
    let value = vec![b'x'; 8 * 1024 * 1024];
    let set = with_input(
        client_command(&node.address, &["set", "k", "-", "--json"]),
        &value,
    );
    let error = ran(set).failed_in_json(3);
    assert_eq!(error["applied"], json!("no"), "{error}");
    assert_eq!(node.writes(), 0);
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let node = Mock::leader();
    client(&node.address, &["set", "k", "v"]).ok();
    let mut get = client_command(&node.address, &["get", "k"]);
    let mut child = get
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
