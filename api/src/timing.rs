//! How long each tier took, for `Server-Timing`.

use std::time::Duration;

use backstop_contract::ledger::{Call, millis};

/// The `Server-Timing` header: how long core was waited for, whether it answered or not, and the api's
/// whole time with it.
pub fn server_timing(calls: &[Call], api: Duration) -> String {
    let core = calls.first().map(|core| format!("core;dur={:.3}, ", core.took)).unwrap_or_default();
    format!("{core}api;dur={:.3}", millis(api))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_is_named_only_when_it_was_asked() {
        let micros = Duration::from_micros;
        assert_eq!(server_timing(&[], micros(90)), "api;dur=0.090");
        let call =
            "core.decide 300000 100 10000 5000 1000000 289900 3200 answered".parse().unwrap();
        assert_eq!(server_timing(&[call], micros(4_100)), "core;dur=3.200, api;dur=4.100");
    }
}
