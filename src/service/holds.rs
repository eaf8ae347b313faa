//! Answers that count until they are sent.
//!
//! A handler that has returned a value holds nothing of it any more, while it waits for its client to
//! take it. So it gives along, as an extension of the response, what the answer holds, and the server
//! lets go of that with the very bytes.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use crate::driver::Held;

/// What the answers of a call hold that are on their way into its body.
#[derive(Debug, Clone, Default)]
pub struct Holds(Arc<Mutex<Vec<Held>>>);

impl Holds {
    /// The next bytes of the body hold this as well.
    pub fn add(&self, held: Held) {
        self.all().push(held);
    }

    /// What was added since the last bytes of the body.
    pub fn take(&self) -> Vec<Held> {
        mem::take(&mut *self.all())
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
