//! W3C trace context (<https://www.w3.org/TR/trace-context/>): continued where the merchant sends
//! one, begun where it does not, so that one decision can be found in the logs of every tier.

use std::fmt::{self, Write as _};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The length of a `traceparent` of version 00.
const CHARS: usize = 55;

/// One request's place in a trace.
#[derive(Debug, PartialEq, Eq)]
pub enum TraceContext<'a> {
    /// As the merchant sent it.
    Continued(&'a str),
    /// Begun here: trace id and span id.
    Begun(u128, u64),
}

impl<'a> TraceContext<'a> {
    /// The context of a request with this `traceparent`. One that is not valid is as good as none.
    pub fn from_header(header: Option<&'a str>) -> Self {
        match header {
            Some(text) if is_valid(text) => Self::Continued(text),
            _ => Self::begin(),
        }
    }

    /// The `traceparent` that goes on to the next tier and back to the merchant.
    pub fn to_header(&self) -> String {
        let mut text = String::with_capacity(CHARS);
        // A string takes all that is written to it.
        let _ = write!(text, "{self}");
        text
    }

    fn begin() -> Self {
        static PROCESS: LazyLock<u128> = LazyLock::new(|| uuid::Uuid::now_v7().as_u128());
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Unique, not secret: the process by its random id, the request by its number.
        let spread = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self::Begun(*PROCESS ^ (u128::from(spread) << 32), spread | 1)
    }
}

impl fmt::Display for TraceContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continued(text) => f.write_str(text),
            Self::Begun(trace, span) => write!(f, "00-{trace:032x}-{span:016x}-01"),
        }
    }
}

/// Version 00: four fields of lower-case hexadecimal, neither id all zero.
fn is_valid(text: &str) -> bool {
    let fields: Vec<_> = text.split('-').collect();
    let hex = |field: &str, length| {
        field.len() == length && field.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |field: &str| field.bytes().any(|b| b != b'0');
    match fields.as_slice() {
        ["00", trace, span, flags] => {
            hex(trace, 32) && hex(span, 16) && hex(flags, 2) && some(trace) && some(span)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_context_is_continued_and_any_other_begins_a_new_one() {
        let sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(TraceContext::from_header(Some(sent)).to_header(), sent);
        let zeros = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        for wrong in [None, Some(""), Some("x"), Some(zeros.as_str()), Some(&sent[..54])] {
            let begun = TraceContext::from_header(wrong).to_header();
            assert!(is_valid(&begun) && begun != sent, "{begun}");
        }
    }

    #[test]
    fn no_two_requests_share_a_trace() {
        let seen: std::collections::HashSet<_> =
            (0..1000).map(|_| TraceContext::begin().to_string()).collect();
        assert_eq!(seen.len(), 1000);
    }
}
