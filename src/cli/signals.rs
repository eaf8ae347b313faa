//! How a running node is told to stop: SIGTERM or Ctrl-C once to stop well, twice to stop now.

use std::io;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::options::runtime;

/// Waits for signals from now on. The returned future ends with the first one; the second one ends
/// the process, with the exit code that a shell gives to a process which a signal ended.
///
/// The signals have a thread of their own, so that the second one counts even when whatever the
/// process does hangs.
pub(crate) fn listen() -> io::Result<impl Future<Output = ()>> {
    let runtime = runtime()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
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
}

impl Signals {
    /// The next signal, as the exit code that stands for it.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}
