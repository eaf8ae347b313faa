//! Trace contexts (W3C Trace Context): what a client sends and a node carries.

/// The gRPC metadata key of a trace context.
pub(crate) const NAME: &str = "traceparent";

/// Whether `context` is `version-traceid-parentid-flags` in lower-case hexadecimal, of version 00, with
/// neither id zero (W3C Trace Context, section 3.2.2). A malformed `traceparent` is ignored.
pub(crate) fn is_valid(context: &[u8]) -> bool {
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
