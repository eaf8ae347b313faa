//! `form` and `recover`.

use seshat_proto::admin::v1::{
    ClusterState, MemberRole, MemberStatus, RecoverResponse, RecoverySurvivor, StatusResponse,
};

use super::healing::healed;
use super::mock::{Mock, dead};
use super::steering::member;
use super::{client, client_command, ran, with_input};

/// The status from node `answered_by` while node 3 of `addresses` does not answer.
pub(crate) fn forming(answered_by: u32, addresses: [&str; 3]) -> StatusResponse {
    let members = (1..).zip(addresses).map(|(id, address)| MemberStatus {
        client_addr: address.to_owned(),
        reachable: id != 3,
        ..member(id, MemberRole::Forming)
    });
    StatusResponse {
        state: ClusterState::Forming.into(),
        summary: "forming: waiting for node 3".to_owned(),
        answered_by,
        members: members.collect(),
        ..StatusResponse::default()
    }
}

#[test]
fn the_first_of_those_that_are_there_forms_the_cluster() {
    let (_socket, dead) = dead();
    let (one, two) = (
        Mock::follower(None).forms(0xab),
        Mock::follower(None).forms(0xcd),
    );
    let addresses = [one.address.as_str(), &two.address, &dead];
    let one = one.clone().shows([forming(1, addresses)]);
    let two = two.clone().shows([forming(2, addresses)]);
    // Node 2 knows the address of node 1.
    assert_eq!(
        client(&two.address, &["form", "--without", "3"]).ok(),
        "cluster 00000000000000ab runs\n"
    );
    assert_eq!(
        client(&two.address, &["form", "--without", "3,1", "--json"]).ok(),
        "{\"cluster_id\":\"00000000000000cd\"}\n"
    );
    assert_eq!(one.formed_without(), [[3]]);
    assert_eq!(two.formed_without(), [[3, 1]]);
}

#[test]
fn a_cluster_is_not_formed_where_one_runs_or_no_node_is_there() {
    let form = |status: StatusResponse, without: &str| {
        let node = Mock::showing(status);
        let failed = client(&node.address, &["form", "--without", without]).failed(3);
        assert!(node.formed_without().is_empty());
        failed
    };
    assert_eq!(
        form(healed(), "3"),
        "error: there is a cluster already: healthy: every member takes part\n"
    );
    let here = || forming(1, ["kv-1:6379", "kv-2:6379", "kv-3:6379"]);
    assert_eq!(form(here(), "9"), "error: node 9 is no initial member\n");
    assert_eq!(
        form(here(), "1,2"),
        "error: no other initial member answers\n"
    );
    // The node makes the decision.
    let node = Mock::showing(here());
    let error = client(&node.address, &["form", "--without", "3", "--json"]).failed_in_json(3);
    assert_eq!(error["kind"], "failed_precondition", "{error}");
    assert_eq!(error["applied"], "no", "{error}");
    assert_eq!(node.formed_without(), [[3]]);
}

const HALTED: u64 = 0x5f0c_2d9e_71a4_b863;
const NEW: u64 = 0x83b1_0000_0000_0001;

fn halted(answered_by: u32, node_3: &str) -> StatusResponse {
    let members = (1..=3).map(|id| MemberStatus {
        client_addr: if id == 3 {
            node_3.to_owned()
        } else {
            format!("kv-{id}:6379")
        },
        ..member(id, MemberRole::Outside)
    });
    StatusResponse {
        cluster_id: Some(HALTED),
        leader_id: None,
        state: ClusterState::Halted.into(),
        summary: "halted: 2 of 3 lost their memory".to_owned(),
        answered_by,
        members: members.collect(),
        ..healed()
    }
    .not_healed()
}

trait NotHealed {
    fn not_healed(self) -> Self;
}

impl NotHealed for StatusResponse {
    fn not_healed(self) -> Self {
        Self {
            healed: false,
            ..self
        }
    }
}

fn recovered() -> StatusResponse {
    StatusResponse {
        cluster_id: Some(NEW),
        answered_by: 3,
        ..healed()
    }
}

/// A node 3 that is asked `looks` times before its new cluster is healed, and another node, which knows
/// its address.
fn survivor(looks: usize) -> (Mock, Mock) {
    let survivor = Mock::follower(None).recovers(RecoverResponse {
        time: 0,
        commit_revision: 812,
        last_log_revision: 815,
        new_cluster_id: Some(NEW),
        cluster_id: HALTED,
        term: 3,
        commit_index: 812,
        last_log_index: 815,
        keys: 42,
        other_survivors: vec![2],
        last_log_term: 3,
        votes: true,
        compared: vec![RecoverySurvivor {
            id: 2,
            last_log_term: 3,
            last_log_index: 810,
            commit_index: 800,
            votes: true,
        }],
        without: Vec::new(),
    });
    let shown = halted(3, &survivor.address);
    let lost = Mock::showing(halted(1, &survivor.address));
    let statuses = std::iter::repeat_n(shown, looks).chain([recovered()]);
    (survivor.shows(statuses), lost)
}

/// A node 3 that can be recovered often, and the output that programs read when they do not wait.
pub(crate) fn recovering() -> (Mock, serde_json::Value) {
    let answer = serde_json::json!({
        "cluster_id": ID,
        "new_cluster_id": "83b1000000000001",
        "term": 3,
        "commit_index": 812,
        "last_log_index": 815,
        "keys": 42,
        "other_survivors": [2],
        "without": [],
        "time": 0,
        "commit_revision": 812,
        "last_log_revision": 815,
        "healed": false,
    });
    (survivor(100).0, answer)
}

const ID: &str = "5f0c2d9e71a4b863";

#[test]
fn nothing_is_recovered_before_the_operator_has_confirmed() {
    let recover = ["recover", "--from", "3"];
    for (flags, reason) in [
        (
            &[][..],
            "error: nothing was changed: with --json, or without a terminal, confirm with --confirm \
             5f0c2d9e71a4b863\n",
        ),
        (
            &["--confirm", "0000000000000001"],
            "error: node 3 belongs to cluster 5f0c2d9e71a4b863, not to 0000000000000001: nothing \
             was changed\n",
        ),
    ] {
        let (survivor, lost) = survivor(1);
        // Piped input is no confirmation.
        let command = client_command(&lost.address, &[&recover, flags].concat());
        let output = with_input(command, format!("{ID}\n").as_bytes());
        let words = ran(output).failed(2);
        for part in [
            reason,
            "gives up cluster 5f0c2d9e71a4b863",
            "up to index 815 of term 3: 42 keys, with the\n          3 entries after index 812",
            "Compared: node 2 has no more, up to index 810 of term 3.\n",
            "writes acknowledged after log index 815 that never reached node 3",
            "join the new cluster",
            "What node 2 still has",
            "Start it again only when every other\nmember takes part",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert_eq!(survivor.recoveries(), [(HALTED, false)]);
    }
    let (survivor, _lost) = survivor(1);
    let error = client(&survivor.address, &[&recover[..], &["--json"]].concat());
    let error = error.failed_in_json(2);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("--confirm 5f0c2d9e71a4b863"), "{error}");
    assert_eq!(survivor.recoveries(), [(HALTED, false)]);
}

#[test]
fn a_confirmed_recovery_waits_until_the_new_cluster_is_healed() {
    let (survivor, lost) = survivor(4);
    let args = ["recover", "--from", "3", "--confirm", ID];
    // The only endpoint still sees the old cluster: the survivor itself is asked.
    let ran = client(&lost.address, &args);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (
            0,
            "cluster 83b1000000000001 runs on what node 3 had (left to do: start node 2 again, once every other member takes part); healthy: every \
             member takes part\n"
        ),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("halted: 2 of 3 lost their memory\n"),
        "{ran:?}"
    );
    assert_eq!(survivor.recoveries(), [(HALTED, false), (HALTED, true)]);
}

/// The other survivor stays out until it is restarted, which is suggested when no other member is
/// missing.
#[test]
fn a_recovery_does_not_wait_for_a_survivor_that_stays_out() {
    let without_2 = |one: MemberRole| StatusResponse {
        leader_id: Some(3),
        state: ClusterState::Degraded.into(),
        summary: "degraded: node 2 belongs to another cluster".to_owned(),
        members: vec![
            member(1, one),
            member(2, MemberRole::Outside),
            member(3, MemberRole::Leader),
        ],
        ..recovered().not_healed()
    };
    let (survivor, _lost) = survivor(2);
    let shown = halted(3, &survivor.address);
    let (catching_up, there) = (MemberRole::Learner, MemberRole::Follower);
    let survivor = survivor.shows([
        shown.clone(),
        shown,
        without_2(catching_up),
        without_2(there),
    ]);
    let args = ["recover", "--from", "3", "--confirm", ID];
    let ran = client(&survivor.address, &args);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (
            0,
            "cluster 83b1000000000001 runs on what node 3 had (left to do: start node 2 again, once every other member takes part); \
             degraded: node 2 belongs to another cluster\n"
        ),
        "{ran:?}"
    );
}

#[test]
fn a_recovery_in_json_says_what_was_kept() {
    let (survivor, _lost) = survivor(2);
    let args = ["recover", "--from", "3", "--confirm", ID, "--json"];
    let kept = r#""term":3,"commit_index":812,"last_log_index":815,"keys":42,"#;
    let expected = |healed: bool| {
        format!(
            "{{\"cluster_id\":\"{ID}\",\"new_cluster_id\":\"83b1000000000001\",{kept}\
             \"other_survivors\":[2],\"without\":[],\"time\":0,\"commit_revision\":812,\
             \"last_log_revision\":815,\"healed\":{healed}}}\n"
        )
    };
    assert_eq!(client(&survivor.address, &args).ok(), expected(true));
    let (survivor, _lost) = self::survivor(2);
    let no_wait = [&args[..], &["--no-wait"]].concat();
    assert_eq!(client(&survivor.address, &no_wait).ok(), expected(false));
}

#[test]
fn a_node_that_cannot_recover_says_why() {
    let running = Mock::showing(healed());
    assert_eq!(
        client(&running.address, &["recover", "--from", "1"]).failed(3),
        format!("error: {}: the cluster is not halted\n", running.address)
    );
    let fresh = Mock::showing(forming(1, ["kv-1:6379", "kv-2:6379", "kv-3:6379"]));
    assert_eq!(
        client(&fresh.address, &["recover", "--from", "1"]).failed(3),
        "error: node 1 has no state: forming: waiting for node 3\n"
    );
    assert_eq!(
        client(&fresh.address, &["recover", "--from", "7"]).failed(3),
        "error: node 7 is no member of this cluster\n"
    );
    let (_socket, dead) = dead();
    let lost = Mock::showing(halted(1, &dead));
    let args = ["recover", "--from", "3", "--timeout", "1s"];
    let error = client(&lost.address, &args).failed(3);
    let start = format!("error: node 3 does not answer at {dead}: ");
    assert!(error.starts_with(&start), "{error}");
}
