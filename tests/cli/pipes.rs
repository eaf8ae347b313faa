//! Standard input without an end, and answers without a reader.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::mock::Mock;
use super::recovery::{self, forming};
use super::surroundings::{closed_pipe, full_disk, full_pipe};
use super::{Ran, client, client_command, command, ran, with_input_only};

/// The result of a command that has to end soon, whatever its pipes do.
fn ended(mut command: Command) -> Ran {
    command.stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it goes on after its time");
        }
        thread::sleep(Duration::from_millis(5));
    }
    ran(child.wait_with_output().unwrap())
}

const SHORT: &str = "--timeout=500ms";

#[test]
fn standard_input_that_does_not_end_takes_no_longer_than_a_command_may() {
    let node = Mock::leader();
    let (_writer, endless) = UnixStream::pair().unwrap();
    let set = |args: &[&str]| {
        let args = [&["set", "k", "-", "--endpoints", &node.address], args].concat();
        let mut set = command(&args);
        set.stdin(OwnedFd::from(endless.try_clone().unwrap()));
        set.stdout(Stdio::piped());
        ended(set)
    };
    assert_eq!(
        set(&[SHORT]).failed(3),
        "error: standard input did not end in time\n"
    );
    let error = set(&[SHORT, "--json"]).failed_in_json(3);
    assert_eq!(
        (&error["kind"], &error["applied"]),
        (&json!("timeout"), &json!("no"))
    );
    assert_eq!(node.writes(), 0);
}

#[test]
fn an_answer_that_is_not_taken_lasts_no_longer_than_a_command_may() {
    let node = Mock::leader();
    client(&node.address, &["set", "k", "v"]).ok();
    let (_reader, full) = full_pipe();
    let run = |args: &[&str]| {
        let args = [args, &[SHORT, "--endpoints", &node.address]].concat();
        let mut command = command(&args);
        command.stdout(full.try_clone().unwrap());
        ended(command)
    };
    let late = "the answer could not be written: standard output was not read in time";
    assert_eq!(run(&["get", "k"]).failed(3), format!("error: {late}\n"));
    assert_eq!(
        run(&["set", "k", "w"]).failed(5),
        format!("error: carried out (written at revision 2), but {late}\n")
    );
    assert_eq!(client(&node.address, &["get", "k"]).ok(), "w");
}

/// The exit code tells it, also to a caller that reads nothing.
#[test]
fn a_condition_that_does_not_hold_is_never_a_success() {
    let node = Mock::leader();
    for (args, input) in [
        (&["set", "k", "v", "--if-value=v"][..], ""),
        (&["del", "k", "--if-revision=1"], ""),
        (&["txn"], "if exists k\nset k v\nelse\nget k"),
    ] {
        let run = |stdout: OwnedFd, flags: &[&str]| {
            let mut command = client_command(&node.address, &[args, flags].concat());
            command.stdout(stdout).stderr(Stdio::piped());
            ran(with_input_only(command, input.as_bytes()))
        };
        assert_eq!(run(closed_pipe(), &[]).failed(1), "", "{args:?}");
        let error = run(full_disk(), &["--json"]).failed_in_json(3);
        assert_eq!(error["applied"], "no", "{args:?}: {error}");
    }
}

/// Each command that changes something, its effect, and the part of its output that programs read.
fn changes() -> Vec<(Mock, Vec<&'static str>, String, serde_json::Value)> {
    let leader = || Mock::leader().with_members([1, 2, 3]);
    let addresses = ["kv-1:6379", "kv-2:6379", "kv-3:6379"];
    let forming = Mock::follower(None)
        .forms(0xcd)
        .shows([forming(1, addresses)]);
    let (recovering, recovered) = recovery::recovering();
    vec![
        (
            leader(),
            vec!["set", "k", "v"],
            "written at revision 1".to_owned(),
            json!({ "applied_index": 1 }),
        ),
        (
            leader(),
            vec!["del", "k"],
            "no such key, at revision 1".to_owned(),
            json!({ "existed": false, "applied_index": 1 }),
        ),
        (
            leader(),
            vec!["del", "k", "--if-revision=0"],
            "no such key, at revision 1".to_owned(),
            json!({ "succeeded": true, "existed": false, "applied_index": 1 }),
        ),
        (
            leader(),
            vec!["transfer-leader"],
            "node 3 leads in term 7".to_owned(),
            json!({ "leader_id": 3, "term": 7 }),
        ),
        (
            leader(),
            vec!["member", "add", "4", "a:1", "a:2", "--no-wait"],
            "node 4 is a member since log index 1".to_owned(),
            json!({ "applied_index": 1, "members": [1, 2, 3, 4], "healed": false }),
        ),
        (
            leader(),
            vec!["member", "remove", "3", "--no-wait"],
            "node 3 is no member since log index 1".to_owned(),
            json!({ "applied_index": 1, "members": [1, 2], "healed": false }),
        ),
        (
            forming,
            vec!["form", "--without", "3"],
            "cluster 00000000000000cd runs".to_owned(),
            json!({ "cluster_id": "00000000000000cd" }),
        ),
        (
            recovering,
            vec![
                "recover",
                "--from",
                "3",
                "--confirm",
                "5f0c2d9e71a4b863",
                "--no-wait",
            ],
            "cluster 83b1000000000001 runs on what node 3 had (left to do: start node 2 again, once \
             every other member takes part)"
                .to_owned(),
            recovered,
        ),
    ]
}

/// Seen: exit code 3, as if the outcome were unknown, and nothing about the id of the new cluster.
#[test]
fn a_change_whose_answer_cannot_be_written_is_said_to_be_carried_out() {
    for (stdout, why) in [
        (full_disk(), "No space left on device (os error 28)"),
        (closed_pipe(), "Broken pipe (os error 32)"),
    ] {
        for (node, args, done, json) in changes() {
            let run = |args: &[&str]| {
                let mut command = client_command(&node.address, args);
                command.stdout(stdout.try_clone().unwrap());
                ended(command)
            };
            let said = run(&args).failed(5);
            // A recovery prints its plan first.
            let last = &said[said.find("error: ").unwrap()..];
            let words = format!(
                "error: carried out ({done}), but the answer could not be written: {why}\n"
            );
            assert_eq!(last, words, "{args:?}");
            let error = run(&[&args[..], &["--json"]].concat()).failed_in_json(5);
            assert_eq!(error["kind"], "unwritten", "{args:?}");
            assert_eq!(error["applied"], "yes", "{args:?}");
            let mut answer = error["answer"].clone();
            if let Some(index) = answer.get_mut("applied_index") {
                assert_eq!(*index, 2, "{args:?}");
                *index = 1.into();
            }
            assert_eq!(answer, json, "{args:?}");
        }
    }
}
