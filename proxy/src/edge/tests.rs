use super::*;

#[test]
fn a_route_is_judged_by_its_path_before_its_method() {
    let long = format!("{DECISIONS}/{}", "x".repeat(PATH_BYTES_MAX + 1));
    let cases = [
        ("POST", "/v1/decisions", Ok(Route::Decide)),
        ("GET", "/v1/decisions", Err((405, Some("POST")))),
        ("GET", "/v1/decisions/txn-1", Ok(Route::Record)),
        ("GET", "/v1/decisions/label", Ok(Route::Record)),
        ("DELETE", "/v1/decisions/txn-1", Err((405, Some("GET")))),
        ("POST", "/v1/decisions/txn-1/label", Ok(Route::Label)),
        ("GET", "/v1/decisions/txn-1/label", Err((405, Some("POST")))),
        ("GET", "/v1/decisions/", Err((404, None))),
        ("POST", "/v1/decisions//label", Err((404, None))),
        ("GET", "/v1/decisions/a/b", Err((404, None))),
        ("POST", "/v1/decisionsx", Err((404, None))),
        ("GET", "/v1/accounts/customer-1/balance", Ok(Route::Balance)),
        ("PUT", "/v1/accounts/customer-1/balance", Err((405, Some("GET")))),
        ("GET", "/v1/accounts//balance", Err((404, None))),
        ("GET", "/v1/accounts/a/b/balance", Err((404, None))),
        ("DELETE", "/", Err((404, None))),
        ("GET", long.as_str(), Err((404, None))),
    ];
    for (method, path, expected) in cases {
        let got = route(&method.parse().unwrap(), path);
        assert_eq!(got.map_err(|p| (p.status, p.allow)), expected, "{method} {path}");
    }
}

#[test]
fn a_bearer_key_is_read_whatever_the_case_of_its_scheme() {
    for right in ["Bearer bsk_1_x", "bearer  bsk_1_x "] {
        assert_eq!(bearer(right).map(|key| *key.expose()), Some("bsk_1_x"), "{right}");
    }
    for wrong in ["", "Bearer", "Basic x", "bsk_1_x"] {
        assert!(bearer(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn json_is_json_with_or_without_a_charset() {
    for right in ["application/json", "Application/JSON; charset=utf-8"] {
        assert!(is_json(right), "{right}");
    }
    for wrong in ["", "text/plain", "application/jsonp", "application/problem+json"] {
        assert!(!is_json(wrong), "{wrong}");
    }
}
