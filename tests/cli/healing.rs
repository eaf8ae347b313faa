//! `status --wait healed`.

use seshat_proto::admin::v1::{ClusterState, MemberRole, StatusResponse};

use super::mock::{Mock, dead, paused};
use super::steering::{degraded, member};
use super::{client, seshat};

/// The status from node 1, the leader, with three healed members.
pub(crate) fn healed() -> StatusResponse {
    StatusResponse {
        state: ClusterState::Healthy.into(),
        summary: "healthy: every member takes part".to_owned(),
        healed: true,
        members: vec![
            member(1, MemberRole::Leader),
            member(2, MemberRole::Follower),
            member(3, MemberRole::Follower),
        ],
        ..degraded()
    }
}

/// The status from node 1, the leader, while node 3 returns.
pub(crate) fn healing(percent: u32) -> StatusResponse {
    StatusResponse {
        state: ClusterState::Healing.into(),
        summary: format!("healing node 3: catching up {percent} %"),
        healed: false,
        ..healed()
    }
}

const WAIT: [&str; 3] = ["status", "--wait", "healed"];

fn wait(flags: &[&'static str]) -> Vec<&'static str> {
    [&WAIT, flags].concat()
}

#[test]
fn the_reason_of_the_wait_is_shown_when_it_changes() {
    let node =
        || Mock::follower(None).shows([degraded(), healing(7), healing(7), healing(81), healed()]);
    let ran = client(&node().address, &WAIT);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            0,
            "node 1 leads; node 3 is not reachable\nhealing node 3: catching up 7 %\nhealing node \
             3: catching up 81 %\n"
        )
    );
    let shown = |text: &str| {
        text.starts_with("healthy: every member takes part\n") && text.contains("\n\nNODE  ")
    };
    assert!(shown(&ran.stdout), "{ran:?}");
    let quiet = client(&node().address, &wait(&["--quiet"])).ok();
    assert!(shown(&quiet), "{quiet}");
    let json = client(&node().address, &wait(&["--json"])).ok();
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&status["healed"], &status["state"]),
        (&true.into(), &"healthy".into())
    );
}

#[test]
fn a_cluster_that_is_healed_is_not_waited_for() {
    let node = Mock::showing(healed());
    assert!(client(&node.address, &WAIT).ok().starts_with("healthy: "));
    // From any node: it has asked the leader.
    let follower = Mock::showing(StatusResponse {
        answered_by: 2,
        ..healed()
    });
    assert!(
        client(&follower.address, &WAIT)
            .ok()
            .starts_with("healthy: ")
    );
}

#[test]
fn endpoints_that_are_down_do_not_matter() {
    let (_socket, dead) = dead();
    let (_listener, paused) = paused();
    let node = Mock::follower(None).shows([degraded(), healed()]);
    let endpoints = format!("{dead},{paused},{}", node.address);
    assert!(
        client(&endpoints, &wait(&["--quiet"]))
            .ok()
            .starts_with("healthy: ")
    );
}

#[test]
fn a_wait_that_times_out_exits_3_with_the_last_status() {
    let node = Mock::follower(None).shows([degraded(), healing(81)]);
    let ran = client(&node.address, &wait(&["--timeout", "2s", "--quiet"]));
    assert_eq!(
        ran.failed(3),
        "error: the cluster was not healed within 2s: healing node 3: catching up 81 %\n"
    );
    let error = client(&node.address, &wait(&["--timeout", "1s", "--json"])).failed_in_json(3);
    assert_eq!(error["kind"], "not_healed", "{error}");
    assert!(error.get("applied").is_none(), "{error}");
    // A cluster that never answered was not reached.
    let (_socket, dead) = dead();
    assert_eq!(
        client(&dead, &wait(&["--timeout", "1s"])).failed(3),
        format!("error: the cluster cannot be reached within 1s: {dead}: connection refused\n")
    );
}

/// The status from node 1, the leader, of the two remaining members.
pub(crate) fn no_spare() -> StatusResponse {
    let mut status = healed();
    status.members.pop();
    StatusResponse {
        state: ClusterState::NoSpare.into(),
        summary: "no spare: 2 members take part".to_owned(),
        healed: false,
        ..status
    }
}

/// Seen: exit 0 with two members, of which none may be restarted.
#[test]
fn a_cluster_that_cannot_heal_is_not_waited_for() {
    let halted = StatusResponse {
        state: ClusterState::Halted.into(),
        summary: "halted: seshat recover --from 3".to_owned(),
        leader_id: None,
        ..no_spare()
    };
    for status in [no_spare(), halted] {
        let error = format!("error: the cluster cannot be healed: {}\n", status.summary);
        let node = Mock::showing(status);
        // Half an hour, otherwise.
        let ran = client(&node.address, &wait(&["--timeout", "30m"]));
        assert_eq!(ran.failed(3), error);
        let error = client(&node.address, &wait(&["--json"])).failed_in_json(3);
        assert_eq!(error["kind"], "not_healed", "{error}");
    }
    let json = client(&Mock::showing(no_spare()).address, &["status", "--json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&status["healed"], &status["state"]),
        (&false.into(), &"no_spare".into())
    );
}

#[test]
fn a_waiting_command_has_the_members_asked_anew() {
    let node = Mock::showing(healed());
    client(&node.address, &["status"]).ok();
    client(&node.address, &WAIT).ok();
    assert_eq!(node.asked_to_be_fresh(), [false, true]);
}

#[test]
fn only_healed_can_be_waited_for() {
    let error = seshat(&["status", "--wait", "leader"]).failed(2);
    assert!(error.contains("[possible values: healed]"), "{error}");
    let error = seshat(&["status", "--quiet"]).failed(2);
    assert!(error.contains("--wait"), "{error}");
}
