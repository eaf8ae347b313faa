//! The living sessions of a cluster, as an operator sees and ends them.

use std::time::Duration;

use tracing::{Instrument as _, debug_span};

use super::call::Repeat;
use super::call_error::or_older;
use super::nodes::Node;
use super::open_session::OLDER_VERSION;
use super::{Client, Error};
use crate::proto::kv;

/// A living session, as the cluster shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its id: [`Session::id`](super::Session::id).
    pub client_id: u64,
    /// Its TTL.
    pub ttl: Duration,
    /// How much of that is left, by the clock of the cluster, which moves about four times a second. It may
    /// be half a second more than the TTL at first.
    pub remaining: Duration,
    /// Number of keys that it owns.
    pub owned_keys: u64,
}

/// The end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosedSession {
    /// Whether the session was open before. `false` also if an attempt of this call whose answer was lost had ended
    /// it.
    pub existed: bool,
    /// The revision at which it is not open any more.
    pub revision: u64,
}

impl Client {
    /// Ends the session of this id, as its own client does by [`close`](super::LivingSession::close): the keys that
    /// it owns are removed, and its claims to locks end. Its client learns of it by the next renewal, and believes
    /// until then that it holds its locks. So this is for a session whose program is gone.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client, id: u64) -> Result<(), seshat::client::Error> {
    /// if !client.close_session(id).await?.existed {
    ///     println!("it had ended before");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Its end was not acknowledged in time, or was refused.
    pub async fn close_session(&self, id: u64) -> Result<ClosedSession, Error> {
        let close = |node: Node| {
            let request = node.request(kv::CloseSessionRequest {
                client_id: id,
                cluster_id: node.cluster,
            });
            async move {
                let closed = node.kv().close_session(request).await;
                closed.map_err(|status| or_older(status, OLDER_VERSION))
            }
        };
        let call = self.call(self.deadline(), Repeat::Safe, close);
        let closed = call.instrument(debug_span!("close_session")).await?;
        Ok(ClosedSession {
            existed: closed.existed,
            revision: closed.revision,
        })
    }

    /// The living sessions, in ascending order of their ids. Linearizable like [`get`](Self::get). They are read
    /// in pages of 1000: a session that is opened or ends meanwhile may be missing or not.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// for session in client.sessions().await? {
    ///     println!("{:016x} owns {} keys", session.client_id, session.owned_keys);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The sessions could not be read.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, Error> {
        let deadline = self.deadline();
        let mut sessions: Vec<SessionInfo> = Vec::new();
        loop {
            let after = sessions.last().map_or(0, |it| it.client_id);
            let page = |node: Node| {
                let request = node.request(kv::ListSessionsRequest {
                    after_client_id: after,
                    limit: 0,
                    cluster_id: node.cluster,
                });
                async move {
                    let page = node.kv().list_sessions(request).await;
                    page.map_err(|status| or_older(status, OLDER_VERSION))
                }
            };
            let call = self.call(deadline, Repeat::Read, page);
            let page = call.instrument(debug_span!("list_sessions")).await?;
            let before = sessions.len();
            sessions.extend(page.sessions.into_iter().map(SessionInfo::from));
            // A page that says nothing new has nothing behind it.
            if !page.more || sessions.len() == before {
                return Ok(sessions);
            }
        }
    }
}

impl From<kv::SessionInfo> for SessionInfo {
    fn from(session: kv::SessionInfo) -> Self {
        let kv::SessionInfo {
            client_id,
            ttl,
            remaining,
            owned_keys,
        } = session;
        let duration = |it: Option<prost_types::Duration>| {
            it.and_then(|it| Duration::try_from(it).ok())
                .unwrap_or_default()
        };
        Self {
            client_id,
            ttl: duration(ttl),
            remaining: duration(remaining),
            owned_keys,
        }
    }
}
