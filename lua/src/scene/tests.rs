//! Cases as people write them.

use serde_json::json;

use super::*;
use crate::bundle::Bundle;

const SLICES: Slices = Slices { policy: Duration::from_secs(1), default: Duration::from_secs(1) };

#[test]
fn a_case_says_what_it_must_and_the_rest_is_made_up() {
    let rules = Rules::new(Bundle::shipped(), 8 << 20).unwrap();
    for (case, expected) in [
        (json!({}), "approve"),
        (json!({ "amount": 22_001 }), "decline"),
        (
            json!({ "request": { "amount": 9_000 },
                 "history": { "customer": [{ "ago": "20d", "amount": 1_000, "times": 12 }] } }),
            "decline",
        ),
        (
            json!({ "request": { "policy": "claim", "attributes": { "sku": "A" } }, "stock": { "sku:A": 1 } }),
            "approve",
        ),
        (json!({ "request": { "policy": "claim", "attributes": { "sku": "A" } } }), "review"),
    ] {
        let scene = Scene::read(&case, Some("payment")).unwrap();
        let told = scene.ask_policy(&rules, SLICES);
        assert_eq!(told.ruling.verdict.as_str(), expected, "{case}: {told:?}");
    }
}

#[test]
fn a_case_that_is_wrong_says_what_would_be_right() {
    for (case, wrong) in [
        (json!(7), "is no table"),
        (json!({ "requst": {} }), "\"requst\""),
        (json!({ "request": { "amount": -1 } }), "/amount"),
        (json!({ "request": { "amont": 1 } }), "amont"),
        (json!({ "history": { "customer": 7 } }), "history customer is no list"),
        (json!({ "history": { "customer": [{ "amount": 7 }] } }), "without ago"),
        (json!({ "history": { "customer": [{ "ago": "7 days" }] } }), "ago = \"7 days\""),
        (json!({ "history": { "customer": [{ "ago": "7d", "tims": 2 }] } }), "\"tims\""),
        (json!({ "stock": { "a": "many" } }), "how many are left"),
    ] {
        let error = Scene::read(&case, Some("payment")).unwrap_err().to_string();
        assert!(error.contains(wrong) && error.contains("; "), "{case}: {error}");
    }
}
