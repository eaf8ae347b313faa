//! Trace context: what makes one trace show one write on every node.
//!
//! A client sends the W3C `traceparent` of its call as metadata. It goes into the log beside the
//! command, so every node that applies the entry can say so under the same trace id. The log line is
//! at level debug of the target [`TARGET`]: unless the log filter asks for that, nothing is looked
//! up, carried or written.

use bytes::Bytes;
use tonic::metadata::MetadataMap;

/// The target of log lines about traced writes: `SESHAT_LOG=info,seshat::trace=debug` shows them.
pub(super) const TARGET: &str = "seshat::trace";
/// The metadata that carries the context, as W3C Trace Context names it.
const TRACEPARENT: &str = "traceparent";

/// The trace context of a call, if it has one and somebody wants to see it; otherwise nothing.
pub(super) fn context(metadata: &MetadataMap) -> Bytes {
    if !tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
        return Bytes::new();
    }
    let context = metadata.get(TRACEPARENT).map(|value| value.as_bytes());
    let context = context.filter(|context| is_valid(context));
    context.map_or_else(Bytes::new, Bytes::copy_from_slice)
}

/// Whether it is `version-traceid-parentid-flags` in lower-case hexadecimal, of version 00, with
/// neither id zero (W3C Trace Context, section 3.2.2). Whatever else it is, it is not carried.
fn is_valid(context: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(context) else {
        return false;
    };
    let parts: Vec<_> = text.split('-').collect();
    let hex = |part: &str, digits: usize| {
        part.len() == digits
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let id = |part: &str, digits| hex(part, digits) && part.bytes().any(|byte| byte != b'0');
    matches!(parts.as_slice(), ["00", trace, parent, flags]
        if id(trace, 32) && id(parent, 16) && hex(flags, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_looked_up_unless_somebody_wants_to_see_it() {
        let mut metadata = MetadataMap::new();
        let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        metadata.insert(TRACEPARENT, context.parse().unwrap());
        assert!(super::context(&metadata).is_empty());
    }

    #[test]
    fn only_what_w3c_calls_a_traceparent_is_carried() {
        assert!(is_valid(
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        ));
        for other in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert!(!is_valid(other.as_bytes()), "{other}");
        }
    }
}
