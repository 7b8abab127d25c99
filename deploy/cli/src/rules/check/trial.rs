//! What comes of the rules on made-up requests, run as production runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backstop_contract::Verdict;
use backstop_lua::ruling::STRICT;
use backstop_lua::{Breach, Rules, Scene, Slices};

use super::finding::Finding;
use super::reading::Reading;
use crate::rules::folder::Limits;
use crate::rules::made::{Matter, matter, scenes};

/// Requests made up for each policy.
const SCENES: usize = 200;
/// A call that is over its slice is run once more with this: what still runs then does not end.
const PATIENCE: Slices =
    Slices { policy: Duration::from_millis(250), default: Duration::from_millis(250) };

/// What is wrong with rules that load.
pub fn findings(
    rules: &Rules,
    readings: &BTreeMap<String, Reading>,
    limits: Limits,
    known: &[Finding],
) -> Vec<Finding> {
    let mut found = BTreeSet::new();
    for policy in rules.bundle().policies() {
        Trial { rules, readings, limits, policy, known, raised: BTreeMap::new() }.run(&mut found);
    }
    found.into_iter().collect()
}

struct Trial<'a> {
    rules: &'a Rules,
    readings: &'a BTreeMap<String, Reading>,
    limits: Limits,
    policy: &'a str,
    known: &'a [Finding],
    /// How often each function raised each error.
    raised: BTreeMap<Finding, usize>,
}

impl Trial<'_> {
    fn run(mut self, found: &mut BTreeSet<Finding>) {
        let (policy, default) =
            (format!("policies/{}.lua", self.policy), format!("defaults/{}.lua", self.policy));
        let scenes = scenes(&self.matter(&[&policy, &default]), SCENES);
        let mut ends = (true, true);
        for scene in &scenes {
            if ends.0 {
                ends.0 = self.try_policy(scene, found);
            }
            if ends.1 {
                ends.1 = self.try_default(scene, &default, found);
            }
        }
        let always = self.raised.into_iter().filter(|(_, times)| *times == scenes.len());
        found.extend(always.map(|(finding, _)| finding));
    }

    /// What made-up requests are made of: what the rule declares, and what its text names.
    fn matter(&self, files: &[&String]) -> Matter {
        let readings = || files.iter().filter_map(|file| self.readings.get(*file));
        Matter {
            texts: readings().flat_map(|reading| reading.texts.iter().cloned()).collect(),
            numbers: readings().flat_map(|reading| reading.numbers.iter().copied()).collect(),
            ..matter(self.rules, self.policy)
        }
    }

    /// Whether every call ended.
    fn try_policy(&mut self, scene: &Scene, found: &mut BTreeSet<Finding>) -> bool {
        let told = scene.ask_policy(self.rules, self.limits.slices);
        let mut breaches: Vec<Breach> = told.breaches();
        if breaches.iter().any(|breach| matches!(breach, Breach::OutOfTime { .. })) {
            breaches = scene.ask_policy(self.rules, PATIENCE).breaches();
        }
        // A stand-in may have approved what this policy would not have, and core then moves it.
        let strict = self.rules.policy_says(self.policy).is_some_and(|says| says.strict);
        if let (Ok(keys), false) = (&told.keys, strict || scene.cancels()) {
            breaches.extend(
                scene.ask_effects(self.rules, self.limits.slices, keys, Verdict::Approve).err(),
            );
        }
        self.note(breaches, found)
    }

    /// Whether the call ended.
    fn try_default(&mut self, scene: &Scene, file: &str, found: &mut BTreeSet<Finding>) -> bool {
        if self.rules.default_says(self.policy).is_none() {
            return false;
        }
        let mut ruling = scene.ask_default(self.rules, self.limits.slices);
        if matches!(ruling.breach, Some(Breach::OutOfTime { .. })) {
            ruling = scene.ask_default(self.rules, PATIENCE);
        }
        let ends = self.note(ruling.breach.into_iter().collect(), found);
        if ruling.reasons.iter().any(|reason| reason == STRICT) {
            self.approves(file, found);
        }
        ends
    }

    /// A default that approves where its policy says that no stand-in may.
    fn approves(&self, file: &str, found: &mut BTreeSet<Finding>) {
        let wrong = format!(
            "the default approves, and policies/{}.lua is strict: no stand-in may approve",
            self.policy
        );
        let right = "return \"review\" here, or write strict = false in the policy";
        let reading = self.readings.get(file);
        let lines: Vec<u32> = reading.iter().flat_map(|it| it.approves.iter().copied()).collect();
        if lines.is_empty() {
            found.insert(Finding::new(file, None, wrong, right));
            return;
        }
        found.extend(lines.into_iter().map(|line| Finding::new(file, Some(line), &wrong, right)));
    }

    /// Takes down what broke. Whether everything ended.
    fn note(&mut self, breaches: Vec<Breach>, found: &mut BTreeSet<Finding>) -> bool {
        let mut ends = true;
        for breach in breaches {
            let finding = finding(&breach);
            match &breach {
                // An attribute of the wrong type may be the client's fault: the safe answer is for that.
                Breach::Raised { .. } if finding.right.is_empty() => {
                    *self.raised.entry(finding).or_default() += 1;
                    continue;
                }
                Breach::OutOfTime { .. } | Breach::OutOfMemory { .. } => ends = false,
                _ => {}
            }
            // What was read in the text is told once, and better.
            let told = |it: &&Finding| it.file == finding.file && it.line == finding.line;
            let twin = |it: &Finding| told(&it) && it.right == finding.right;
            if !self.known.iter().any(|it| told(&it)) && !found.iter().any(twin) {
                found.insert(finding);
            }
        }
        ends
    }
}

fn finding(breach: &Breach) -> Finding {
    match breach {
        Breach::OutOfTime { place, time_max } => Finding::new(
            &place.file,
            place.line,
            format!("still running after {time_max:?}: it does not end"),
            "bound the loop by a number, and leave it by break",
        ),
        Breach::OutOfMemory { place, bytes_max } => Finding::new(
            &place.file,
            place.line,
            format!("needs more than {bytes_max} bytes of memory"),
            "build less: keep no list that grows with each step of a loop",
        ),
        Breach::Raised { place, message }
        | Breach::Nonsense { place, message }
        | Breach::Sandbox { place, message } => {
            let (wrong, right) = parted(message);
            Finding::new(&place.file, place.line, wrong, right)
        }
        Breach::NoPolicy { policy } => {
            Finding::new(&format!("policies/{policy}.lua"), None, "is missing", "write it")
        }
    }
}

/// What is wrong and what would be right, of a message that says both.
pub fn parted(message: &str) -> (String, String) {
    if let Some((wrong, right)) = message.split_once("; ") {
        return (wrong.to_owned(), right.to_owned());
    }
    let right = if message.contains("readonly table") {
        "write local before the name: globals and libraries can not be written"
    } else if message.contains("nil") {
        "what a request lacks is nil, and so is what keys did not ask for: test it first, \
         as in if tx.qty and tx.qty > 6 then"
    } else {
        ""
    };
    (message.to_owned(), right.to_owned())
}
