//! Whether all books agree in the end: what the client wrote down, core's rows, the outbox, stock, ledger,
//! balances and history; by SQL, and as merchants see them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use backstop_contract::Timestamp;
use backstop_engine::history::{History, KEPT};
use serde_json::{Value, json};

use super::demand::{Demand, Order};
use super::dice::Dice;
use super::ground::{Ground, MERCHANT};
use super::notes::{Notes, Told};
use super::watch::Watch;

/// So many ids are looked at and asked for again.
const SAMPLE: u64 = 200;
/// Of each kind of difference, so many are told.
const TOLD_MAX: usize = 5;
/// What core settled, in the words of its books.
pub const SETTLED: [&str; 3] = ["applied", "match", "overridden"];

/// Everything there is to compare.
pub struct Audit<'a> {
    pub demand: Demand,
    pub notes: &'a Notes,
    pub watch: &'a Watch,
    pub ground: &'a Ground,
    /// What there was at first.
    pub stock: &'a BTreeMap<String, i64>,
    /// How many requests were sent.
    pub asked: usize,
}

/// What it found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Of rows, by how they came to stand there.
    pub standings: BTreeMap<String, usize>,
    /// Answers that a dead proxy had forgotten, since it had not written them down: they may differ.
    pub exempt: usize,
    pub complaints: Vec<String>,
}

impl Findings {
    pub(super) fn complain(&mut self, what: &str, cases: &[String]) {
        if !cases.is_empty() {
            let some: Vec<_> = cases.iter().take(TOLD_MAX).map(String::as_str).collect();
            self.complaints.push(format!("{} {what}: {}", cases.len(), some.join("; ")));
        }
    }
}

/// One row, in the names of an answer.
struct Row {
    answer: Value,
    standing: String,
}

impl Audit<'_> {
    /// Looks at everything.
    pub fn pass(&self) -> Findings {
        let mut findings = Findings::default();
        let rows = self.rows();
        self.every_answer_has_its_row(&rows, &mut findings);
        self.the_outbox_has_each_once(&mut findings);
        self.stock_and_coins_are_what_was_told(&mut findings);
        self.history_counts_each_once(&mut findings);
        self.a_sample_is_told_the_same(&mut findings);
        self.the_statement_counts_as_the_client_does(&mut findings);
        findings
    }

    fn rows(&self) -> HashMap<usize, Row> {
        let query = format!(
            "SELECT id, decision, reasons, score, decided_by, coalesce(cause, ''), stack, policy_version, \
             effects, decided_at, coalesce(standing, 'decided') FROM decisions WHERE merchant = '{MERCHANT}'"
        );
        let row = |row: [String; 11]| {
            let [
                id,
                decision,
                reasons,
                score,
                decided_by,
                cause,
                stack,
                version,
                effects,
                at,
                standing,
            ] = row;
            let number = Demand::number(&id)?;
            let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            let cause = if cause.is_empty() { Value::Null } else { cause.into() };
            let answer = json!({
                "id": id, "decision": decision, "reasons": json(&reasons), "score": json(&score),
                "decided_by": decided_by, "cause": cause, "stack": stack, "policy_version": version,
                "effects": whole_effects(&json(&effects)),
                "decided_at": Timestamp::from_millis(at.parse().unwrap()).to_string(),
            });
            Some((number, Row { answer, standing }))
        };
        self.ground.books.rows(&query).into_iter().filter_map(row).collect()
    }

    /// Whether the answer may have been forgotten with a proxy that died.
    fn is_exempt(&self, number: usize) -> bool {
        self.notes.told.get(&number).is_none_or(|told| told.may_be_forgotten(self.watch))
    }

    fn every_answer_has_its_row(&self, rows: &HashMap<usize, Row>, findings: &mut Findings) {
        let (mut missing, mut differing, mut untold) = (Vec::new(), Vec::new(), Vec::new());
        for (number, told) in &self.notes.told {
            let row = rows.get(number);
            if row.is_some_and(|row| row.answer == told.json()) {
                continue;
            }
            match row {
                _ if self.is_exempt(*number) => findings.exempt += 1,
                None => missing.push(told.answer.clone()),
                Some(row) => {
                    let (told, standing) = (&told.answer, &row.standing);
                    differing.push(format!("told {told}, written ({standing}) {}", row.answer));
                }
            }
        }
        for (number, row) in rows {
            *findings.standings.entry(row.standing.clone()).or_default() += 1;
            if !self.notes.told.contains_key(number) {
                untold.push(row.answer.to_string());
            }
        }
        findings.complain("answers without a row", &missing);
        findings.complain("rows that differ from their answer", &differing);
        findings.complain("rows that nobody was told of", &untold);
        if self.notes.told.len() != self.asked {
            let what = format!("{} asked, {} answered", self.asked, self.notes.told.len());
            findings.complaints.push(what);
        }
        let is_settled = |row: &Row| {
            let is_by_core = row.answer["decided_by"] == "core";
            if is_by_core { row.standing == "decided" } else { SETTLED.contains(&&*row.standing) }
        };
        let unsettled: Vec<_> = rows
            .values()
            .filter(|row| !is_settled(row))
            .map(|row| format!("{}: {}", row.answer["id"], row.standing))
            .collect();
        findings.complain("rows that stand as they should not", &unsettled);
    }

    fn the_outbox_has_each_once(&self, findings: &mut Findings) {
        let wrong = self.ground.books.rows(&format!(
            "SELECT decisions.id, coalesce(told.times, 0) FROM decisions LEFT JOIN \
             (SELECT id, count(*) AS times FROM outbox WHERE merchant = '{MERCHANT}' \
             AND kind = 'decided' GROUP BY id) AS told ON told.id = decisions.id \
             WHERE decisions.merchant = '{MERCHANT}' AND coalesce(told.times, 0) <> 1"
        ));
        let wrong: Vec<_> =
            wrong.into_iter().map(|[id, times]| format!("{id} {times} times")).collect();
        findings.complain("decisions not once in the outbox", &wrong);
    }

    /// What the client was told that it got, and that was not cancelled as it was told.
    fn granted(&self) -> Vec<Order> {
        let is_approved = |number: &usize| {
            self.notes.told.get(number).is_some_and(|told| told.json()["decision"] == "approve")
        };
        let approved: Vec<usize> = self.notes.told.keys().copied().filter(is_approved).collect();
        let orders = approved.into_iter().map(|number| (number, self.demand.order(number)));
        let orders: Vec<_> = orders.collect();
        let cancelled: HashSet<_> = orders.iter().filter_map(|(_, order)| order.cancels).collect();
        let is_left =
            |(number, order): &(usize, Order)| order.take.is_some() && !cancelled.contains(number);
        orders.into_iter().filter(is_left).map(|(_, order)| order).collect()
    }

    /// To the unit: stock, balances, and the ledger that both follow from.
    fn stock_and_coins_are_what_was_told(&self, findings: &mut Findings) {
        let (mut stock, mut coins) = (self.stock.clone(), BTreeMap::new());
        for order in self.granted() {
            let (key, qty) = order.take.unwrap();
            *stock.get_mut(&key).unwrap() -= qty;
            if order.policy == "claim" {
                *coins.entry(order.account).or_insert(0) += qty;
            }
        }
        let of = |table: &str, columns: &str, rest: &str| {
            let query =
                format!("SELECT {columns} FROM {table} WHERE merchant = '{MERCHANT}' {rest}");
            let rows = self.ground.books.rows(&query).into_iter();
            rows.map(|[key, sum]: [String; 2]| (key, sum.parse().unwrap()))
                .collect::<BTreeMap<String, i64>>()
        };
        findings.complain("stocks", &differences(&stock, &of("stock", "key, remaining", "")));
        let balances = of("balances", "account, balance", "AND unit = 'coins'");
        findings.complain("balances", &differences(&coins, &balances));
        let ledger = "(SELECT merchant, credit AS account, amount FROM ledger WHERE unit = 'coins' UNION ALL \
             SELECT merchant, debit, -amount FROM ledger WHERE unit = 'coins') AS side";
        let sums = of(ledger, "account, sum(amount)", "AND account <> '@house' GROUP BY account");
        findings.complain("sums of the ledger", &differences(&coins, &sums));
    }

    /// Of each payment in the history of its customer and its terminal: that it was, its amount, and
    /// whether it was approved.
    fn history_counts_each_once(&self, findings: &mut Findings) {
        let mut wanted: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
        for (number, told) in &self.notes.told {
            let order = self.demand.order(*number);
            let (Some(terminal), Some(amount)) = (order.terminal, order.amount) else { continue };
            let approved = if told.json()["decision"] == "approve" { amount } else { 0 };
            for key in [format!("customer:{}", order.account), format!("terminal:{terminal}")] {
                let sums = wanted.entry(key).or_default();
                *sums = (sums.0 + 1, sums.1 + amount, sums.2 + approved);
            }
        }
        let books = &self.ground.books;
        let row = books.hex("row");
        let query = format!("SELECT key, {row} FROM history WHERE merchant = '{MERCHANT}'");
        let now = Timestamp::now();
        let sums = |[key, row]: [String; 2]| {
            let bytes: Vec<u8> = (0..row.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&row[at..at + 2], 16).unwrap())
                .collect();
            let history = History::decode(&bytes).unwrap();
            let zero = Duration::ZERO;
            let sums = (
                history.count(KEPT, zero, now),
                history.sum(KEPT, zero, now),
                history.approved_sum(KEPT, zero, now),
            );
            (key, sums)
        };
        let found: BTreeMap<_, _> = books.rows(&query).into_iter().map(sums).collect();
        let wrong = differences(&wanted, &found);
        findings.complain("histories (count, sum, approved)", &wrong);
    }

    /// The record of an id, and the answer to a retry, are what the client was told.
    fn a_sample_is_told_the_same(&self, findings: &mut Findings) {
        let mut dice = Dice::new(self.demand.seed, u64::MAX);
        let key = self.ground.system.key(false);
        let mut wire = self.ground.system.connect();
        let mut wrong = Vec::new();
        for _ in 0..SAMPLE {
            let number = usize::try_from(dice.roll(self.asked as u64)).unwrap();
            let Some(told) = self.notes.told.get(&number).map(Told::json) else {
                continue;
            };
            let (body, other) = self.demand.bodies(number);
            let record = wire.get(&format!("/v1/decisions/order-{number}"), &key);
            let retry = wire.decide(&key, &body);
            let refused = wire.decide(&key, &other).status;
            for (what, response) in [("record", &record), ("retry", &retry)] {
                let said = serde_json::from_str::<Value>(&response.text).unwrap_or_default();
                let repeats = |(name, value): (&String, &Value)| said.get(name) == Some(value);
                let is_same = told.as_object().unwrap().iter().all(repeats);
                if response.status != 200 || !is_same || said["final"] != true {
                    wrong.push(format!("{what}: {said}, told {told}"));
                }
            }
            if refused != 422 {
                wrong.push(format!("order-{number} with another body: {refused}"));
            }
        }
        findings.complain("of the sample are told something else", &wrong);
    }
}

/// What two counts of the same do not agree on; what is not there counts for nothing.
pub(super) fn differences<T: Copy + Default + PartialEq + fmt::Debug>(
    told: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
) -> Vec<String> {
    let of = |map: &BTreeMap<String, T>, key: &str| map.get(key).copied().unwrap_or_default();
    let keys: BTreeSet<_> = told.keys().chain(found.keys()).collect();
    keys.into_iter()
        .map(|key| (key, of(told, key), of(found, key)))
        .filter(|(_, told, found)| told != found)
        .map(|(key, told, found)| format!("{key}: told {told:?}, found {found:?}"))
        .collect()
}

/// Both parts, as an answer has them.
fn whole_effects(effects: &Value) -> Value {
    let part = |name: &str| effects.get(name).cloned().unwrap_or_else(|| json!({}));
    json!({ "stock": part("stock"), "balance": part("balance") })
}
