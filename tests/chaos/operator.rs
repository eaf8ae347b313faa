//! The actions of an operator: the real commands, with the real binary.

use std::process::{Command, Stdio};

use serde_json::Value;

/// The output of a command, and its end.
#[derive(Debug)]
pub(crate) struct Said {
    /// The arguments.
    args: String,
    /// Exit code.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `seshat` with `args` for the cluster at `endpoints`, without a terminal.
pub(crate) async fn seshat(endpoints: &str, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seshat"));
    command
        .args(args)
        .env_clear()
        .env("SESHAT_ENDPOINTS", endpoints)
        .stdin(Stdio::null());
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = run.await.expect("no panic").expect("seshat runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said {
        args: args.join(" "),
        code: output.status.code().expect("no signal ended it"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

impl Said {
    /// The same; fails unless the command has succeeded.
    pub(crate) fn done(self) -> Self {
        let (args, stderr) = (&self.args, &self.stderr);
        assert_eq!(self.code, 0, "seshat {args}: {stderr}");
        self
    }

    /// The answer of a successful command, with `--json`.
    pub(crate) fn json(self) -> Value {
        let said = self.done();
        serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("no JSON: {said:?}"))
    }
}
