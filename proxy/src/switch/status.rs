//! What operators see of the switch: one sentence, and all of it as JSON.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::time::Instant;

use backstop_contract::breaker::State;
use backstop_contract::{Stack, Timestamp};

use crate::switch::choice::Choice;
use crate::switch::doubt::Doubt;
use crate::switch::evidence::{Counts, Span};
use crate::switch::orders::Done;
use crate::switch::{Switch, Watch, lock};

/// As many merchants are named that are pinned; the others are counted.
const PINS_SHOWN_MAX: usize = 100;
/// Lines of the log that come with the status.
const LINES_SHOWN_MAX: usize = 10;

impl Switch {
    /// Which stack serves, since when and why; how both fare; the last lines of the log.
    pub fn status(&self) -> Value {
        let (choice, now) = (self.stacks.choice(), Instant::now());
        let history = self.history();
        let lines = history.len().saturating_sub(LINES_SHOWN_MAX);
        let mut watch = lock(&self.watch);
        watch.evidence.advance(now);
        let stacks = Stack::ALL.map(|stack| self.stack(stack, &choice, &watch, now));
        let mut status = of_choice(&choice);
        let more = json!({
            "said": say(&choice, &stacks),
            "mode": self.settings.mode.as_str(),
            "durable": self.is_written.load(Ordering::Acquire),
            "found": watch.finding,
            "doubt": watch.doubt.map(Doubt::as_str),
            "mirror_percent": self.mirror_percent(),
            "stacks": stacks,
            "history": history.get(lines..).unwrap_or_default(),
        });
        drop(watch);
        merge(&mut status, more);
        status
    }

    /// The last lines of the log, as many as are kept in mind, and all of them in words.
    pub fn history_json(&self) -> Value {
        let lines = self.history();
        let words: Vec<_> = lines
            .iter()
            .map(|line| {
                let text = |name| line.get(name).and_then(Value::as_str).unwrap_or_default();
                let (at, who, what) = (text("at"), text("who"), text("what"));
                format!(
                    "{at}  {who}  {what}  {} -> {}  {}",
                    text("from"),
                    text("to"),
                    text("reason")
                )
            })
            .collect();
        let said = if words.is_empty() {
            "nothing was ever ordered here".to_owned()
        } else {
            words.join("\n")
        };
        json!({ "said": said, "history": lines })
    }

    fn history(&self) -> Vec<Value> {
        // Plain fields always serialize.
        lock(&self.history).iter().map(|it| serde_json::to_value(it).unwrap_or_default()).collect()
    }

    fn stack(&self, stack: Stack, choice: &Choice, watch: &Watch, now: Instant) -> Value {
        let standings = self.standings(&watch.signs, now);
        let standing = stack.of(&standings);
        let unready = standing.unready(stack, &watch.evidence, &self.settings, now);
        let well_for = standing.signs.good_since.map(|since| now.saturating_duration_since(since));
        json!({
            "stack": stack,
            "active": stack == choice.course.active,
            "ready": unready.is_none(),
            "why": unready.map(|why| why.to_string()),
            "breaker": match standing.breaker {
                State::Closed => "closed",
                State::HalfOpen => "half-open",
                State::Open => "open",
            },
            "rehearses": !standing.signs.refuses_rehearsals,
            "probes_good_seconds": well_for.map(|well| well.as_secs()),
            "window_seconds": self.settings.window.as_secs(),
            "served": of_counts(&watch.evidence.of_served(stack, Span::Short)),
            "mirrored": of_counts(&watch.evidence.of_mirrored(stack, Span::Short)),
        })
    }
}

impl Done {
    /// The answer to an order.
    pub fn to_json(&self) -> Value {
        let mut answer = of_choice(&self.after);
        let more = json!({
            "said": self.say(),
            "from": self.before.course.active,
            "dry_run": self.is_dry_run,
            "took_ms": self.took.as_secs_f64() * 1_000.0,
            "durable": self.is_written,
            "forced": self.unready.as_ref().map(|(stack, why)| format!("{stack} is not ready: {why}")),
        });
        merge(&mut answer, more);
        answer
    }

    fn say(&self) -> String {
        let Choice { generation, course, until, .. } = &*self.after;
        let (from, to) = (self.before.course.active, course.active);
        let would = if self.is_dry_run { "would go" } else { "go" };
        let mut said = vec![if from == to {
            format!("new requests {would} to {to} as before")
        } else {
            format!("new requests {would} to {to}, no longer to {from}")
        }];
        said.extend(course.canary.map(|canary| format!("but for {canary}")));
        said.extend(
            until.map(|until| format!("until {}, then to {} again", until.at, until.back.active)),
        );
        said.extend(
            self.unready.as_ref().map(|(stack, why)| format!("{stack} is not ready: {why}")),
        );
        if !self.is_written {
            said.push("the disk has not taken it yet, and a restart may forget it".to_owned());
        }
        let millis = self.took.as_secs_f64() * 1_000.0;
        let said = said.join("; ");
        if self.is_dry_run {
            format!("{said} (nothing was done)")
        } else {
            format!("{said} (choice {generation}, after {millis:.2} ms)")
        }
    }
}

fn say(choice: &Choice, stacks: &[Value; 2]) -> String {
    let Choice { generation, course, who, reason, since, until, pins, .. } = choice;
    let active = course.active;
    let mut said = vec![if *generation > 0 {
        format!("{active} serves by choice {generation}, of {who} at {since}: {reason}")
    } else {
        format!("{active} serves")
    }];
    said.extend(until.map(|until| format!("until {}, then {} again", until.at, until.back.active)));
    said.extend(course.canary.map(|canary| format!("canary: {canary}")));
    said.extend((!pins.is_empty()).then(|| format!("{} merchants are pinned", pins.len())));
    for (stack, state) in Stack::ALL.iter().zip(stacks) {
        said.push(match state.get("why").and_then(Value::as_str) {
            None => format!("{stack} is ready"),
            Some(why) => format!("{stack} is not ready: {why}"),
        });
        if *stack != active && state.get("rehearses") == Some(&Value::Bool(false)) {
            said.push(format!(
                "the edge does not go to {stack} by itself: its release knows no rehearsals"
            ));
        }
    }
    said.join("\n")
}

fn of_choice(choice: &Choice) -> Value {
    let Choice { generation, course, pins, until, since, who, what, reason, .. } = choice;
    let pinned: serde_json::Map<_, _> =
        pins.iter().take(PINS_SHOWN_MAX).map(|(name, to)| (name.clone(), json!(to))).collect();
    let was_ordered = *since > Timestamp::default();
    json!({
        "active": course.active,
        "generation": generation,
        "canary": course.canary,
        "pins": pinned,
        "pins_count": pins.len(),
        "until": until.map(|until| json!({ "at": until.at, "back": until.back })),
        "what": what.as_str(),
        "since": was_ordered.then_some(since),
        "who": who,
        "reason": reason,
    })
}

fn of_counts(counts: &Counts) -> Value {
    let Counts { decisions, errors, stand_ins, misses, bad, approved, declined, reviewed } = counts;
    json!({
        "decisions": decisions, "errors": errors, "stand_ins": stand_ins, "misses": misses, "bad": bad,
        "approved": approved, "declined": declined, "reviewed": reviewed,
    })
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}
