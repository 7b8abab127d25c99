//! Every kind of order there and back, and each mistake with its field and remedy.

use super::*;

fn order(what: What) -> Order {
    let (reason, who) = ("the new release is slow".to_owned(), "maria".to_owned());
    Order { what, reason, who, lasts: None, force: false, dry_run: false }
}

#[test]
fn what_the_command_writes_is_what_the_edge_reads() {
    let percent = Share::Percent(Percent::try_from(14.0).unwrap());
    let canary = Canary { to: Stack::OldProd, share: percent, by: By::Account };
    let modulo = Share::Modulo { divisor: 7, remainder: 3 };
    let pin = |to| What::Pin { merchant: "demo".into(), to };
    for order in [
        order(What::Switch(Stack::OldProd)),
        Order { lasts: Some(Duration::from_mins(15)), ..order(What::Switch(Stack::Prod)) },
        Order { force: true, dry_run: true, ..order(What::Switch(Stack::Prod)) },
        order(What::Undo),
        Order { reason: String::new(), ..order(What::Undo) },
        order(What::Canary(Some(canary))),
        order(What::Canary(Some(Canary { share: modulo, by: By::Merchant, ..canary }))),
        order(What::Canary(None)),
        order(pin(Some(Stack::OldProd))),
        order(pin(None)),
    ] {
        let body = order.to_json().to_string();
        assert_eq!(Order::read(order.desk(), body.as_bytes()), Ok(order), "{body}");
    }
}

#[test]
fn whoever_is_not_named_is_the_operator() {
    let order = Order::read(Desk::Switch, br#"{"to":"prod","reason":" fixed "}"#).unwrap();
    assert_eq!((order.who.as_str(), order.reason.as_str()), ("operator", "fixed"));
}

#[test]
fn each_mistake_is_named_with_its_field() {
    let long = format!(r#"{{"to":"prod","reason":"{}"}}"#, "x".repeat(REASON_CHARS_MAX + 1));
    for (desk, body, status, pointer) in [
        (Desk::Switch, "{", 400, None),
        (Desk::Switch, "[]", 400, Some("")),
        (Desk::Switch, r#"{"to":"prod"}"#, 400, Some("/reason")),
        (Desk::Switch, r#"{"to":"prod","reason":""}"#, 400, Some("/reason")),
        (Desk::Switch, r#"{"to":"prod","reason":"  "}"#, 400, Some("/reason")),
        (Desk::Switch, r#"{"to":"prod","reason":"a\nb"}"#, 400, Some("/reason")),
        (Desk::Switch, r#"{"to":"prod","reason":7}"#, 400, Some("/reason")),
        (Desk::Switch, &long, 400, Some("/reason")),
        (Desk::Switch, r#"{"to":"prod","reason":"4111111111111111"}"#, 422, Some("/reason")),
        (Desk::Switch, r#"{"reason":"x"}"#, 400, Some("/to")),
        (Desk::Switch, r#"{"to":"staging","reason":"x"}"#, 400, Some("/to")),
        (Desk::Switch, r#"{"to":"prod","to":"prod","reason":"x"}"#, 400, Some("/to")),
        (Desk::Switch, r#"{"to":"prod","reason":"x","percent":3}"#, 400, Some("")),
        (Desk::Switch, r#"{"to":"prod","reason":"x","for_seconds":0}"#, 400, Some("/for_seconds")),
        (
            Desk::Switch,
            r#"{"to":"prod","reason":"x","for_seconds":"15m"}"#,
            400,
            Some("/for_seconds"),
        ),
        (Desk::Switch, r#"{"to":"prod","reason":"x","force":"yes"}"#, 400, Some("/force")),
        (Desk::Switch, r#"{"to":"prod","reason":"x","who":""}"#, 400, Some("/who")),
        (Desk::Undo, r#"{"for_seconds":60}"#, 400, Some("/for_seconds")),
        (Desk::Canary, r#"{"to":"prod","reason":"x"}"#, 400, Some("/percent")),
        (
            Desk::Canary,
            r#"{"to":"prod","percent":1,"modulo":7,"reason":"x"}"#,
            400,
            Some("/percent"),
        ),
        (Desk::Canary, r#"{"to":"prod","percent":101,"reason":"x"}"#, 400, Some("/percent")),
        (Desk::Canary, r#"{"to":"prod","modulo":1,"reason":"x"}"#, 400, Some("/modulo")),
        (
            Desk::Canary,
            r#"{"to":"prod","modulo":7,"remainder":7,"reason":"x"}"#,
            400,
            Some("/remainder"),
        ),
        (Desk::Canary, r#"{"to":"prod","percent":1,"of":"id","reason":"x"}"#, 400, Some("/of")),
        (Desk::Canary, r#"{"percent":14,"reason":"x"}"#, 400, Some("/to")),
        (Desk::Pin, r#"{"to":"prod","reason":"x"}"#, 400, Some("/merchant")),
    ] {
        let problem = Order::read(desk, body.as_bytes()).expect_err(body);
        assert_eq!((problem.status, problem.pointer.as_deref()), (status, pointer), "{body}");
        assert!(!problem.remedy.is_empty(), "{body}");
        assert!(!problem.detail.contains("4111"), "{body}");
    }
}
