//! How commands find the leader, when they retry, and how they fail.

use serde_json::json;
use std::thread;

use seshat_proto::kv::v1::error_detail::Reason;
use seshat_proto::kv::v1::{Applied, Forming, NoQuorum, Overloaded, TooLarge};
use tonic::{Code, Status};

use super::mock::{Fate, Mock, dead, not_leader, paused, refusal};
use super::{client, seshat};

#[test]
fn a_leader_that_is_not_among_the_endpoints_is_found_through_a_follower() {
    let leader = Mock::leader();
    let follower = Mock::follower(Some(&leader.address));
    assert_eq!(client(&follower.address, &["set", "k", "v"]).ok(), "OK\n");
    assert_eq!(client(&follower.address, &["get", "k"]).ok(), "v");
    assert_eq!(leader.writes(), 1);
}

#[test]
fn a_leader_whose_address_leads_nowhere_is_found_among_the_endpoints() {
    let (_socket, nowhere) = dead();
    let leader = Mock::leader();
    for hint in [Some(nowhere.as_str()), Some("no address"), None] {
        let follower = Mock::follower(hint);
        let endpoints = format!("{},{}", follower.address, leader.address);
        assert_eq!(client(&endpoints, &["set", "k", "v"]).ok(), "OK\n");
    }
}

#[test]
fn dead_and_paused_endpoints_cost_nothing() {
    let (_socket, dead) = dead();
    let (_listener, paused) = paused();
    let leader = Mock::leader();
    let endpoints = format!("{dead},{paused},{}", leader.address);
    // With a share of these endless timeouts for each endpoint, this test would not end.
    for args in [["set", "k", "v"].as_slice(), &["get", "k"], &["del", "k"]] {
        client(&endpoints, &[args, &["--timeout", "24h"]].concat()).ok();
    }
}

#[test]
fn a_paused_endpoint_alone_is_given_up_in_time() {
    let (_listener, paused) = paused();
    assert_eq!(
        client(&paused, &["set", "k", "v", "--timeout", "1s"]).failed(3),
        format!("error: the cluster cannot be reached within 1s: {paused}: no answer in time\n")
    );
}

#[test]
fn a_cluster_that_is_down_is_one_line() {
    let ((_one, first), (_two, second)) = (dead(), dead());
    let (first, second) = if first < second {
        (first, second)
    } else {
        (second, first)
    };
    let endpoints = format!("{first},{second}");
    let commands = [
        ["set", "k", "v"].as_slice(),
        &["get", "k"],
        &["del", "k"],
        &["status"],
        &["transfer-leader"],
    ];
    let check = |args: &[&str]| {
        let args = [args, &["--timeout", "2s"]].concat();
        assert_eq!(
            client(&endpoints, &args).failed(3),
            format!(
                "error: the cluster cannot be reached within 2s: {first}, {second}: connection \
                 refused\n"
            )
        );
        let error = client(&endpoints, &[&args[..], &["--json"]].concat()).failed_in_json(3);
        assert_eq!(
            (&error["kind"], &error["applied"]),
            (&json!("unreachable"), &json!("no"))
        );
    };
    // At once: each of them uses up its time.
    thread::scope(|scope| {
        for args in commands {
            scope.spawn(|| check(args));
        }
    });
}

#[test]
fn a_write_that_was_not_applied_is_made_again() {
    let overloaded = Reason::Overloaded(Overloaded {
        what: "max_pending_requests".to_owned(),
        limit: 1,
    });
    let node = Mock::leader()
        .next_write(Fate::Refused(refusal(
            Code::ResourceExhausted,
            "overloaded",
            Applied::No,
            Some(overloaded),
        )))
        .next_write(Fate::Refused(not_leader(None)))
        // A reason of some later version.
        .next_write(Fate::Refused(refusal(
            Code::Unavailable,
            "busy",
            Applied::No,
            None,
        )));
    assert_eq!(client(&node.address, &["set", "k", "v"]).ok(), "OK\n");
    assert_eq!(node.writes(), 4);
}

#[test]
fn a_write_whose_outcome_is_unknown_is_not_made_again() {
    let no_quorum = || Some(Reason::NoQuorum(NoQuorum { cut_off: false }));
    for status in [
        refusal(
            Code::Unavailable,
            "no majority",
            Applied::Unknown,
            no_quorum(),
        ),
        refusal(
            Code::Unavailable,
            "no majority",
            Applied::Unspecified,
            no_quorum(),
        ),
        Status::unavailable("no majority"),
    ] {
        let node = Mock::leader().next_write(Fate::Refused(status));
        assert_eq!(
            client(&node.address, &["set", "k", "v"]).failed(3),
            format!(
                "error: outcome unknown: {}: no majority; the request may have been carried out, \
                 or may yet be, and was not repeated\n",
                node.address
            )
        );
        assert_eq!(node.writes(), 1);
    }
}

#[test]
fn a_write_without_an_answer_has_an_unknown_outcome() {
    let node = Mock::leader().next_write(Fate::Silence);
    let args = ["del", "k", "--timeout", "5s", "--json"];
    let error = client(&node.address, &args).failed_in_json(3);
    assert_eq!(error["applied"], json!("unknown"), "{error}");
    assert_eq!(error["kind"], json!("timeout"), "{error}");
    assert_eq!(node.writes(), 1);
}

#[test]
fn a_request_at_fault_is_refused_at_once() {
    let reason = Reason::TooLarge(TooLarge {
        what: "value".to_owned(),
        limit: 1,
        node_id: None,
    });
    let message = "value is too large:\nat most 1 bytes";
    let status = refusal(Code::InvalidArgument, message, Applied::No, Some(reason));
    let node = Mock::leader().next_write(Fate::Refused(status));
    assert_eq!(
        client(&node.address, &["set", "k", "v"]).failed(3),
        format!(
            "error: {}: value is too large: at most 1 bytes\n",
            node.address
        )
    );
    assert_eq!(node.writes(), 1);
}

#[test]
fn a_cluster_without_a_majority_says_so() {
    let message = "no leader with a majority";
    let reason = Some(Reason::NoQuorum(NoQuorum { cut_off: false }));
    let node = Mock::refusing(refusal(Code::Unavailable, message, Applied::No, reason));
    let (_socket, dead) = dead();
    let endpoints = format!("{},{dead}", node.address);
    let error = client(&endpoints, &["get", "k", "--timeout", "4s"]).failed(3);
    let start = "error: the cluster did not serve the request within 4s: ";
    assert!(error.starts_with(start), "{error}");
    for part in [
        format!("{}: {message}", node.address),
        format!("{dead}: connection refused"),
    ] {
        assert!(error.contains(&part), "{error}");
    }
    assert_eq!(error.lines().count(), 1);

    let args = ["set", "k", "v", "--timeout", "4s", "--json"];
    let error = client(&endpoints, &args).failed_in_json(3);
    assert_eq!(
        (&error["kind"], &error["applied"]),
        (&json!("no_quorum"), &json!("no"))
    );
}

#[test]
fn a_forming_cluster_is_waited_for() {
    let reason = Reason::Forming(Forming {
        waiting_for: "node 2".to_owned(),
    });
    let status = refusal(Code::Unavailable, "forming", Applied::No, Some(reason));
    for args in [["set", "k", "v"].as_slice(), &["del", "k"], &["get", "k"]] {
        let node = Mock::refusing_first(3, status.clone());
        let ran = client(&node.address, args);
        assert!(ran.code <= 1 && ran.stderr.is_empty(), "{ran:?}");
    }
}

#[test]
fn a_server_of_another_kind_is_not_asked_twice() {
    let node = Mock::refusing(Status::unimplemented("no such service"));
    assert_eq!(
        client(&node.address, &["get", "k"]).failed(3),
        format!(
            "error: no node serves the request: {}: no such service\n",
            node.address
        )
    );
    // As long as another endpoint may be right, it is only left out.
    let leader = Mock::leader();
    let endpoints = format!("{},{}", node.address, leader.address);
    assert_eq!(client(&endpoints, &["set", "k", "v"]).ok(), "OK\n");
}

#[test]
fn flags_go_before_the_environment() {
    let leader = Mock::leader();
    let (_socket, dead) = dead();
    let args = [
        "set",
        "k",
        "v",
        "--endpoints",
        &leader.address,
        "--timeout",
        "60s",
    ];
    assert_eq!(seshat(&args).ok(), "OK\n");
    assert_eq!(client(&dead, &args).ok(), "OK\n");
}
