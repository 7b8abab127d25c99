//! What a meter notes of a call.

use super::*;

#[test]
fn a_meter_notes_time_memory_lines_and_what_history_was_asked() {
    let text = "return { fields = {}, safe = 'review', strict = false,
        keys = function(tx) return { history = { customer = tx.account } } end,
        decide = function(tx, history)
            local list, n = {}, history.customer:count('24h', '7d')
            for i = 1, 50000 do n = n + i end
            for i = 1, 20 do list[i] = string.rep('x', 5000 + i) end
            return 'approve', nil, #list + (history.customer:mean('90m') or 0)
        end }";
    let meter = std::sync::Arc::new(Meter::by_line());
    let bundle = Bundle::from_texts([("policies/p.lua", text)]).unwrap();
    let rules = Rules::metered(bundle, MEMORY, std::sync::Arc::clone(&meter)).unwrap();
    let histories = BTreeMap::from([("customer".to_owned(), History::default())]);
    let none = BTreeMap::new();
    let ruling = rules.decide_by_policy(&question(), &histories, &none, false, Duration::MAX);
    assert_eq!(ruling.breach, None);
    let price = meter.price();
    assert!(price.bytes > 100_000 && price.bytes < MEMORY, "{price:?}");
    assert!(price.time > Duration::ZERO);
    let (line, share) = meter.take_slowest().unwrap();
    assert!(line == 5 && share > 0.5, "{line} {share}");
    let asked: Vec<_> = meter.take_asked().into_iter().map(|it| (it.question, it.answer)).collect();
    let expected = [
        ("history.customer:count(\"1d\", \"7d\")", "0"),
        ("history.customer:mean(\"90m\")", "nil"),
    ];
    assert_eq!(asked, expected.map(|(question, answer)| (question.to_owned(), answer.to_owned())));
}
