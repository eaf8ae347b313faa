//! Each lock is held by at most one claim, the first of those that have not ended, under the revision at which it
//! became the first: every node has the claims that the agreed log makes, in its order, and none whose session has
//! ended.

use seshat::node::MemoryStorage;
use seshat::types::RaftId;

use super::{Verdict, safe};
use crate::model::Model;

const NAME: &str = "one_holder_a_lock";

pub(crate) fn check(by: RaftId, storage: &MemoryStorage, model: &Model) -> Verdict {
    let (applied, state) = (storage.applied(), storage.state_machine());
    let locks = || model.locks.all(applied);
    let expected = locks().flat_map(|(name, lock)| {
        let token = |id| lock.held().filter(|(by, _)| *by == id);
        let claims = lock.claims.iter();
        claims.map(move |it| {
            let token = token(it.id).map(|(_, token)| token);
            (name, it.began, (it.id, &it.value, it.deadline), token)
        })
    });
    let all = state.locks().all().map(|(name, began, claim, token)| {
        (name, began, (claim.id, &claim.value, claim.deadline), token)
    });
    safe(all.eq(expected), NAME, || {
        let (has, makes) = (state.locks(), locks().collect::<Vec<_>>());
        format!("{by} has {has:?} at index {applied}, and the log makes {makes:?}")
    })?;
    let living = state.sessions().living();
    let over = |id: seshat::types::ClientId| living.get(id).is_none();
    let mut all = state.locks().all();
    let orphan = all.find(|(_, _, claim, _)| over(claim.id.client_id));
    safe(orphan.is_none(), NAME, || {
        format!("{by} has {orphan:?} at index {applied}, and its session has ended")
    })
}
