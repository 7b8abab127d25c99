//! What a rule may return, what it sees, and what becomes of it.

use super::*;

#[test]
fn an_answer_is_a_verdict_reasons_and_a_score() {
    for (body, verdict, reasons, score) in [
        ("return 'approve'", Verdict::Approve, &[][..], 0),
        ("return 'decline', { 'a', 'b' }, -12", Verdict::Decline, &["a", "b"], -12),
        ("return 'review', {}, 1e9", Verdict::Review, &[], 1_000_000_000),
        ("return 'review', nil, -1e9, 'more'", Verdict::Review, &[], -1_000_000_000),
        (
            "return 'approve', setmetatable({ 'a' }, { __index = error, __len = error })",
            Verdict::Approve,
            &["a"],
            0,
        ),
    ] {
        let ruling = decide(&rules(body), TIME);
        let expected = Ruling {
            verdict,
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            score,
            breach: None,
        };
        assert_eq!(ruling, expected, "{body}");
    }
}

#[test]
fn the_most_reasons_pass_and_one_more_does_not() {
    let body = |count, bytes| {
        format!(
            "local t = {{}} for i = 1, {count} do t[i] = string.rep('x', {bytes}) end return 'approve', t"
        )
    };
    assert_eq!(decide(&rules(&body(16, 64)), TIME).reasons.len(), 16);
    for (count, bytes, wrong) in [(17, 1, "are over 16"), (1, 65, "is over 64 bytes")] {
        let breach = decide(&rules(&body(count, bytes)), TIME).breach.unwrap();
        assert!(breach.to_string().contains(wrong), "{breach}");
    }
}

#[test]
fn what_is_not_an_answer_gets_the_safe_one() {
    for body in [
        "",
        "return nil",
        "return true",
        "return 1",
        "return {}",
        "return 'Approve'",
        "return 'approve '",
        "return '\\255'",
        "return setmetatable({}, { __tostring = function() return 'approve' end })",
        "return 'approve', 'reason'",
        "return 'approve', { 1 }",
        "return 'approve', { {} }",
        "return 'approve', { 'a', nil, 'c' }",
        "return 'approve', { a = 'b' }",
        "return 'approve', { [0] = 'b' }",
        "return 'approve', { [1.5] = 'b' }",
        "return 'approve', { '\\255' }",
        "return 'approve', { 'a\\0' }",
        "return 'approve', nil, 'high'",
        "return 'approve', nil, 0/0",
        "return 'approve', nil, math.huge",
        "return 'approve', nil, 0.5",
        "return 'approve', nil, 1e9 + 1",
        "return 'approve', nil, -1e9 - 1",
        "local t = {} for i = 1, 100000 do t[i] = 'x' end return 'approve', t",
        "local t = {} for i = 1, 160 do t[i] = string.rep('x', 65536) end return 'approve', { table.concat(t) }",
    ] {
        let ruling = decide(&rules(body), TIME);
        assert_eq!(ruling.verdict, Verdict::Decline, "{body}");
        assert_eq!((ruling.reasons, ruling.score), (vec![SAFE.to_owned()], 0), "{body}");
        let breach = ruling.breach.unwrap();
        assert!(["nonsense", "memory"].contains(&breach.as_str()), "{body}: {breach}");
        assert!(breach.to_string().starts_with("policies/p.lua:"), "{body}: {breach}");
    }
}

#[test]
fn an_error_gets_the_safe_answer_and_names_its_line() {
    for (body, expected) in [
        ("error('boom')", "policies/p.lua:2: boom"),
        ("\n\nerror('boom')", "policies/p.lua:4: boom"),
        ("return tx.nothing.at_all", "policies/p.lua:2: attempt to index nil with 'at_all'"),
        (
            "return 1 + {}",
            "policies/p.lua:2: attempt to perform arithmetic (add) on number and table",
        ),
        ("error('boom', 0)", "policies/p.lua:2: boom"),
        ("error({ code = 1 })", "policies/p.lua:2: table"),
        ("error()", "policies/p.lua:2: nil"),
        (
            "return history.customer:count('1 day')",
            "policies/p.lua:2: \"1 day\" is not a length of time; write such as \"90s\", \"5m\", \"1h\" or \"7d\"",
        ),
        (
            "return history.customer:risk('40d', '7d')",
            "policies/p.lua:2: history is kept for 44 days",
        ),
        (
            "return history.customer:distinct('7d', '1d')",
            "policies/p.lua:2: distinct takes a window alone",
        ),
        (
            "return history.customer:count()",
            "policies/p.lua:2: nil is not a length of time; write such as \"90s\", \"5m\", \"1h\" or \"7d\"",
        ),
        (
            "return history.terminal:count('1d')",
            "policies/p.lua:2: attempt to index nil with 'count'",
        ),
        (
            "error(setmetatable({}, { __tostring = function() error('again') end }))",
            "policies/p.lua: error in error handling",
        ),
    ] {
        let histories = BTreeMap::from([("customer".to_owned(), History::default())]);
        let ruling =
            rules(body).decide_by_policy(&question(), &histories, &BTreeMap::new(), false, TIME);
        assert_eq!(ruling.verdict, Verdict::Decline, "{body}");
        let breach = ruling.breach.unwrap().to_string();
        assert!(breach.starts_with(expected), "{body}: {breach}, not {expected}");
    }
}

#[test]
fn a_rule_sees_the_fields_it_declares_and_no_others() {
    let body = "return tx.id == 'txn-1' and tx.account == 'customer-1' and tx.amount == 5716 \
        and tx.currency == 'GBP' and tx.at == 1533124800000 and tx.terminal == '3156' \
        and tx.qty == -3 and tx.ratio == 0.5 and tx.gift == true \
        and tx.secret == nil and tx.attributes == nil and tx.merchant == nil \
        and next(rows) == nil and 'approve'";
    assert_eq!(decide(&rules(body), TIME).breach, None);
    let body = "return tx.terminal == nil and tx.id == 'txn-1' and 'approve'";
    assert_eq!(rules(body).decide_by_default(&question(), TIME).breach, None);
}

#[test]
fn an_attribute_is_seen_under_its_name_whatever_that_is() {
    let names =
        ["end", "nil", "_x9", "9x", "two words", "q\"] = 1, [\"", "line\nbreak", "\\65", "été"];
    let attribute = |(place, name): (usize, &&'static str)| (*name, Value::Number(place as f64));
    let mut question = question();
    question.request.attributes = names.iter().enumerate().map(attribute).collect();
    let fields = names.map(|name| format!("{name:?}")).join(", ");
    let rules = rules_from(&[
        (
            "policies/p.lua",
            "return { fields = {}, safe = 'review', strict = false, keys = function() return {} end, decide = function() return 'review' end }",
        ),
        (
            "defaults/p.lua",
            &format!(
                "return {{ fields = {{ {fields} }}, safe = 'decline', decide = function(tx) for place, name in ipairs({{ {fields} }}) do assert(tx[name] == place - 1, name) end return 'approve' end }}"
            ),
        ),
    ]);
    let ruling = rules.unwrap().decide_by_default(&question, TIME);
    assert_eq!((ruling.verdict, ruling.breach), (Verdict::Approve, None));
}

#[test]
fn an_absent_amount_or_attribute_is_nil() {
    let mut question = question();
    question.request.money = None;
    question.request.attributes = Attributes::default();
    let body =
        "return tx.amount == nil and tx.currency == nil and tx.terminal == nil and 'approve'";
    let none = BTreeMap::new();
    let ruling = rules(body).decide_by_policy(&question, &none, &BTreeMap::new(), false, TIME);
    assert_eq!(ruling.breach, None);
}

#[test]
fn only_a_policy_may_read_a_time_that_the_client_did_not_send() {
    let rules = rules("return tx.at and 'approve'");
    assert_eq!(rules.decide_by_default(&question(), TIME).verdict, Verdict::Approve);
    let mut unsent = question();
    unsent.request.at = None;
    let ruling = rules.decide_by_default(&unsent, TIME);
    assert_eq!(ruling.verdict, Verdict::Decline);
    assert_eq!(
        ruling.breach.unwrap().to_string(),
        "defaults/p.lua:2: a default may not read tx.at when the client did not send it"
    );
    let none = BTreeMap::new();
    let ruling = rules.decide_by_policy(&unsent, &none, &BTreeMap::new(), false, TIME);
    assert_eq!(ruling.verdict, Verdict::Approve);
    let other = super::rules("return tx.nothing == nil and getmetatable(tx) == 'tx' and 'approve'");
    assert_eq!(other.decide_by_default(&unsent, TIME).breach, None);
}

#[test]
fn a_policy_asks_history_up_to_the_time_of_the_request() {
    let day = 24 * 60 * 60 * 1000;
    let mut customer = History::default();
    for (age, amount) in [(40, 900), (8, 300), (2, 100), (0, 200)] {
        let at = Timestamp::from_millis(NOON - age * day - 1000);
        customer.record(at, amount, Verdict::Approve, Some(if age < 8 { "shop" } else { "bar" }));
        customer.label(at, age == 8, None);
    }
    customer.record(Timestamp::from_millis(NOON + 1), 5000, Verdict::Approve, None);
    let body = "local c = history.customer
        local function is(a, b) if a ~= b then error(tostring(a) .. ' is not ' .. tostring(b), 2) end end
        is(c:count('24h'), 1)
        is(c:sum('7d'), 300)
        is(c:mean('30d'), 200)
        is(c:frauds('7d', '7d'), 1)
        is(c:risk('7d', '7d'), 1)
        is(c:risk('7d'), 0)
        is(c:distinct('7d'), 1)
        is(c:distinct('30d'), 2)
        is(c:mean('1s'), nil)
        is(c:risk('1s', '20d'), nil)
        is(c:last_seen(), 1533124800000 - 1000)
        is(history.new:last_seen(), nil)
        is(history.new:count('44d'), 0)
        is(history.other, nil)
        is(stock['sku:1'], 41)
        is(stock['sku:2'], nil)
        return 'approve'";
    let histories =
        BTreeMap::from([("customer".to_owned(), customer), ("new".to_owned(), History::default())]);
    let stock = BTreeMap::from([("sku:1".to_owned(), 41)]);
    let rules = rules(body);
    for _ in 0..3 {
        let ruling = rules.decide_by_policy(&question(), &histories, &stock, false, TIME);
        assert_eq!(ruling.breach.map(|breach| breach.to_string()), None);
    }
}

fn keys_of(body: &str) -> Result<Keys, Breach> {
    let policy = format!(
        "return {{ fields = {{ 'terminal', 'qty' }}, safe = 'review', strict = false, \
         keys = function(tx)\n{body}\nend, decide = function() return 'approve' end }}"
    );
    rules_from(&[("policies/p.lua", &policy)]).unwrap().keys(&question(), TIME)
}

#[test]
fn keys_name_histories_and_stock() {
    let keys = keys_of(
        "return { history = { customer = tx.account, item = tx.qty, none = tx.secret }, \
         stock = { 'sku:1', 'sku:2' } }",
    );
    let expected = Keys {
        history: BTreeMap::from([
            ("customer".to_owned(), "customer-1".to_owned()),
            ("item".to_owned(), "-3".to_owned()),
        ]),
        counterparties: BTreeMap::new(),
        stock: vec!["sku:1".to_owned(), "sku:2".to_owned()],
    };
    assert_eq!(keys, Ok(expected));
    assert_eq!(keys_of("return {}"), Ok(Keys::default()));
}

#[test]
fn keys_name_the_counterparty_of_a_history() {
    let keys = keys_of(
        "return { history = { customer = { key = tx.account, counterparty = tx.qty }, \
         terminal = { key = tx.terminal, counterparty = tx.secret }, item = 'sku:1' } }",
    )
    .unwrap();
    let named = |names: &[(&str, &str)]| {
        names.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned())).collect()
    };
    let histories = [("customer", "customer-1"), ("terminal", "3156"), ("item", "sku:1")];
    assert_eq!(keys.history, named(&histories));
    assert_eq!(keys.counterparties, named(&[("customer", "-3")]), "an absent one is none");
}

#[test]
fn keys_that_mean_nothing_are_a_breach() {
    for body in [
        "return nil",
        "return 'customer'",
        "return { histories = {} }",
        "return { history = 'customer' }",
        "return { history = { 'customer' } }",
        "return { history = { customer = {} } }",
        "return { history = { customer = { counterparty = 'x' } } }",
        "return { history = { customer = { key = 'x', counterparty = {} } } }",
        "return { history = { customer = { key = { key = 'x' } } } }",
        "return { history = { customer = { key = 'x', other = 'y' } } }",
        "return { history = { customer = 0.5 } }",
        "return { history = { customer = string.rep('x', 2049) } }",
        "return { stock = 'sku' }",
        "return { stock = { 1 } }",
        "return { stock = { 'sku:\\0' } }",
        "local t = {} for i = 1, 65 do t[i] = 'sku' .. i end return { stock = t }",
        "local t = {} for i = 1, 17 do t['h' .. i] = 'x' end return { history = t }",
    ] {
        let breach = keys_of(body).unwrap_err();
        assert_eq!(breach.as_str(), "nonsense", "{body}: {breach}");
    }
    assert_eq!(keys_of("while true do end").unwrap_err().as_str(), "time");
}

/// A strict policy with this safe answer, and a default, both of which return `verdict`.
fn strict(safe: &str, verdict: &str) -> Rules {
    let policy = format!(
        "return {{ fields = {{}}, safe = '{safe}', strict = true, keys = function() return {{}} end, \
         decide = function() return {verdict} end }}"
    );
    let default = format!(
        "return {{ fields = {{}}, safe = '{safe}', decide = function() return {verdict} end }}"
    );
    rules_from(&[("policies/p.lua", &policy), ("defaults/p.lua", &default)]).unwrap()
}

#[test]
fn no_stand_in_approves_for_a_strict_policy() {
    let none = BTreeMap::new();
    for (safe, verdict, expected, reasons) in [
        ("decline", "'approve'", Verdict::Decline, &["strict"][..]),
        ("review", "'approve', { 'a' }", Verdict::Review, &["a", "strict"]),
        ("approve", "'approve'", Verdict::Review, &["strict"]),
        ("approve", "'decline'", Verdict::Decline, &[]),
        ("approve", "nil", Verdict::Review, &[SAFE, "strict"]),
        ("decline", "nil", Verdict::Decline, &[SAFE]),
    ] {
        let rules = strict(safe, verdict);
        let api = rules.decide_by_policy(&question(), &none, &BTreeMap::new(), true, TIME);
        let edge = rules.decide_by_default(&question(), TIME);
        for ruling in [api, edge] {
            assert_eq!(ruling.verdict, expected, "{safe} {verdict}");
            assert_eq!(ruling.reasons, reasons, "{safe} {verdict}");
        }
    }
    let core = strict("decline", "'approve'").decide_by_policy(
        &question(),
        &none,
        &BTreeMap::new(),
        false,
        TIME,
    );
    assert_eq!((core.verdict, core.reasons), (Verdict::Approve, vec![]));
}

#[test]
fn a_missing_file_is_for_people_to_review() {
    let mut question = question();
    question.request.policy = "lottery".into();
    let rules = rules("return 'approve'");
    let edge = rules.decide_by_default(&question, TIME);
    assert_eq!(edge, Ruling::without_rule(Verdict::Review, NO_DEFAULT));
    let none = BTreeMap::new();
    let api = rules.decide_by_policy(&question, &none, &BTreeMap::new(), true, TIME);
    assert_eq!(api.verdict, Verdict::Review);
    assert_eq!(api.breach, Some(Breach::NoPolicy { policy: "lottery".into() }));
    assert_eq!(rules.keys(&question, TIME).unwrap_err().as_str(), "no_policy");
    assert!(rules.has_policy("p") && !rules.has_policy("lottery"));
}

#[test]
fn the_shipped_rules_decide() {
    let rules = Rules::new(Bundle::shipped(), MEMORY).unwrap();
    for name in Bundle::shipped().policies() {
        assert!(rules.has_policy(name));
    }
    let mut question = question();
    question.request.policy = "payment".into();
    let keys = rules.keys(&question, TIME).unwrap();
    let histories = keys.history.into_keys().map(|name| (name, History::default())).collect();
    let ruling = rules.decide_by_policy(&question, &histories, &BTreeMap::new(), false, TIME);
    assert_eq!(ruling.breach, None);
    assert_eq!(rules.decide_by_default(&question, TIME).breach, None);
}
