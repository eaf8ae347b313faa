//! A process that holds a lock: the real command.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::cluster::Cluster;

const TTL: &str = "2s";

/// `seshat lock`, which waits for a lock, and holds it until it is killed. Dropping this is `kill -9`.
pub(crate) struct Holder(Child);

impl Holder {
    /// Asks for `lock` with a TTL of 2 s.
    pub(crate) fn start(cluster: &Cluster, lock: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_seshat"))
            .args(["lock", lock, "--ttl", TTL, "--", "sh", "-c"])
            .arg("echo $SESHAT_LOCK_TOKEN && exec cat")
            .env("SESHAT_ENDPOINTS", cluster.client_addrs().join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("seshat runs");
        Self(child)
    }

    /// The token under which it holds the lock, once it does.
    pub(crate) fn token(&mut self) -> u64 {
        let stdout = self.0.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        line.trim().parse().expect("a token")
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it has ended");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
