//! `status` and `transfer-leader`.

use prost_types::Timestamp;
use seshat_proto::admin::v1::{ClusterState, MemberRole, MemberStatus, StatusResponse};

use super::client;
use super::mock::{Fate, Mock, dead, not_leader};

pub(crate) fn member(id: u32, role: MemberRole) -> MemberStatus {
    MemberStatus {
        id,
        raft_id: u64::from(id) << 48 | 0x3fa9_4c01_b2d7,
        role: role.into(),
        term: 2,
        commit_index: 14,
        applied_index: 13,
        keys: 3,
        state_bytes: 1_234_567,
        max_state_bytes: 2 << 30,
        addr: format!("kv-{id}:7379"),
        client_addr: format!("kv-{id}:6379"),
        reachable: true,
        joined_at: Some(Timestamp::default()),
        caught_up_percent: None,
        unreached: Vec::new(),
    }
}

pub(crate) fn degraded() -> StatusResponse {
    StatusResponse {
        cluster_id: Some(0xab),
        leader_id: Some(1),
        term: 2,
        state: ClusterState::Degraded.into(),
        summary: "node 1 leads; node 3 is not reachable".to_owned(),
        answered_by: 1,
        healed: false,
        members: vec![
            member(1, MemberRole::Leader),
            member(2, MemberRole::Follower),
            MemberStatus {
                id: 3,
                raft_id: 3 << 48,
                addr: "kv-3:7379".to_owned(),
                client_addr: "kv-3:6379".to_owned(),
                ..MemberStatus::default()
            },
        ],
    }
}

pub(crate) fn forming() -> StatusResponse {
    StatusResponse {
        state: ClusterState::Forming.into(),
        answered_by: 2,
        members: vec![MemberStatus {
            raft_id: 0,
            term: 0,
            ..member(2, MemberRole::Forming)
        }],
        ..StatusResponse::default()
    }
}

/// Nodes 1 and 2 of three, which serve clients at these addresses. The first shows `degraded`.
fn living() -> [Mock; 2] {
    let follower = Mock::showing(StatusResponse {
        answered_by: 2,
        ..degraded()
    });
    let leader = Mock::follower(None);
    let mut status = degraded();
    status.members[0].client_addr = leader.address.clone();
    status.members[1].client_addr = follower.address.clone();
    [leader.shows([status]), follower]
}

#[test]
fn status_is_a_table_for_people() {
    let [one, two] = living();
    assert_eq!(
        client(&one.address, &["status"]).ok(),
        format!(
            "\
node 1 leads; node 3 is not reachable

NODE  RAFT ID         ROLE      TERM  COMMIT  APPLIED  KEYS  STATE               {:15}  REACHABLE
   1  1.3fa94c01b2d7  leader       2      14       13     3  1.1 MiB of 2.0 GiB  {:15}  yes
   2  2.3fa94c01b2d7  follower     2      14       13     3  1.1 MiB of 2.0 GiB  {:15}  yes
   3  3.000000000000  -            -       -        -     -  -                   {:15}  no
",
            "ADDRESS", one.address, two.address, "kv-3:6379"
        )
    );
}

/// At a member's client address, clients may find another node, or one of another cluster.
#[test]
fn status_names_members_whose_client_address_leads_elsewhere() {
    let [one, two] = living();
    let two = two.shows([degraded()]);
    let other = StatusResponse {
        cluster_id: Some(0xac),
        ..degraded()
    };
    let first = || client(&one.address, &["status"]).ok();
    let sent = format!("clients are sent to node 2 at {}, and", two.address);
    let correct = "(if that is not its address: seshat member add 2 kv-2:7379 HOST:PORT)";
    let line = |text: String| text.lines().nth(1).unwrap_or_default().to_owned();
    assert_eq!(
        line(first()),
        format!("{sent} node 1 answers there {correct}")
    );
    let _two = two.shows([StatusResponse {
        answered_by: 2,
        ..other
    }]);
    let words = format!("{sent} a node of another cluster answers there {correct}");
    assert_eq!(line(first()), words);
}

#[test]
fn status_is_json_for_programs() {
    let [one, two] = living();
    let known = |id: u8, role: &str, client_addr: &str| {
        format!(r#"{{"id":{id},"raft_id":"{id}.3fa94c01b2d7","role":"{role}","term":2,"#,)
            + r#""commit_index":14,"applied_index":13,"keys":3,"state_bytes":1234567,"#
            + &format!(r#""max_state_bytes":2147483648,"addr":"kv-{id}:7379","#,)
            + &format!(r#""client_addr":"{client_addr}","client_addr_fault":null,"#)
            + r#""reachable":true,"unreached":[],"caught_up_percent":null}"#
    };
    let expected = String::from(
        r#"{"cluster_id":"00000000000000ab","leader_id":1,"term":2,"state":"degraded","#,
    ) + r#""healed":false,"summary":"node 1 leads; node 3 is not reachable","members":["#
        + &known(1, "leader", &one.address)
        + ","
        + &known(2, "follower", &two.address)
        + r#",{"id":3,"raft_id":"3.000000000000","role":null,"term":null,"commit_index":null,"#
        + r#""applied_index":null,"keys":null,"state_bytes":null,"max_state_bytes":null,"addr":"kv-3:7379","client_addr":"kv-3:6379","#
        + "\"client_addr_fault\":null,\"reachable\":false,\"unreached\":[],\"caught_up_percent\":null}]}\n";
    assert_eq!(client(&one.address, &["status", "--json"]).ok(), expected);
}

#[test]
fn a_learner_shows_how_far_it_is() {
    let mut status = degraded();
    status.members[1].role = MemberRole::Learner.into();
    status.members[1].caught_up_percent = Some(81);
    let node = Mock::showing(status);
    let text = client(&node.address, &["status"]).ok();
    assert!(
        text.contains("   2  2.3fa94c01b2d7  learner 81 %     2      14 "),
        "{text}"
    );
    let json = client(&node.address, &["status", "--json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["members"][1]["caught_up_percent"], 81);
    assert_eq!(status["members"][1]["role"], "learner");
}

#[test]
fn unknown_fields_are_null() {
    let node = Mock::showing(forming());
    let json = client(&node.address, &["status", "--json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(
        status["cluster_id"].is_null() && status["leader_id"].is_null(),
        "{status}"
    );
    assert!(status["members"][0]["raft_id"].is_null(), "{status}");
    assert_eq!(status["state"], "forming");
    assert_eq!(status["members"][0]["role"], "forming");
    let text = client(&node.address, &["status"]).ok();
    assert!(text.starts_with("forming\n\nNODE "), "{text}");
}

#[test]
fn the_leaders_view_is_preferred() {
    let leader = Mock::showing(degraded());
    let outsider = Mock::showing(forming());
    let (_socket, dead) = dead();
    let endpoints = format!("{dead},{},{}", outsider.address, leader.address);
    assert!(
        client(&endpoints, &["status"])
            .ok()
            .starts_with("node 1 leads")
    );
    // Without the leader, a node that knows it.
    let follower = Mock::showing(StatusResponse {
        answered_by: 2,
        summary: "as node 2 sees it".to_owned(),
        ..degraded()
    });
    let endpoints = format!("{dead},{},{}", outsider.address, follower.address);
    assert!(
        client(&endpoints, &["status"])
            .ok()
            .starts_with("as node 2 sees it")
    );
}

#[test]
fn leadership_is_transferred() {
    let node = Mock::leader().next_write(Fate::Refused(not_leader(None)));
    let seshat = |args: &[&str]| client(&node.address, args);
    assert_eq!(
        seshat(&["transfer-leader", "--to", "2"]).ok(),
        "node 2 leads in term 7\n"
    );
    assert_eq!(
        seshat(&["transfer-leader", "--json"]).ok(),
        "{\"leader_id\":3,\"term\":7}\n"
    );
    assert_eq!(node.transfers(), [Some(2), None]);
}
