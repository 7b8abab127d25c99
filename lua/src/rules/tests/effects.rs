//! What a policy may move, and what becomes of it when it returns something else.

use backstop_engine::Moves;

use super::*;

/// What a policy moves whose `keys` names the stock `sku:1` and `sku:2` and whose `effects` has this
/// body.
fn effects(body: &str, decision: Verdict, time_max: Duration) -> Result<Moves, Breach> {
    let policy = format!(
        "return {{ fields = {{ 'qty' }}, safe = 'review', strict = false, \
         keys = function() return {{ stock = {{ 'sku:1', 'sku:2' }} }} end, \
         decide = function() return 'approve' end, effects = function(tx, decision)\n{body}\nend }}"
    );
    let rules = rules_from(&[("policies/p.lua", &policy)]).unwrap();
    assert!(rules.moves("p"));
    let keys = rules.keys(&question(), TIME).unwrap();
    let moves = rules.effects(&question(), &keys, decision, time_max);
    let again = rules.keys(&question(), TIME);
    assert_eq!(again, Ok(keys), "the next call finds everything as it was: {body}");
    moves
}

fn quantities<const N: usize>(pairs: [(&str, u64); N]) -> BTreeMap<String, u64> {
    pairs.map(|(key, quantity)| (key.to_owned(), quantity)).into()
}

#[test]
fn effects_are_what_is_taken_credited_and_debited() {
    let none = Moves::default;
    for (body, expected) in [
        ("return {}", none()),
        ("return { take = {}, credit = {}, debit = {} }", none()),
        ("return {}, { credit = { coins = 1 } }", none()),
        ("return { take = { ['sku:1'] = 0 }, credit = { coins = 0, gems = -0 } }", none()),
        (
            "return { take = { ['sku:1'] = 6, ['sku:2'] = 0 }, credit = { coins = 6 }, debit = { coins = 1, gems = 2 } }",
            Moves {
                take: quantities([("sku:1", 6)]),
                credit: quantities([("coins", 6)]),
                debit: quantities([("coins", 1), ("gems", 2)]),
            },
        ),
        (
            "return { credit = { [decision .. ' ' .. tx.account] = -tx.qty } }",
            Moves { credit: quantities([("approve customer-1", 3)]), ..none() },
        ),
        (
            "return { credit = { coins = 2 ^ 53 - 1 } }",
            Moves { credit: quantities([("coins", (1 << 53) - 1)]), ..none() },
        ),
        (
            "return setmetatable({ credit = setmetatable({ coins = 1 }, { __index = error, \
             __iter = error, __len = error, __pairs = error }) }, { __index = error, __iter = error })",
            Moves { credit: quantities([("coins", 1)]), ..none() },
        ),
    ] {
        assert_eq!(effects(body, Verdict::Approve, TIME), Ok(expected), "{body}");
    }
}

#[test]
fn a_decline_may_move_something_and_a_review_is_not_asked() {
    let body = "return { debit = { [decision] = 1 } }";
    let declined = effects(body, Verdict::Decline, TIME).unwrap();
    assert_eq!(declined.debit, quantities([("decline", 1)]));
    assert_eq!(effects("error('asked')", Verdict::Review, TIME), Ok(Moves::default()));
}

#[test]
fn a_policy_without_effects_moves_nothing() {
    let rules = rules("return 'approve'");
    assert!(!rules.moves("p") && !rules.moves("lottery"));
    let moves = rules.effects(&question(), &Keys::default(), Verdict::Approve, Duration::ZERO);
    assert_eq!(moves, Ok(Moves::default()), "and nothing runs");
    let mut unknown = question();
    unknown.request.policy = "lottery".into();
    let breach = rules.effects(&unknown, &Keys::default(), Verdict::Approve, TIME).unwrap_err();
    assert_eq!(breach.as_str(), "no_policy");
}

#[test]
fn effects_that_mean_nothing_are_a_breach_that_says_what_would_be_right() {
    let returns = "return { take = { KEY = QUANTITY }";
    let whole = "write a whole number from 0 to 9007199254740991";
    for (body, wrong, remedy) in [
        ("", "effects returned nothing", returns),
        ("return nil", "effects returned nothing", returns),
        ("return 'coins'", "effects returned a string", returns),
        ("return function() end", "effects returned a function", returns),
        ("return { 'take' }", "effects returned a field 1", returns),
        ("return { takes = {} }", "effects returned a field \"takes\"", returns),
        ("return { take = 6 }", "effects: \"take\" is a number", "such as { coins = 6 }"),
        ("return { credit = 'coins' }", "effects: \"credit\" is a string", "such as { coins = 6 }"),
        ("return { take = { 'sku:1' } }", "\"take\" has a key that is not a string", "write text"),
        ("return { debit = { [{}] = 1 } }", "\"debit\" has a key that is not a string", "write"),
        (
            "return { credit = { ['\\255'] = 1 } }",
            "\"credit\" has a key that is not UTF-8",
            "write text of at most 2048 bytes",
        ),
        (
            "return { credit = { ['a\\0'] = 1 } }",
            "\"credit\" has a key that holds a zero byte",
            "write text",
        ),
        (
            "return { credit = { [string.rep('x', 2049)] = 1 } }",
            "\"credit\" has a key that is over 2048 bytes",
            "write text",
        ),
        ("return { credit = { coins = -1 } }", "\"credit\" has a quantity that is -1", whole),
        ("return { credit = { coins = 0.5 } }", "a quantity that is 0.5", whole),
        ("return { credit = { coins = 0/0 } }", "a quantity that is NaN", whole),
        ("return { credit = { coins = 1/0 } }", "a quantity that is inf", whole),
        ("return { credit = { coins = 1e300 } }", "a quantity that is 1000", whole),
        ("return { credit = { coins = 2 ^ 53 } }", "a quantity that is 9007199254740992", whole),
        ("return { credit = { coins = '6' } }", "a quantity that is a string", whole),
        ("return { credit = { coins = true } }", "a quantity that is a boolean", whole),
        (
            "return { take = { ['sku:1'] = 1, ['sku:3'] = 1 } }",
            "take holds a key that keys did not name",
            "name there, in stock, whatever is taken",
        ),
        ("return { take = { ['sku:3'] = 0 } }", "take holds a key that keys did not name", "name"),
    ] {
        let breach = effects(body, Verdict::Approve, TIME).unwrap_err();
        assert_eq!(breach.as_str(), "nonsense", "{body}: {breach}");
        let message = breach.to_string();
        assert!(message.starts_with("policies/p.lua:1: effects"), "{body}: {message}");
        assert!(message.contains(wrong) && message.contains(remedy), "{body}: {message}");
        assert!(message.len() < 512, "{body}: {message}");
    }
}

#[test]
fn the_most_units_pass_and_one_more_does_not() {
    let body = |count| {
        format!("local t = {{}} for i = 1, {count} do t['u' .. i] = i end return {{ credit = t }}")
    };
    assert_eq!(effects(&body(64), Verdict::Approve, TIME).unwrap().credit.len(), 64);
    for count in [65, 10_000] {
        let breach = effects(&body(count), Verdict::Approve, TIME).unwrap_err();
        assert!(breach.to_string().contains("\"credit\" is over 64 entries"), "{breach}");
    }
}

#[test]
fn hostile_effects_are_stopped_and_cost_only_their_own_answer() {
    let short = Duration::from_millis(20);
    for (body, kinds) in [
        ("error('boom')", &["raised"][..]),
        ("return tx.nothing.at_all", &["raised"]),
        ("while true do end", &["time"]),
        ("while true do pcall(function() while true do end end) end", &["time"]),
        ("local s = 'x' while true do s = s .. s end", &["memory", "time"]),
        (
            "local t = {} for i = 1, 1000000 do t[i .. ''] = 1 end return { credit = t }",
            &["memory", "time"],
        ),
        (
            "return setmetatable({}, { __index = function() while true do end end }).credit",
            &["time"],
        ),
    ] {
        let breach = effects(body, Verdict::Approve, short).unwrap_err();
        assert!(kinds.contains(&breach.as_str()), "{body}: {breach}");
        assert!(breach.to_string().starts_with("policies/p.lua"), "{body}: {breach}");
    }
    let breach = effects("\n\nerror('boom')", Verdict::Approve, TIME).unwrap_err();
    assert_eq!(breach.to_string(), "policies/p.lua:4: boom");
}
