//! How a running node is told to stop: SIGTERM or Ctrl-C once to stop well, twice to stop now.

use std::io;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::options::runtime;

/// What SIGHUP does: a terminal that closes sends it, and so does an operator who wants a daemon to
/// read its files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// Nothing but a line in the log.
    Ignored,
    /// Whatever it would do to any process: it ends it, unless `nohup` has it ignored.
    EndsTheProcess,
}

/// Waits for signals from now on. The returned future ends with the first one; the second one ends
/// the process, with the exit code that a shell gives to a process which a signal ended.
///
/// The signals have a thread of their own, so that the second one counts even when whatever the
/// process does hangs.
pub(crate) fn listen(hangup: Hangup) -> io::Result<impl Future<Output = ()>> {
    let runtime = runtime()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: match hangup {
                Hangup::Ignored => Some(signal(SignalKind::hangup())?),
                Hangup::EndsTheProcess => None,
            },
        }
    };
    let (sender, first) = oneshot::channel();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                signals.next().await;
                // Nobody waits for it: then the process is about to end.
                let _ = sender.send(());
                std::process::exit(signals.next().await);
            });
        })?;
    Ok(async {
        let _ = first.await;
    })
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Only where it is ignored.
    hangup: Option<Signal>,
}

impl Signals {
    /// The next signal that ends the process, as the exit code that stands for it.
    async fn next(&mut self) -> i32 {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return 130,
                _ = self.terminate.recv() => return 143,
                () = next_of(&mut self.hangup) => {
                    tracing::info!("SIGHUP changes nothing: send SIGTERM to stop the node");
                }
            }
        }
    }
}

/// The next arrival of a signal that is listened for; of another one, never.
async fn next_of(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
