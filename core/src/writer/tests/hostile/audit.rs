//! Whether the books are what the decisions in them come to, and hold nothing else. Two writers decide in
//! an order that nobody knows, so nothing here depends on it: what one decision saw and left is a step,
//! and all steps together must lead from the first level to the last.

use std::collections::BTreeMap;

use backstop_engine::Moves;

use super::traffic::{ARTICLES, Request, TERMINALS, Wish, id};
use super::*;
use crate::store::Loaded;

/// Decisions that are read at once.
const READ_AT_ONCE: usize = 500;

/// What an audit found.
pub(crate) struct Audited {
    /// By number: which of its bodies was decided, and how.
    pub(crate) decided: BTreeMap<u64, (Request, Decided)>,
    /// What a decision moved, or released, by number. Most move something.
    moved: BTreeMap<u64, Moved>,
    /// How often each kind of answer was given.
    pub(crate) answers: BTreeMap<String, usize>,
}

/// What one decision moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moved {
    /// What it took of which article; less than zero where it was given back.
    took: Option<(&'static str, i64)>,
    coins: i64,
}

/// Reads the decisions on the first `ids` numbers, and holds everything else in the books against them.
/// `stock` is what there was of each article.
pub(crate) async fn audit<B: Books>(books: &B, ids: u64, stock: [i64; ARTICLES.len()]) -> Audited {
    let mut store = books.open().await;
    let decided = decided(&mut store, ids).await;
    let mut audited = Audited { decided, moved: BTreeMap::new(), answers: BTreeMap::new() };
    audited.judge();
    audited.check_cancels();
    audited.check_levels(&mut store, stock).await;
    audited.check_ledger_and_outbox(books).await;
    audited.check_history(&mut store).await;
    let rows = books.rows("decisions").await;
    assert_eq!(rows, audited.decided.len(), "decisions that nobody asked for");
    audited
}

async fn decided(store: &mut impl Store, ids: u64) -> BTreeMap<u64, (Request, Decided)> {
    let mut decided = BTreeMap::new();
    let numbers: Vec<u64> = (0..ids).collect();
    for numbers in numbers.chunks(READ_AT_ONCE) {
        let decisions = numbers.iter().map(|number| key(&id(*number))).collect();
        let mut found = load(store, Wanted { decisions, ..Wanted::default() }).await.decisions;
        for number in numbers {
            let Some(it) = found.remove(&key(&id(*number))) else { continue };
            let mut bodies = (0..BODIES).map(|body| Request { number: *number, body });
            let request = bodies.find(|request| request.question().hash == it.hash);
            decided.insert(*number, (request.expect("a body that was sent"), it));
        }
    }
    decided
}

async fn load(store: &mut impl Store, wanted: Wanted) -> Loaded {
    store.begin().await.unwrap().load(wanted).await.unwrap()
}

impl Audited {
    /// Each answer follows from what the decision saw.
    fn judge(&mut self) {
        for (number, (request, decided)) in &self.decided {
            let Decision { decision, reasons, score, cause, .. } = &decided.answer;
            assert_eq!(*cause, None, "{request:?}");
            let reasons: Vec<_> = reasons.iter().map(String::as_str).collect();
            let answer = format!("{} {}", decision.as_str(), reasons.join(" "));
            *self.answers.entry(answer.trim_end().to_owned()).or_default() += 1;
            let approved = *decision == Verdict::Approve;
            let moved = match request.wish() {
                // Its score is what was left before it.
                Wish::Claim { article, quantity } => {
                    assert_eq!(approved, quantity <= *score, "{request:?}");
                    let took = Some((article, quantity));
                    (approved && quantity > 0).then_some(Moved { took, coins: quantity })
                }
                Wish::Spend { coins: 13 } => {
                    let paid = reasons == ["unlucky"];
                    assert!(paid || reasons == ["unlucky", "insufficient_balance"], "{request:?}");
                    paid.then_some(Moved { took: None, coins: -1 })
                }
                Wish::Spend { coins } => approved.then_some(Moved { took: None, coins: -coins }),
                // Its score is how many the customer had before it.
                Wish::Pay { .. } => {
                    assert_eq!(approved, *score < 2, "{request:?}");
                    None
                }
                Wish::Cancel { .. } => continue,
            };
            let (took, coins) = moved.map_or((0, 0), |it| (it.took.map_or(0, |it| it.1), it.coins));
            let of = |amounts: &BTreeMap<String, u64>| amounts.values().sum::<u64>().cast_signed();
            let Moves { take, credit, debit } = &decided.moves;
            assert_eq!((of(take), of(credit) - of(debit)), (took, coins), "{request:?}");
            self.moved.extend(moved.map(|moved| (*number, moved)));
        }
    }

    /// A release is of one approved decision of the same policy and account, and the only one of it.
    fn check_cancels(&mut self) {
        let mut released = BTreeMap::new();
        for (number, (request, decided)) in &self.decided {
            let Wish::Cancel { target } = request.wish() else { continue };
            let cancelled_by = self.decided.get(&target).and_then(|it| it.1.cancelled_by.clone());
            if decided.answer.decision == Verdict::Approve {
                assert_eq!(cancelled_by, Some(id(*number)), "{request:?}");
                let (of, by) = (&self.decided[&target], decided);
                assert_eq!(of.1.answer.decision, Verdict::Approve, "{request:?}");
                assert_eq!((&of.1.policy, &of.1.account), (&by.policy, &by.account));
                let Moved { took, coins } = self.moved[&target];
                let took = took.map(|(article, quantity)| (article, -quantity));
                released.insert(*number, Moved { took, coins: -coins });
            } else if decided.answer.reasons == ["already_cancelled"] {
                assert!(cancelled_by.is_some_and(|by| by != id(*number)), "{request:?}");
            } else {
                assert_eq!(decided.answer.reasons, ["nothing_to_cancel"], "{request:?}");
            }
        }
        let cancelled = |it: &&(Request, Decided)| it.1.cancelled_by.is_some();
        assert_eq!(self.decided.values().filter(cancelled).count(), released.len());
        self.moved.extend(released);
    }

    /// Stock and balances went from what they were to what they are in the steps that were told, none
    /// of them lost, and nobody was refused for a level that never was.
    async fn check_levels(&self, store: &mut impl Store, stock: [i64; ARTICLES.len()]) {
        let mut articles: BTreeMap<&str, Steps> = BTreeMap::new();
        let mut accounts: BTreeMap<&str, Steps> = BTreeMap::new();
        for (number, moved) in &self.moved {
            let (_, decided) = &self.decided[number];
            let effects = &decided.answer.effects;
            if let Some((article, quantity)) = moved.took {
                let left = effects.stock[&format!("sku:{article}")];
                articles.entry(article).or_default().push((left + quantity, left));
            }
            let balance = effects.balance["coins"];
            let account = decided.account.as_str();
            accounts.entry(account).or_default().push((balance - moved.coins, balance));
        }
        let wanted = Wanted {
            stock: ARTICLES.iter().map(|article| row(&format!("sku:{article}"))).collect(),
            accounts: accounts.keys().map(|account| account_key(account)).collect(),
            ..Wanted::default()
        };
        let found = load(store, wanted).await;
        for (article, before) in ARTICLES.iter().zip(stock) {
            let left = found.stock[&row(&format!("sku:{article}"))].value;
            let steps = articles.remove(article).unwrap_or_default();
            assert!(lead(&steps, before, left), "{article}: from {before} to {left}");
            let seen = |level| level == before || steps.iter().any(|(_, after)| *after == level);
            self.check_refusals(article, seen);
        }
        for (account, steps) in accounts {
            let units = &found.balances[&account_key(account)];
            assert_eq!(units.keys().collect::<Vec<_>>(), ["coins"]);
            let balance = units["coins"].value;
            assert!(lead(&steps, 0, balance), "{account}: from 0 to {balance}");
        }
    }

    fn check_refusals(&self, article: &str, seen: impl Fn(i64) -> bool) {
        let mut levels: Vec<i64> = Vec::new();
        for (request, decided) in self.decided.values() {
            match request.wish() {
                Wish::Claim { article: it, .. } if it == article => {
                    levels.push(decided.answer.score);
                }
                _ => {}
            }
        }
        levels.sort_unstable();
        levels.dedup();
        for level in levels {
            assert!(seen(level), "there never were {level} of {article}");
        }
    }

    /// One line for what each decision moved, one row for each decision, and no others.
    async fn check_ledger_and_outbox<B: Books>(&self, books: &B) {
        let line = |(number, moved): (&u64, &Moved)| {
            let (_, decided) = &self.decided[number];
            let (account, house) = (decided.account.clone(), "@house".to_owned());
            let (from, to) = if moved.coins > 0 { (house, account) } else { (account, house) };
            let at = decided.answer.decided_at.as_millis();
            (id(*number), from, to, moved.coins.abs(), at)
        };
        let expected: Vec<_> = self.moved.iter().map(line).collect();
        let ledger = books.ledger().await.into_iter();
        let mut ledger: Vec<_> = ledger
            .map(|it| {
                assert_eq!((it.merchant.as_str(), it.unit.as_str()), ("demo", "coins"));
                (it.id, it.debit, it.credit, it.amount, it.at)
            })
            .collect();
        ledger.sort();
        assert!(ledger == expected, "{} lines, not {}", ledger.len(), expected.len());
        let mut outbox: Vec<_> = books.outbox().await.into_iter().map(|row| row.1).collect();
        outbox.sort();
        let ids = self.decided.keys().map(|number| id(*number));
        assert!(ids.eq(outbox), "a row of the outbox for each decision");
        assert_eq!(books.rows("stock").await, ARTICLES.len());
    }

    /// Every decision is counted once where it says, and no customer was seen twice in one state.
    async fn check_history(&self, store: &mut impl Store) {
        let mut counts: BTreeMap<RowKey, u64> = BTreeMap::new();
        let mut scores: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for (request, decided) in self.decided.values() {
            let account = decided.account.as_str();
            *counts.entry(row(&format!("customer:{account}"))).or_default() += 1;
            if let Wish::Pay { terminal } = request.wish() {
                assert!(terminal < TERMINALS);
                *counts.entry(row(&format!("terminal:{terminal}"))).or_default() += 1;
                scores.entry(account).or_default().push(decided.answer.score);
            }
        }
        let wanted = Wanted { history: counts.keys().cloned().collect(), ..Wanted::default() };
        let found = load(store, wanted).await.history;
        let (hour, now) = (Duration::from_hours(1), Timestamp::from_millis(NOON));
        for (key, count) in counts {
            assert_eq!(found[&key].value.count(hour, Duration::ZERO, now), count, "{key:?}");
        }
        for (account, mut scores) in scores {
            let payments = scores.len();
            scores.sort_unstable();
            scores.dedup();
            assert_eq!(scores.len(), payments, "{account} was in one state twice");
        }
    }
}

/// What there was before a decision and after it.
type Steps = Vec<(i64, i64)>;

/// Whether the steps, in some order, lead from one level to the other: each level is left as often as
/// it is reached. A lost update leaves one level twice and reaches it once.
fn lead(steps: &[(i64, i64)], from: i64, to: i64) -> bool {
    let mut left: BTreeMap<i64, i64> = BTreeMap::new();
    for (before, after) in steps.iter().copied().chain([(to, from)]) {
        *left.entry(before).or_default() += 1;
        *left.entry(after).or_default() -= 1;
    }
    left.values().all(|times| *times == 0)
}

fn account_key(account: &str) -> AccountKey {
    AccountKey { merchant: "demo".to_owned(), account: account.to_owned() }
}
