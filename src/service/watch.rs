//! `Watch`: the keys of a range, and every change of them.
//!
//! Every node serves watches. The core decides what a client gets. This module takes one bundle of messages
//! after the other, sends them as fast as the client takes them, and reports each bundle that was taken. A
//! message counts until it is sent. If there is no room for it, the watch waits, and what comes meanwhile
//! waits in the core, where it is bounded.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::Response;
use tracing::Instrument as _;

use super::Host;
use super::operation::key_range;
use super::parts::{Parts, Sender, parts};
use super::waiting::decided;
use crate::driver::Watch;
use crate::error::{Reason, Refusal};
use crate::proto::kv;
use crate::types::ClusterId;
use crate::watch::WatchSpec;
use crate::wire;

/// Shortest and longest interval between two messages that say that nothing has changed.
const PROGRESS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// Begins a watch, as soon as this node takes part in a cluster and knows its leader, and answers with its
/// messages.
///
/// # Errors
///
/// The request is invalid, there are too many watches, or the node takes no part until `deadline`.
pub(super) async fn serve(
    host: Host,
    request: kv::WatchRequest,
    deadline: Instant,
) -> Result<Response<Parts<kv::WatchResponse>>, Refusal> {
    let (spec, progress) = asked(request, &host)?;
    let watch = open(&host, spec, progress, deadline).await?;
    let (sender, response) = parts();
    let sending = async move {
        let ended = tokio::select! {
            biased;
            // The client does not read any more.
            () = sender.closed() => return,
            ended = send(&host, watch, &sender) => ended,
        };
        let Err(refusal) = ended;
        let _ = sender.send(Err(host.refuse(&refusal))).await;
    };
    tokio::spawn(sending.in_current_span());
    Ok(response)
}

/// What a request asks for, and how often its client is told that nothing has changed.
fn asked(request: kv::WatchRequest, host: &Host) -> Result<(WatchSpec, Option<Duration>), Refusal> {
    let kv::WatchRequest {
        range,
        cluster_id,
        after_revision,
        min_revision,
        keys_only,
        progress_interval,
    } = request;
    let range = key_range(range, &host.options)?;
    if after_revision > 0 && cluster_id.is_none() {
        return Err(Refusal::invalid("after_revision", "needs a cluster_id"));
    }
    let progress = progress_interval.map(|interval| {
        let interval = Duration::try_from(interval).ok();
        let (shortest, longest) = PROGRESS;
        interval
            .filter(|interval| (shortest..=longest).contains(interval))
            .ok_or_else(|| Refusal::invalid("progress_interval", "100 ms to 1 h"))
    });
    let spec = WatchSpec {
        range,
        after: cluster_id.map(|cluster| (ClusterId(cluster), after_revision)),
        min_revision,
        keys_only,
        progress_ticks: None,
    };
    Ok((spec, progress.transpose()?))
}

async fn open(
    host: &Host,
    spec: WatchSpec,
    progress: Option<Duration>,
    deadline: Instant,
) -> Result<Watch, Refusal> {
    let _permit = host.admission.enter(spec.range.bytes())?;
    let mut decides = host.driver.watch_decides();
    loop {
        decides.mark_unchanged();
        let refusal = match host.driver.open_watch(spec.clone(), progress).await {
            Err(refusal) if host.may_end(&refusal) => refusal,
            outcome => return outcome,
        };
        tokio::select! {
            biased;
            () = host.admission.closed() => return Err(shutting_down()),
            waited = timeout_at(deadline, decided(&mut decides)) => {
                if waited.is_err() {
                    return Err(as_known(host, refusal));
                }
            }
        }
    }
}

async fn send(
    host: &Host,
    mut watch: Watch,
    sender: &Sender<kv::WatchResponse>,
) -> Result<Infallible, Refusal> {
    let mut closed = pin!(host.admission.closed());
    loop {
        let sending = async {
            let bundle = watch.next().await.ok_or_else(shutting_down)?;
            for message in bundle.map_err(|refusal| as_known(host, refusal))? {
                let (held, _) = host.account.reserve(message.bytes(), 0).await;
                let response = wire::watch_response(message);
                // If the client has gone, this task ends.
                let _ = sender.send(Ok((response, held))).await;
            }
            watch.taken();
            Ok(())
        };
        tokio::select! {
            biased;
            () = &mut closed => return Err(shutting_down()),
            sent = sending => sent?,
        }
    }
}

/// The refusal, with what this node knows about the reason why it has no leader.
fn as_known(host: &Host, refusal: Refusal) -> Refusal {
    match refusal.reason {
        Reason::NoQuorum if host.lookout.is_cut_off() => Refusal::not_applied(Reason::CutOff),
        _ => refusal,
    }
}

fn shutting_down() -> Refusal {
    Refusal::not_applied(Reason::ShuttingDown)
}
