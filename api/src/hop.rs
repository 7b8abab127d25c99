//! What the edge tells of a request: the headers between the tiers, read into what they mean.

use std::time::Duration;

use http::HeaderMap;

use backstop_contract::{Budget, Problem, RequestHash, Timestamp, header};

/// A decision request's headers. One in hand is complete: the edge sets them all.
pub struct Hop {
    /// Who asks.
    pub merchant: String,
    /// Asked with a test key.
    pub test: bool,
    /// When the edge had the whole request.
    pub received_at: Timestamp,
    /// Tells a retry from another request under the same id.
    pub hash: RequestHash,
    /// The merchant's ids may look like card numbers.
    pub numeric_ids: bool,
    /// What the edge gives us; it counts from our receipt.
    pub budget: Budget,
    /// W3C trace context; empty when there is none.
    pub traceparent: String,
}

impl Hop {
    /// Reads the headers, or names the one that is missing or makes no sense.
    pub fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let budget = text(headers, header::BUDGET).and_then(Budget::from_header);
        let hash = text(headers, header::REQUEST_HASH).and_then(RequestHash::from_hex);
        let received_at = text(headers, header::RECEIVED_AT).and_then(|text| text.parse().ok());
        Ok(Self {
            merchant: merchant(headers)?,
            test: flag(headers, header::TEST)?,
            received_at: received_at
                .map(Timestamp::from_millis)
                .ok_or_else(|| missing(header::RECEIVED_AT))?,
            hash: hash.ok_or_else(|| missing(header::REQUEST_HASH))?,
            numeric_ids: flag(headers, header::NUMERIC_IDS)?,
            budget: budget.ok_or_else(Problem::bad_budget)?,
            traceparent: text(headers, header::TRACEPARENT).unwrap_or_default().to_owned(),
        })
    }
}

/// What the edge shows of the hop token.
pub fn authorization(headers: &HeaderMap) -> Option<&str> {
    text(headers, "authorization")
}

/// The merchant that the edge authenticated; ids are scoped to it.
pub fn merchant(headers: &HeaderMap) -> Result<String, Problem> {
    let name = text(headers, header::MERCHANT).filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| missing(header::MERCHANT))
}

/// The budget of a question about a decision: at most `longest`, which is also the default.
pub fn budget_within(headers: &HeaderMap, longest: Duration) -> Result<Budget, Problem> {
    if !headers.contains_key(header::BUDGET) {
        return Ok(Budget::new(longest));
    }
    let budget = text(headers, header::BUDGET).and_then(Budget::from_header);
    budget.map(|budget| std::cmp::min(budget, Budget::new(longest))).ok_or_else(Problem::bad_budget)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Absent means false.
fn flag(headers: &HeaderMap, name: &str) -> Result<bool, Problem> {
    match headers.get(name).map(http::HeaderValue::as_bytes) {
        None | Some(b"false") => Ok(false),
        Some(b"true") => Ok(true),
        Some(_) => Err(missing(name)),
    }
}

fn missing(name: &str) -> Problem {
    Problem {
        detail: format!("the header {name} is missing, or makes no sense"),
        remedy: "ask through the edge, which sets it".into(),
        ..Problem::bad_budget()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: [(&str, &str); 5] = [
        (header::MERCHANT, "demo"),
        (header::TEST, "true"),
        (header::RECEIVED_AT, "1533081631000"),
        (header::REQUEST_HASH, "00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff"),
        (header::BUDGET, "290.5"),
    ];

    fn headers(changed: &'static str, value: Option<&'static str>) -> HeaderMap {
        let kept = COMPLETE.iter().filter(|(name, _)| *name != changed);
        let added = value.map(|value| (changed, value));
        let pair = |(name, value): (&'static str, &'static str)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        kept.copied().chain(added).map(pair).collect()
    }

    #[test]
    fn a_complete_set_is_read() {
        let hop = Hop::read(&headers(header::NUMERIC_IDS, Some("true"))).unwrap();
        assert_eq!((hop.merchant.as_str(), hop.test, hop.numeric_ids), ("demo", true, true));
        assert_eq!(hop.received_at, Timestamp::from_millis(1_533_081_631_000));
        assert_eq!(hop.budget.length(), Duration::from_micros(290_500));
        assert!(hop.hash.to_string().starts_with("00ff"));
        assert!(!Hop::read(&headers(header::TEST, None)).unwrap().test, "no header, no test key");
    }

    #[test]
    fn each_header_that_lacks_or_makes_no_sense_is_named() {
        let cases = [
            (header::MERCHANT, None),
            (header::MERCHANT, Some("")),
            (header::RECEIVED_AT, None),
            (header::RECEIVED_AT, Some("today")),
            (header::REQUEST_HASH, None),
            (header::REQUEST_HASH, Some("00ff")),
            (header::BUDGET, None),
            (header::BUDGET, Some("-1")),
            (header::TEST, Some("yes")),
            (header::NUMERIC_IDS, Some("1")),
        ];
        for (name, value) in cases {
            let problem = Hop::read(&headers(name, value)).err().expect(name);
            assert_eq!(problem.status, 400, "{name}");
            assert!(problem.detail.to_lowercase().contains(name), "{name}: {}", problem.detail);
        }
    }

    #[test]
    fn a_record_is_asked_for_within_the_shorter_of_budget_and_cap() {
        let ms = Duration::from_millis;
        let within = |value| budget_within(&headers(header::BUDGET, value), ms(2000));
        assert_eq!(within(None), Ok(Budget::new(ms(2000))));
        assert_eq!(within(Some("50")), Ok(Budget::new(ms(50))));
        assert_eq!(within(Some("5000")), Ok(Budget::new(ms(2000))));
        assert_eq!(within(Some("soon")), Err(Problem::bad_budget()));
    }
}
