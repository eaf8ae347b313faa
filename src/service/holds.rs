//! The accounting of answers that count until they are sent.
//!
//! A handler that has returned a value holds nothing of it any more, while the answer waits for its
//! client to read it. So the handler attaches a hold to the response, as an extension. The server
//! releases the hold together with the bytes of the answer.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use crate::driver::Held;

/// The holds of a call's answers that are not in its body yet.
#[derive(Debug, Clone, Default)]
pub struct Holds(Arc<Mutex<Vec<Held>>>);

impl Holds {
    /// Attaches `held` to the next bytes of the body.
    pub fn add(&self, held: Held) {
        self.all().push(held);
    }

    /// The holds that were added since the last bytes of the body.
    pub fn take(&self) -> Vec<Held> {
        mem::take(&mut *self.all())
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
