//! Whether the books agree: what clients were told, the rows, the stock, the ledger and the balances,
//! to the unit; by SQL, and as operators and merchants see them.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::demand::{Claim, Demand};
use super::traffic::{Answer, Told};
use crate::postgres::Books;
use crate::system::{Response, System, Wire};

/// Connections that look or set all at once.
const CLERKS: usize = 8;

/// Everything there is to compare.
pub struct Audit<'a> {
    pub merchant: &'static str,
    pub demand: &'a Demand,
    pub told: &'a Told,
    pub books: &'a Books<'a>,
}

impl Audit<'_> {
    /// Panics where anything is off by one.
    pub fn pass(&self, system: &System) {
        self.every_answer_has_its_row();
        let granted = self.granted();
        self.no_more_than_there_is(&granted);
        let left = self.stock_is_what_was_not_granted(&granted);
        let balances = self.the_ledger_is_the_balances();
        self.each_grant_saw_the_one_before();
        seen_from_outside(system, &left, &balances);
    }

    fn decisions(&self) -> String {
        format!("decisions WHERE merchant = '{}'", self.merchant)
    }

    fn every_answer_has_its_row(&self) {
        let from = self.decisions();
        let rows: Vec<[String; 4]> =
            self.books.rows(&format!("SELECT id, decision, reasons, stack FROM {from}"));
        assert_eq!(rows.len(), self.demand.claims.len(), "every claim has a row, and no other");
        assert_eq!(rows.len(), self.told.answers.len(), "every claim was answered");
        for [id, decision, reasons, stack] in rows {
            let Answer { decision: told, reasons: why, stack: by, .. } = &self.told.answers[&id];
            let reasons: Value = serde_json::from_str(&reasons).unwrap();
            assert_eq!((&decision, &reasons, &stack), (told, why, by), "{id}");
        }
        let others = self.books.count(&format!(
            "SELECT count(*) FROM {from} AND (decided_by <> 'core' OR decision = 'review')"
        ));
        assert_eq!(others, 0, "core decided all of them");
        let untold = self.books.count(&format!(
            "SELECT count(*) FROM (SELECT id FROM {from}) AS made FULL JOIN \
             (SELECT id, count(*) AS times FROM outbox WHERE merchant = '{}' GROUP BY id) AS told \
             USING (id) WHERE told.times IS DISTINCT FROM 1",
            self.merchant
        ));
        assert_eq!(untold, 0, "the outbox has every decision once");
    }

    /// What was granted of each article, by the rows; the clients were told the same.
    fn granted(&self) -> BTreeMap<String, i64> {
        let rows = self.books.rows(&format!(
            "SELECT attributes::jsonb->>'sku', sum((attributes::jsonb->>'qty')::bigint) FROM {} \
             AND decision = 'approve' GROUP BY 1",
            self.decisions()
        ));
        let granted: BTreeMap<_, _> =
            rows.into_iter().map(|[sku, qty]| (sku, number(&qty))).collect();
        let mut told = BTreeMap::new();
        for claim in self.approved() {
            *told.entry(claim.sku.clone()).or_default() += claim.qty;
        }
        assert_eq!(granted, told);
        granted
    }

    fn approved(&self) -> impl Iterator<Item = &Claim> {
        let is_approved = |claim: &&Claim| self.told.answers[&claim.id].decision == "approve";
        self.demand.claims.iter().filter(is_approved)
    }

    fn no_more_than_there_is(&self, granted: &BTreeMap<String, i64>) {
        for (sku, article) in &self.demand.articles {
            let granted = granted.get(sku).copied().unwrap_or_default();
            let (least, most) = article.possible;
            assert!(granted <= article.cap, "{sku}: {granted} of {}", article.cap);
            assert!((least..=most).contains(&granted), "{sku}: {granted} of {least} to {most}");
            if article.is_certain() {
                assert_eq!(granted, article.in_order, "{sku}: the order cannot matter");
            }
        }
    }

    fn stock_is_what_was_not_granted(
        &self,
        granted: &BTreeMap<String, i64>,
    ) -> BTreeMap<String, i64> {
        let rows = self.books.rows(&format!(
            "SELECT substr(key, 5), remaining FROM stock WHERE merchant = '{}'",
            self.merchant
        ));
        let left: BTreeMap<_, _> =
            rows.into_iter().map(|[sku, left]| (sku, number(&left))).collect();
        assert_eq!(left.len(), self.demand.articles.len());
        for (sku, left) in &left {
            let granted = granted.get(sku).copied().unwrap_or_default();
            assert_eq!(left + granted, self.demand.articles[sku].cap, "{sku}");
        }
        left
    }

    /// A grant has one line of the ledger and nothing else has one; each balance is the sum of its lines.
    fn the_ledger_is_the_balances(&self) -> BTreeMap<String, i64> {
        let merchant = self.merchant;
        let wrong = self.books.count(&format!(
            "SELECT count(*) FROM (SELECT * FROM {} AND decision = 'approve') AS granted \
             FULL JOIN (SELECT * FROM ledger WHERE merchant = '{merchant}') AS line USING (id) \
             WHERE (line.debit, line.credit, line.unit, line.amount) IS DISTINCT FROM \
             ('@house', granted.account, 'coins', (granted.attributes::jsonb->>'qty')::bigint)",
            self.decisions()
        ));
        assert_eq!(wrong, 0, "each grant has its line, and each line its grant");
        let lines =
            self.books.count(&format!("SELECT count(*) FROM ledger WHERE merchant = '{merchant}'"));
        assert_eq!(lines, self.approved().count());
        let unequal = self.books.count(&format!(
            "SELECT count(*) FROM (SELECT account, unit, balance FROM balances WHERE merchant = '{merchant}') \
             AS balance FULL JOIN (SELECT account, unit, sum(amount) AS amount FROM \
             (SELECT credit AS account, unit, amount FROM ledger WHERE merchant = '{merchant}' \
             UNION ALL SELECT debit, unit, -amount FROM ledger WHERE merchant = '{merchant}') AS side \
             WHERE account <> '@house' GROUP BY 1, 2) AS sum USING (account, unit) \
             WHERE balance.balance IS DISTINCT FROM sum.amount"
        ));
        assert_eq!(unequal, 0, "each balance is the sum of its lines");
        let rows = self.books.rows(&format!(
            "SELECT account, balance FROM balances WHERE merchant = '{merchant}' AND unit = 'coins'"
        ));
        let balances: BTreeMap<_, _> =
            rows.into_iter().map(|[account, coins]| (account, number(&coins))).collect();
        let mut told = BTreeMap::new();
        for claim in self.approved() {
            *told.entry(claim.account.clone()).or_default() += claim.qty;
        }
        assert_eq!(balances, told);
        balances
    }

    /// The grants of an article make one chain from its cap down, whichever core decided, and those of
    /// an account one from zero up: none was made from what another had changed.
    fn each_grant_saw_the_one_before(&self) {
        let (mut stocks, mut accounts) = (HashMap::new(), HashMap::new());
        for claim in self.approved() {
            let answer = &self.told.answers[&claim.id];
            let (left, coins) = (answer.stock_left.unwrap(), answer.balance.unwrap());
            stocks.entry(&claim.sku).or_insert_with(Vec::new).push((-left, claim.qty));
            accounts.entry(&claim.account).or_insert_with(Vec::new).push((coins, claim.qty));
        }
        let is_chain = |mut steps: Vec<(i64, i64)>, start: i64| {
            steps.sort_unstable();
            let end = steps.iter().try_fold(start, |at, (to, by)| (at + by == *to).then_some(*to));
            end.is_some()
        };
        for (sku, steps) in stocks {
            assert!(is_chain(steps, -self.demand.articles[sku].cap), "{sku}");
        }
        for (account, steps) in accounts {
            assert!(is_chain(steps, 0), "{account}");
        }
    }
}

/// Operators and merchants see the same as the books.
fn seen_from_outside(
    system: &System,
    left: &BTreeMap<String, i64>,
    balances: &BTreeMap<String, i64>,
) {
    let token = admin_token(system);
    all_at_once(system.admin, left, |wire, (sku, remaining)| {
        let seen = wire.get(&stock_path(sku), &token);
        assert_eq!(seen.json(), json!({ "remaining": remaining }), "{sku}");
    });
    let key = system.key(false);
    all_at_once(system.plain, balances, |wire, (account, coins)| {
        let seen = wire.get(&format!("/v1/accounts/{account}/balance"), &key);
        assert_eq!(seen.json(), json!({ "account": account, "balance": { "coins": coins } }));
    });
}

/// Sets the stock of every article as an operator does.
pub fn stock_up(system: &System, demand: &Demand) {
    let token = admin_token(system);
    all_at_once(system.admin, &demand.articles, |wire, (sku, article)| {
        let set = put_stock(wire, &stock_path(sku), &token, &json!({ "remaining": article.cap }));
        assert_eq!(set.json(), json!({ "remaining": article.cap }), "{sku}");
    });
}

/// Sets one stock.
pub fn put_stock(wire: &mut Wire, path: &str, token: &str, body: &Value) -> Response {
    let bearer = format!("Bearer {token}");
    wire.send("PUT", path, &[("Authorization", &bearer)], body.to_string().as_bytes())
}

pub fn admin_token(system: &System) -> String {
    std::fs::read_to_string(system.dir.join("admin.token")).unwrap().trim().to_owned()
}

/// Where the stock of an article is seen and set.
pub fn stock_path(sku: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let escaped = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    format!("/admin/stock/sku:{}", sku.bytes().map(escaped).collect::<String>())
}

/// Does this for all of them, over a few connections at once.
fn all_at_once<K: Sync, V: Sync>(
    address: SocketAddr,
    all: &BTreeMap<K, V>,
    act: impl Fn(&mut Wire, (&K, &V)) + Sync,
) {
    let (all, next): (Vec<_>, _) = (all.iter().collect(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLERKS {
            scope.spawn(|| {
                let mut wire = Wire::connect(address);
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    act(&mut wire, *one);
                }
            });
        }
    });
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}
