//! The log lines of a real cluster, as a program reads them.

use std::fs::{File, read_to_string};
use std::process::Stdio;

use serde_json::Value;

use super::client;
use super::cluster::{Machines, Running};

/// The targets of the lines about a node's Raft group.
const RAFT: [&str; 2] = ["seshat::driver::journal", "seshat::replication"];

/// Three nodes, and a log file of each.
struct Logged {
    machines: Machines,
    nodes: Vec<Running>,
}

impl Logged {
    fn start() -> Self {
        let machines = Machines::new("logs");
        let nodes = (1..=3).map(|id| serve(&machines, id, "first"));
        Self {
            nodes: nodes.collect(),
            machines,
        }
    }

    fn heals(&self) {
        let status = ["status", "--wait", "healed", "--timeout", "120s"];
        let ran = client(self.machines.endpoints(), &status);
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    fn set(&self, value: &str) {
        let set = ["set", "k", value, "--timeout", "60s"];
        assert_eq!(client(self.machines.endpoints(), &set).ok(), "OK\n");
    }

    /// The id of the leader.
    fn leader(&self) -> usize {
        let status = ["status", "--json", "--timeout", "60s"];
        let status = client(self.machines.endpoints(), &status).ok();
        let status: Value = serde_json::from_str(&status).unwrap();
        usize::try_from(status["leader_id"].as_u64().unwrap()).unwrap()
    }
}

fn log_file(id: usize, incarnation: &str) -> String {
    format!(
        "{}/logs-{id}-{incarnation}.log",
        env!("CARGO_TARGET_TMPDIR")
    )
}

fn serve(machines: &Machines, id: usize, incarnation: &str) -> Running {
    let mut serve = machines.serve(id);
    serve.env("SESHAT_LOG", "info,seshat::replication=debug");
    let log = File::create(log_file(id, incarnation)).unwrap();
    Running(serve.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// The lines of a log, each of which has to be an object with the common fields.
fn lines(id: usize, incarnation: &str) -> Vec<Value> {
    let log = read_to_string(log_file(id, incarnation)).unwrap();
    let parsed = log.lines().map(|line| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        for name in ["timestamp", "level", "target", "message"] {
            assert!(value[name].is_string(), "no {name}: {line}");
        }
        assert_eq!(value["node"], id.to_string(), "{line}");
        if RAFT.contains(&value["target"].as_str().unwrap()) {
            let raft_id = value["raft_id"].as_str().unwrap_or_default();
            assert!(raft_id.starts_with(&id.to_string()), "{line}");
            assert!(value["term"].is_u64() && value["index"].is_u64(), "{line}");
        }
        value
    });
    parsed.collect()
}

/// The lines with the message `message`.
fn saying<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    let says = |line: &&Value| line["message"] == message;
    lines.iter().filter(says).collect()
}

#[test]
fn every_line_is_json_and_every_event_of_raft_says_where_it_happened() {
    let mut cluster = Logged::start();
    cluster.heals();
    cluster.set("before");
    let leader = cluster.leader();
    cluster.nodes[leader - 1].0.kill().unwrap();
    cluster.set("after");
    let next = cluster.leader();
    assert_ne!(leader, next);
    cluster.nodes[leader - 1] = serve(&cluster.machines, leader, "second");
    cluster.heals();
    for node in cluster.nodes.drain(..) {
        node.signal("TERM");
        assert_eq!(node.end().code, 0);
    }

    let transferee = lines(next, "first");
    let elected = saying(&transferee, "became leader");
    let won = elected.last().unwrap();
    let sent = saying(&transferee, "sends entries");
    let write = sent.iter().rfind(|line| line["term"] == won["term"]);
    let write = write.unwrap();
    assert!(
        write["first"].as_u64() <= write["index"].as_u64(),
        "{write}"
    );
    assert!(write["bytes"].as_u64() > Some(0), "{write}");

    let peer: usize = write["peer"].as_str().unwrap().parse().unwrap();
    let incarnation = if peer == leader { "second" } else { "first" };
    let there = lines(peer, incarnation);
    let received = saying(&there, "receives entries");
    assert!(
        received.iter().any(|line| {
            ["term", "index", "first", "bytes"].map(|name| &line[name])
                == ["term", "index", "first", "bytes"].map(|name| &write[name])
        }),
        "node {peer} says nothing of {write}"
    );
    for (id, incarnation) in [(leader, "first"), (next, "first"), (leader, "second")] {
        let lines = lines(id, incarnation);
        let committed = saying(&lines, "committed");
        assert!(!committed.is_empty(), "node {id} commits nothing");
        for line in committed {
            assert!(line["first"].as_u64() <= line["index"].as_u64(), "{line}");
        }
    }
}
