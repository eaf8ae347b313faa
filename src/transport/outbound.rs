//! Outgoing messages and calls of the driver, each to its peer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic::{Response, Status};

use super::budgets::{CallPermit, Purpose};
use super::client::Client;
use super::peer::Peer;
use super::peer_streams::PeerStreams;
use super::peers::{Known, Peers};
use super::routes::Routes;
use crate::driver::{
    Call, CallId, DriverHandle, Identifying, Network, OutgoingSnapshot, Probe, Reply,
};
use crate::error::RpcError;
use crate::proto::raft::{RequestVoteRequest, StartRequest, TimeoutNowRequest};
use crate::types::{Answering, ClusterMembership, NodeId, Offer, RaftId, RecoveryClaim};
use crate::wire::{self, PeerMessage};

const REQUEST_VOTE: &str = "RequestVote";
const TIMEOUT_NOW: &str = "TimeoutNow";

/// Sends the messages of the core. The driver owns it.
#[derive(Debug)]
pub struct Outbound {
    peers: Peers,
    peer_streams: BTreeMap<RaftId, PeerStreams>,
    routes: Arc<Routes>,
    driver: DriverHandle,
    leading: bool,
}

impl Outbound {
    pub(super) fn new(peers: Peers, routes: Arc<Routes>, driver: DriverHandle) -> Self {
        Self {
            peers,
            peer_streams: BTreeMap::new(),
            routes,
            driver,
            leading: false,
        }
    }

    /// The peer streams to the process `to`, if this node leads and knows the address of that process.
    fn peer_streams(&mut self, to: u64) -> Option<&mut PeerStreams> {
        if !self.leading {
            return None;
        }
        let to = RaftId::try_from(to).ok()?;
        let peer = self.peers.get(to.node_id())?;
        let new = || PeerStreams::new(to, Arc::clone(peer), self.driver.clone());
        Some(self.peer_streams.entry(to).or_insert_with(new))
    }

    /// The peer of the process `to` and a permit to call it, if it may be called now.
    fn admit(&self, to: u64) -> Option<(RaftId, Arc<Peer>, CallPermit)> {
        let to = RaftId::try_from(to).ok()?;
        let peer = self.peers.get(to.node_id())?;
        let leave = peer.admit(Purpose::Election).ok()?;
        Some((to, Arc::clone(peer), leave))
    }
}

impl Network for Outbound {
    fn send(&mut self, message: PeerMessage) -> bool {
        let size = message.size_hint();
        match message {
            PeerMessage::AppendEntries(request) => self
                .peer_streams(request.to)
                .is_some_and(|peer_streams| peer_streams.append(size, request)),
            PeerMessage::Heartbeat(request) => self
                .peer_streams(request.to)
                .is_some_and(|peer_streams| peer_streams.heartbeat(size, request)),
            PeerMessage::RequestVote(request) => {
                let Some((to, peer, leave)) = self.admit(request.to) else {
                    return false;
                };
                tokio::spawn(request_vote(peer, to, leave, request, self.driver.clone()));
                true
            }
            PeerMessage::TimeoutNow(request) => {
                let Some((to, peer, leave)) = self.admit(request.to) else {
                    return false;
                };
                tokio::spawn(timeout_now(peer, to, leave, request));
                true
            }
            // A reply counts as sent, even if no stream or call waits for it: that says nothing about the
            // peer.
            PeerMessage::AppendEntriesReply(reply) => {
                self.routes.append_entries(reply);
                true
            }
            PeerMessage::HeartbeatReply(reply) => {
                self.routes.heartbeat(reply);
                true
            }
            PeerMessage::RequestVoteReply(reply) => {
                self.routes.request_vote(reply);
                true
            }
            // Snapshots are sent by `send_snapshot`, with their state machine.
            PeerMessage::InstallSnapshot(_) => false,
        }
    }

    fn send_snapshot(&mut self, snapshot: OutgoingSnapshot) -> bool {
        self.peer_streams(snapshot.header.request().to)
            .is_some_and(|peer_streams| peer_streams.snapshot(snapshot))
    }

    fn call(&mut self, id: CallId, call: Call) {
        let peer = self.peers.get(id.to).cloned();
        let driver = self.driver.clone();
        tokio::spawn(async move {
            let reply = match peer {
                Some(peer) => form(&peer, call).await,
                None => Reply::Failed,
            };
            // A driver that has stopped needs no reply.
            let _ = driver.replied(id, reply).await;
        });
    }

    fn set_leading(&mut self, leading: bool) {
        self.leading = leading;
        if !leading {
            self.peer_streams.clear();
        }
    }

    fn set_members(&mut self, nodes: &ClusterMembership) {
        self.peers.follow(nodes);
        let peers = &self.peers;
        let mut closed = Vec::new();
        self.peer_streams.retain(|&to, peer_streams| {
            let peer = peers.get(to.node_id());
            let stays = peer.is_some_and(|peer| peer_streams.leads_to(peer));
            if !stays {
                closed.push(to);
            }
            stays
        });
        // The messages in flight on closed streams are lost, and the core must know.
        for to in closed {
            let driver = self.driver.clone();
            tokio::spawn(async move {
                // A driver that has stopped needs no report.
                let _ = driver.report_unreachable(to).await;
            });
        }
    }
}

/// Calls the process `to`. Returns the answer, if there is one. No answer is normal: a voter that hears a
/// leader stays silent.
async fn call<T, F>(
    peer: &Arc<Peer>,
    to: RaftId,
    leave: CallPermit,
    rpc: &'static str,
    call: impl FnOnce(Client) -> F,
) -> Option<T>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let answer = peer.ask(leave, rpc, peer.options().rpc_timeout, call).await;
    if let Err(error) = &answer {
        peer.note(error);
        if let RpcError::NotMe { not_me, .. } = error {
            peer.is_another(to, *not_me);
        }
    }
    answer.ok()
}

#[tracing::instrument(level = "debug", skip_all, fields(node = %peer.me().node_id(), raft_id = %peer.me(), peer = %peer.node(), %to))]
async fn request_vote(
    peer: Arc<Peer>,
    to: RaftId,
    leave: CallPermit,
    request: RequestVoteRequest,
    driver: DriverHandle,
) {
    let ask = |mut client: Client| async move { client.request_vote(request).await };
    if let Some(reply) = call(&peer, to, leave, REQUEST_VOTE, ask).await {
        // A driver that has stopped needs no reply.
        let _ = driver.step(PeerMessage::RequestVoteReply(reply)).await;
    }
}

#[tracing::instrument(level = "debug", skip_all, fields(node = %peer.me().node_id(), raft_id = %peer.me(), peer = %peer.node(), %to))]
async fn timeout_now(peer: Arc<Peer>, to: RaftId, leave: CallPermit, request: TimeoutNowRequest) {
    let ask = |mut client: Client| async move { client.timeout_now(request).await };
    call(&peer, to, leave, TIMEOUT_NOW, ask).await;
}

/// Makes a call of formation or recovery.
#[tracing::instrument(level = "debug", skip_all, fields(node = %peer.me().node_id(), raft_id = %peer.me(), peer = %peer.node()))]
async fn form(peer: &Arc<Peer>, call: Call) -> Reply {
    let reply = match call {
        Call::Identify(who) => {
            let timeout = peer.options().rpc_timeout;
            let status = peer.identify(who.into(), Purpose::Formation, timeout).await;
            let answer = status.map(|status| Reply::Identified(Box::new(status)));
            answer.or_else(|error| match error.answering() {
                Answering::Silent => Err(error),
                answering => Ok(Reply::Misdirected(answering)),
            })
        }
        Call::Offer(offer) => make_offer(peer, offer).await,
        Call::Start(offer) => start(peer, offer).await,
        Call::Yield { claim, to } => Ok(claim_recovery(peer, claim, to).await),
    };
    reply.unwrap_or_else(|error| {
        peer.note(&error);
        match error.answering() {
            Answering::Hung => Reply::Misdirected(Answering::Hung),
            _ => Reply::Failed,
        }
    })
}

async fn make_offer(peer: &Arc<Peer>, offer: Offer) -> Result<Reply, RpcError> {
    const RPC: &str = "Offer";
    let to = receiver(peer, &offer, RPC)?;
    let cluster_id = offer.cluster_id;
    let request = wire::offer_request(offer, to);
    let leave = peer.admit(Purpose::Formation)?;
    let timeout = peer.options().rpc_timeout;
    let ask = |mut client: Client| async move { client.offer(request).await };
    let response = peer.ask(leave, RPC, timeout, ask).await?;
    Ok(Reply::Offered {
        cluster_id,
        accepted: response.accepted,
    })
}

async fn start(peer: &Arc<Peer>, offer: Offer) -> Result<Reply, RpcError> {
    const RPC: &str = "Start";
    let request = StartRequest {
        cluster_id: offer.cluster_id.0,
        coordinator_id: offer.coordinator.get(),
        to: receiver(peer, &offer, RPC)?.get(),
    };
    let leave = peer.admit(Purpose::Formation)?;
    let timeout = peer.options().rpc_timeout;
    let ask = |mut client: Client| async move { client.start(request).await };
    let response = peer.ask(leave, RPC, timeout, ask).await?;
    if response.started {
        Ok(Reply::Started)
    } else {
        Err(peer.refused(RPC, "it does not take part".to_owned()))
    }
}

/// Asks the process `to` to leave the recovery of the cluster to this one. A failed call counts as not
/// yielded.
async fn claim_recovery(peer: &Arc<Peer>, claim: RecoveryClaim, to: RaftId) -> Reply {
    const RPC: &str = "YieldRecovery";
    let request = wire::yield_request(claim, to);
    let timeout = peer.options().rpc_timeout;
    let ask = |mut client: Client| async move { client.yield_recovery(request).await };
    let answer = async {
        let leave = peer.admit(Purpose::Formation)?;
        peer.ask(leave, RPC, timeout, ask).await
    };
    let answer = answer.await;
    Reply::Yielded {
        attempt: claim.attempt,
        answer: answer.map_or_else(
            |error: RpcError| Err(format!("has not yielded: {error}")),
            wire::yielded,
        ),
    }
}

/// The incarnation of `peer` that the offer lists.
fn receiver(peer: &Peer, offer: &Offer, rpc: &'static str) -> Result<RaftId, RpcError> {
    let mut members = offer.members.iter().copied();
    members
        .find(|member| member.node_id() == peer.node())
        .ok_or_else(|| peer.refused(rpc, "the offer is not for this node".to_owned()))
}

/// Asks other nodes for their status. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober {
    peers: watch::Receiver<Known>,
    driver: DriverHandle,
}

impl Prober {
    pub(super) fn new(peers: watch::Receiver<Known>, driver: DriverHandle) -> Self {
        Self { peers, driver }
    }
}

impl Probe for Prober {
    fn identify(&self, node: NodeId, timeout: Duration) -> Identifying<'_> {
        Box::pin(async move {
            let peer = self.peers.borrow().get(&node).cloned();
            let peer = peer.ok_or_else(|| RpcError::Unreachable {
                node,
                addr: String::new(),
                reason: "this node has no address for it".to_owned(),
            })?;
            let request = self.driver.introduction().into();
            peer.identify(request, Purpose::Report, timeout).await
        })
    }
}
