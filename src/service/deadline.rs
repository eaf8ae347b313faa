//! The deadline of a request.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::deadline::after;
use crate::error::Refusal;

/// The largest part of a caller's timeout that is reserved for the answer's way back.
const WAY_BACK: Duration = Duration::from_millis(100);

/// When to give up on a request: when its caller does (the `grpc-timeout` header), at the latest after
/// `longest`.
///
/// The answer has to arrive before the caller gives up; otherwise the caller never learns whether its
/// write was applied. So a tenth of its timeout is reserved for the way back, at most 100 ms.
pub(super) fn deadline(metadata: &MetadataMap, longest: Duration) -> Instant {
    let max_wait = grpc_timeout(metadata)
        .map(|timeout| timeout.saturating_sub(WAY_BACK.min(timeout / 10)))
        .map_or(longest, |timeout| timeout.min(longest));
    after(max_wait)
}

/// The `grpc-timeout` header: at most 8 digits and a unit. A malformed one is ignored.
fn grpc_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(amount.saturating_mul(60))),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// The requested timeout, bounded by `longest`, or `longest` if the request has none.
pub(super) fn duration(
    field: &'static str,
    asked: Option<prost_types::Duration>,
    longest: Duration,
) -> Result<Duration, Refusal> {
    let Some(asked) = asked else {
        return Ok(longest);
    };
    Duration::try_from(asked)
        .map(|asked| asked.min(longest))
        .map_err(|error| Refusal::invalid(field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(timeout: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", timeout.parse().unwrap());
        metadata
    }

    #[test]
    fn the_header_is_read_as_grpc_defines_it() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (text, expected) in [
            ("2H", seconds(7200)),
            ("3M", seconds(180)),
            ("5S", seconds(5)),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("7n", Some(Duration::from_nanos(7))),
            ("0S", seconds(0)),
            ("999999999S", None),
            ("S", None),
            ("", None),
            ("5", None),
            ("-5S", None),
            ("+5S", None),
            ("5s", None),
        ] {
            assert_eq!(grpc_timeout(&metadata(text)), expected, "{text}");
        }
        assert_eq!(grpc_timeout(&MetadataMap::new()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_leaves_before_the_caller_does() {
        let longest = Duration::from_secs(5);
        let max_wait = |metadata| deadline(&metadata, longest) - Instant::now();
        assert_eq!(max_wait(MetadataMap::new()), longest);
        assert_eq!(max_wait(metadata("1H")), longest);
        assert_eq!(max_wait(metadata("2S")), Duration::from_millis(1900));
        assert_eq!(max_wait(metadata("200m")), Duration::from_millis(180));
        assert_eq!(max_wait(metadata("0S")), Duration::ZERO);
    }
}
