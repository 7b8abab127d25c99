//! The model: what each request should be told, and what the books should hold in the end. It knows
//! the policies of the fixture in its own words, and shares no code with what it judges.

mod settled;

use std::collections::BTreeSet;

use backstop_contract::{Outcome as Became, Standing};

use super::*;

/// What a caller is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Decided(Verdict, Vec<String>, Effects),
    IdReused,
    Labelled(bool),
    Settled(Became),
}

/// A decision, as the model remembers it.
struct Told {
    question: Question,
    said: Said,
    /// What was taken of which stock, credited, debited.
    took: Option<(String, i64)>,
    coins: i64,
    cancelled_by: Option<String>,
    fraud: Option<bool>,
    standing: Standing,
    node: Option<&'static str>,
    first: Option<Verdict>,
}

#[derive(Default)]
pub(super) struct Oracle {
    stock: BTreeMap<String, i64>,
    coins: BTreeMap<String, i64>,
    /// Whose decision, from whom to whom, how much; in the order of decisions.
    ledger: Vec<(String, String, String, i64)>,
    told: BTreeMap<String, Told>,
    /// Advices that are on record: id, node, number.
    recorded: BTreeSet<(String, &'static str, u64)>,
    /// Advices that may be, since their first try was refused by the database.
    set_aside: BTreeSet<(String, &'static str, u64)>,
}

impl Told {
    fn verdict(&self) -> Verdict {
        match &self.said {
            Said::Decided(verdict, ..) => *verdict,
            other => panic!("no decision: {other:?}"),
        }
    }
}

/// What a decision comes to.
#[derive(Default)]
struct Moved {
    reasons: Vec<String>,
    declined: bool,
    took: Option<(String, i64)>,
    coins: i64,
    effects: Effects,
}

impl Moved {
    fn no(reasons: &[&str]) -> Self {
        let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        Self { reasons, declined: true, ..Self::default() }
    }
}

impl Oracle {
    pub(super) fn set_stock(&mut self, key: String, remaining: i64) {
        self.stock.insert(key, remaining);
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.told.contains_key(id)
    }

    pub(super) fn ask(&mut self, request: &Request) -> Said {
        if let Request::Advise { of, verdict, node } = request {
            return Said::Settled(self.settle(request, of, *verdict, node));
        }
        let Some(question) = request.question() else {
            let Request::Label { id: number, fraud } = request else { unreachable!() };
            let told = self.told.get_mut(&id(*number));
            return Said::Labelled(told.map(|told| told.fraud = Some(*fraud)).is_some());
        };
        if let Some(told) = self.told.get(&question.request.id) {
            let same = told.question.request == question.request;
            return if same { told.said.clone() } else { Said::IdReused };
        }
        let account = question.request.account.clone();
        let moved = match request {
            Request::Claim { article, quantity, .. } => {
                self.claim(&question, &format!("sku:{}", ARTICLES[*article]), *quantity)
            }
            Request::Spend { coins: 13, .. } if self.coins(&account) < 1 => {
                Moved::no(&["unlucky", "insufficient_balance"])
            }
            Request::Spend { coins: 13, .. } => {
                Moved { declined: true, ..self.debit(&question, 1, &["unlucky"]) }
            }
            Request::Spend { coins, .. } if self.coins(&account) < *coins => {
                Moved::no(&["insufficient_balance"])
            }
            Request::Spend { coins, .. } => self.debit(&question, *coins, &[]),
            Request::Pay { .. } if self.paid() >= 2 => Moved::no(&["velocity"]),
            Request::Pay { .. } => Moved::default(),
            Request::Cancel { target, .. } => self.cancel(&question, &id(*target)),
            Request::Label { .. } | Request::Advise { .. } => unreachable!("it asks nothing"),
        };
        let Moved { reasons, declined, took, coins, effects } = moved;
        let verdict = if declined { Verdict::Decline } else { Verdict::Approve };
        let said = Said::Decided(verdict, reasons, effects);
        let told = Told {
            question,
            said: said.clone(),
            took,
            coins,
            cancelled_by: None,
            fraud: None,
            standing: Standing::Decided,
            node: None,
            first: None,
        };
        self.told.insert(told.question.request.id.clone(), told);
        said
    }

    fn coins(&self, account: &str) -> i64 {
        self.coins.get(account).copied().unwrap_or_default()
    }

    /// How often the customer of all payments was decided on, whatever the policy.
    fn paid(&self) -> usize {
        self.told.values().filter(|told| told.question.request.account == "customer-1").count()
    }

    fn claim(&mut self, question: &Question, key: &str, quantity: i64) -> Moved {
        let left = self.stock.get_mut(key).unwrap();
        if *left < quantity {
            return Moved::no(&["out_of_stock"]);
        } else if quantity == 0 {
            return Moved::default();
        }
        *left -= quantity;
        let stock = [(key.to_owned(), *left)].into();
        let balance = self.move_coins(question, quantity);
        let took = Some((key.to_owned(), quantity));
        Moved { took, coins: quantity, effects: Effects { stock, balance }, ..Moved::default() }
    }

    fn debit(&mut self, question: &Question, coins: i64, reasons: &[&str]) -> Moved {
        let balance = self.move_coins(question, -coins);
        let effects = Effects { balance, ..Effects::default() };
        let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        Moved { reasons, coins: -coins, effects, ..Moved::default() }
    }

    fn cancel(&mut self, question: &Question, target: &str) -> Moved {
        let of = |told: &&mut Told| {
            let (a, b) = (&told.question.request, &question.request);
            let approved = told.verdict() == Verdict::Approve;
            (&a.policy, &a.account) == (&b.policy, &b.account) && approved && told.coins != 0
        };
        let Some(told) = self.told.get_mut(target).filter(of) else {
            return Moved::no(&["nothing_to_cancel"]);
        };
        if told.cancelled_by.is_some() {
            return Moved::no(&["already_cancelled"]);
        }
        told.cancelled_by = Some(question.request.id.clone());
        let (took, coins) = (told.took.clone(), told.coins);
        let mut effects = Effects::default();
        if let Some((key, quantity)) = took {
            let left = self.stock.get_mut(&key).unwrap();
            *left += quantity;
            effects.stock.insert(key, *left);
        }
        effects.balance = self.move_coins(question, -coins);
        Moved { effects, ..Moved::default() }
    }

    fn move_coins(&mut self, question: &Question, coins: i64) -> BTreeMap<String, i64> {
        let account = &question.request.account;
        let balance = self.coins.entry(account.clone()).or_default();
        *balance += coins;
        let (id, house) = (question.request.id.clone(), "@house".to_owned());
        let (from, to) =
            if coins > 0 { (house, account.clone()) } else { (account.clone(), house) };
        self.ledger.push((id, from, to, coins.abs()));
        [("coins".to_owned(), *balance)].into()
    }

    /// What the books hold is what the model holds.
    pub(super) async fn check<B: Books>(&self, bench: &mut BenchOver<B>) {
        for (key, remaining) in &self.stock {
            assert_eq!(bench.stock(key).await, Some(*remaining), "stock of {key}");
        }
        let ledger: Vec<_> = bench.books.ledger().await;
        for account in ACCOUNTS {
            let expected = self.coins.get(account).map(|coins| ("coins".to_owned(), *coins));
            let balances = bench.balances(account).await;
            assert_eq!(balances, Vec::from_iter(expected), "balance of {account}");
            let sum = |sum, line: &crate::store::tests::Line| {
                let credit = if line.credit == account { line.amount } else { 0 };
                sum + credit - if line.debit == account { line.amount } else { 0 }
            };
            let sum = ledger.iter().fold(0, sum);
            assert_eq!(sum, self.coins(account), "the ledger of {account}");
        }
        let mut lines: Vec<_> = ledger
            .into_iter()
            .map(|line| (line.id, line.debit, line.credit, line.amount))
            .collect();
        let mut expected = self.ledger.clone();
        lines.sort();
        expected.sort();
        assert_eq!(lines, expected);
        self.check_decisions(bench).await;
        self.check_history(bench).await;
    }

    async fn check_decisions<B: Books>(&self, bench: &mut BenchOver<B>) {
        for (id, told) in &self.told {
            let stored = bench.stored(id).await.unwrap();
            let answer = stored.answer;
            let said = Said::Decided(answer.decision, answer.reasons, answer.effects);
            assert_eq!(said, told.said, "{id}");
            assert_eq!(stored.cancelled_by, told.cancelled_by, "who released {id}");
            assert_eq!(stored.fraud, told.fraud, "the label of {id}");
            assert_eq!(stored.standing, told.standing, "how {id} stands");
            assert_eq!(stored.released_by.as_deref(), told.node, "who released {id}");
            assert_eq!(stored.first.map(|first| first.decision), told.first, "first of {id}");
        }
        let outbox = bench.books.outbox().await.into_iter();
        let (mut decided, mut revised): (Vec<_>, Vec<_>) =
            outbox.partition(|row| row.2 == "decided");
        decided.sort();
        revised.sort();
        let ids = |rows: Vec<(String, String, String)>| rows.into_iter().map(|row| row.1);
        assert!(ids(decided).eq(self.told.keys().cloned()));
        let corrected = |told: &&Told| told.first.is_some_and(|first| first != told.verdict());
        let corrected = self.told.values().filter(corrected);
        assert!(ids(revised).eq(corrected.map(|told| told.question.request.id.clone())));
        let recorded = bench.books.rows("discrepancies").await;
        let most = self.recorded.union(&self.set_aside).count();
        assert!((self.recorded.len()..=most).contains(&recorded), "{recorded} of {most}");
    }

    async fn check_history<B: Books>(&self, bench: &mut BenchOver<B>) {
        for account in ACCOUNTS {
            let of = |told: &&Told| told.question.request.account == account;
            let frauds = |told: &&Told| told.fraud == Some(true);
            let count = self.told.values().filter(of).count() as u64;
            let frauds = self.told.values().filter(of).filter(frauds).count() as u64;
            let counted = bench.counted(&format!("customer:{account}")).await;
            assert_eq!(counted, (count, frauds), "history of {account}");
            let (hour, now) = (Duration::from_hours(1), Timestamp::from_millis(NOON));
            let amount =
                |told: &Told| told.question.request.money.as_ref().map_or(0, |it| it.amount);
            let sum = self.told.values().filter(of).map(amount).sum::<u64>();
            let history = bench.history(&format!("customer:{account}")).await;
            assert_eq!(history.sum(hour, Duration::ZERO, now), sum, "amounts of {account}");
            let approved = |told: &&Told| told.verdict() == Verdict::Approve;
            let sum = self.told.values().filter(of).filter(approved).map(amount).sum::<u64>();
            let counted = history.approved_sum(hour, Duration::ZERO, now);
            assert_eq!(counted, sum, "approved amounts of {account}");
        }
    }
}
