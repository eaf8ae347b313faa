//! Another node: its connections, the calls to it, and whether it is reachable.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::transport::Endpoint;
use tonic::{Code, Response, Status};

use super::backoff::Backoff;
use super::broken::{root_cause, speaks_no_http2, was_refused, was_unanswered};
use super::budgets::{Budgets, CallPermit, Purpose};
use super::client::{Client, client};
use super::liveness::{self, Check, Suspect};
use super::options::TransportOptions;
use super::rejection::{find_not_me, server};
use super::{Connector, InvalidAddress};
use crate::error::{NotMe, RpcError};
use crate::proto::raft::{IdentifyRequest, IdentifyResponse};
use crate::telemetry::Repeats;
use crate::types::{Answering, NodeId, NodeInfo, NodeStatus, RaftId};

/// The call that every version of the service for nodes has.
const IDENTIFY: &str = "Identify";

/// Another node.
#[derive(Debug)]
pub(super) struct Peer {
    /// This process.
    me: RaftId,
    info: NodeInfo,
    endpoint: Endpoint,
    bulk: Endpoint,
    unhurried: Endpoint,
    /// Its port for clients, if that has an address.
    other_port: Option<Endpoint>,
    connector: Connector,
    urgent: Client,
    options: Arc<TransportOptions>,
    budgets: Budgets,
    backoff: Backoff,
    notes: Mutex<Notes>,
    warnings: Warnings,
}

/// State for log lines and for operators.
#[derive(Debug, Default)]
struct Notes {
    /// Why the peer was last unreachable.
    reason: String,
    /// The replies [`NotMe`] of the peer, by the raft id that was addressed.
    not_me: BTreeMap<RaftId, NotMe>,
    /// The server that answered last at the peer's address, if it was not the peer, or a sign that the peer
    /// hangs or is silent.
    found: Option<Answering>,
    /// The check whether the peer hangs, while it runs.
    check: Option<Check>,
}

/// Warnings about the peer that repeat, each bounded in rate.
#[derive(Debug, Default)]
struct Warnings {
    down: Repeats,
    misdirected: Repeats,
    another: Repeats,
    refusal: Repeats,
}

impl Peer {
    /// The node `info`, seen from the process `me`. Connects on first use.
    pub(super) fn new(
        me: RaftId,
        info: &NodeInfo,
        connector: &Connector,
        options: &Arc<TransportOptions>,
    ) -> Result<Arc<Self>, InvalidAddress> {
        let addr = &info.addr;
        let invalid = |error| InvalidAddress {
            node: info.id,
            addr: addr.clone(),
            reason: root_cause(&error),
        };
        let urgent = options.endpoint(addr).map_err(invalid)?;
        let endpoint = options.endpoint(addr).map_err(invalid)?;
        let bulk = options.bulk_endpoint(addr).map_err(invalid)?;
        let unhurried = options.unhurried_endpoint(addr).map_err(invalid)?;
        Ok(Arc::new(Self {
            me,
            info: info.clone(),
            endpoint,
            bulk,
            unhurried,
            other_port: options.unhurried_endpoint(&info.client_addr).ok(),
            urgent: client(connector, &urgent, options),
            connector: connector.clone(),
            budgets: Budgets::new(options.max_calls),
            backoff: options.backoff(me.get() ^ u64::from(info.id.get())),
            options: Arc::clone(options),
            notes: Mutex::default(),
            warnings: Warnings::default(),
        }))
    }

    pub(super) fn me(&self) -> RaftId {
        self.me
    }

    pub(super) fn info(&self) -> &NodeInfo {
        &self.info
    }

    pub(super) fn node(&self) -> NodeId {
        self.info.id
    }

    pub(super) fn addr(&self) -> &str {
        &self.info.addr
    }

    pub(super) fn options(&self) -> &Arc<TransportOptions> {
        &self.options
    }

    /// A client for traffic that must never wait behind an append.
    pub(super) fn urgent(&self) -> Client {
        self.urgent.clone()
    }

    /// A client for appends, with a connection of its own that ends with the client. So new streams do
    /// not wait for bytes that earlier ones have lost. A silent connection is given up soon: writes wait
    /// for the appends on it.
    pub(super) fn appends(&self) -> Client {
        client(&self.connector, &self.endpoint, &self.options)
    }

    /// A client for a snapshot, also with a connection of its own, which may stand still for longer.
    pub(super) fn bulk(&self) -> Client {
        client(&self.connector, &self.bulk, &self.options)
    }

    /// The backoff: when another attempt may be made.
    pub(super) fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// Whether an attempt to reach the peer may be made.
    pub(super) fn is_ready(&self) -> bool {
        self.notes().check.is_none() && self.backoff.is_ready()
    }

    /// A permit for a call for `purpose` now.
    ///
    /// # Errors
    ///
    /// The peer is down and its backoff has not ended, or too many calls for that purpose are in flight.
    pub(super) fn admit(&self, purpose: Purpose) -> Result<CallPermit, RpcError> {
        if !self.is_ready() {
            return Err(self.out_of_reach());
        }
        let leave = self.budgets.take(purpose);
        let leave = leave.ok_or_else(|| RpcError::Unanswered {
            node: self.node(),
            addr: self.addr().to_owned(),
            calls: self.options.max_calls,
        })?;
        self.backoff.begin();
        Ok(leave)
    }

    /// Makes the call `rpc` and waits for its answer, for at most `timeout`.
    pub(super) async fn ask<T, F>(
        self: &Arc<Self>,
        leave: CallPermit,
        rpc: &'static str,
        timeout: Duration,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, RpcError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = self.attempt(leave, rpc, timeout, call).await?;
        self.reached();
        Ok(answer)
    }

    /// Asks the peer for its identity and status, and waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`RpcError::Misdirected`] if something else answers at its address, and all other errors of a call.
    pub(super) async fn identify(
        self: &Arc<Self>,
        request: IdentifyRequest,
        purpose: Purpose,
        timeout: Duration,
    ) -> Result<NodeStatus, RpcError> {
        let leave = self.admit(purpose)?;
        let ask = |mut client: Client| async move { client.identify(request).await };
        let response = self.attempt(leave, IDENTIFY, timeout, ask).await?;
        self.identified(response)
    }

    fn identified(&self, response: IdentifyResponse) -> Result<NodeStatus, RpcError> {
        let status = NodeStatus::try_from(response);
        let status = status.map_err(|error| self.refused(IDENTIFY, error.to_string()))?;
        let node = status.raft_id.node_id();
        if node != self.node() {
            return Err(self.found(Answering::OtherNode(node)));
        }
        self.reached();
        Ok(status)
    }

    async fn attempt<T, F>(
        self: &Arc<Self>,
        _leave: CallPermit,
        rpc: &'static str,
        timeout: Duration,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, RpcError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        match tokio::time::timeout(timeout, call(self.urgent())).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failed(rpc, &status)),
            // The attempt to connect may not even have ended yet.
            Err(_) if timeout <= self.options.connect_timeout && !self.backoff.is_up() => {
                Err(self.out_of_reach())
            }
            // A timeout says little about the peer: the caller's may have been short. If the peer is
            // gone, the connection will show that.
            Err(_) => Err(self.timeout(rpc, timeout)),
        }
    }

    /// The peer answered.
    pub(super) fn reached(&self) {
        {
            let mut notes = self.notes();
            (notes.found, notes.check) = (None, None);
        }
        if self.backoff.passed() {
            let (me, node, addr) = (self.me, self.node(), self.addr());
            tracing::info!(node = %me.node_id(), raft_id = %me, peer = %node, addr, "peer is up");
        }
    }

    /// Converts `status`, with which the call or stream `rpc` ended, to an error, and notes what it means
    /// for the peer. If a connection broke, a check starts that finds out why.
    pub(super) fn failed(self: &Arc<Self>, rpc: &'static str, status: &Status) -> RpcError {
        let error = self.validate(rpc, status);
        match error {
            RpcError::Unreachable { .. } | RpcError::Timeout { .. } => {
                if !status.source().is_some_and(was_refused) {
                    self.doubted(&error);
                    return self.out_of_reach();
                }
                self.lost(&error, Answering::Silent);
                error
            }
            error => error,
        }
    }

    /// A call or stream ended with `error`, which does not tell a peer that is gone from one that hangs.
    /// The last finding stands until the check has found more.
    pub(super) fn doubted(self: &Arc<Self>, error: &RpcError) {
        let before = self.notes().found;
        self.lost(error, before.unwrap_or(Answering::Hung));
        self.check();
    }

    /// Starts the check whether the peer hangs, unless it runs already.
    fn check(self: &Arc<Self>) {
        let mut notes = self.notes();
        if notes.check.is_none() {
            notes.check = Some(liveness::check(self));
        }
    }

    /// Logs a failed call or stream at debug level: important failures are logged elsewhere.
    pub(super) fn note(&self, error: &RpcError) {
        let me = self.me;
        tracing::debug!(
            node = %me.node_id(), raft_id = %me, peer = %self.node(), addr = self.addr(), %error,
            "a call failed",
        );
    }

    fn validate(&self, rpc: &'static str, status: &Status) -> RpcError {
        if let Some(not_me) = find_not_me(status) {
            let node = not_me.raft_id.node_id();
            if node != self.node() {
                return self.found(Answering::OtherNode(node));
            }
            self.reached();
            return RpcError::NotMe { node, not_me };
        }
        // The peer did not send a status that has a source: it was made from a local error. Its code says
        // little: tonic maps some broken connections to odd ones.
        if let Some(source) = status.source() {
            if speaks_no_http2(source) {
                return self.found(Answering::NotGrpc);
            }
            return match was_unanswered(source) {
                true => self.timeout("a ping", self.options.keepalive_timeout),
                false => self.unreachable(root_cause(status)),
            };
        }
        match status.code() {
            Code::Unimplemented if rpc == IDENTIFY => return self.found(server(status)),
            // This answer does not show which service sent it; the answer to `Identify` does.
            Code::Unimplemented => {}
            _ => self.reached(),
        }
        self.refused(rpc, format!("{:?}: {}", status.code(), status.message()))
    }

    /// Something else answers at the peer's address. The peer is unreachable until that ends.
    fn found(&self, answering: Answering) -> RpcError {
        let error = self.misdirected(answering);
        self.backoff.failed();
        if self.notes().found.replace(answering) != Some(answering) {
            let me = self.me;
            self.warnings.misdirected.warn(|kept_back| {
                let what = match answering {
                    Answering::Hung => "the peer may hang",
                    _ => "the peer's address leads to something else",
                };
                tracing::warn!(
                    node = %me.node_id(), raft_id = %me, peer = %self.node(), addr = self.addr(), %error,
                    kept_back, "{what}",
                );
            });
        }
        error
    }

    /// The peer is unreachable because of `error`; `found` answers at its address.
    fn lost(&self, error: &RpcError, found: Answering) {
        let reason = match error {
            RpcError::Unreachable { reason, .. } => reason.clone(),
            error => error.to_string(),
        };
        {
            let mut notes = self.notes();
            (notes.reason, notes.found) = (reason, Some(found));
        }
        if self.backoff.failed() {
            let me = self.me;
            self.warnings.down.warn(|kept_back| {
                tracing::warn!(
                    node = %me.node_id(), raft_id = %me, peer = %self.node(), addr = self.addr(), %error,
                    kept_back, "peer is down",
                );
            });
        }
    }

    /// The peer said that it is not `to`. This is logged once, as the core goes on addressing an earlier
    /// incarnation of the peer until the members have changed.
    pub(super) fn is_another(&self, to: RaftId, not_me: NotMe) {
        if self.notes().not_me.insert(to, not_me) != Some(not_me) {
            let me = self.me;
            self.warnings.another.warn(|kept_back| {
                tracing::warn!(
                    node = %me.node_id(), raft_id = %me, peer = %self.node(), %to, %not_me, kept_back,
                    "peer is not the process that was addressed",
                );
            });
        }
    }

    /// Logs that the peer refused a stream or a snapshot.
    pub(super) fn log_refusal(&self, error: &RpcError) {
        let me = self.me;
        self.warnings.refusal.warn(|kept_back| {
            tracing::warn!(
                node = %me.node_id(), raft_id = %me, peer = %self.node(), %error, kept_back,
                "the peer refused",
            );
        });
    }

    /// The result of the last attempt, during the backoff.
    fn out_of_reach(&self) -> RpcError {
        let Notes { reason, found, .. } = &*self.notes();
        match found.unwrap_or(Answering::Hung) {
            Answering::Silent => self.unreachable(reason.clone()),
            answering => self.misdirected(answering),
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Suspect for Peer {
    fn options(&self) -> Arc<TransportOptions> {
        Arc::clone(&self.options)
    }

    fn unhurried(&self) -> Client {
        client(&self.connector, &self.unhurried, &self.options)
    }

    fn at_other_port(&self) -> Option<Client> {
        let endpoint = self.other_port.as_ref()?;
        Some(client(&self.connector, endpoint, &self.options))
    }

    fn hangs(&self) {
        self.found(Answering::Hung);
    }

    fn is_alive(&self) {
        self.hangs();
        // The last step: the check ends with it.
        self.notes().check = None;
    }

    fn checked(&self, answer: Result<Response<IdentifyResponse>, Status>) {
        let found = match answer {
            Ok(response) => self.identified(response.into_inner()).err(),
            Err(status) => Some(self.validate(IDENTIFY, &status)),
        };
        if let Some(error) = found {
            if let RpcError::Unreachable { .. } | RpcError::Timeout { .. } = error {
                self.lost(&error, error.answering());
            }
            self.note(&error);
        }
        // This comes last, as it ends the check.
        self.notes().check = None;
    }
}
