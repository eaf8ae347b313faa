//! The command that is run for each change.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::process::Command;

use super::super::process::Process;
use super::super::tell;
use super::super::word::Word;
use super::changes::Change;

/// Most bytes of a variable. Linux takes 128 KiB.
const MAX_VARIABLE_BYTES: usize = 100 << 10;

/// A shell that runs `command`.
pub(super) fn shell(command: &OsString) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null());
    shell
}

/// Runs `shell` for `change`, and waits for its end. A failure is told. If `stop` ends first, the shell is ended with
/// its process group, within `grace`, and the result is that of `stop`. Connections are served meanwhile.
pub(super) async fn run<T>(
    mut shell: Command,
    change: &Change,
    keys_only: bool,
    grace: Duration,
    stop: impl Future<Output = T>,
) -> Option<T> {
    shell.env("SESHAT_EVENT", change.event());
    shell.env("SESHAT_REVISION", change.revision().to_string());
    let value = match change {
        Change::Set(entry) if !keys_only => Some(&entry.value[..]),
        _ => None,
    };
    pass(&mut shell, "SESHAT_KEY", Some(change.key()));
    pass(&mut shell, "SESHAT_VALUE", value);
    let ended = match Process::start(shell, true) {
        Ok(mut process) => tokio::select! {
            ended = process.ended() => ended,
            stopped = stop => {
                process.end(grace).await;
                return Some(stopped);
            }
        },
        Err(error) => Err(error),
    };
    let fault = match ended {
        Ok(status) if status.success() => return None,
        Ok(status) => format!("ended with {status}"),
        Err(error) => format!("could not be run: {error}"),
    };
    let (event, key, revision) = (change.event(), Word(change.key()), change.revision());
    tell(format_args!(
        "the command {fault}, for {event} {key} at revision {revision}"
    ));
    None
}

/// Passes bytes in the environment: as they are, if they are text, or in base64.
fn pass(shell: &mut Command, name: &str, bytes: Option<&[u8]>) {
    let [base64, omitted] = ["BASE64", "OMITTED"].map(|suffix| format!("{name}_{suffix}"));
    // This process may have been run for a change itself.
    for name in [name, &base64, &omitted] {
        shell.env_remove(name);
    }
    let Some(bytes) = bytes else {
        return;
    };
    let text = str::from_utf8(bytes).ok().filter(|it| !it.contains('\0'));
    let (name, value) = match text {
        Some(text) => (name, text.to_owned()),
        None => (base64.as_str(), STANDARD.encode(bytes)),
    };
    match value.len() > MAX_VARIABLE_BYTES {
        true => shell.env(omitted, bytes.len().to_string()),
        false => shell.env(name, value),
    };
}
