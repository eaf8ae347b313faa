//! Nodes and commands in faulty surroundings: pipes without readers, full disks, closed terminals,
//! signals.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use seshat::server::RESERVED_DESCRIPTORS;

use super::cluster::{Machines, Running, dev, free_ports};
use super::{client, command, ran, with_default};

/// A pipe without a reader that is full: a writer hangs.
pub(crate) fn full_pipe() -> (UnixStream, OwnedFd) {
    let (reader, mut writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    loop {
        match writer.write(&[b'.'; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    writer.set_nonblocking(false).unwrap();
    (reader, writer.into())
}

/// A pipe whose reader is gone.
pub(crate) fn closed_pipe() -> OwnedFd {
    let (_, writer) = UnixStream::pair().unwrap();
    writer.into()
}

/// A disk that is full.
pub(crate) fn full_disk() -> OwnedFd {
    let full = OpenOptions::new().write(true).open("/dev/full");
    full.unwrap().into()
}

/// A cluster that logs all lines to `stderr`, and its endpoints.
fn verbose_dev(stderr: OwnedFd) -> (Running, String) {
    let base_port = free_ports(3);
    let mut dev = with_default("HUP", &dev(base_port, free_ports(3)));
    dev.env_remove("SESHAT_LOG").env_remove("RUST_LOG");
    dev.arg("-vvv").stdout(Stdio::piped()).stderr(stderr);
    let mut process = Running(dev.spawn().unwrap());
    let stdout = BufReader::new(process.0.stdout.take().unwrap());
    let welcome: Vec<_> = stdout
        .lines()
        .map(Result::unwrap)
        .take_while(|line| !line.contains("Ctrl-C"))
        .collect();
    assert!(!welcome.is_empty(), "it has ended");
    let ports = base_port..base_port + 3;
    let endpoints: Vec<_> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
    (process, endpoints.join(","))
}

#[test]
fn a_log_that_is_not_read_costs_a_cluster_nothing() {
    let (_reader, stalled) = full_pipe();
    for stderr in [closed_pipe(), full_disk(), stalled] {
        let (dev, endpoints) = verbose_dev(stderr);
        for n in 0..20 {
            let value = n.to_string();
            assert_eq!(client(&endpoints, &["set", "k", &value]).ok(), "OK\n");
        }
        assert_eq!(client(&endpoints, &["get", "k"]).ok(), "19");
        dev.signal("TERM");
        assert_eq!(dev.end().code, 0, "it ends when told, and once told");
    }
}

/// A preface, and pings that the node logs one by one.
fn chatter() -> Vec<u8> {
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for _ in 0..100 {
        frames.extend(b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
    frames
}

#[test]
fn a_node_says_how_many_lines_it_could_not_log() {
    let machines = Machines::new("lost-lines");
    let (reader, stalled) = full_pipe();
    let mut serve = machines.serve(1);
    serve.env("SESHAT_LOG", "trace,h2=trace").stderr(stalled);
    let node = Running(serve.spawn().unwrap());
    while TcpStream::connect(machines.address(1)).is_err() {
        thread::yield_now();
    }
    // Several lines of h2 for each ping: many times the capacity of the queue.
    for _ in 0..300 {
        let mut talk = TcpStream::connect(machines.address(1)).unwrap();
        talk.write_all(&chatter()).unwrap();
        // The settings: the bytes that it has sent are being read.
        let _ = talk.read(&mut [0]);
    }
    let (found, lost) = mpsc::channel();
    thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map_while(Result::ok);
        for line in lines.filter(|line| line.contains("log lines were lost")) {
            let _ = found.send(line);
        }
    });
    let line = lost.recv_timeout(Duration::from_secs(60));
    assert!(line.is_ok(), "no line says how many were lost");
    node.signal("TERM");
}

#[test]
fn a_command_whose_error_output_is_not_read_ends_with_its_exit_code() {
    let (_reader, stalled) = full_pipe();
    for stderr in [closed_pipe(), full_disk(), stalled] {
        let mut get = command(&["get", "k", "--endpoints", "127.0.0.1:1"]);
        let get = get.stderr(stderr).stdout(Stdio::piped()).output().unwrap();
        assert_eq!(ran(get).failed(3), "");
    }
}

#[test]
fn a_second_signal_ends_even_a_node_that_hangs() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let machines = Machines::new(signal);
        // The node waits for a moment for a reader of its last lines.
        let (_reader, stderr) = full_pipe();
        let mut node = Running(machines.serve(1).stderr(stderr).spawn().unwrap());
        while TcpStream::connect(machines.address(1)).is_err() {
            assert_eq!(node.0.try_wait().unwrap(), None);
            thread::yield_now();
        }
        assert_eq!(node.signal_until_it_ends(signal).code(), Some(code));
    }
}

#[test]
fn a_node_outlives_its_terminal() {
    let machines = Machines::new("hangup");
    let mut node = Running(machines.serve(1).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(node.0.stderr.take().unwrap()).lines();
    let mut says = |what: &str| log.by_ref().map(Result::unwrap).any(|it| it.contains(what));
    assert!(says("listening"));
    node.signal("HUP");
    assert!(says("SIGHUP changes nothing"));
    node.signal("TERM");
    assert_eq!(node.end().code, 0);
}

/// `command` with the limits that `ulimit` sets.
fn limited(ulimit: &str, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    let script = format!("ulimit {ulimit} && exec \"$0\" \"$@\"");
    limited.args(["-c", &script]).arg(command.get_program());
    limited.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.stdin(Stdio::null());
    limited
}

const MAX_CONNECTIONS: usize = 64;

#[test]
fn a_node_that_may_have_too_few_descriptors_says_so_and_takes_all_that_it_may_have() {
    let machines = Machines::new("descriptors");
    let needed = MAX_CONNECTIONS + RESERVED_DESCRIPTORS;
    let mut serve = machines.serve(1);
    serve.env(
        "SESHAT_LIMITS__MAX_CONNECTIONS",
        MAX_CONNECTIONS.to_string(),
    );
    let output = limited(&format!("-n {}", needed - 1), &serve).output();
    let error = ran(output.unwrap()).failed(2);
    let words = format!(
        "limits.max_connections: {MAX_CONNECTIONS} connections of clients, and {RESERVED_DESCRIPTORS} \
         descriptors for the node, its peers and operators, are {needed}, and this process may have {}; \
         expected at most {}, or a limit",
        needed - 1,
        MAX_CONNECTIONS - 1
    );
    assert!(error.contains(&words), "{error}");

    let soft = limited(&format!("-n {needed} && ulimit -Sn 32"), &serve);
    let mut node = Running::start(soft);
    let mut log = BufReader::new(node.0.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("listening")));
    node.signal("TERM");
    assert_eq!(node.end().code, 0);

    // A cluster for trials accepts a lower limit.
    let dev = limited("-n 256", &dev(free_ports(3), free_ports(3)));
    let mut dev = Running::start(dev);
    let mut stdout = BufReader::new(dev.0.stdout.take().unwrap()).lines();
    assert!(stdout.any(|line| line.unwrap().contains("Ctrl-C")));
    dev.signal("TERM");
    assert_eq!(dev.end().code, 0);
}

/// Connections to `address` that do nothing. Every other one sends its preface first.
fn idlers(address: &str, count: usize) -> Vec<TcpStream> {
    let connect = |index| {
        let mut stream = TcpStream::connect(address).unwrap();
        // It may be closed already.
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let length = if index % 2 == 0 { preface.len() } else { 1 };
        let _ = stream.write_all(&preface[..length]);
        stream
    };
    (0..count).map(connect).collect()
}

#[test]
fn idle_connections_keep_neither_a_node_nor_an_operator_out() {
    let machines = Machines::new("idlers");
    let descriptors = format!("-n {}", MAX_CONNECTIONS + RESERVED_DESCRIPTORS);
    let log = |id| format!("{}/idlers-{id}.log", env!("CARGO_TARGET_TMPDIR"));
    let start = |id| {
        let mut serve = machines.serve(id);
        serve.env(
            "SESHAT_LIMITS__MAX_CONNECTIONS",
            MAX_CONNECTIONS.to_string(),
        );
        let mut serve = limited(&descriptors, &serve);
        let log = std::fs::File::create(log(id)).unwrap();
        Running(serve.stderr(log).stdout(Stdio::null()).spawn().unwrap())
    };
    let mut nodes: Vec<_> = (1..=3).map(start).collect();
    let healed = ["status", "--wait", "healed", "--quiet", "--json"];
    let status = client(machines.endpoints(), &healed).ok();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let leader = usize::try_from(status["leader_id"].as_u64().unwrap()).unwrap();

    let enough = MAX_CONNECTIONS + RESERVED_DESCRIPTORS;
    let mut idle = idlers(machines.address(leader), enough);
    idle.extend(idlers(&machines.internal_address(leader), enough));
    assert_eq!(
        client(machines.address(leader), &["set", "k", "v"]).ok(),
        "OK\n"
    );
    let other = leader % 3 + 1;
    nodes[other - 1].signal("KILL");
    nodes[other - 1].0.wait().unwrap();
    nodes[other - 1] = start(other);
    client(machines.address(leader), &healed).ok();
    assert_eq!(client(machines.endpoints(), &["get", "k"]).ok(), "v");
    drop(idle);
    let log = std::fs::read_to_string(log(leader)).unwrap();
    let complaints = log
        .lines()
        .filter(|line| line.contains("too many connections"));
    let (complaints, newcomers) = (complaints.count(), 2 * enough);
    assert!((1..newcomers / 8).contains(&complaints), "{log}");
}

#[test]
fn a_cluster_for_trying_out_ends_with_its_terminal_unless_told_otherwise() {
    let (closed, _) = verbose_dev(full_disk());
    closed.signal("HUP");
    // Ended by the signal, so there is no exit code.
    assert_eq!(closed.end().code, -1);

    let base_port = free_ports(3);
    let plain = dev(base_port, free_ports(3));
    let mut nohup = Command::new("nohup");
    nohup.arg(plain.get_program()).args(plain.get_args());
    nohup.env_remove("SESHAT_LOG").env_remove("RUST_LOG");
    let mut process = Running::start(nohup);
    let mut stdout = BufReader::new(process.0.stdout.take().unwrap()).lines();
    assert!(stdout.any(|line| line.unwrap().contains("Ctrl-C")));
    process.signal("HUP");
    let endpoint = format!("127.0.0.1:{base_port}");
    assert_eq!(client(&endpoint, &["set", "k", "v"]).ok(), "OK\n");
    process.signal("TERM");
    assert_eq!(process.end().code, 0);
}
