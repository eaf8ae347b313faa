//! Real nodes: `dev` and `serve`.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use seshat::proto::admin::RemoveMemberRequest;
use seshat::proto::admin::admin_service_client::AdminServiceClient;

use super::{Ran, client, client_command, command, file, ran, with_input};

/// A running `seshat`, ended at the latest with its test.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(super) fn start(mut command: Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    pub(super) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.0.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end, and returns the unread output.
    pub(super) fn end(mut self) -> Ran {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        // The rest is short, and fits into the pipe.
        let code = self.0.wait().unwrap().code().unwrap_or(-1);
        self.0
            .stdout
            .take()
            .map(|mut pipe| pipe.read_to_string(&mut stdout).unwrap());
        self.0
            .stderr
            .take()
            .map(|mut pipe| pipe.read_to_string(&mut stderr).unwrap());
        Ran {
            code,
            stdout,
            stderr,
        }
    }

    /// Signals until the process ends.
    pub(super) fn signal_until_it_ends(&mut self, name: &str) -> ExitStatus {
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            self.signal(name);
            // Only so that the signals do not come faster than they can be distinguished.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether the process of this id runs.
pub(super) fn runs(id: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/stat"));
    status.is_ok_and(|it| !it.contains(") Z "))
}

/// The first of `count` free ports in a row, each given out once.
///
/// They lie below the ports that the system gives to outgoing connections and to listeners on port 0, so
/// that no other program takes them before the node does.
pub(super) fn free_ports(count: u16) -> u16 {
    static NEXT: LazyLock<Mutex<u16>> = LazyLock::new(|| {
        let anywhere = std::process::id().wrapping_mul(97) % 20_000;
        Mutex::new(10_000 + u16::try_from(anywhere).unwrap())
    });
    let mut next = NEXT.lock().unwrap();
    loop {
        let base = *next;
        *next = if base > 32_000 { 10_000 } else { base + count };
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (base..).take(count.into()).all(free) {
            return base;
        }
    }
}

pub(super) fn dev(base_port: u16, internal_base_port: u16) -> Command {
    let [client, internal] = [base_port, internal_base_port].map(|port| port.to_string());
    command(&[
        "dev",
        "--base-port",
        &client,
        "--internal-base-port",
        &internal,
    ])
}

/// A cluster of `dev`, and its output once it runs.
pub(super) struct Dev {
    process: Running,
    base_port: u16,
    internal_base_port: u16,
    welcome: String,
}

impl Dev {
    pub(super) fn start() -> Self {
        let (base_port, internal_base_port) = (free_ports(3), free_ports(3));
        let mut process = Running::start(dev(base_port, internal_base_port));
        let mut welcome = String::new();
        let mut stdout = BufReader::new(process.0.stdout.take().unwrap());
        while !welcome.contains("Ctrl-C") {
            let read = stdout.read_line(&mut welcome).unwrap();
            assert!(read > 0, "{welcome}{:?}", process.end());
        }
        Self {
            process,
            base_port,
            internal_base_port,
            welcome,
        }
    }

    pub(super) fn endpoints(&self) -> String {
        let port = self.base_port;
        format!(
            "127.0.0.1:{port},127.0.0.1:{},127.0.0.1:{}",
            port + 1,
            port + 2
        )
    }
}

#[test]
fn a_cluster_is_measured() {
    let dev = Dev::start();
    super::bench::measures(&dev.endpoints());
    let status = status(&dev.endpoints());
    let members = status["members"].as_array().unwrap();
    let leader = members.iter().find(|member| member["role"] == "leader");
    // Followers learn later that the last entry was committed.
    assert_eq!(leader.unwrap()["keys"], 0, "keys are left: {status}");
}

fn status(endpoints: &str) -> Value {
    serde_json::from_str(&client(endpoints, &["status", "--json"]).ok()).unwrap()
}

#[test]
fn a_whole_cluster_serves_from_the_command_line() {
    let dev = Dev::start();
    let endpoints = dev.endpoints();
    let leader = status(&endpoints)["leader_id"].as_u64().unwrap();
    let mut welcome = "Seshat runs on this machine:\n\n".to_owned();
    for id in 1..=3 {
        let leads = if id == leader { "  leads" } else { "" };
        let port = u64::from(dev.base_port) + id - 1;
        writeln!(welcome, "  node {id}  127.0.0.1:{port}{leads}").unwrap();
    }
    write!(
        welcome,
        "\nIn another terminal:\n\n  export SESHAT_ENDPOINTS={endpoints}\n  seshat set greeting \
         hello\n  seshat get greeting\n  seshat status\n\nCtrl-C stops the cluster and forgets the \
         data.\n"
    )
    .unwrap();
    assert_eq!(dev.welcome, welcome);

    let seshat = |args: &[&str]| client(&endpoints, args);
    assert_eq!(seshat(&["set", "greeting", "hello"]).ok(), "OK\n");
    assert_eq!(seshat(&["get", "greeting"]).ok(), "hello");
    assert_eq!(seshat(&["del", "greeting"]).ok(), "deleted\n");
    assert_eq!(seshat(&["get", "greeting"]).failed(1), "");

    let value: Vec<u8> = (0..=u8::MAX).collect::<Vec<_>>().repeat(4096);
    let set = with_input(client_command(&endpoints, &["set", "binary", "-"]), &value);
    assert_eq!(ran(set).ok(), "OK\n");
    let got = client_command(&endpoints, &["get", "binary"])
        .output()
        .unwrap();
    assert!(got.stdout == value);

    let set = with_input(
        client_command(&endpoints, &["set", "large", "-"]),
        &[0; 1_048_577],
    );
    assert!(
        ran(set)
            .failed(3)
            .contains("value too large: at most 1048576 bytes")
    );
    let error = seshat(&["set", &"k".repeat(4097), "v", "--json"]).failed_in_json(3);
    assert_eq!(
        (&error["kind"], &error["applied"]),
        (&"too_large".into(), &"no".into())
    );

    let transferee = leader % 3 + 1;
    let moved = seshat(&["transfer-leader", "--to", &transferee.to_string()]).ok();
    assert!(
        moved.starts_with(&format!("node {transferee} leads in term ")),
        "{moved}"
    );
    // The new leader has to hear from every voter first.
    let status = seshat(&["status", "--wait", "healed", "--json"]).ok();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["leader_id"].as_u64(), Some(transferee), "{status}");
    assert_eq!(status["state"], "healthy", "{status}");
    for member in status["members"].as_array().unwrap() {
        let role = if member["id"] == transferee {
            "leader"
        } else {
            "follower"
        };
        assert_eq!(
            (&member["role"], &member["reachable"]),
            (&role.into(), &true.into())
        );
        let raft_id = member["raft_id"].as_str().unwrap();
        let (node, incarnation) = raft_id.split_once('.').unwrap();
        assert_eq!(
            (node, incarnation.len()),
            (member["id"].to_string().as_str(), 12)
        );
    }
    let error = seshat(&["transfer-leader", "--to", "9"]).failed(3);
    assert_eq!(error.lines().count(), 1, "{error}");

    // No endpoint has to lead, and all but one may be dead.
    let one = format!(
        "127.0.0.1:1,127.0.0.1:{}",
        u64::from(dev.base_port) + leader - 1
    );
    assert_eq!(client(&one, &["set", "k", "v"]).ok(), "OK\n");

    // A client at the wrong port is told the right one.
    let internal = format!("127.0.0.1:{}", dev.internal_base_port);
    let words = format!(
        "{internal}: this is the internal_addr of node 1, which is for nodes: clients use its \
         client_addr, 127.0.0.1:{}",
        dev.base_port
    );
    for command in [&["get", "k"][..], &["status"], &["member", "list"]] {
        let error = client(&internal, command).failed(3);
        assert!(error.contains(&words), "{error}");
    }
    let both = format!("{internal},, {endpoints},");
    assert_eq!(client(&both, &["get", "k"]).ok(), "v");

    dev.process.signal("INT");
    let ended = dev.process.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
    assert!(
        !ended.stderr.contains("could not transfer leadership"),
        "{ended:?}"
    );
}

#[test]
fn a_node_that_cannot_start_ends_the_cluster() {
    let base_port = free_ports(3);
    let _taken = TcpListener::bind(("127.0.0.1", base_port + 1)).unwrap();
    let output = dev(base_port, free_ports(3)).output().unwrap();
    let error = ran(output).failed(1);
    let start = format!(
        "error: node 2: cannot listen on 127.0.0.1:{}: ",
        base_port + 1
    );
    assert!(error.starts_with(&start), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// Three machines that share one configuration file.
pub(super) struct Machines {
    config: String,
    endpoints: String,
}

impl Machines {
    /// For the test `name`.
    pub(super) fn new(name: &str) -> Self {
        let ports: Vec<_> = (free_ports(6)..).take(6).collect();
        let mut text = "[cluster]\ninitial_members = [\n".to_owned();
        for (index, pair) in ports.chunks(2).enumerate() {
            writeln!(
                text,
                r#"{{ id = {}, addr = "127.0.0.1:{}", client_addr = "127.0.0.1:{}" }},"#,
                index + 1,
                pair[0],
                pair[1]
            )
            .unwrap();
        }
        text += "]\n";
        let endpoints: Vec<_> = ports
            .iter()
            .skip(1)
            .step_by(2)
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        Self {
            config: file(name, &text),
            endpoints: endpoints.join(","),
        }
    }

    pub(super) fn serve(&self, id: usize) -> Command {
        self.serve_with(&self.config, id)
    }

    /// Serves node `id` with a file of its own, the test `name`'s, in which an address is mistyped.
    pub(super) fn serve_mistyped(
        &self,
        name: &str,
        id: usize,
        right: &str,
        wrong: &str,
    ) -> Command {
        let text = std::fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(right), "{text}");
        self.serve_with(&file(name, &text.replace(right, wrong)), id)
    }

    fn serve_with(&self, config: &str, id: usize) -> Command {
        let members = std::fs::read_to_string(&self.config).unwrap();
        let line = members.lines().nth(id + 1).unwrap();
        let addresses: Vec<_> = line.split('"').skip(1).step_by(2).collect();
        let mut serve = command(&["serve", "--config", config, "--log-format", "json"]);
        serve.env("SESHAT_NODE__ID", id.to_string());
        serve.args([
            "--internal-addr",
            addresses[0],
            "--client-addr",
            addresses[1],
        ]);
        serve
    }

    pub(super) fn endpoints(&self) -> &str {
        &self.endpoints
    }

    /// The internal address of node `id`.
    pub(super) fn internal_address(&self, id: usize) -> String {
        let members = std::fs::read_to_string(&self.config).unwrap();
        let line = members.lines().nth(id + 1).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    }

    /// The client address of node `id`.
    pub(super) fn address(&self, id: usize) -> &str {
        self.endpoints.split(',').nth(id - 1).unwrap()
    }
}

#[test]
fn three_processes_survive_the_loss_of_their_leader() {
    let machines = Machines::new("survivors");
    let mut nodes: Vec<_> = (1..=3)
        .map(|id| {
            let mut serve = machines.serve(id);
            Some(Running(serve.stderr(Stdio::null()).spawn().unwrap()))
        })
        .collect();
    // Begins while the cluster forms, and waits for it.
    assert_eq!(client(&machines.endpoints, &["set", "k", "1"]).ok(), "OK\n");
    let leader = status(&machines.endpoints)["leader_id"].as_u64().unwrap();
    let leader = usize::try_from(leader).unwrap();
    // Drop kills.
    nodes[leader - 1] = None;
    assert_eq!(client(&machines.endpoints, &["get", "k"]).ok(), "1");
    assert_eq!(client(&machines.endpoints, &["set", "k", "2"]).ok(), "OK\n");
    let status = status(&machines.endpoints);
    assert_eq!(status["state"], "degraded", "{status}");
    let lost = &status["members"][leader - 1];
    assert_eq!(
        (&lost["reachable"], &lost["term"]),
        (&false.into(), &Value::Null),
        "{status}"
    );
}

/// Every node is killed and restarted, one after the other, as in a rolling restart.
#[test]
fn one_node_after_the_other_is_restarted_when_the_cluster_is_healed() {
    let machines = Machines::new("rolling");
    let start = |id| Running(machines.serve(id).stderr(Stdio::null()).spawn().unwrap());
    let mut nodes: Vec<_> = (1..=3).map(start).collect();
    let wait = ["status", "--wait", "healed", "--quiet"];
    assert_eq!(client(&machines.endpoints, &["set", "k", "1"]).ok(), "OK\n");
    client(&machines.endpoints, &wait).ok();
    for id in 1..=3 {
        let before = status(&machines.endpoints)["members"][id - 1]["raft_id"].clone();
        nodes[id - 1].signal("KILL");
        nodes[id - 1].0.wait().unwrap();
        // Not healed: no node runs.
        let short = [&wait[..], &["--timeout", "1s"]].concat();
        client(&machines.endpoints, &short).failed(3);
        nodes[id - 1] = start(id);
        let healed = client(&machines.endpoints, &[&wait[..], &["--json"]].concat()).ok();
        let healed: Value = serde_json::from_str(&healed).unwrap();
        assert_eq!(healed["healed"], true, "{healed}");
        let member = &healed["members"][id - 1];
        assert_ne!(member["raft_id"], before, "{healed}");
        assert_ne!(member["role"], "learner", "{healed}");
        assert_eq!(client(&machines.endpoints, &["get", "k"]).ok(), "1");
    }
}

/// Asks the leader to remove node `id`.
fn remove(leader: &str, id: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{leader}")).unwrap();
        let mut admin = AdminServiceClient::new(channel.connect().await.unwrap());
        let request = RemoveMemberRequest {
            id,
            accept_no_spare: true,
            ..RemoveMemberRequest::default()
        };
        let answer = admin.remove_member(request).await.unwrap().into_inner();
        assert!(!answer.members.contains(&id), "{answer:?}");
    });
}

#[test]
fn a_node_that_an_operator_removes_ends_with_a_code_of_its_own() {
    let machines = Machines::new("removed");
    let mut nodes: Vec<_> = (1..=3)
        .map(|id| Some(Running::start(machines.serve(id))))
        .collect();
    assert_eq!(client(&machines.endpoints, &["set", "k", "1"]).ok(), "OK\n");
    let leader = status(&machines.endpoints)["leader_id"].as_u64().unwrap();
    let gone = leader % 3 + 1;
    let address = machines.address(usize::try_from(leader).unwrap());
    remove(address, u32::try_from(gone).unwrap());

    let node = nodes[usize::try_from(gone).unwrap() - 1].take().unwrap();
    let ended = node.end();
    assert_eq!(ended.code, 4, "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    let words = format!("error: node {gone} was removed from cluster ");
    assert!(last.starts_with(&words), "{last}");
    assert_eq!(client(&machines.endpoints, &["get", "k"]).ok(), "1");
}

#[test]
fn a_cluster_for_trying_out_goes_on_without_a_node_that_is_removed() {
    let base_port = free_ports(5);
    let mut dev = dev(base_port, free_ports(5));
    let mut process = Running::start({
        dev.args(["--nodes", "5"]);
        dev
    });
    let mut stdout = BufReader::new(process.0.stdout.take().unwrap()).lines();
    assert!(stdout.any(|line| line.unwrap().contains("Ctrl-C")));
    let stderr = BufReader::new(process.0.stderr.take().unwrap());
    let endpoint = format!("127.0.0.1:{base_port}");
    client(&endpoint, &["member", "remove", "2", "--quiet"]).ok();
    let mut lines = stderr.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("node 2 was removed from cluster")));
    assert_eq!(client(&endpoint, &["set", "k", "v"]).ok(), "OK\n");
    process.signal("TERM");
    assert_eq!(process.end().code, 0);
}

#[test]
fn a_node_alone_keeps_waiting_and_ends_when_told() {
    let machines = Machines::new("alone");
    let node = Running::start(machines.serve(1));
    let address = machines.address(1);
    let error = client(address, &["set", "k", "v", "--timeout", "1s"]).failed(3);
    assert_eq!(error.lines().count(), 1, "{error}");
    node.signal("TERM");
    let ended = node.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
    for line in ended.stderr.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}
