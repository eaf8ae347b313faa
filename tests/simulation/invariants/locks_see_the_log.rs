//! Every answer about a lock or a claim is as the agreed log makes it: that to a command, at its place; that to a
//! read, after the entry that the answer names.

use seshat::kv::Effect;
use seshat::node::Answer;

use super::{Verdict, safe};
use crate::clusters::Clusters;
use crate::locks::{About, Answered};

pub(crate) fn check(told: &[Answered], clusters: &Clusters) -> Verdict {
    for answered in told {
        let (index, asked) = (answered.index, &answered.asked);
        let locks = &clusters.log(answered.cluster).model.locks;
        let lock = locks.lock(&asked.name, index);
        let effect = |effect: &Effect| locks.effect(index).map(|(id, it)| (*id, it == effect));
        let right = match (asked.about, &answered.answer) {
            (About::Acquire(id), Answer::Claim { state, .. }) => {
                effect(&Effect::Claimed(*state)) == Some((id, true))
            }
            (About::Acquire(id), Answer::Occupied { holder, .. }) => {
                effect(&Effect::Occupied(holder.clone())) == Some((id, true))
            }
            (About::Acquire(id) | About::Release(id), Answer::Released { .. }) => {
                effect(&Effect::Released) == Some((id, true))
            }
            (About::Claim(id), Answer::Claim { state, .. }) => lock.state(id) == *state,
            (About::Lock, Answer::Lock { lock: seen, .. }) => lock.seen() == **seen,
            _ => false,
        };
        safe(right, "locks_see_the_log", || {
            format!(
                "{answered:?}, but the log makes it {:?}, and the lock {lock:?}",
                locks.effect(index)
            )
        })?;
    }
    Ok(())
}
