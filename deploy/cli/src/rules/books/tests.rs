//! What is said of the books, and what is not.

use backstop_contract::request::Money;
use backstop_contract::{Attributes, Request};
use backstop_lua::Breach;

use super::*;

/// Noon of 1 August 2018.
const NOON: i64 = 1_533_124_800_000;
const DAY: Duration = Duration::from_hours(24);

/// A request of noon that meets these.
fn books(
    histories: BTreeMap<String, History>,
    stock: &[(&str, i64)],
    balances: &[(&str, i64)],
    cancel: &str,
) -> Books {
    let owned = |levels: &[(&str, i64)]| -> BTreeMap<String, i64> {
        levels.iter().map(|(key, level)| ((*key).to_owned(), *level)).collect()
    };
    let mut scene = Scene::bare(Request {
        id: "a".to_owned(),
        policy: "payment".to_owned(),
        account: "ann".to_owned(),
        money: Some(Money { amount: 100, currency: "GBP".to_owned() }),
        at: None,
        attributes: Attributes::default(),
    });
    scene.question.received_at = Timestamp::from_millis(NOON);
    (scene.histories, scene.stock) = (histories, owned(stock));
    Books::of(&scene, &owned(balances), cancel.to_owned())
}

fn ruling(verdict: Verdict) -> Ruling {
    Ruling { verdict, reasons: Vec::new(), score: 0, breach: None }
}

/// An author tried a rule that debits what the account does not have: it said approve, and core declined.
#[test]
fn what_core_makes_of_a_ruling_is_told() {
    let gems = |count| Moves { debit: [("gems".to_owned(), count)].into(), ..Moves::default() };
    let chest = |count| Moves { take: [("sku:a".to_owned(), count)].into(), ..Moves::default() };
    let approved = || ruling(Verdict::Approve);
    let broken = || {
        let breach = Some(Breach::NoPolicy { policy: "payment".to_owned() });
        Ruling { breach, ..ruling(Verdict::Approve) }
    };
    let cases = [
        ("", approved(), gems(1), Some("moves it, leaving 0 of gems")),
        ("", approved(), gems(2), Some("declines: insufficient_balance")),
        ("", ruling(Verdict::Decline), gems(2), Some("declines: insufficient_balance")),
        ("", approved(), chest(3), Some("moves it, leaving 0 of sku:a")),
        ("", approved(), chest(4), Some("declines: out_of_stock")),
        ("", approved(), Moves::default(), None),
        ("", broken(), gems(2), None),
        ("released", approved(), Moves::default(), Some("releases what was moved")),
        ("already_cancelled", approved(), Moves::default(), Some("declines: already_cancelled")),
        ("nothing_to_cancel", approved(), Moves::default(), Some("declines: nothing_to_cancel")),
        ("already_cancelled", ruling(Verdict::Review), Moves::default(), None),
        ("already_cancelled", broken(), Moves::default(), None),
    ];
    for (cancel, ruling, moves, expected) in cases {
        let books = books(BTreeMap::new(), &[("sku:a", 3)], &[("gems", 1)], cancel);
        let said = books.carried_out(&ruling, &moves).map(|(_, said)| said);
        assert_eq!(said.as_deref(), expected, "{cancel} {ruling:?} {moves:?}");
    }
}

/// A rule that asked about 42 days found the first of them empty in a busy customer's history, and nothing
/// said so: a row keeps 44 days before its newest event, not before the request.
#[test]
fn a_history_that_has_moved_on_since_says_how_far_back_it_goes() {
    let later = |length: Duration| {
        let mut history = History::default();
        for after in [Duration::ZERO, length] {
            let at = NOON + i64::try_from(after.as_millis()).unwrap();
            history.record(Timestamp::from_millis(at), 1, Verdict::Approve, Some("3156"));
        }
        BTreeMap::from([("customer".to_owned(), history)])
    };
    let asked = |call: &str, days: u32| Asked {
        of: "customer".to_owned(),
        reach: DAY * days,
        question: format!("history.customer:{call}"),
        answer: "0".to_owned(),
    };
    let two_days = "history.customer has later events, to 2018-08-03T12:00:00.000Z";
    let three_days = "history.customer has later events, to 2018-08-04T12:00:00.000Z";
    let distinct = format!("{two_days}; distinct leaves out whoever was met again since");
    let short = "history.customer goes back to 2018-06-21T12:00:00.000Z only";
    let cases = [
        (0, vec![asked("count(\"44d\")", 44)], vec![]),
        (2, vec![], vec![]),
        (2, vec![asked("count(\"28d\", \"14d\")", 42)], vec![two_days]),
        (3, vec![asked("count(\"41d\")", 41)], vec![three_days]),
        (
            3,
            vec![asked("sum(\"1h\")", 0), asked("count(\"28d\", \"14d\")", 42)],
            vec![three_days, short],
        ),
        (2, vec![asked("distinct(\"7d\")", 7)], vec![distinct.as_str()]),
    ];
    for (days, asked, expected) in cases {
        let caveats = books(later(DAY * days), &[], &[], "").caveats(&asked);
        let caveats: Vec<_> = caveats.iter().map(|(_, said)| said.as_str()).collect();
        assert_eq!(caveats, expected, "{days} days later, {asked:?}");
    }
}
