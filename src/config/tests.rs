use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;
use crate::telemetry::LogFormat;

/// A valid file: only the fields without defaults.
const VALID: &str = r#"
[node]
id = 2

[cluster]
initial_members = [
  { id = 1, addr = "kvstore-1:7379", client_addr = "kvstore-1:6379" },
  { id = 2, addr = "kvstore-2:7379", client_addr = "kvstore-2:6379" },
  { id = 3, addr = "kvstore-3:7379", client_addr = "kvstore-3:6379" },
]
"#;

fn node(id: u16) -> NodeId {
    NodeId::new(id).expect("a node id")
}

fn load(text: &str, env: &[(&str, &str)], flags: &Overrides) -> Result<Config, ConfigError> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::assemble(Some((Path::new("seshat.toml"), text)), env, flags)
}

fn file(text: &str) -> Result<Config, ConfigError> {
    load(text, &[], &Overrides::default())
}

fn set(assignments: &[&str]) -> Result<Config, ConfigError> {
    let set = assignments.iter().map(|text| (*text).to_owned()).collect();
    let flags = Overrides {
        set,
        ..Overrides::default()
    };
    load(VALID, &[], &flags)
}

fn faults<T: std::fmt::Debug>(result: Result<T, ConfigError>) -> Vec<String> {
    let faults = result.expect_err("faulty").faults;
    faults.iter().map(ToString::to_string).collect()
}

/// The faults of the valid file with these changes, without their origins.
fn faults_of(assignments: &[&str]) -> Vec<String> {
    let faults = set(assignments).expect_err("faulty").faults;
    let unplaced = |mut fault: Problem| {
        fault.origin = None;
        fault.to_string()
    };
    faults.into_iter().map(unplaced).collect()
}

#[test]
fn all_but_id_and_members_has_the_default_of_the_documentation() {
    let config = file(VALID).expect("valid");
    assert_eq!(config.node.id, node(2));
    assert_eq!(config.node.client_addr, "0.0.0.0:6379");
    assert_eq!(config.node.internal_addr, "0.0.0.0:7379");
    assert_eq!(config.node.data_dir, None);
    assert_eq!(config.node.log_format, LogFormat::Human);
    assert!(config.cluster.bootstrap);
    assert_eq!(config.cluster.replication_factor, 3);
    assert_eq!(config.raft.heartbeat_interval_ms, 100);
    assert_eq!(config.raft.election_timeout_min_ms, 500);
    assert_eq!(config.raft.election_timeout_max_ms, 1_000);
    assert_eq!(config.raft.raft_rpc_timeout_secs, 5);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn helpers_speak_in_durations_ticks_and_members() {
    let config = file(VALID).expect("valid");
    let raft = &config.raft;
    assert_eq!(raft.heartbeat_interval(), Duration::from_millis(100));
    assert_eq!(raft.election_timeout_min(), Duration::from_millis(500));
    assert_eq!(raft.election_timeout_max(), Duration::from_secs(1));
    assert_eq!(raft.election_ticks(), (5, 10));
    assert_eq!(raft.rpc_timeout(), Duration::from_secs(5));
    assert_eq!(config.limits.request_timeout(), Duration::from_secs(5));
    assert_eq!(config.limits.shutdown_timeout(), Duration::from_secs(10));

    let membership = config.membership();
    let addrs: Vec<_> = membership
        .iter()
        .map(|info| (info.id.get(), info.addr.as_str(), info.client_addr.as_str()))
        .collect();
    assert_eq!(
        addrs,
        [
            (1, "kvstore-1:7379", "kvstore-1:6379"),
            (2, "kvstore-2:7379", "kvstore-2:6379"),
            (3, "kvstore-3:7379", "kvstore-3:6379"),
        ]
    );
}

#[test]
fn flags_go_before_the_environment_and_the_environment_before_the_file() {
    let text = format!("{VALID}[raft]\nheartbeat_interval_ms = 10\n");
    let env = [
        ("SESHAT_NODE__ID", "3"),
        ("SESHAT_NODE__DATA_DIR", "/var/lib/seshat"),
        ("SESHAT_CLUSTER__BOOTSTRAP", "false"),
        ("SESHAT_RAFT__HEARTBEAT_INTERVAL_MS", "20"),
    ];
    let flags = Overrides {
        id: Some("1".to_owned()),
        client_addr: Some("127.0.0.1:1".to_owned()),
        internal_addr: Some("127.0.0.1:2".to_owned()),
        bootstrap: Some("true".to_owned()),
        set: vec![
            "node.id=3".to_owned(),
            "limits.max_value_bytes=1_000".to_owned(),
        ],
        ..Overrides::default()
    };

    let config = load(&text, &[], &Overrides::default()).expect("valid");
    assert_eq!(
        (config.node.id, config.raft.heartbeat_interval_ms),
        (node(2), 10)
    );

    let config = load(&text, &env, &Overrides::default()).expect("valid");
    assert_eq!(
        (config.node.id, config.raft.heartbeat_interval_ms),
        (node(3), 20)
    );
    assert_eq!(config.node.data_dir, Some(PathBuf::from("/var/lib/seshat")));
    assert!(!config.cluster.bootstrap);

    let config = load(&text, &env, &flags).expect("valid");
    assert_eq!(
        (config.node.id, config.raft.heartbeat_interval_ms),
        (node(1), 20)
    );
    assert_eq!(config.node.client_addr, "127.0.0.1:1");
    assert_eq!(config.node.internal_addr, "127.0.0.1:2");
    assert!(config.cluster.bootstrap);
    assert_eq!(config.limits.max_value_bytes, 1_000);
}

#[test]
fn a_node_can_be_configured_without_a_file() {
    let members = "1=a:1/a:2, 5=[::1]:1/[::1]:2, 65535=c:1/c:2";
    let env = [
        ("SESHAT_NODE__ID".to_owned(), "5".to_owned()),
        (
            "SESHAT_CLUSTER__INITIAL_MEMBERS".to_owned(),
            members.to_owned(),
        ),
    ];
    let flags = Overrides::default();
    let config = Config::load(None, env.into_iter(), &flags).expect("valid");
    assert_eq!(
        config.cluster.initial_members.last(),
        Some(&InitialMember {
            id: node(65_535),
            addr: "c:1".to_owned(),
            client_addr: "c:2".to_owned(),
        })
    );
    assert_eq!(config.cluster.initial_members[1].addr, "[::1]:1");

    let flags = Overrides {
        id: Some("1".to_owned()),
        initial_members: Some(members.to_owned()),
        data_dir: Some("data".to_owned()),
        log_format: Some("json".to_owned()),
        ..Overrides::default()
    };
    let config = Config::load(None, std::iter::empty(), &flags).expect("valid");
    assert_eq!(config.node.data_dir, Some(PathBuf::from("data")));
    assert_eq!(config.node.log_format, LogFormat::Json);

    assert_eq!(
        faults(Config::load(
            None,
            std::iter::empty(),
            &Overrides::default()
        )),
        [
            "node.id: missing; expected the id of this machine, one of cluster.initial_members",
            "cluster.initial_members: missing; expected an array of \
             { id = 1, addr = \"kvstore-1:7379\", client_addr = \"kvstore-1:6379\" }",
        ]
    );
}

#[test]
fn only_variables_that_name_a_field_are_configuration() {
    let unrelated = [
        ("SESHAT_ENDPOINTS", "a:1,b:2"),
        ("SESHAT_CLUSTER", "00000000000000ab"),
        ("SESHAT_LOG", "debug"),
        ("SESHAT_NODE_PORT", "tcp://10.0.0.1:80"),
        ("SESHAT_NODE__ID", ""),
        ("NODE__ID", "1"),
        ("seshat_node__id", "1"),
    ];
    assert_eq!(load(VALID, &unrelated, &Overrides::default()), file(VALID));

    let mistaken = [
        ("SESHAT_NODE_ID", "1"),
        ("SESHAT_NODE__IDD", "1"),
        ("SESHAT_X__Y", "1"),
    ];
    assert_eq!(
        faults(load(VALID, &mistaken, &Overrides::default())),
        [
            "SESHAT_NODE_ID: unknown; expected SESHAT_NODE__ID [SESHAT_NODE_ID]",
            "SESHAT_NODE__IDD: unknown; expected SESHAT_NODE__ID [SESHAT_NODE__IDD]",
            "SESHAT_X__Y: unknown; expected SESHAT_<SECTION>__<FIELD> [SESHAT_X__Y]",
        ]
    );
}

#[test]
fn the_environment_of_this_process_can_be_read() {
    assert!(process_env().any(|(name, _)| name == "PATH"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let path = Path::new("/nonexistent/seshat.toml");
    assert_eq!(
        faults(Config::load(
            Some(path),
            std::iter::empty(),
            &Overrides::default()
        )),
        [
            "file: /nonexistent/seshat.toml cannot be read: No such file or directory (os error 2); \
          expected a readable TOML file"
        ]
    );
}

#[test]
fn every_fault_of_syntax_is_placed() {
    assert_eq!(
        faults(file(
            "[node]\nid = \n  client_addr = \"x\n[raft\nheartbeat_interval_ms = 1\n"
        )),
        [
            "syntax: string values must be quoted, expected literal string; \
             expected valid TOML [seshat.toml:2:6]",
            "syntax: invalid basic string, expected `\"`; \
             expected valid TOML [seshat.toml:3:19]",
            "syntax: unclosed table, expected `]`; \
             expected valid TOML [seshat.toml:4:6]",
        ]
    );
    assert_eq!(
        faults(file("[node]\nid = 1\nid = 2\n")),
        ["syntax: duplicate key; expected valid TOML [seshat.toml:3:1]"]
    );
}

#[test]
fn columns_are_counted_in_characters() {
    let text =
        format!("{VALID}[limits] # ä\r\n\"max_key_bytes\" = # ö\r\n").replace("# ö", "\"é\"");
    assert_eq!(
        faults(file(&text)),
        ["limits.max_key_bytes: \"é\" is a string; \
          expected a whole number from 1 to 65536 [seshat.toml:12:19]"]
    );
}

#[test]
fn a_value_of_the_wrong_type_is_told_what_it_is() {
    let a_number = "expected a whole number from 1 to 10000 [seshat.toml:12:25]";
    for (value, problem) in [
        ("\"100\"", "\"100\" is a string"),
        ("true", "true is a boolean"),
        ("[1]", "this is an array"),
        ("{ a = 1 }", "this is a table"),
        ("1.5", "1.5 does not fit"),
        ("2020-01-01", "2020-01-01 does not fit"),
        ("-1", "-1 is out of range"),
        ("0x2711", "10001 is out of range"),
    ] {
        let text = format!("{VALID}[raft]\nheartbeat_interval_ms = {value}\n");
        let expected = format!("raft.heartbeat_interval_ms: {problem}; {a_number}");
        assert_eq!(faults(file(&text)), [expected]);
    }
    let text = format!(
        "{VALID}[raft]\nheartbeat_interval_ms = {}\n",
        "9".repeat(60)
    );
    assert!(faults(file(&text))[0].contains("is out of range"));

    assert_eq!(
        faults_of(&[
            "raft.heartbeat_interval_ms=1s",
            "cluster.bootstrap=yes",
            "limits.max_key_bytes=",
        ]),
        [
            "cluster.bootstrap: \"yes\" does not fit; expected true or false",
            "raft.heartbeat_interval_ms: \"1s\" does not fit; \
             expected a whole number from 1 to 10000",
            "limits.max_key_bytes: \"\" does not fit; expected a whole number from 1 to 65536",
        ]
    );
    let text = VALID.replace(
        "id = 2\n",
        "id = 2\nclient_addr = 6379\ndata_dir = 7\nlog_format = \"xml\"\n",
    );
    assert_eq!(
        faults(file(&text)),
        [
            "node.client_addr: 6379 is a number; \
             expected host:port, e.g. 0.0.0.0:6379 [seshat.toml:4:15]",
            "node.data_dir: 7 is a number; expected a path [seshat.toml:5:12]",
            "node.log_format: \"xml\" is a string; expected human or json [seshat.toml:6:14]",
        ]
    );
}

#[test]
fn unknown_names_are_refused_with_the_closest_name() {
    let text = format!(
        "top = 1\n{}[rafting]\n[storage]\n[raft]\nheartbeat_interval = 1\nx = 1\n",
        VALID.replace("id = 3, addr", "id = 3, clientaddr = 1, colour = 1, addr")
    );
    assert_eq!(
        faults(file(&text)),
        [
            "cluster.initial_members[2].clientaddr: unknown; \
             expected client_addr [seshat.toml:10:26]",
            "cluster.initial_members[2].colour: unknown; \
             expected id, addr or client_addr [seshat.toml:10:38]",
            "raft.heartbeat_interval: unknown; \
             expected raft.heartbeat_interval_ms [seshat.toml:15:22]",
            "raft.x: unknown; expected one of raft.heartbeat_interval_ms, \
             raft.election_timeout_min_ms, raft.election_timeout_max_ms, \
             raft.raft_rpc_timeout_secs [seshat.toml:16:5]",
            "rafting: unknown; expected raft [seshat.toml:12:1]",
            "storage: unknown; \
             expected [node], [cluster], [raft] or [limits] [seshat.toml:13:1]",
            "top: this is no section; expected a section, [top] [seshat.toml:1:7]",
        ]
    );
    assert_eq!(
        faults(set(&["limits.max_snapshot_bytes=1"])),
        [
            "limits.max_snapshot_bytes: unknown; expected limits.max_state_bytes, which bounds the state \
             and so its snapshots [--set limits.max_snapshot_bytes=1]"
        ]
    );
    assert_eq!(
        faults(set(&["node.idd=1", "nonsense", "id=1"])),
        [
            "node.idd: unknown; expected node.id [--set node.idd=1]",
            "nonsense: unknown; expected FIELD=VALUE [--set nonsense]",
            "id: unknown; expected a field of [node], [cluster], [raft] or [limits] [--set id=1]",
        ]
    );
}

#[test]
fn a_node_id_is_1_to_65535() {
    for id in ["0", "65536", "-1"] {
        assert_eq!(
            faults_of(&[&format!("node.id={id}")]),
            [format!(
                "node.id: {id} is out of range; expected a whole number from 1 to 65535"
            )]
        );
    }
}

#[test]
fn a_node_is_among_the_members() {
    assert_eq!(
        faults_of(&["node.id=4"]),
        ["node.id: 4 is not among cluster.initial_members; expected one of 1, 2, 3"]
    );
}

/// The faults of these members.
fn faults_of_members(members: &str) -> Vec<String> {
    faults_of(&[&format!("cluster.initial_members={members}")])
}

#[test]
fn a_cluster_has_at_least_3_members() {
    assert_eq!(
        faults_of_members("1=a:1/a:2,2=b:1/b:2"),
        ["cluster.initial_members: only 2; expected at least 3 members, so that one may fail"]
    );
    let text = "[node]\nid = 1\n[cluster]\ninitial_members = []\n";
    assert_eq!(
        faults(file(text)),
        ["cluster.initial_members: only 0; \
          expected at least 3 members, so that one may fail [seshat.toml:4:19]"]
    );
}

#[test]
fn a_node_that_joins_later_lists_itself_and_whom_it_asks() {
    let joins = |members: &str| format!("cluster.initial_members={members}");
    let later = "cluster.bootstrap=false";
    let four = joins("1=a:1/a:2,2=b:1/b:2,3=c:1/c:2,4=d:1/d:2");
    assert!(set(&[later, &four]).is_ok());
    assert!(set(&[later, &four, "cluster.replication_factor=3"]).is_ok());
    assert!(set(&[later, &joins("1=a:1/a:2,2=b:1/b:2")]).is_ok());
    assert_eq!(
        faults_of(&[later, &joins("2=b:1/b:2")]),
        ["cluster.initial_members: only 1; expected at least 2 members: this node, and one to ask"]
    );
    assert_eq!(
        faults_of(&[later, &joins("1=a:1/a:2,3=c:1/c:2")]),
        ["node.id: 2 is not among cluster.initial_members; expected one of 1, 3"]
    );
}

#[test]
fn no_two_members_share_an_id() {
    assert_eq!(
        faults_of_members("1=a:1/a:2,2=b:1/b:2,1=c:1/c:2"),
        [
            "cluster.initial_members[2].id: 1 is also cluster.initial_members[0].id; \
          expected an id of its own"
        ]
    );
}

#[test]
fn no_two_addresses_of_members_are_the_same() {
    assert_eq!(
        faults_of_members("1=a:1/a:2,2=A:01/b:2,3=c:1/a:1"),
        [
            "cluster.initial_members[1].addr: \"A:01\" is also cluster.initial_members[0].addr; \
             expected an address of its own",
            "cluster.initial_members[2].client_addr: \"a:1\" is also \
             cluster.initial_members[0].addr; expected an address of its own",
        ]
    );
    assert_eq!(
        faults_of_members("1=a:1/a:1,2=b:1/b:2,3=c:1/c:2"),
        ["cluster.initial_members[0].client_addr: \"a:1\" is also \
          cluster.initial_members[0].addr; expected an address of its own"]
    );
}

#[test]
fn addresses_of_members_can_be_reached() {
    assert_eq!(
        faults_of_members("1=a/a:2,2=0.0.0.0:1/b:2,3=c:1/c:0"),
        [
            "cluster.initial_members[0].addr: \"a\" has no port; \
             expected host:port, e.g. kvstore-1:7379",
            "cluster.initial_members[1].addr: \"0.0.0.0:1\" leads nowhere from another machine; \
             expected the address of one machine",
            "cluster.initial_members[2].client_addr: \"c:0\" has no port from 1 to 65535; \
             expected host:port, e.g. kvstore-1:6379",
        ]
    );
}

#[test]
fn an_invalid_member_is_refused_with_an_example() {
    let text = VALID
        .replace(
            "{ id = 1, addr = \"kvstore-1:7379\", client_addr = \"kvstore-1:6379\" }",
            "1",
        )
        .replace("id = 3, addr = \"kvstore-3:7379\"", "addr = 5");
    assert_eq!(
        faults(file(&text)),
        [
            "cluster.initial_members[0]: 1 is a number; expected { id = 1, \
             addr = \"kvstore-1:7379\", client_addr = \"kvstore-1:6379\" } [seshat.toml:7:3]",
            "cluster.initial_members[2].id: missing; \
             expected a whole number from 1 to 65535 [seshat.toml:9:3]",
            "cluster.initial_members[2].addr: 5 is a number; \
             expected host:port, e.g. kvstore-1:7379 [seshat.toml:9:12]",
        ]
    );
    let text = VALID.replace(", client_addr = \"kvstore-1:6379\"", "");
    assert_eq!(
        faults(file(&text)),
        ["cluster.initial_members[0].client_addr: missing; \
          expected host:port, e.g. kvstore-1:6379 [seshat.toml:7:3]"]
    );
    assert_eq!(
        faults_of_members("1=a:1/a:2,2,x=c:1/c:2"),
        [
            "cluster.initial_members[1]: \"2\" does not fit; \
             expected ID=ADDR/CLIENT_ADDR, e.g. 1=kvstore-1:7379/kvstore-1:6379",
            "cluster.initial_members[2].id: \"x\" does not fit; \
             expected a whole number from 1 to 65535",
        ]
    );
    let text = "[node]\nid = 1\n[cluster]\ninitial_members = 3\n";
    assert_eq!(
        faults(file(text)),
        [
            "cluster.initial_members: 3 is a number; expected an array of { id = 1, \
          addr = \"kvstore-1:7379\", client_addr = \"kvstore-1:6379\" } [seshat.toml:4:19]"
        ]
    );
}

#[test]
fn the_replication_factor_is_odd_and_the_number_of_members() {
    let expected = "expected an odd number, that of the members, as every member holds every key";
    for (factor, problem) in [
        ("2", "2 is even"),
        ("1", "1 is not the number of cluster.initial_members"),
        ("5", "5 is not the number of cluster.initial_members"),
    ] {
        assert_eq!(
            faults_of(&[&format!("cluster.replication_factor={factor}")]),
            [format!("cluster.replication_factor: {problem}; {expected}")]
        );
    }
    assert!(set(&["cluster.replication_factor=3"]).is_ok());
}

#[test]
fn the_number_of_members_is_odd() {
    let four = "1=a:1/a:2,2=b:1/b:2,3=c:1/c:2,4=d:1/d:2";
    let fault = "cluster.initial_members: 4 is an even number; \
                 expected an odd number of members: one more or less survives as many failures";
    assert_eq!(faults_of_members(four), [fault]);
    assert_eq!(
        faults_of(&[
            &format!("cluster.initial_members={four}"),
            "cluster.replication_factor=3",
        ])[0],
        fault
    );
    assert!(set(&[&format!("cluster.initial_members={four},5=e:1/e:2")]).is_ok());
}

#[test]
fn the_two_listeners_have_addresses_and_ports_of_their_own() {
    assert_eq!(
        faults_of(&["node.client_addr=127.0.0.1:7379"]),
        [
            "node.internal_addr: \"0.0.0.0:7379\" takes the port of node.client_addr, \
          \"127.0.0.1:7379\"; expected a port of its own"
        ]
    );
    let distinct = [
        "node.client_addr=127.0.0.1:1",
        "node.internal_addr=127.0.0.2:1",
    ];
    assert!(set(&distinct).is_ok());
    assert_eq!(
        faults_of(&["node.client_addr=:6379", "node.internal_addr=0.0.0.0:0"]),
        [
            "node.client_addr: \":6379\" has no host; expected host:port, e.g. 0.0.0.0:6379",
            "node.internal_addr: \"0.0.0.0:0\" has no port from 1 to 65535; \
             expected host:port, e.g. 0.0.0.0:7379",
        ]
    );
}

#[test]
fn an_empty_data_dir_is_refused() {
    assert_eq!(
        faults_of(&["node.data_dir="]),
        ["node.data_dir: empty; expected a path, or no such field"]
    );
}

/// Each rule about numbers: the changed fields, and the one resulting fault.
#[test]
fn numbers_agree_with_one_another() {
    for (changes, fault) in [
        (
            &["raft.election_timeout_min_ms=450"][..],
            "raft.election_timeout_min_ms: 450 is no whole number of heartbeats; \
             expected a multiple of 100",
        ),
        (
            &["raft.election_timeout_max_ms=950"],
            "raft.election_timeout_max_ms: 950 is no whole number of heartbeats; \
             expected a multiple of 100",
        ),
        (
            &["raft.election_timeout_min_ms=200"],
            "raft.election_timeout_min_ms: 200 is too small; \
             expected at least 3 * raft.heartbeat_interval_ms = 300",
        ),
        (
            &["raft.election_timeout_max_ms=600"],
            "raft.election_timeout_max_ms: 600 is too small; expected at least \
             raft.election_timeout_min_ms + 2 * raft.heartbeat_interval_ms = 700",
        ),
        (
            &[
                "raft.election_timeout_max_ms=2500",
                "raft.raft_rpc_timeout_secs=2",
            ],
            "raft.raft_rpc_timeout_secs: 2 is too small; \
             expected at least raft.election_timeout_max_ms in seconds = 3",
        ),
        (
            &["limits.request_timeout_ms=999"],
            "limits.request_timeout_ms: 999 is too small; \
             expected at least raft.election_timeout_max_ms = 1000",
        ),
        (
            &["limits.shutdown_timeout_ms=999"],
            "limits.shutdown_timeout_ms: 999 is too small; \
             expected at least raft.election_timeout_max_ms = 1000",
        ),
        (
            &["limits.max_value_bytes=4_124_673"],
            "limits.max_grpc_message_bytes: 4194304 is too small; expected at least \
             limits.max_key_bytes + limits.max_value_bytes + message_overhead_bytes = 4194305",
        ),
        (
            &[
                "limits.max_append_bytes=2064385",
                "limits.max_inflight_appends=1",
            ],
            "limits.max_grpc_message_bytes: 4194304 is too small; expected at least \
             2 * limits.max_append_bytes + message_overhead_bytes = 4194306",
        ),
        (
            &["limits.snapshot_chunk_bytes=4128769"],
            "limits.max_grpc_message_bytes: 4194304 is too small; expected at least \
             limits.snapshot_chunk_bytes + message_overhead_bytes = 4194305",
        ),
        (
            &["limits.max_state_bytes=1118207"],
            "limits.max_state_bytes: 1118207 is too small; expected at least \
             limits.max_key_bytes + limits.max_value_bytes + message_overhead_bytes = 1118208",
        ),
        (
            &[
                "limits.peer_queue_bytes=4194303",
                "limits.max_inflight_appends=1",
            ],
            "limits.peer_queue_bytes: 4194303 is too small; \
             expected at least limits.max_grpc_message_bytes = 4194304",
        ),
        (
            &["limits.max_inflight_appends=129"],
            "limits.peer_queue_bytes: 67108864 is too small; expected at least \
             limits.max_inflight_appends * limits.max_append_bytes = 67633152",
        ),
        (
            &[
                "limits.max_uncommitted_bytes=2_000_000",
                "limits.max_append_bytes=2_000_001",
                "limits.max_inflight_appends=1",
            ],
            "limits.max_uncommitted_bytes: 2000000 is too small; \
             expected at least limits.max_append_bytes = 2000001",
        ),
        (
            &[
                "limits.max_uncommitted_bytes=1118207",
                "limits.max_batch_bytes=1024",
            ],
            "limits.max_uncommitted_bytes: 1118207 is too small; expected at least \
             limits.max_key_bytes + limits.max_value_bytes + message_overhead_bytes = 1118208",
        ),
        (
            &[
                "limits.max_uncommitted_bytes=2000000",
                "limits.max_batch_bytes=1868929",
            ],
            "limits.max_uncommitted_bytes: 2000000 is too small; expected at least \
             limits.max_batch_bytes + 64 * limits.max_batch_requests = 2000001",
        ),
        (
            &[
                "limits.max_pending_requests=2047",
                "limits.max_read_batch=1",
            ],
            "limits.max_pending_requests: 2047 is too small; \
             expected at least limits.max_batch_requests = 2048",
        ),
        (
            &["limits.max_pending_requests=4095"],
            "limits.max_pending_requests: 4095 is too small; \
             expected at least limits.max_read_batch = 4096",
        ),
        (
            &["limits.max_inflight_requests=2047"],
            "limits.max_inflight_requests: 2047 is too small; \
             expected at least limits.max_batch_requests = 2048",
        ),
        (
            &["limits.max_unread_bytes=8388607"],
            "limits.max_unread_bytes: 8388607 is too small; \
             expected at least 2 * limits.max_grpc_message_bytes = 8388608",
        ),
        (
            &["limits.max_pending_bytes=1118207"],
            "limits.max_pending_bytes: 1118207 is too small; \
             expected at least limits.max_key_bytes + limits.max_value_bytes + message_overhead_bytes = 1118208",
        ),
        (
            &[
                "limits.max_pending_bytes=1118208",
                "limits.max_batch_bytes=1118209",
            ],
            "limits.max_pending_bytes: 1118208 is too small; \
             expected at least limits.max_batch_bytes = 1118209",
        ),
        (
            &["limits.compact_keep_entries=10_000"],
            "limits.compact_after_entries: 10000 is too small; \
             expected at least limits.compact_keep_entries + 1 = 10001",
        ),
    ] {
        assert_eq!(faults_of(changes), [fault], "{changes:?}");
    }
}

#[test]
fn bounds_that_just_agree_are_valid() {
    for changes in [
        &[
            "raft.election_timeout_min_ms=300",
            "raft.election_timeout_max_ms=500",
        ][..],
        &["raft.election_timeout_max_ms=5000"],
        &[
            "limits.request_timeout_ms=1000",
            "limits.shutdown_timeout_ms=1000",
        ],
        &["limits.max_value_bytes=4_124_672"],
        &[
            "limits.max_append_bytes=2064384",
            "limits.max_inflight_appends=1",
        ],
        &["limits.snapshot_chunk_bytes=4128768"],
        &[
            "limits.peer_queue_bytes=4194304",
            "limits.max_inflight_appends=8",
        ],
        &["limits.max_uncommitted_bytes=1179648"],
        &["limits.max_state_bytes=1118208"],
        &["limits.max_pending_requests=4096"],
        &["limits.max_inflight_requests=2048"],
        &["limits.max_unread_bytes=8388608"],
        &["limits.max_pending_bytes=1118208"],
        &["limits.compact_keep_entries=9_999"],
    ] {
        assert_eq!(set(changes).err(), None, "{changes:?}");
    }
}

#[test]
fn no_number_is_0_or_beyond_all_bounds() {
    let numbers = || RaftConfig::FIELDS.iter().chain(Limits::FIELDS);
    for value in ["0", "18446744073709551615"] {
        let changes: Vec<_> = numbers().map(|field| format!("{field}={value}")).collect();
        let changes: Vec<_> = changes.iter().map(String::as_str).collect();
        let found = faults_of(&changes);
        assert_eq!(found.len(), numbers().count());
        for (field, fault) in numbers().zip(found) {
            let start = format!("{field}: {value} is out of range; expected a whole number");
            assert!(fault.starts_with(&start), "{fault}");
        }
    }
}

#[test]
fn a_configuration_made_in_code_is_validated_alike() {
    let mut config = file(VALID).expect("valid");
    config.raft.heartbeat_interval_ms = 0;
    config.limits.max_key_bytes = usize::MAX;
    config.limits.compact_keep_entries = config.limits.compact_after_entries;
    assert_eq!(
        faults(config.check()),
        [
            "raft.heartbeat_interval_ms: 0 is out of range; \
             expected a whole number from 1 to 10000",
            "limits.max_key_bytes: 18446744073709551615 is out of range; \
             expected a whole number from 1 to 65536",
            "limits.compact_after_entries: 10000 is too small; \
             expected at least limits.compact_keep_entries + 1 = 10001",
        ]
    );
    assert_eq!(config.raft.election_ticks(), (0, 0));
}

#[test]
fn a_dev_cluster_is_on_loopback() {
    let config = Config::for_dev(node(2), 3, 6379, 7379).expect("valid");
    assert_eq!(config.node.id, node(2));
    assert_eq!(config.node.client_addr, "127.0.0.1:6380");
    assert_eq!(config.node.internal_addr, "127.0.0.1:7380");
    let members = "1=127.0.0.1:7379/127.0.0.1:6379,\
                   2=127.0.0.1:7380/127.0.0.1:6380,\
                   3=127.0.0.1:7381/127.0.0.1:6381";
    let flags = Overrides {
        id: Some("2".to_owned()),
        client_addr: Some(config.node.client_addr.clone()),
        internal_addr: Some(config.node.internal_addr.clone()),
        initial_members: Some(members.to_owned()),
        set: vec!["cluster.wait_for_survivors=false".to_owned()],
        ..Overrides::default()
    };
    let mut alone = Config::load(None, std::iter::empty(), &flags).expect("valid");
    alone.limits.max_state_bytes /= 3;
    assert_eq!(alone, config, "three nodes share the memory of the machine");

    assert!(Config::for_dev(node(1), 5, 1, 6).is_ok());
    for (id, nodes, client, internal) in [
        (4, 3, 6379, 7379),
        (1, 4, 6379, 7379),
        (1, 1, 6379, 7379),
        (1, 0, 6379, 7379),
        (1, 3, 6379, 6380),
        (1, 3, 65_534, 7379),
        (1, 3, 0, 7379),
    ] {
        assert!(Config::for_dev(node(id), nodes, client, internal).is_err());
    }
}

#[test]
fn the_report_of_many_faults_names_each_once() {
    let text = r#"
[node]
id = "1"
client_addr = "0.0.0.0:7379"
port = 6379

[cluster]
bootstrap = 1
replication_factor = 2
initial_members = [
  { id = 1, addr = "kvstore-1", client_addr = "kvstore-1:6379" },
  { id = 1, addr = "kvstore-2:7379", client_addr = "kvstore-1:6379" },
]

[raft]
heartbeat_interval_ms = 100
election_timeout_min_ms = 1_000
election_timeout_max_ms = 500

[limit]
max_key_bytes = 1

[limits]
max_value_bytes = 8_388_608
compact_keep_entries = 0
"#;
    let env = [
        ("SESHAT_RAFT__HEARTBEAT_INTERVAL_MS", "150"),
        ("SESHAT_LIMITS__MAX_CONNECTIONS", "many"),
    ];
    let flags = Overrides {
        internal_addr: Some("http://0.0.0.0:7379".to_owned()),
        ..Overrides::default()
    };
    let error = load(text, &env, &flags).expect_err("faulty");
    assert_eq!(
        error.to_string(),
        include_str!("tests/report.txt").trim_end()
    );
}

#[test]
fn one_fault_is_singular() {
    assert!(
        set(&["node.id=4"])
            .expect_err("faulty")
            .to_string()
            .starts_with("1 fault in the configuration:\n  node.id: ")
    );
}

mod examples {
    use super::*;

    fn path(id: u16) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        root.join(format!("docs/examples/node-{id}.toml"))
    }

    fn text(id: u16) -> String {
        std::fs::read_to_string(path(id)).expect("the example is there")
    }

    /// The assignment in a line such as `# id = 1`, if there is one.
    fn commented_out(line: &str) -> Option<&str> {
        let assignment = line.strip_prefix("# ")?;
        let (field, _) = assignment.split_once(" = ")?;
        (!field.contains(' ')).then_some(assignment)
    }

    #[test]
    fn each_is_valid() {
        for id in 1..=3 {
            let config = Config::load(Some(&path(id)), std::iter::empty(), &Overrides::default());
            let config = config.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(config.node.id, node(id));
            assert_eq!(config.node.data_dir, None);
            assert_eq!(config.raft, RaftConfig::default());
            assert_eq!(config.limits, Limits::default());
        }
    }

    #[test]
    fn they_differ_in_the_node_only() {
        for id in 2..=3 {
            let (one, other) = (text(1), text(id));
            for (one, other) in one.lines().zip(other.lines()) {
                if one.contains("addr") || !other.contains(&id.to_string()) {
                    assert_eq!(one, other);
                }
            }
            assert_eq!(one.lines().count(), other.lines().count());
        }
    }

    #[test]
    fn every_default_is_in_a_comment() {
        for id in 1..=3 {
            let text = text(id);
            let uncommented: Vec<_> = text
                .lines()
                .map(|line| commented_out(line).unwrap_or(line))
                .collect();
            assert_eq!(file(&uncommented.join("\n")), file(&text));

            let shown: BTreeSet<_> = uncommented
                .iter()
                .filter_map(|line| line.split_once(" = "))
                .map(|(field, _)| field)
                .collect();
            // A value that depends on the machine is shown as an example.
            let shown_as_examples = ["node.data_dir", "limits.max_state_bytes"];
            for field in fields::fields().filter(|field| !shown_as_examples.contains(field)) {
                let (_, name) = field.split_once('.').expect("section.field");
                assert!(shown.contains(name), "{field} is not in node-{id}.toml");
            }
        }
    }
}
