//! A backtest, as people and programs read it.

use std::fmt::Write as _;
use std::path::Path;

use backstop_contract::fidelity::{Cell, Cells, Counts, Line, by_policy};
use serde_json::{Value as Json, json};

use super::tally::{OfTiers, Sum, Tally, f1};
use crate::fidelity;
use crate::replay::quality::{Confusion, Quality};
use crate::report::grouped;

impl Tally {
    /// As people read it.
    pub fn shown(&self, file: &Path) -> String {
        let mut text = String::new();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // Strings take what is written to them, here and below.
        let _ = writeln!(
            text,
            "{name}: {} requests, {} judged, in {:.1} s\nversion {} against {} ({})",
            grouped(self.read),
            grouped(self.judged),
            self.took.as_secs_f64(),
            self.version,
            self.against,
            self.against_name
        );
        if self.broke > 0 {
            let _ = writeln!(
                text,
                "the policy broke on {} and gave its safe answer",
                grouped(self.broke)
            );
        }
        let _ = writeln!(
            text,
            "\ndecided otherwise: {} of {} ({:.3} %)",
            grouped(self.changed),
            grouped(self.judged),
            100.0 * share(self.changed, self.judged)
        );
        for ((from, to), sum) in &self.flips {
            row(&mut text, &format!("{from} -> {to}"), sum);
        }
        if self.merchants.len() > 1 {
            text.push_str("by merchant\n");
            self.merchants.iter().for_each(|(merchant, sum)| row(&mut text, merchant, sum));
        }
        if !self.bands.is_empty() {
            text.push_str("by amount\n");
            self.bands.iter().for_each(|(band, sum)| row(&mut text, band.as_str(), sum));
        }
        self.show_sample(&mut text);
        self.show_fidelity(&mut text);
        self.show_quality(&mut text);
        text
    }

    fn show_sample(&self, text: &mut String) {
        if !self.sample.is_empty() {
            text.push_str("some of them\n");
        }
        for changed in &self.sample {
            let truth = match changed.fraud {
                Some(true) => "  fraud",
                Some(false) => "  honest",
                None => "",
            };
            let (from, to) = (changed.from.as_str(), changed.to.as_str());
            let amount = changed.amount.map_or(String::new(), hundredths);
            let _ = writeln!(text, "  {:<24} {from:>7} -> {to:<7} {amount:>12}{truth}", changed.id);
        }
    }

    fn show_fidelity(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\n{:<26} {:>9} {:>9}   {:>26}   {:>26}",
            "next to core", "requests", "agree", "false approve", "false decline"
        );
        for (tier, cells) in self.fidelities() {
            for ((policy, currency), counts) in by_policy(cells.iter()) {
                let whole = counts.compared();
                let part = |sum| fidelity::share(sum, whole, currency);
                let _ = writeln!(
                    text,
                    "{:<26} {:>9} {:>7.3} %   {:>26}   {:>26}",
                    format!("{tier}, {policy}"),
                    grouped(whole.count),
                    100.0 * counts.agree.share_of(whole).0,
                    part(counts.false_approve),
                    part(counts.false_decline),
                );
            }
        }
    }

    fn fidelities(&self) -> [(&'static str, &Cells); 2] {
        [("api", &self.fidelity_of_api), ("edge", &self.fidelity_of_edge)]
    }

    fn show_quality(&self, text: &mut String) {
        if self.quality.core.overall.frauds() == 0 {
            return;
        }
        let _ = writeln!(
            text,
            "\n{:<26} {:>9} {:>7} {:>9} {:>7} {:>7}   {:>9} {:>7}",
            "fraud found", "requests", "frauds", "precision", "recall", "F1", "(decline", "alone)"
        );
        let (now, before) = (&self.quality, &self.quality_before);
        let of_now = [("core", &now.core), ("api", &now.api), ("edge", &now.edge)];
        let of_before = [
            ("core before", &before.core),
            ("api before", &before.api),
            ("edge before", &before.edge),
        ];
        // The same twice says nothing.
        let of_before = of_before.into_iter().filter(|_| now != before);
        for (name, quality) in of_now.into_iter().chain(of_before) {
            let months = quality.months.iter().map(|(month, it)| (month.as_str(), it));
            let overall = (quality.months.len() > 1).then_some(("all", &quality.overall));
            for (when, confusion) in months.chain(overall) {
                let (either, decline) = (confusion.either(), confusion.decline());
                let _ = writeln!(
                    text,
                    "{:<26} {:>9} {:>7} {:>9} {:>7} {:>7}   {:>9} {:>7}",
                    format!("{name}, {when}"),
                    grouped(confusion.answers()),
                    grouped(confusion.frauds()),
                    figure(either.precision),
                    figure(either.recall),
                    figure(f1(confusion)),
                    figure(decline.precision),
                    figure(decline.recall)
                );
            }
        }
    }

    /// As programs read it.
    pub fn json(&self) -> String {
        let sums =
            |name: &str, sum: &Sum| json!({ "of": name, "count": sum.count, "money": sum.money });
        let flips = self.flips.iter().map(|((from, to), sum)| {
            json!({ "from": from, "to": to, "count": sum.count, "money": sum.money })
        });
        let bands = self.bands.iter().map(|(band, sum)| sums(band.as_str(), sum));
        let sample = self.sample.iter().map(|it| {
            json!({ "id": it.id, "from": it.from, "to": it.to, "amount": it.amount, "fraud": it.fraud })
        });
        let fidelities = self.fidelities().into_iter().map(|(tier, cells)| {
            let line =
                |(cell, counts): (&Cell, &Counts)| Line { cell: cell.clone(), counts: *counts };
            (tier.to_owned(), json!(cells.iter().map(line).collect::<Vec<_>>()))
        });
        let labelled = self.quality.core.overall.answers() > 0;
        json!({
            "version": self.version,
            "against": { "version": self.against, "name": self.against_name },
            "read": self.read,
            "judged": self.judged,
            "changed": self.changed,
            "broke": self.broke,
            "took_s": self.took.as_secs_f64(),
            "flips": flips.collect::<Vec<_>>(),
            "merchants": self.merchants.iter().map(|(name, sum)| sums(name, sum)).collect::<Vec<_>>(),
            "amounts": bands.collect::<Vec<_>>(),
            "sample": sample.collect::<Vec<_>>(),
            "fidelity": fidelities.collect::<serde_json::Map<_, _>>(),
            "quality": labelled.then(|| of_tiers(&self.quality)),
            "quality_before": labelled.then(|| of_tiers(&self.quality_before)),
        })
        .to_string()
    }
}

fn of_tiers(OfTiers { core, api, edge }: &OfTiers<Quality>) -> Json {
    json!({ "core": of_quality(core), "api": of_quality(api), "edge": of_quality(edge) })
}

fn of_quality(quality: &Quality) -> Json {
    let one = |confusion: &Confusion| json!({ "counts": confusion, "f1": f1(confusion) });
    let months = quality.months.iter().map(|(month, it)| (month.clone(), one(it)));
    json!({ "overall": one(&quality.overall), "months": months.collect::<serde_json::Map<_, _>>() })
}

fn row(text: &mut String, name: &str, sum: &Sum) {
    let money: Vec<String> = sum
        .money
        .iter()
        .map(|(currency, amount)| {
            let shown = backstop_contract::currency::money_text(*amount, currency);
            format!("{} {currency}", shown.unwrap_or_else(|| amount.to_string()))
        })
        .collect();
    let _ = writeln!(text, "  {name:<20} {:>10}   {}", grouped(sum.count), money.join(", "));
}

fn hundredths(amount: u64) -> String {
    backstop_contract::currency::money_text(amount, "XXX").unwrap_or_default()
}

fn figure(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.3}"))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
