//! What the shipped policies of claims and bookings answer: in core, which knows the stock, and
//! without it.

use backstop_engine::Moves;

use super::*;

/// Attributes as a test writes them.
type Written<'a> = &'a [(&'a str, Value<'a>)];

const fn text(text: &str) -> Value<'_> {
    Value::Text(text)
}

fn asked(policy: &str, attributes: Written<'_>) -> Question {
    let mut question = question();
    question.request.policy = policy.to_owned();
    question.request.attributes = attributes.iter().copied().collect();
    question
}

/// What a policy answers and moves when this much is left of the one stock that it asks for, or when
/// nobody knows.
fn answer(rules: &Rules, question: &Question, left: Option<i64>) -> (Ruling, String, Moves) {
    let keys = rules.keys(question, TIME).unwrap();
    let [key] = keys.stock.as_slice() else { panic!("{keys:?}") };
    let stock = left.map(|left| (key.clone(), left)).into_iter().collect();
    let ruling = rules.decide_by_policy(question, &BTreeMap::new(), &stock, left.is_none(), TIME);
    let moves = rules.effects(question, &keys, ruling.verdict, TIME).unwrap();
    assert_eq!(ruling.breach, None);
    assert!(rules.moves(&question.request.policy));
    (ruling, key.clone(), moves)
}

/// One line of a table: the attributes, what is left, and the verdict and reason to come.
type Case<'a> = (Written<'a>, Option<i64>, Verdict, &'a str);

fn check(policy: &str, cases: &[Case<'_>]) {
    let rules = Rules::new(Bundle::shipped(), MEMORY).unwrap();
    for (attributes, left, verdict, reason) in cases {
        let question = asked(policy, attributes);
        let shown = String::from_utf8(question.request.to_json()).unwrap();
        let (ruling, _, moves) = answer(&rules, &question, *left);
        let reasons: &[&str] = if reason.is_empty() { &[] } else { &[*reason] };
        assert_eq!(ruling.verdict, *verdict, "{shown} {left:?}: {:?}", ruling.reasons);
        assert_eq!(ruling.reasons, reasons, "{shown} {left:?}");
        if *verdict != Verdict::Approve {
            assert!(moves.is_empty(), "{shown} {left:?}: {moves:?}");
        }
    }
}

#[test]
fn a_claim_is_granted_while_there_is_enough() {
    use Verdict::{Approve, Decline, Review};
    let sku = ("sku", text("85123A"));
    let qty = |qty| ("qty", Value::Integer(qty));
    let number = |name, number| (name, Value::Number(number));
    let cancels = ("cancels", text("txn-0"));
    let (bare, cancel) = ([sku], [cancels]);
    check(
        "claim",
        &[
            (&bare, Some(1), Approve, ""),
            (&bare, Some(0), Decline, "out_of_stock"),
            (&[sku, qty(6)], Some(6), Approve, ""),
            (&[sku, qty(6)], Some(5), Decline, "out_of_stock"),
            (&[sku, number("qty", 6.0)], Some(6), Approve, ""),
            (&[sku, number("qty", 1e300)], Some(6), Decline, "bad_qty"),
            (&[sku, number("qty", 1.5)], Some(6), Decline, "bad_qty"),
            (&[sku, qty(0)], Some(6), Decline, "bad_qty"),
            (&[sku, qty(-1)], Some(6), Decline, "bad_qty"),
            (&[sku, ("qty", text("6"))], Some(6), Decline, "bad_qty"),
            (&[sku, ("qty", Value::Flag(false))], Some(6), Decline, "bad_qty"),
            (&[sku, ("coins", Value::Integer(0))], Some(6), Approve, ""),
            (&[sku, ("coins", Value::Integer(-1))], Some(6), Decline, "bad_coins"),
            (&[sku, ("coins", Value::Flag(false))], Some(6), Decline, "bad_coins"),
            (&[sku, qty(2), number("coins", 9e15)], Some(6), Decline, "bad_coins"),
            (&[], Some(6), Decline, "no_sku"),
            (&[qty(6)], None, Decline, "no_sku"),
            (&[("sku", text(""))], Some(6), Decline, "no_sku"),
            (&[("sku", text("a\u{0}"))], Some(6), Decline, "no_sku"),
            (&[("sku", text(&"x".repeat(129)))], Some(6), Decline, "no_sku"),
            (&[("sku", text(&"x".repeat(128)))], Some(6), Approve, ""),
            (&[("sku", Value::Flag(true))], Some(6), Decline, "no_sku"),
            (&[("sku", Value::Integer(71053))], Some(6), Approve, ""),
            (&[sku, qty(6)], None, Review, "stock_unknown"),
            (&cancel, Some(0), Approve, ""),
            (&[sku, qty(6), cancels], Some(0), Approve, ""),
            (&cancel, None, Review, "cancel_later"),
            (&[sku, cancels], None, Review, "cancel_later"),
            (&[sku, ("cancels", Value::Integer(7))], Some(6), Decline, "bad_cancels"),
            (&[sku, ("cancels", Value::Flag(false))], None, Decline, "bad_cancels"),
        ],
    );
}

#[test]
fn a_room_is_booked_while_one_is_left() {
    use Verdict::{Approve, Decline, Review};
    let (hotel, room_type) = (("hotel", text("resort")), ("room_type", text("C")));
    let arrive_on = ("arrive_on", text("2015-07-01"));
    let stay = [hotel, room_type, arrive_on];
    let cancel = [("cancels", text("txn-0"))];
    let cancelled = [&stay[..], &cancel[..]].concat();
    check(
        "booking",
        &[
            (&stay, Some(1), Approve, ""),
            (&stay, Some(0), Decline, "no_room"),
            (&stay, None, Review, "rooms_unknown"),
            (&[hotel, room_type], Some(9), Decline, "no_room"),
            (&[hotel, arrive_on], None, Decline, "no_room"),
            (&[], Some(9), Decline, "no_room"),
            (&[("hotel", text("resort:C")), room_type, arrive_on], Some(9), Decline, "no_room"),
            (
                &[hotel, ("room_type", text(&"x".repeat(129))), arrive_on],
                Some(9),
                Decline,
                "no_room",
            ),
            (&[hotel, ("room_type", Value::Integer(7)), arrive_on], Some(1), Approve, ""),
            (&cancelled, Some(0), Approve, ""),
            (&cancel, Some(0), Approve, ""),
            (&cancel, None, Review, "cancel_later"),
            (&[("cancels", Value::Integer(7))], Some(0), Decline, "bad_cancels"),
        ],
    );
}

#[test]
fn a_grant_takes_from_the_stock_it_was_judged_by() {
    let rules = Rules::new(Bundle::shipped(), MEMORY).unwrap();
    let one = |key: &str, quantity| BTreeMap::from([(key.to_owned(), quantity)]);
    let claim = |sku, qty, coins| {
        let attributes = [("sku", sku), ("qty", qty), ("coins", coins)];
        answer(&rules, &asked("claim", &attributes), Some(9))
    };
    let (_, key, moves) = claim(text("85123A"), Value::Integer(6), Value::Integer(5));
    assert_eq!(key, "sku:85123A");
    let taken = Moves { take: one(&key, 6), credit: one("coins", 30), ..Moves::default() };
    assert_eq!(moves, taken);
    let (_, key, moves) = claim(Value::Integer(71053), Value::Number(1.0), Value::Integer(0));
    assert_eq!(key, "sku:71053");
    assert_eq!(moves, Moves { take: one(&key, 1), ..Moves::default() });
    let alone = asked("claim", &[("sku", text("85123A"))]);
    let (_, key, moves) = answer(&rules, &alone, Some(9));
    let taken = Moves { take: one(&key, 1), credit: one("coins", 1), ..Moves::default() };
    assert_eq!(moves, taken);

    let names = [("hotel", "resort"), ("room_type", "C"), ("arrive_on", "2015-07-01")];
    let names = names.map(|(name, value)| (name, text(value)));
    let (_, key, moves) = answer(&rules, &asked("booking", &names), Some(1));
    assert_eq!(key, "room:resort:C:2015-07-01");
    assert_eq!(moves, Moves { take: one(&key, 1), ..Moves::default() });
}

#[test]
fn the_edge_leaves_claims_and_bookings_to_people() {
    let rules = Rules::new(Bundle::shipped(), MEMORY).unwrap();
    for (policy, attribute, reason) in [
        ("claim", "sku", "stock_unknown"),
        ("claim", "cancels", "cancel_later"),
        ("booking", "hotel", "rooms_unknown"),
        ("booking", "cancels", "cancel_later"),
    ] {
        let ruling = rules.decide_by_default(&asked(policy, &[(attribute, text("x"))]), TIME);
        assert_eq!(ruling, Ruling::without_rule(Verdict::Review, reason), "{policy} {attribute}");
    }
}

#[test]
fn a_request_with_nothing_in_it_breaks_no_rule_and_gets_nothing() {
    let rules = Rules::new(Bundle::shipped(), MEMORY).unwrap();
    for policy in ["booking", "claim"] {
        let mut bare = asked(policy, &[]);
        (bare.request.money, bare.request.at) = (None, None);
        assert_eq!(rules.decide_by_default(&bare, TIME).breach, None, "{policy}");
        for left in [None, Some(0), Some(1)] {
            assert_ne!(answer(&rules, &bare, left).0.verdict, Verdict::Approve, "{policy}");
        }
    }
}
