//! A backtest, as people and programs read it.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::tally::{BANDS, Sum, Tally, f1};
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
            for (band, sum) in &self.bands {
                row(&mut text, BANDS.get(*band).map_or("", |(_, name)| name), sum);
            }
        }
        self.show_sample(&mut text);
        let _ = writeln!(
            text,
            "\nthe edge default agrees with its policy on {:.3} %",
            100.0 * share(self.agreed, self.judged)
        );
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

    fn show_quality(&self, text: &mut String) {
        if self.quality.policy.overall.frauds() == 0 {
            return;
        }
        let _ = writeln!(
            text,
            "\n{:<26} {:>9} {:>7} {:>9} {:>7} {:>7}   {:>9} {:>7}",
            "fraud found", "requests", "frauds", "precision", "recall", "F1", "(decline", "alone)"
        );
        let rows = [
            ("policy", &self.quality.policy),
            ("default", &self.quality.default),
            ("policy before", &self.quality.policy_before),
            ("default before", &self.quality.default_before),
        ];
        for (name, quality) in rows {
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
        let bands = self
            .bands
            .iter()
            .map(|(band, sum)| sums(BANDS.get(*band).map_or("", |(_, name)| name), sum));
        let sample = self.sample.iter().map(|it| {
            json!({ "id": it.id, "from": it.from, "to": it.to, "amount": it.amount, "fraud": it.fraud })
        });
        let labelled = self.quality.policy.overall.answers() > 0;
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
            "default_agrees": share(self.agreed, self.judged),
            "quality": labelled.then(|| json!({
                "policy": of_quality(&self.quality.policy),
                "default": of_quality(&self.quality.default),
                "policy_before": of_quality(&self.quality.policy_before),
                "default_before": of_quality(&self.quality.default_before),
            })),
        })
        .to_string()
    }
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
            let shown = backstop_lua::money_text(*amount, currency);
            format!("{} {currency}", shown.unwrap_or_else(|| amount.to_string()))
        })
        .collect();
    let _ = writeln!(text, "  {name:<20} {:>10}   {}", grouped(sum.count), money.join(", "));
}

fn hundredths(amount: u64) -> String {
    backstop_lua::money_text(amount, "XXX").unwrap_or_default()
}

fn figure(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.3}"))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
