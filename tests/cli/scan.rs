//! `scan` against a node that leads, and against a cluster with more in it than fits into a pipe.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use super::cluster::Dev;
use super::mock::Mock;
use super::surroundings::{closed_pipe, full_disk, full_pipe};
use super::{client, client_command, ran};

/// A node that leads and has a few keys.
fn filled() -> Mock {
    let node = Mock::leader();
    for (key, value) in [
        ("user/2", "two words"),
        ("city", "Uruk"),
        ("user/1", "Gilgamesh"),
        ("user/3", ""),
    ] {
        client(&node.address, &["set", key, value]).ok();
    }
    node
}

#[test]
fn a_scan_prints_a_line_for_each_key_in_order() {
    let node = filled();
    let scan = |args: &[&str]| client(&node.address, &[&["scan"], args].concat()).ok();
    let users = "user/1\tGilgamesh\nuser/2\t\"two words\"\nuser/3\t\"\"\n";
    assert_eq!(scan(&[]), format!("city\tUruk\n{users}"));
    assert_eq!(scan(&["user/"]), users);
    assert_eq!(scan(&["nothing"]), "");
    assert_eq!(scan(&["--limit", "1"]), "city\tUruk\n");
    assert_eq!(scan(&["user/", "--keys-only"]), "user/1\nuser/2\nuser/3\n");
    assert_eq!(
        scan(&["--start", "user/2", "--keys-only"]),
        "user/2\nuser/3\n"
    );
    assert_eq!(scan(&["--end", "user/1"]), "city\tUruk\n");
    let between = ["--start=d", "--end=user/2"];
    assert_eq!(scan(&between), "user/1\tGilgamesh\n");
    assert_eq!(scan(&["--count"]), "4\n");
    assert_eq!(scan(&["user/", "--count", "--limit", "2"]), "2\n");
}

#[test]
fn json_is_one_object_on_each_line() {
    let node = filled();
    let scan = |args: &[&str]| client(&node.address, &[&["scan", "--json"], args].concat()).ok();
    assert_eq!(
        scan(&["--limit=2"]),
        "{\"key\":\"city\",\"value\":\"Uruk\",\"revision\":2}\n\
         {\"key\":\"user/1\",\"value\":\"Gilgamesh\",\"revision\":3}\n"
    );
    assert_eq!(
        scan(&["city", "--keys-only"]),
        "{\"key\":\"city\",\"revision\":2}\n"
    );
    assert_eq!(scan(&["--count"]), "{\"count\":4}\n");
}

#[test]
fn bytes_that_are_no_text_steer_no_terminal() {
    let node = Mock::leader();
    let mut set = client_command(&node.address, &["set"]);
    set.arg(OsStr::from_bytes(b"\xfe\n")).arg("\u{1b}[2J");
    assert_eq!(ran(set.output().unwrap()).ok(), "OK\n");
    assert_eq!(
        client(&node.address, &["scan"]).ok(),
        "\"\\xfe\\n\"\t\"\\x1b[2J\"\n"
    );
    let mut scan = client_command(&node.address, &["scan", "--json"]);
    scan.arg(OsStr::from_bytes(b"\xfe"));
    assert_eq!(
        ran(scan.output().unwrap()).ok(),
        "{\"key_base64\":\"/go=\",\"value\":\"\\u001b[2J\",\"revision\":1}\n"
    );
}

#[test]
fn a_scan_that_is_cut_off_prints_what_it_has_and_fails() {
    let node = filled();
    node.cuts_off(1);
    let scan = client(&node.address, &["scan", "--keys-only"]);
    assert_eq!((scan.code, scan.stdout.as_str()), (3, "city\nuser/1\n"));
    let error = scan.stderr;
    assert!(error.starts_with("error: the scan was cut off"), "{error}");

    node.cuts_off(1);
    let scan = client(&node.address, &["scan", "--keys-only", "--resume"]);
    assert_eq!(
        (scan.code, scan.stdout.as_str(), scan.stderr.as_str()),
        (
            0,
            "city\nuser/1\nuser/2\nuser/3\n",
            "the node was lost on the way: the lines show more than one moment\n"
        )
    );
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure_and_a_full_disk_is() {
    let node = filled();
    let scan = |stdout, args: &[&str]| {
        let mut scan = client_command(&node.address, &[&["scan"], args].concat());
        ran(scan.stdout(stdout).output().unwrap())
    };
    assert_eq!(scan(closed_pipe(), &[]).ok(), "");
    let error = scan(full_disk(), &[]).failed(3);
    assert!(error.contains("No space left on device"), "{error}");
    let (_reader, full) = full_pipe();
    let error = scan(full, &["--timeout", "500ms"]).failed(3);
    assert!(error.contains("was not read in time"), "{error}");
}

/// Ends once its reader has ended, although there is much more to print.
#[test]
fn a_long_scan_ends_when_its_reader_ends() {
    let dev = Dev::start();
    let endpoints = dev.endpoints();
    let value = "v".repeat(100_000);
    for key in 0..40 {
        client(&endpoints, &["set", &format!("{key:02}"), &value]).ok();
    }
    assert_eq!(client(&endpoints, &["scan"]).ok().lines().count(), 40);
    assert_eq!(client(&endpoints, &["scan", "--count"]).ok(), "40\n");

    let mut scan = client_command(&endpoints, &["scan"]);
    let mut scan = scan
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(scan.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, format!("00\t{value}\n"));
    assert_eq!(
        scan.try_wait().unwrap(),
        None,
        "4 MB do not fit into a pipe"
    );
    drop(stdout);
    let output = scan.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
