//! `config check`, and configurations that start nothing.

use std::net::TcpListener;

use super::{command, file, ran, seshat};

const VALID: &str = r#"
[node]
id = 2

[cluster]
initial_members = [
    { id = 1, addr = "kv-1:7379", client_addr = "kv-1:6379" },
    { id = 2, addr = "kv-2:7379", client_addr = "kv-2:6379" },
    { id = 3, addr = "kv-3:7379", client_addr = "kv-3:6379" },
]
"#;

const FAULTY: &str = r#"
[node]
id = 0

[cluster]
initial_members = [
    { id = 1, addr = "kv-1:7379", client_addr = "kv-1:6379" },
    { id = 1, addr = "kv-1", client_addr = "kv-2:6379" },
    { id = 3, addr = "kv-3:7379", client_addr = "kv-3:6379" },
]

[raft]
heartbeat = 5
"#;

#[test]
fn a_valid_configuration_is_summed_up() {
    let path = file("valid", VALID);
    let check = |args: &[&str]| seshat(&[&["config", "check", &path], args].concat());
    assert_eq!(
        check(&[]).ok(),
        format!("{path}: valid: node 2 of 3, clients on 0.0.0.0:6379, nodes on 0.0.0.0:7379\n")
    );
    assert_eq!(
        check(&["--json"]).ok(),
        "{\"valid\":true,\"id\":2,\"members\":3}\n"
    );
    let flags = [
        "--id",
        "3",
        "--client-addr",
        "[::1]:1",
        "--set",
        "node.internal_addr=[::1]:2",
    ];
    assert_eq!(
        check(&flags).ok(),
        format!("{path}: valid: node 3 of 3, clients on [::1]:1, nodes on [::1]:2\n")
    );
    let mut check = command(&["config", "check", &path]);
    let output = check.env("SESHAT_NODE__ID", "1").output().unwrap();
    assert!(ran(output).ok().contains("node 1 of 3"));
}

#[test]
fn every_fault_is_listed_and_nothing_starts() {
    let path = file("faulty", FAULTY);
    let checked = seshat(&["config", "check", &path]).failed(2);
    let lines: Vec<_> = checked.lines().collect();
    assert_eq!(lines[0], "error: 4 faults in the configuration:");
    let fields = [
        "node.id",
        "cluster.initial_members[1].id",
        "cluster.initial_members[1].addr",
        "raft.heartbeat",
    ];
    assert_eq!(lines.len(), fields.len() + 1, "{checked}");
    for field in fields {
        let start = format!("  {field}: ");
        assert!(
            lines.iter().any(|line| line.starts_with(&start)),
            "{field}: {checked}"
        );
    }
    assert_eq!(seshat(&["serve", "--config", &path]).failed(2), checked);

    let error = seshat(&["config", "check", &path, "--json"]).failed_in_json(2);
    assert_eq!(error["kind"], "config");
    assert_eq!(error["faults"].as_array().unwrap().len(), fields.len());
    assert_eq!(error["faults"][0]["field"], "node.id");
    let origin = error["faults"][0]["origin"].as_str().unwrap();
    assert_eq!(origin, format!("{path}:3:6"));
}

#[test]
fn a_missing_file_is_a_fault() {
    let error = seshat(&["serve", "--config", "/no/such/file"]).failed(2);
    assert!(error.contains("/no/such/file cannot be read"), "{error}");
    let error = seshat(&["serve"]).failed(2);
    assert!(error.contains("node.id: missing"), "{error}");
}

#[test]
fn a_faulty_log_filter_starts_nothing() {
    let path = file("faulty-log-filter", VALID);
    // A node that starts in spite of it ends at once, since its port is taken.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (variable, word) in [
        ("SESHAT_LOG", "debgu"),
        ("SESHAT_LOG", "seshat=loud"),
        ("RUST_LOG", "debgu"),
    ] {
        let mut serve = command(&["serve", "--config", &path]);
        serve.env("SESHAT_NODE__INTERNAL_ADDR", &taken);
        let error = ran(serve.env(variable, word).output().unwrap()).failed(2);
        let start =
            format!("error: {variable}: \"{word}\" would log nothing; expected a level (off, ");
        assert!(error.starts_with(&start), "{error}");
    }
}
