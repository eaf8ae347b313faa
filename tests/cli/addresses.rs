//! Wrong addresses: of a member for the others, and for clients.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::{Machines, Running, free_ports};
use super::{Ran, client};

const HEALTHY: &str = "healthy: every member takes part, and the cluster may lose any one of them";

fn nowhere() -> String {
    format!("127.0.0.1:{}", free_ports(1))
}

fn wait(endpoints: &str) -> Ran {
    client(endpoints, &["status", "--wait", "healed", "--quiet"])
}

/// Waits until the summary is this.
fn until(endpoints: &str, summary: &str) {
    let mut said = String::new();
    for _ in 0..600 {
        said = client(endpoints, &["status"]).ok();
        if said.lines().next() == Some(summary) {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("for ever: {said}");
}

/// Seen: node 1 had mistyped its own address, and the cluster was healthy until it was restarted.
#[test]
fn a_leader_that_has_mistyped_its_own_address_is_named_before_it_is_restarted() {
    let name = "own_address";
    let machines = Machines::new(name);
    let (right, wrong) = (machines.internal_address(1), nowhere());
    let start = |id| Running::start(machines.serve(id));
    let mistyped = machines.serve_mistyped("own_address_mistyped", 1, &right, &wrong);
    let mut nodes = [Running::start(mistyped), start(2), start(3)];
    let all = machines.endpoints();
    let words = format!(
        "degraded: nodes 2 and 3 do not reach node 1: its address {wrong} does not answer (to correct \
         it: seshat member add 1 HOST:PORT {})",
        machines.address(1)
    );
    until(all, &words);
    let json = client(all, &["status", "--json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["leader_id"], 1);
    assert_eq!(json["members"][1]["unreached"], serde_json::json!([1]));
    let failure = client(
        all,
        &["status", "--wait", "healed", "--timeout", "5s", "--quiet"],
    );
    // Node 1 names the nodes that do not reach it, and these report it, too.
    let fault = words.split(" its address ").last().unwrap();
    let failure = failure.failed(3);
    assert!(failure.contains(fault), "{failure}");

    let added = client(
        all,
        &["member", "add", "1", &right, machines.address(1), "--quiet"],
    );
    assert!(added.ok().contains(HEALTHY));
    // As it suggested.
    nodes[0].signal("KILL");
    nodes[0] = start(1);
    assert!(wait(all).ok().starts_with(HEALTHY));
}

/// Seen: exit code 0 and `healthy`, because the leader still believed its answers from the former
/// address.
#[test]
fn a_running_member_that_is_given_a_wrong_address_is_not_healed() {
    let machines = Machines::new("moved_nowhere");
    let _nodes = [1, 2, 3].map(|id| Running::start(machines.serve(id)));
    let all = machines.endpoints();
    assert!(wait(all).ok().starts_with(HEALTHY));
    let (right, wrong) = (machines.internal_address(2), nowhere());
    let add = |addr: &str, timeout: &str| {
        let args = [
            "member",
            "add",
            "2",
            addr,
            machines.address(2),
            "--timeout",
            timeout,
        ];
        client(all, &args)
    };
    let failure = add(&wrong, "10s").failed(3);
    let words = format!(
        "node 2 runs, but its address {wrong} does not answer (to correct it: seshat member add 2 \
         HOST:PORT {})",
        machines.address(2)
    );
    let last = failure.lines().last().unwrap();
    assert!(last.contains(&words), "{failure}");
    assert!(
        last.contains("node 2 is a member since log index"),
        "{failure}"
    );
    let ran = add(&right, "60s");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains(HEALTHY), "{ran:?}");
}

/// Nodes do not need each other's client addresses, so these are no part of healthy. Clients are sent
/// there.
#[test]
fn status_names_a_member_that_clients_do_not_find() {
    let machines = Machines::new("client_address");
    let _nodes = [1, 2, 3].map(|id| Running::start(machines.serve(id)));
    let all = machines.endpoints();
    let said = wait(all).ok();
    assert!(said.starts_with(&format!("{HEALTHY}\n\nNODE")), "{said}");

    let (addr, wrong) = (machines.internal_address(2), nowhere());
    client(all, &["member", "add", "2", &addr, &wrong, "--quiet"]).ok();
    let lines = |ran: Ran| -> Vec<String> { ran.ok().lines().map(str::to_owned).collect() };
    // Without --wait the status may be from a moment ago, when not every member knew of the change.
    let said = lines(wait(all));
    assert_eq!(said[0], HEALTHY);
    let correct = format!("(if that is not its address: seshat member add 2 {addr} HOST:PORT)");
    let words = format!(
        "clients are sent to node 2 at {wrong}, and it does not answer there: connection refused {correct}"
    );
    assert_eq!(said[1], words);
    assert_eq!(said[2], "");
    let json = client(all, &["status", "--json", "--wait", "healed"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    let faults = json["members"].as_array().unwrap().iter();
    let faults: Vec<_> = faults.map(|it| it["client_addr_fault"].as_str()).collect();
    let fault = "it does not answer there: connection refused";
    assert_eq!(faults, [None, Some(fault), None]);
}

/// A node whose process is stopped, and whose port for nodes has no room for another connection.
#[test]
fn no_cluster_forms_without_a_node_whose_kernel_takes_no_more_connections_for_it() {
    let machines = Machines::new("crowded");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let _for_clients = std::net::TcpListener::bind(machines.address(3)).unwrap();
    let port = machines.internal_address(3).parse().unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(port).unwrap();
    let _for_nodes = socket.listen(1).unwrap();
    let mut connections = Vec::new();
    while let Ok(connection) =
        std::net::TcpStream::connect_timeout(&port, Duration::from_millis(500))
    {
        connections.push(connection);
    }
    let _others: Vec<_> = (1..=2)
        .map(|id| Running::start(machines.serve(id)))
        .collect();
    let words = "node 3 accepts connections and does not answer: it may hang";
    let begun = Instant::now();
    // Longer than it takes until a machine that is off counts as gone.
    let mut seen = false;
    while begun.elapsed() < Duration::from_secs(8) {
        let ran = client(machines.address(1), &["status"]);
        assert!(!ran.stdout.contains("seshat form"), "{}", ran.stdout);
        seen |= ran.stdout.contains(words);
    }
    assert!(seen, "never said to hang");
    let refused = client(machines.address(1), &["form", "--without", "3"]).failed(3);
    assert!(refused.contains(words), "{refused}");
}

/// Seen: status suggested to form without node 2, which asked node 1 all the time.
#[test]
fn an_address_that_is_mistyped_before_there_is_a_cluster_is_named() {
    let machines = Machines::new("mistyped_before");
    let (right, wrong) = (machines.internal_address(2), nowhere());
    let mistyped = machines.serve_mistyped("mistyped_before_1", 1, &right, &wrong);
    let start = |id| Running::start(machines.serve(id));
    let _nodes = [Running::start(mistyped), start(2), start(3)];
    let words = "forming: node 2 asks node 1, which does not reach it: the address of node 2 in the file \
                 of node 1 does not answer; correct it there, and start node 1 again";
    until(machines.address(1), words);
    until(machines.endpoints(), words);
    let refused = client(machines.address(1), &["form", "--without", "2"]).failed(3);
    assert!(refused.contains("in the file of node 1"), "{refused}");
}
