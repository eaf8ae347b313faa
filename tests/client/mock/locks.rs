//! The locks of a node: first come, first served.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use seshat::proto::lock::lock_service_server::LockService;
use seshat::proto::lock::{
    AcquireRequest, AcquireResponse, AwaitRequest, AwaitResponse, Gone, Held, Holder,
    InspectRequest, InspectResponse, ListLocksRequest, ListLocksResponse, Lock, ObserveRequest,
    ObserveResponse, Occupied, ReleaseRequest, ReleaseResponse, Waiting, acquire_response,
    await_response,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;

use super::*;

/// Nothing takes longer by a paused clock.
const LONG: Duration = Duration::from_secs(600);

/// What becomes of the next request about a lock.
#[derive(Clone)]
pub(crate) enum LockFate {
    /// It is refused, and not carried out.
    Refused(Status),
    /// It is carried out, and the answer is lost on its way.
    Lost,
    /// It is carried out, and never answered.
    CarriedOutInSilence,
    /// It is neither carried out nor answered.
    Silence,
    /// The stream of its answer ends after the first message.
    CutOff,
}

/// The locks of a cluster, which several nodes may share.
#[derive(Clone, Default)]
pub(super) struct Locks {
    table: Arc<Mutex<Table>>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Table {
    /// The claims to each lock, in the order in which they came. The first one holds it.
    claims: BTreeMap<String, Vec<Claim>>,
    /// The last token.
    revision: u64,
    fates: VecDeque<LockFate>,
    acquired: Vec<AcquireRequest>,
    awaited: Vec<AwaitRequest>,
    /// Questions for the state of a claim that are open, and the most at once.
    open: usize,
    most_open: usize,
    released: Vec<ReleaseRequest>,
    observers: usize,
    /// The connections of questions for the state of a claim.
    waiting_peers: BTreeSet<SocketAddr>,
    /// The streams that observers have opened.
    observed: usize,
}

/// A question for the state of a claim, until it is answered or cancelled.
struct Open(Locks);

impl Open {
    fn new(locks: Locks) -> Self {
        {
            let table = &mut *locks.table();
            table.open += 1;
            table.most_open = table.most_open.max(table.open);
        }
        Self(locks)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.table().open -= 1;
    }
}

#[derive(Clone)]
struct Claim {
    client_id: u64,
    number: u64,
    value: Bytes,
    token: Option<u64>,
    ends: Option<Instant>,
}

/// The state of a claim.
enum ClaimState {
    Held(Held),
    Waiting(Waiting),
    Gone(Gone),
}

impl Locks {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }

    /// Changes the claims, grants locks that are free, and wakes those who wait.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let changed = {
            let table = &mut *self.table();
            let changed = change(table);
            for claims in table.claims.values_mut() {
                if let Some(first) = claims.first_mut()
                    && first.token.is_none()
                {
                    table.revision += 1;
                    first.token = Some(table.revision);
                }
            }
            table.claims.retain(|_, claims| !claims.is_empty());
            changed
        };
        self.wake();
        changed
    }

    /// Those who wait look anew.
    pub(super) fn wake(&self) {
        self.changed.send_replace(());
    }

    /// Ends the claims of a session.
    pub(super) fn end(&self, session: u64) {
        self.change(|table| {
            for claims in table.claims.values_mut() {
                claims.retain(|claim| claim.client_id != session);
            }
        });
    }
}

impl Table {
    fn state(&self, name: &str, client_id: u64, number: u64) -> ClaimState {
        let claims = self.claims.get(name).map_or(&[][..], Vec::as_slice);
        let is_it = |claim: &Claim| (claim.client_id, claim.number) == (client_id, number);
        match claims.iter().position(is_it) {
            None => ClaimState::Gone(Gone {}),
            Some(ahead) => match claims[ahead].token {
                Some(token) => ClaimState::Held(Held { token }),
                None => ClaimState::Waiting(Waiting {
                    ahead: ahead.try_into().unwrap(),
                }),
            },
        }
    }

    fn holder(&self, name: &str) -> Option<Holder> {
        let claim = self.claims.get(name)?.first()?;
        Some(Holder {
            client_id: claim.client_id,
            claim: claim.number,
            token: claim.token?,
            value: claim.value.clone(),
        })
    }

    fn waiting(&self, name: &str) -> u64 {
        let claims = self.claims.get(name).map_or(0, Vec::len);
        claims.saturating_sub(1).try_into().unwrap()
    }
}

impl Mock {
    fn locks(&self) -> Locks {
        self.state().locks.clone()
    }

    /// The node has the locks of `other`, as one of the same cluster.
    pub(crate) fn shares_locks_with(&self, other: &Self) {
        let locks = other.locks();
        self.state().locks = locks;
    }

    /// Adds fates for the next requests about locks.
    pub(crate) fn next_lock(&self, fate: LockFate) {
        self.locks().table().fates.push_back(fate);
    }

    /// Another client claims the lock `name`, as the session `client_id`.
    pub(crate) fn claims(&self, name: &str, client_id: u64) {
        self.locks().change(|table| {
            let claims = table.claims.entry(name.to_owned()).or_default();
            claims.push(Claim {
                client_id,
                number: 1,
                value: Bytes::from("another"),
                token: None,
                ends: None,
            });
        });
    }

    /// The claims of the session `client_id` end.
    pub(crate) fn ends_claims(&self, client_id: u64) {
        self.locks().end(client_id);
    }

    /// Session and number of each claim to the lock `name`, the holder first.
    pub(crate) fn claims_to(&self, name: &str) -> Vec<(u64, u64)> {
        let locks = self.locks();
        let table = locks.table();
        let claims = table.claims.get(name).into_iter().flatten();
        claims.map(|it| (it.client_id, it.number)).collect()
    }

    /// The requests that have come to acquire a lock.
    pub(crate) fn acquired(&self) -> Vec<AcquireRequest> {
        self.locks().table().acquired.clone()
    }

    /// The questions for the state of a claim.
    pub(crate) fn awaited(&self) -> usize {
        self.locks().table().awaited.len()
    }

    /// The most questions for the state of a claim that were open at once.
    pub(crate) fn awaited_at_once(&self) -> usize {
        self.locks().table().most_open
    }

    /// The requests that have come to release a lock.
    pub(crate) fn released(&self) -> Vec<ReleaseRequest> {
        self.locks().table().released.clone()
    }

    /// The connections over which claims are waited for.
    pub(crate) fn waiting_peers(&self) -> BTreeSet<SocketAddr> {
        self.locks().table().waiting_peers.clone()
    }

    /// The streams that observers have opened.
    pub(crate) fn observed(&self) -> usize {
        self.locks().table().observed
    }

    /// Observers whose streams have not ended.
    pub(crate) fn observers(&self) -> usize {
        self.locks().table().observers
    }

    /// Waits until `is_true` of the node: those who change its locks wake it. For a paused clock.
    #[track_caller]
    pub(crate) fn until(&self, is_true: impl Fn(&Self) -> bool) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let waiting = async move {
            let mut changes = self.locks().changed.subscribe();
            while !is_true(self) {
                changes.changed().await.unwrap();
            }
        };
        async move {
            let waited = timeout(LONG, waiting).await;
            assert!(waited.is_ok(), "{caller}: in vain");
        }
    }

    /// Carries out a request about a lock, as its fate wants it.
    async fn lock<T>(&self, carry_out: impl FnOnce(&Locks) -> T) -> Result<Response<T>, Status> {
        if self.state().older {
            return Err(Status::unimplemented(""));
        }
        self.serves().await?;
        let locks = self.locks();
        let fate = locks.table().fates.pop_front();
        match &fate {
            Some(LockFate::Refused(status)) => return Err(status.clone()),
            Some(LockFate::Silence) => return pending().await,
            _ => {}
        }
        let answer = carry_out(&locks);
        match fate {
            Some(LockFate::Lost) => Err(Status::unavailable("the answer is lost")),
            Some(LockFate::CarriedOutInSilence) => pending().await,
            _ => Ok(Response::new(answer)),
        }
    }
}

#[tonic::async_trait]
impl LockService for Mock {
    async fn acquire(
        &self,
        request: Request<AcquireRequest>,
    ) -> Result<Response<AcquireResponse>, Status> {
        let request = request.into_inner();
        self.locks().table().acquired.push(request.clone());
        self.locks().wake();
        let AcquireRequest {
            name,
            session,
            value,
            max_wait,
            ..
        } = request;
        let Session {
            client_id,
            sequence,
            ..
        } = session.unwrap();
        let max_wait = max_wait.map(|it| Duration::try_from(it).unwrap());
        let claim = Claim {
            client_id,
            number: sequence,
            value,
            token: None,
            ends: max_wait.map(|wait| Instant::now() + wait),
        };
        let acquire = |table: &mut Table| {
            let uses_it = |it: &ReleaseRequest| {
                let used = it.session.unwrap();
                (used.client_id, used.sequence) == (client_id, sequence)
            };
            let is_used_up = table.released.iter().any(uses_it);
            let claims = table.claims.entry(name.clone()).or_default();
            let is_it = |it: &Claim| (it.client_id, it.number) == (client_id, sequence);
            let occupied = !claims.is_empty() && max_wait == Some(Duration::ZERO);
            if !is_used_up && !occupied && !claims.iter().any(is_it) {
                claims.push(claim);
            }
        };
        self.lock(|locks| {
            locks.change(acquire);
            let table = locks.table();
            let result = match table.state(&name, client_id, sequence) {
                ClaimState::Held(held) => acquire_response::Result::Held(held),
                ClaimState::Waiting(waiting) => acquire_response::Result::Waiting(waiting),
                ClaimState::Gone(gone) => match max_wait {
                    Some(Duration::ZERO) => acquire_response::Result::Occupied(Occupied {
                        holder: table.holder(&name),
                    }),
                    _ => acquire_response::Result::Gone(gone),
                },
            };
            AcquireResponse {
                result: Some(result),
                ..AcquireResponse::default()
            }
        })
        .await
    }

    async fn r#await(
        &self,
        request: Request<AwaitRequest>,
    ) -> Result<Response<AwaitResponse>, Status> {
        let timeout = request.metadata().get("grpc-timeout");
        let timeout = timeout.map_or(Duration::from_secs(60), |it| {
            parse_timeout(it.to_str().unwrap())
        });
        let deadline = Instant::now() + timeout * 9 / 10;
        let peer = request.remote_addr();
        self.locks().table().waiting_peers.extend(peer);
        let request = request.into_inner();
        let AwaitRequest {
            name,
            client_id,
            claim,
            ..
        } = request.clone();
        let mut changes = self.locks().changed.subscribe();
        self.locks().table().awaited.push(request);
        let _open = Open::new(self.locks());
        self.locks().wake();
        let result = loop {
            changes.mark_unchanged();
            let state = self
                .lock(|locks| locks.table().state(&name, client_id, claim))
                .await?;
            let waiting = match state.into_inner() {
                ClaimState::Held(held) => break await_response::Result::Held(held),
                ClaimState::Gone(gone) => break await_response::Result::Gone(gone),
                ClaimState::Waiting(waiting) => waiting,
            };
            let ends = self.ends(&name, client_id, claim);
            tokio::select! {
                changed = timeout_at(deadline, changes.changed()) => if changed.is_err() {
                    break await_response::Result::Waiting(waiting);
                },
                () = sleep_until(ends.unwrap_or(deadline)), if ends.is_some() => {
                    self.locks().change(|table| {
                        let claims = table.claims.get_mut(&name).unwrap();
                        claims.retain(|it| (it.client_id, it.number) != (client_id, claim));
                    });
                }
            }
        };
        Ok(Response::new(AwaitResponse {
            result: Some(result),
            ..AwaitResponse::default()
        }))
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseResponse>, Status> {
        let request = request.into_inner();
        let (name, session) = (request.name.clone(), request.session.unwrap());
        let answer = self
            .lock(|locks| {
                locks.change(|table| {
                    table.released.push(request);
                    let claims = table.claims.entry(name).or_default();
                    claims.retain(|it| {
                        (it.client_id, it.number) != (session.client_id, session.sequence)
                    });
                    ReleaseResponse {
                        revision: table.revision,
                        ..ReleaseResponse::default()
                    }
                })
            })
            .await;
        self.locks().wake();
        answer
    }

    async fn inspect(
        &self,
        request: Request<InspectRequest>,
    ) -> Result<Response<InspectResponse>, Status> {
        let name = request.into_inner().name;
        self.lock(|locks| {
            let table = locks.table();
            InspectResponse {
                holder: table.holder(&name),
                waiting: table.waiting(&name),
                ..InspectResponse::default()
            }
        })
        .await
    }

    type ObserveStream = ReceiverStream<Result<ObserveResponse, Status>>;

    async fn observe(
        &self,
        request: Request<ObserveRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        if self.state().older {
            return Err(Status::unimplemented(""));
        }
        let name = request.into_inner().name;
        let mut changes = self.locks().changed.subscribe();
        let (messages, stream) = mpsc::channel(1);
        let node = self.clone();
        let is_cut_off = {
            let locks = self.locks();
            let table = &mut *locks.table();
            table.observers += 1;
            table.observed += 1;
            let cut_off = table
                .fates
                .pop_front_if(|it| matches!(it, LockFate::CutOff));
            cut_off.is_some()
        };
        self.locks().wake();
        tokio::spawn(async move {
            let mut tell = async || loop {
                changes.mark_unchanged();
                let holder = node.lock(|locks| locks.table().holder(&name)).await;
                let message = holder.map(|holder| ObserveResponse {
                    holder: holder.into_inner(),
                    ..ObserveResponse::default()
                });
                let ends = message.is_err() || is_cut_off;
                if messages.send(message).await.is_err() || ends {
                    break;
                }
                changes.changed().await.unwrap();
            };
            tokio::select! {
                () = tell() => {}
                () = messages.closed() => {}
            }
            node.locks().table().observers -= 1;
            node.locks().wake();
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_locks(
        &self,
        request: Request<ListLocksRequest>,
    ) -> Result<Response<ListLocksResponse>, Status> {
        let after = request.into_inner().after;
        self.lock(|locks| {
            let table = locks.table();
            let behind = table.claims.keys().filter(|name| **name > after);
            let mut locks: Vec<_> = behind
                .map(|name| Lock {
                    name: name.clone(),
                    holder: table.holder(name),
                    waiting: table.waiting(name),
                })
                .collect();
            let more = locks.len() > PART_KEYS;
            locks.truncate(PART_KEYS);
            ListLocksResponse {
                locks,
                more,
                ..ListLocksResponse::default()
            }
        })
        .await
    }
}

impl Mock {
    /// When a claim that waits ends by its own wish.
    fn ends(&self, name: &str, client_id: u64, number: u64) -> Option<Instant> {
        let locks = self.locks();
        let table = locks.table();
        let mut claims = table.claims.get(name)?.iter();
        let claim = claims.find(|it| (it.client_id, it.number) == (client_id, number));
        claim?.ends
    }
}
