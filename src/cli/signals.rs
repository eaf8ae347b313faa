//! How an operator stops a running node: SIGTERM or Ctrl-C once for a graceful stop, twice for an
//! immediate one.

use std::io;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::options::runtime;

/// The effect of SIGHUP. A terminal that closes sends it, and so does an operator who wants a daemon to read
/// its files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// It is logged, and otherwise ignored.
    Ignored,
    /// The default action: it ends the process, unless `nohup` makes it ignored.
    EndsTheProcess,
}

/// Handles signals from now on. The returned future ends with the first one. The second one ends the
/// process, with the exit code that a shell gives to a process which a signal ended.
///
/// The signals have a thread of their own, so that the second one works even if the rest of the process
/// hangs.
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
                // The receiver is gone: the process is about to end.
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
    /// `Some` only if SIGHUP is ignored.
    hangup: Option<Signal>,
}

impl Signals {
    /// The next signal that ends the process, as its exit code.
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

/// Waits for a signal. Never ends for one that is not handled.
async fn next_of(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
