//! Calls that are futures with options: they begin when they are first polled.

use std::fmt;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use super::Error;

/// A call that begins when it is first polled.
pub(super) struct Running<'a, T>(Option<BoxFuture<'a, Result<T, Error>>>);

impl<T> Default for Running<'_, T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'a, T> Running<'a, T> {
    pub(super) fn poll<F>(
        &mut self,
        context: &mut Context<'_>,
        begin: impl FnOnce() -> F,
    ) -> Poll<Result<T, Error>>
    where
        F: Future<Output = Result<T, Error>> + Send + 'a,
    {
        let call = self.0.get_or_insert_with(|| Box::pin(begin()));
        call.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Running<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running").field(&self.0.is_some()).finish()
    }
}
