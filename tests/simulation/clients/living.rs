//! The requests of clients with sessions that live.

use super::*;
use crate::living::{Act, Asked};

impl Clients {
    /// The next request of a client with a session that lives, to `node`.
    pub(crate) fn live(&mut self, node: NodeId, now: u64) -> (Waiter, Request) {
        match self.living.act(now) {
            Act::Ask(asked, session) => {
                let waiter = self.wait(Bytes::new(), What::Living(asked), node, now);
                let client_id = ClientId(session);
                let request = match asked {
                    Asked::Open { ttl, .. } => {
                        Request::Write(Command::OpenLivingSession { client_id, ttl })
                    }
                    Asked::Renew { .. } => Request::KeepAlive(client_id),
                    Asked::Close => Request::Write(Command::CloseSession(client_id)),
                };
                (waiter, request)
            }
            Act::Read(key) => {
                let query = Query::Get(key.clone());
                let waiter = self.wait(key, What::Once(Kind::Read(None)), node, now);
                (waiter, Request::Read(query))
            }
            Act::Bind(key, lifetime) => self.bind(key, lifetime, node, now),
        }
    }

    /// A transaction that binds `key` to a value of its own.
    fn bind(
        &mut self,
        key: Bytes,
        lifetime: SetLifetime,
        node: NodeId,
        now: u64,
    ) -> (Waiter, Request) {
        let value = encode(self.next + 1);
        let set = TxnOperation::Set {
            key: key.clone(),
            value,
            lifetime,
        };
        let txn = Box::new(Txn {
            conditions: Vec::new(),
            success: vec![TxnOperation::Get(key.clone()), set, TxnOperation::Get(key)],
            failure: Vec::new(),
        });
        let waiter = self.wait(Bytes::new(), What::Txn(txn.clone()), node, now);
        self.living.binds(waiter, lifetime, now);
        (waiter, Request::Write(Write::Txn(txn).into()))
    }
}
