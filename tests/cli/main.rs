//! The real binary, run as a user runs it: against nodes whose behaviour a test controls, and as a whole
//! cluster.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails in a test ends the test"
)]

mod addresses;
mod bench;
mod cluster;
mod clusters;
mod config;
mod coordination;
mod finding;
mod healing;
mod help;
mod locks;
mod logs;
mod members;
mod mock;
mod pipes;
mod read_write;
mod recovery;
mod scan;
mod sessions;
mod steering;
mod surroundings;
mod txn;
mod watch;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// The result of a command.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Fails unless the command succeeded, and returns its output.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// Fails unless the command printed nothing and ended with `code`, and returns its error.
    #[track_caller]
    fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:?}");
        self.stderr
    }

    /// As [`failed`](Self::failed), of a command whose error is JSON on one line.
    #[track_caller]
    fn failed_in_json(self, code: i32) -> serde_json::Value {
        let stderr = self.failed(code);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        serde_json::from_str::<serde_json::Value>(&stderr).unwrap()["error"].clone()
    }
}

/// The command `seshat`, with nothing from the environment of this test.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seshat"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("SESHAT_") || name_text == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn seshat(args: &[&str]) -> Ran {
    ran(command(args).output().unwrap())
}

/// Runs a client command that has all the time that a busy machine may need.
fn client(endpoints: &str, args: &[&str]) -> Ran {
    ran(client_command(endpoints, args).output().unwrap())
}

fn client_command(endpoints: &str, args: &[&str]) -> Command {
    let mut command = command(args);
    command.env("SESHAT_ENDPOINTS", endpoints);
    if !args.contains(&"--timeout") {
        command.args(["--timeout", "60s"]);
    }
    command
}

/// The same command, for which `signal` has its usual effect. The process that runs the tests may ignore it, as
/// one that a shell has started in the background ignores INT, and children inherit that.
fn with_default(signal: &str, command: &Command) -> Command {
    let mut env = Command::new("env");
    env.arg(format!("--default-signal={signal}"));
    env.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => env.env(name, value),
            None => env.env_remove(name),
        };
    }
    env
}

/// Runs `command` with `input` on its standard input.
fn with_input(mut command: Command, input: &[u8]) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    with_input_only(command, input)
}

/// As [`with_input`], with the outputs that the command has.
fn with_input_only(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads nothing closes its end: then writing fails, and the output shows why.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// A file with `text`, for the test `name` alone.
fn file(name: &str, text: &str) -> String {
    let path = format!("{}/{name}.toml", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, text).unwrap();
    path
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
