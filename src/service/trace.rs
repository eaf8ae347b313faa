//! Trace context: one trace shows one write on every node.
//!
//! A client sends the W3C `traceparent` of its call as metadata. It goes into the Raft log besides the
//! command, so every node that applies the entry can report it under the same trace id. The log line has
//! level debug and the target [`TARGET`]: unless the log filter asks for that, the context is neither
//! looked up nor carried nor written.

use bytes::Bytes;
use tonic::metadata::MetadataMap;

use crate::traceparent;

/// The target of log lines about traced writes: `SESHAT_LOG=info,seshat::trace=debug` shows them.
pub(super) const TARGET: &str = "seshat::trace";

/// The trace context of a call. Empty if it has none, if it is malformed, or if the log filter does not
/// ask for it.
pub(super) fn context(metadata: &MetadataMap) -> Bytes {
    if !tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
        return Bytes::new();
    }
    let context = metadata
        .get(traceparent::NAME)
        .map(|value| value.as_bytes());
    let context = context.filter(|context| traceparent::is_valid(context));
    context.map_or_else(Bytes::new, Bytes::copy_from_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_looked_up_unless_the_log_shows_it() {
        let mut metadata = MetadataMap::new();
        let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        metadata.insert(traceparent::NAME, context.parse().unwrap());
        assert!(super::context(&metadata).is_empty());
    }
}
