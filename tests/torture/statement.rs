//! The statement that a merchant gets counts as the merchant itself does.

use std::collections::BTreeMap;

use backstop_contract::reconciliation::{Kind, Statement};

use super::audit::{Audit, Findings, differences};

/// By whom and in which currency: how many, and minor units.
type Totals = BTreeMap<String, (u64, u64)>;

impl Audit<'_> {
    /// What core decided and what was settled are as many, and come to as much, as by the client's own
    /// books; and of each kind there are as many as there are rows.
    pub(super) fn the_statement_counts_as_the_client_does(&self, findings: &mut Findings) {
        let system = &self.ground.system;
        let response = system.connect().get("/v1/reconciliation", &system.key(false));
        let Ok(statement) = serde_json::from_str::<Statement>(&response.text) else {
            let what = format!("statement: {} {:.500}", response.status, response.text);
            return findings.complaints.push(what);
        };
        let mut stated = Totals::new();
        let mut kinds = BTreeMap::new();
        for total in &statement.totals {
            let by = match total.kind {
                Kind::Agreed => "core",
                Kind::Confirmed | Kind::AppliedLate | Kind::Corrected => "others",
                _ => total.kind.as_str(),
            };
            let currency = total.currency.as_deref().unwrap_or("no money");
            add(&mut stated, format!("{by}, {currency}"), total.count, total.amount);
            *kinds.entry(standing(&total.kind).to_owned()).or_default() += total.count;
        }
        findings.complain("totals (count, amount)", &differences(&self.own_totals(), &stated));
        let rows = findings.standings.iter().map(|(name, count)| (name.clone(), *count as u64));
        findings.complain("kinds of rows", &differences(&rows.collect(), &kinds));
        let gaps: Vec<_> = statement.gaps.iter().map(|gap| format!("{gap:?}")).collect();
        findings.complain("gaps", &gaps);
    }

    /// The same from the client's own books.
    fn own_totals(&self) -> Totals {
        let mut own = Totals::new();
        for (number, told) in &self.notes.told {
            let by = if told.json()["decided_by"] == "core" { "core" } else { "others" };
            let amount = self.demand.order(*number).amount;
            let currency = if amount.is_some() { "GBP" } else { "no money" };
            add(&mut own, format!("{by}, {currency}"), 1, amount.unwrap_or_default());
        }
        own
    }
}

fn add(totals: &mut Totals, name: String, count: u64, amount: u64) {
    let total = totals.entry(name).or_default();
    *total = (total.0 + count, total.1 + amount);
}

/// The word that core's books have for this kind.
fn standing(kind: &Kind) -> &str {
    match kind {
        Kind::Agreed => "decided",
        Kind::Confirmed => "match",
        Kind::AppliedLate => "applied",
        Kind::Corrected => "overridden",
        other => other.as_str(),
    }
}
