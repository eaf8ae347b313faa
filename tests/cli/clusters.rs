//! Endpoints that lead to more than one cluster.

use seshat_proto::admin::v1::StatusResponse;

use super::mock::{Mock, dead, paused};
use super::steering::degraded;
use super::{client, client_command, ran};

const ONE: u64 = 0x5f0c_2d9e_71a4_b863;
const TWO: u64 = 0x83b1_0000_0000_0001;

/// The leader of a cluster, and its status.
fn leader(cluster: u64) -> Mock {
    let status = StatusResponse {
        cluster_id: Some(cluster),
        summary: format!("healthy: {cluster:016x}"),
        healed: true,
        ..degraded()
    };
    Mock::leader().of(cluster, None).shows([status])
}

#[test]
fn a_list_that_leads_to_two_clusters_is_refused_by_every_command() {
    let (one, two) = (leader(ONE), leader(TWO));
    let (_socket, dead) = dead();
    let endpoints = format!("{},{dead},{}", two.address, one.address);
    let (first, second) = (&one.address, &two.address);
    let words = format!(
        "the endpoints lead to 2 clusters: {ONE:016x} ({first}) and {TWO:016x} ({second}) (say with \
         --cluster which one you mean)"
    );
    for args in [
        ["get", "k"].as_slice(),
        &["set", "k", "v"],
        &["del", "k"],
        &["status"],
        &["status", "--wait", "healed"],
        &["member", "list"],
        &["member", "remove", "3"],
        &["transfer-leader"],
        &["form", "--without", "3"],
        &["recover", "--from", "1"],
        &["bench", "--duration", "100ms"],
    ] {
        let error = client(&endpoints, args).failed(3);
        assert_eq!(error, format!("error: {words}\n"), "{args:?}");
        let error = client(&endpoints, &[args, &["--json"]].concat()).failed_in_json(3);
        assert_eq!(error["kind"], "other_cluster", "{args:?}");
        assert_eq!(error["applied"], "no", "{args:?}");
        assert_eq!(error["message"], words, "{args:?}");
    }
    assert_eq!((one.writes(), two.writes()), (0, 0));
}

#[test]
fn the_intended_cluster_may_be_named() {
    let (one, two) = (leader(ONE), leader(TWO));
    let endpoints = format!("{},{}", one.address, two.address);
    let said = |id: u64, args: &[&str]| {
        let mut command = client_command(&endpoints, args);
        ran(command
            .env("SESHAT_CLUSTER", format!("{id:016x}"))
            .output()
            .unwrap())
    };
    for (id, value) in [(ONE, "1"), (TWO, "2")] {
        assert_eq!(said(id, &["set", "k", value]).ok(), "OK\n");
    }
    // Whichever endpoint is asked first.
    for _ in 0..5 {
        for (id, value) in [(ONE, "1"), (TWO, "2")] {
            assert_eq!(said(id, &["get", "k"]).ok(), value);
            let status = said(id, &["status"]).ok();
            let summary = format!("healthy: {id:016x}\n");
            assert!(status.starts_with(&summary), "{status}");
        }
    }
    let neither = format!("{:016x}", ONE ^ TWO);
    for args in [
        ["get", "k"].as_slice(),
        &["set", "k", "v"],
        &["status"],
        &["transfer-leader"],
    ] {
        let args = [args, &["--json", "--cluster", &neither]].concat();
        let error = client(&endpoints, &args).failed_in_json(3);
        assert_eq!(error["kind"], "other_cluster", "{args:?}: {error}");
        assert_eq!(error["applied"], "no", "{args:?}: {error}");
    }
    assert_eq!((one.writes(), two.writes()), (1, 1));
    // An empty variable is the same as none.
    let mut get = client_command(&one.address, &["get", "k"]);
    let get = get.env("SESHAT_CLUSTER", " ").output().unwrap();
    assert_eq!(ran(get).ok(), "1");
    // An empty argument is an error.
    for (flag, why) in [
        ("--cluster", "16 hexadecimal"),
        ("--endpoints", "at least one"),
    ] {
        for empty in ["", " "] {
            let error = client(&one.address, &["get", "k", flag, empty]).failed(2);
            assert!(error.contains(flag) && error.contains(why), "{error}");
        }
    }
}

#[test]
fn left_over_processes_of_a_recovered_cluster_are_no_second_cluster() {
    let left = Mock::follower(None).of(ONE, None);
    let new = Mock::leader().of(TWO, Some(ONE));
    let endpoints = format!("{},{}", left.address, new.address);
    assert_eq!(client(&endpoints, &["set", "k", "v"]).ok(), "OK\n");
    assert_eq!(client(&endpoints, &["get", "k"]).ok(), "v");
    // But it is not the named one.
    let one = format!("{ONE:016x}");
    let args = ["set", "k", "w", "--json", "--cluster", &one];
    let error = client(&new.address, &args).failed_in_json(3);
    assert_eq!(error["kind"], "other_cluster", "{error}");
    assert_eq!(client(&endpoints, &["get", "k"]).ok(), "v");
}

#[test]
fn endpoints_that_say_nothing_are_not_waited_for() {
    let node = leader(ONE);
    let (_listener, paused) = paused();
    let (_socket, dead) = dead();
    let endpoints = format!("{paused},{dead},{}", node.address);
    // A fraction of the time would do, but the machine may be busy.
    let args = ["set", "k", "v", "--timeout", "20s"];
    assert_eq!(client(&endpoints, &args).ok(), "OK\n");
}
