//! Why a connection failed, found in the sources of a call's error.

use std::error::Error;
use std::io::{self, ErrorKind};

/// Whether the peer answered with bytes that are not HTTP/2.
pub(super) fn speaks_no_http2(error: &(dyn Error + 'static)) -> bool {
    let nonsense = [h2::Reason::PROTOCOL_ERROR, h2::Reason::FRAME_SIZE_ERROR];
    let mut errors = causes(error).filter_map(|cause| cause.downcast_ref::<h2::Error>());
    errors.next().is_some_and(|error| {
        let reason = error.reason();
        error.is_library() && reason.is_some_and(|reason| nonsense.contains(&reason))
    })
}

/// Whether no connection was made, although a process may listen: the machine may be off, or its kernel
/// may take no more connections for that process.
pub(super) fn was_not_taken(error: &(dyn Error + 'static)) -> bool {
    let never_made = causes(error).any(|cause| cause.is::<tonic::ConnectError>());
    (never_made || is_of(error, ErrorKind::TimedOut)) && !was_refused(error)
}

/// Whether a kernel said that no process listens.
pub(super) fn was_refused(error: &(dyn Error + 'static)) -> bool {
    is_of(error, ErrorKind::ConnectionRefused)
}

/// Whether a connection was given up because pings on it stayed unanswered.
pub(super) fn was_unanswered(error: &(dyn Error + 'static)) -> bool {
    let mut errors = causes(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    errors.any(hyper::Error::is_timeout)
}

fn is_of(error: &(dyn Error + 'static), kind: ErrorKind) -> bool {
    let mut errors = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    errors.any(|error| error.kind() == kind)
}

/// An error and its sources.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause| (**cause).source())
}

/// The innermost source, which is the one that helps: "connection refused", not "transport error".
pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
