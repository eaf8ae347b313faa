//! `member list`, `member add` and `member remove`.

use seshat_proto::admin::v1::{AddMemberRequest, MemberRole, MemberStatus, StatusResponse};
use tonic::Status;

use super::client;
use super::healing::{healed, healing, no_spare};
use super::mock::{Fate, Mock, not_leader, precondition};
use super::steering::{degraded, member};

fn healed_with_4() -> StatusResponse {
    let mut status = healed();
    status.members.push(member(4, MemberRole::Follower));
    status
}

const ADD: [&str; 5] = ["member", "add", "4", "kv-4:7379", "kv-4:6379"];

fn add(flags: &[&'static str]) -> Vec<&'static str> {
    [&ADD, flags].concat()
}

/// A leader of nodes 1 to 3.
fn leader() -> Mock {
    Mock::leader().with_members([1, 2, 3])
}

#[test]
fn members_are_listed() {
    let mut status = degraded();
    status.members[1] = MemberStatus {
        caught_up_percent: Some(7),
        ..member(2, MemberRole::Learner)
    };
    let node = Mock::showing(status);
    assert_eq!(
        client(&node.address, &["member", "list"]).ok(),
        "\
NODE  ROLE         ADDRESS    CLIENT ADDRESS
   1  leader       kv-1:7379  kv-1:6379
   2  learner 7 %  kv-2:7379  kv-2:6379
   3  -            kv-3:7379  kv-3:6379
"
    );
    let json = client(&node.address, &["member", "list", "--json"]).ok();
    let expected = String::from(r#"{"members":["#)
        + r#"{"id":1,"role":"leader","addr":"kv-1:7379","client_addr":"kv-1:6379"},"#
        + r#"{"id":2,"role":"learner","addr":"kv-2:7379","client_addr":"kv-2:6379"},"#
        + r#"{"id":3,"role":null,"addr":"kv-3:7379","client_addr":"kv-3:6379"}]}"#;
    assert_eq!(json, expected + "\n");
}

#[test]
fn a_member_is_added_once_it_takes_part() {
    // The first status is from before the decision: healed, but without node 4.
    let statuses = || [healed(), healing(50), healed_with_4()];
    let node = leader().shows(statuses());
    let follower = Mock::follower(Some(&node.address)).shows(statuses());
    let ran = client(&follower.address, &ADD);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        ran.stdout,
        "node 4 is a member; healthy: every member takes part\nlist it in the configuration of every node, or set node.data_dir there: a node \
         that is started again asks the members that these name\n"
    );
    assert!(ran.stderr.contains("healing node 3: catching up 50 %\n"));
    let request = AddMemberRequest {
        id: 4,
        addr: "kv-4:7379".to_owned(),
        client_addr: "kv-4:6379".to_owned(),
        ..AddMemberRequest::default()
    };
    assert_eq!(node.added(), [request]);

    let node = leader().shows(statuses());
    assert_eq!(
        client(&node.address, &add(&["--json"])).ok(),
        "{\"applied_index\":1,\"members\":[1,2,3,4],\"healed\":true}\n"
    );
}

#[test]
fn remove_ends_when_the_cluster_is_healthy() {
    let statuses = || [healed_with_4(), healed()];
    let node = leader().with_members([1, 2, 3, 4]).shows(statuses());
    let remove = ["member", "remove", "4", "--quiet"];
    assert_eq!(
        client(&node.address, &remove).ok(),
        "node 4 is no member; healthy: every member takes part\n"
    );
    let node = leader().with_members([1, 2, 3, 4]).shows(statuses());
    assert_eq!(
        client(&node.address, &["member", "remove", "4", "--json"]).ok(),
        "{\"applied_index\":1,\"members\":[1,2,3],\"healed\":true}\n"
    );
}

/// The node names the consequence of a removal, and refuses it without `--yes`.
#[test]
fn a_removal_that_leaves_two_is_asked_for_twice() {
    let node = leader().next_write(Fate::Refused(precondition("it costs something")));
    let error = client(&node.address, &["member", "remove", "3"]).failed(3);
    assert!(error.ends_with("it costs something\n"), "{error}");

    let node = leader().shows([healed(), no_spare()]);
    let remove = ["member", "remove", "3", "--yes", "--quiet"];
    assert_eq!(
        client(&node.address, &remove).ok(),
        "node 3 is no member; no spare: 2 members take part\n"
    );
    let accepted: Vec<_> = node.removed().iter().map(|it| it.accept_no_spare).collect();
    assert_eq!(accepted, [true]);
    let node = leader().shows([healed(), no_spare()]);
    let json = client(&node.address, &["member", "remove", "3", "--yes", "--json"]).ok();
    assert_eq!(
        json,
        "{\"applied_index\":1,\"members\":[1,2],\"healed\":false}\n"
    );
}

#[test]
fn a_command_need_not_wait_for_the_change() {
    let node = leader().next_write(Fate::Refused(not_leader(None)));
    assert_eq!(
        client(&node.address, &add(&["--no-wait"])).ok(),
        "node 4 is a member since log index 1\nlist it in the configuration of every node, or set node.data_dir there: a node \
         that is started again asks the members that these name\n"
    );
    assert_eq!(
        client(
            &node.address,
            &["member", "remove", "4", "--no-wait", "--json"]
        )
        .ok(),
        "{\"applied_index\":2,\"members\":[1,2,3],\"healed\":false}\n"
    );
    // The last one counts.
    let node = leader().shows([healed_with_4()]);
    let ran = client(&node.address, &add(&["--no-wait", "--wait"])).ok();
    assert!(ran.contains("healthy"), "{ran}");
}

#[test]
fn a_change_that_is_decided_but_not_finished_says_both() {
    let node = leader().shows([healing(50)]);
    let error = client(&node.address, &add(&["--timeout", "2s", "--quiet"])).failed(3);
    assert_eq!(
        error,
        "error: node 4 is a member since log index 1, but the cluster was not healed within 2s: \
         healing node 3: catching up 50 %\n"
    );
    // No node has a status to show: still the change was made.
    let node = leader();
    let args = ["member", "remove", "3", "--timeout", "2s", "--json"];
    let error = client(&node.address, &args).failed_in_json(3);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("node 3 is no member since log index 1, but "),
        "{error}"
    );
    assert!(error.get("applied").is_none(), "{error}");
}

#[test]
fn a_change_that_is_refused_or_unknown_is_not_made_again() {
    let node = leader().next_write(Fate::Refused(precondition("another change is under way")));
    assert_eq!(
        client(&node.address, &ADD).failed(3),
        format!("error: {}: another change is under way\n", node.address)
    );
    let node = leader().next_write(Fate::Refused(Status::unavailable("gone")));
    let error = client(&node.address, &["member", "remove", "4", "--json"]).failed_in_json(3);
    assert_eq!(error["applied"], "unknown", "{error}");
    assert_eq!(node.writes(), 1);
}
