//! The automatic switch: looks at the evidence, and says what is to be done. A pure machine; the clock,
//! the choice in force and what is known of both stacks come in, a finding comes out.
//!
//! It leaves a stack when that is surely bad, not for a moment only, and the other is *proven* better. It
//! never decides twice in a period, nor soon after an operator did, and it goes on looking after it has
//! acted. What it finds is said once, in a sentence with its numbers, and again only when it changes.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use backstop_contract::{Stack, Timestamp};
use backstop_settings::settings::{self, Mode};

use crate::switch::charge::{self, Charge, length, percent, share};
use crate::switch::choice::{Choice, Course};
use crate::switch::evidence::{Evidence, Span};
use crate::switch::mix::{self, Mix};
use crate::switch::standing::{Standing, Unready};

/// What was said is not said again this soon, though something else was in between.
const SAY_AGAIN_AFTER: Duration = Duration::from_mins(10);
const MILLION: f64 = 1_000_000.0;

/// What it looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The clock that only goes forward.
    pub now: Instant,
    /// The one on the wall.
    pub at: Timestamp,
    /// What is in force.
    pub choice: &'a Choice,
    /// What is known of both stacks, up to now.
    pub evidence: &'a Evidence,
    /// How they stand.
    pub standings: &'a [Standing; 2],
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// This course is to be taken.
    Take(Course),
    /// Somebody ought to take it.
    Recommend(Course),
    /// Nothing can be done, though a stack is bad.
    Stay,
    /// A stack of which that was said is good again.
    Recovered,
}

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What is to be done.
    pub act: Act,
    /// Why, with its numbers, in one plain sentence.
    pub sentence: String,
    /// The numbers alone.
    pub numbers: Map<String, Value>,
}

/// Why nothing is done about a bad stack.
#[derive(Clone, Debug, PartialEq)]
enum Obstacle {
    /// The other is not warm and healthy.
    Unready(Unready),
    /// Too few mirrored answers of the other.
    TooFew { answers: u64, min: u64 },
    /// Its core has answered no mirrored request for too long.
    Stale,
    /// Its release knows no rehearsals, so nothing can be mirrored.
    Unrehearsed,
    /// It is not surely better.
    NoBetter { bad: u64, of: u64, window: Duration },
    /// Its decisions are off.
    Off(Charge),
    /// They differ, and nobody can tell which is right.
    Unclear,
    /// An operator chose not long ago.
    LockedOut(Duration),
    /// The stack changed a moment ago.
    CoolDown(Duration),
    /// The edge switched by itself not long ago.
    Flipped(Duration),
    /// It may yet turn out that both fare alike.
    Undecided,
}

/// Why the other is better.
#[derive(Clone, Copy, Debug)]
struct Proof {
    bad: u64,
    of: u64,
    window: Duration,
}

/// What was said: about which stack, what it is charged with, and what was made of it.
type Saying = (Stack, &'static str, &'static str);

/// The automatic switch.
#[derive(Debug)]
pub struct Pilot {
    settings: settings::Switch,
    /// What was said, and when.
    said: Vec<(Saying, Instant)>,
    last: Option<Saying>,
}

impl Pilot {
    /// One that has seen nothing yet.
    pub const fn new(settings: settings::Switch) -> Self {
        Self { settings, said: Vec::new(), last: None }
    }

    /// Looks. What it finds, if that is new.
    pub fn look(&mut self, view: View<'_>) -> Option<Finding> {
        if self.settings.mode == Mode::Off {
            return None;
        }
        let course = view.choice.course;
        // The canary first: where it alone is bad, that ends it.
        let canary = course.canary.map(|canary| canary.to).filter(|to| *to != course.active);
        canary
            .and_then(|suspect| self.judge(suspect, Course { canary: None, ..course }, view))
            .or_else(|| {
                let to = course.active.other();
                self.judge(course.active, Course { active: to, canary: None }, view)
            })
    }

    /// Whether this stack is bad, and what is to be done about it: `cure` where that is proven better.
    fn judge(&mut self, suspect: Stack, cure: Course, view: View<'_>) -> Option<Finding> {
        let Some((charge, is_unclear)) = self.charge(suspect, &view) else {
            return self.clear(suspect, &view);
        };
        let is_switch = cure.active != view.choice.course.active;
        let proof = if is_unclear {
            Err(Obstacle::Unclear)
        } else {
            let proof = self.prove(suspect, &charge, &view);
            let locks = if is_switch { self.check_locks(&view) } else { Ok(()) };
            proof.and_then(|proof| locks.map(|()| proof))
        };
        let (act, made_of_it) = match &proof {
            Ok(_) if self.settings.mode == Mode::Auto => {
                // What comes after is looked at anew.
                self.last = None;
                return Some(finding(Act::Take(cure), is_switch, suspect, &charge, &proof));
            }
            Ok(_) => (Act::Recommend(cure), "recommended"),
            // The next looks will tell.
            Err(Obstacle::Undecided) => return None,
            Err(obstacle) => (Act::Stay, obstacle.as_str()),
        };
        let is_new = self.is_new((suspect, charge.kind.as_str(), made_of_it), view.now);
        is_new.then(|| finding(act, is_switch, suspect, &charge, &proof))
    }

    /// What it is charged with, and whether it is unclear who is right.
    fn charge(&self, suspect: Stack, view: &View<'_>) -> Option<(Charge, bool)> {
        if let Some(charge) = charge::of_served(suspect, view.evidence, &self.settings) {
            return Some((charge, false));
        }
        match mix::of_mix(suspect, view.evidence, &self.settings) {
            Mix::Charged(stack, charge) if stack == suspect => Some((charge, false)),
            // It is for the active one to be asked which is right.
            Mix::Unclear(charge) if suspect == view.choice.course.active => Some((charge, true)),
            _ => None,
        }
    }

    fn clear(&mut self, suspect: Stack, view: &View<'_>) -> Option<Finding> {
        if !charge::is_cleared(suspect, view.evidence, &self.settings) {
            return None;
        }
        self.last.take_if(|(stack, ..)| *stack == suspect)?;
        let recent = view.evidence.of_served(suspect, Span::Short);
        let window = length(self.settings.window);
        let sentence = format!(
            "{suspect} is good again: {} of its {} decisions in the last {window} were stand-ins or late.",
            recent.bad, recent.decisions
        );
        let numbers = Map::from_iter([
            ("bad".to_owned(), recent.bad.into()),
            ("of".to_owned(), recent.decisions.into()),
        ]);
        Some(Finding { act: Act::Recovered, sentence, numbers })
    }

    /// Whether the other stack is proven better than this one, of which the charge is true.
    fn prove(&self, suspect: Stack, charge: &Charge, view: &View<'_>) -> Result<Proof, Obstacle> {
        let (other, settings) = (suspect.other(), &self.settings);
        let is_active = other == view.choice.course.active;
        if !is_active {
            let standing = other.of(view.standings);
            if let Some(why) = standing.unready(other, view.evidence, settings, view.now) {
                return Err(Obstacle::Unready(why));
            }
            if standing.signs.refuses_rehearsals {
                return Err(Obstacle::Unrehearsed);
            }
            if !self.is_fresh(standing.signs.mirrored_at, view) {
                return Err(Obstacle::Stale);
            }
        }
        // A stack that serves shows how it is by that; the short spans show what the long one dilutes.
        let spans: &[Span] =
            if is_active { &[Span::Short] } else { &[Span::Short, Span::Long, Span::BurnSingle] };
        let ill = |span: &Span| charge::of_answers(other, *span, view.evidence, settings);
        if let Some(charge) = spans.iter().find_map(ill) {
            return Err(Obstacle::Unready(Unready::Ill(charge)));
        }
        let known = spans.last().map(|span| view.evidence.of_all(other, *span).decisions);
        let (answers, min) = (known.unwrap_or_default(), settings.proof_answers_min);
        if answers < min {
            return Err(Obstacle::TooFew { answers, min });
        }
        let (kind, span, window) = (charge.kind, charge.span, charge.span.length(settings));
        let answers = view.evidence.of_all(other, span);
        if kind == charge::Kind::Mix {
            // That it is the other that is as usual is what the charge says.
            return Ok(Proof { bad: answers.bad, of: answers.decisions, window });
        }
        // Of the same moments: what befell both speaks for neither.
        let compared = view.evidence.compared(suspect, span);
        let (bad, of) = (kind.count(&answers), answers.decisions);
        let doubt = compared.doubt(|counts| kind.count(counts));
        if doubt > settings.proof_doubt_ppm as f64 / MILLION {
            return Err(Obstacle::NoBetter { bad, of, window });
        }
        let off = match mix::of_mix(other, view.evidence, settings) {
            Mix::Unclear(_) => return Err(Obstacle::Unclear),
            Mix::Charged(stack, charge) => (stack == other).then_some(charge),
            Mix::Alike => mix::of_unusual(other, view.evidence, settings),
        };
        match off {
            Some(charge) => Err(Obstacle::Off(charge)),
            None if !is_active && !self.writes(suspect, view) => Err(Obstacle::Undecided),
            None => Ok(Proof { bad, of, window }),
        }
    }

    /// Whether the core of the other stack writes in good time while this one is still bad. Mirrored requests
    /// are only rehearsed: a disk that both share, and that is slow or takes nothing for a moment, would not
    /// show in them.
    fn writes(&self, suspect: Stack, view: &View<'_>) -> bool {
        let other = &suspect.other().of(view.standings).signs;
        let own = &suspect.of(view.standings).signs;
        let min = self.settings.proof_writes_min;
        let is_proven = || other.writes >= min && self.is_fresh(other.wrote_at, view);
        min == 0 || is_proven() && own.bad_at >= other.wrote_at
    }

    fn is_fresh(&self, at: Option<Instant>, view: &View<'_>) -> bool {
        let age = at.map(|at| view.now.saturating_duration_since(at));
        age.is_some_and(|age| age <= self.settings.fresh_for)
    }

    /// Whether it may switch now.
    fn check_locks(&self, view: &View<'_>) -> Result<(), Obstacle> {
        match locks_left(&self.settings, view.choice, view.at) {
            [Some(left), ..] => Err(Obstacle::LockedOut(left)),
            [_, Some(left), _] => Err(Obstacle::Flipped(left)),
            [.., Some(left)] => Err(Obstacle::CoolDown(left)),
            [None, None, None] => Ok(()),
        }
    }

    /// Whether this has not been said, or not for long.
    fn is_new(&mut self, saying: Saying, now: Instant) -> bool {
        if self.last == Some(saying) {
            return false;
        }
        self.last = Some(saying);
        self.said.retain(|(_, at)| now.saturating_duration_since(*at) < SAY_AGAIN_AFTER);
        if self.said.iter().any(|(it, _)| *it == saying) {
            return false;
        }
        self.said.push((saying, now));
        true
    }
}

/// How long the edge may not switch by itself yet: after an order, after it did so, and after any change of
/// the stack.
pub(super) fn locks_left(
    settings: &settings::Switch,
    choice: &Choice,
    at: Timestamp,
) -> [Option<Duration>; 3] {
    // Either way: a wall clock that is stepped far must not lock for years.
    let left = |since: Option<Timestamp>, length: Duration| {
        let since = since.map(|since| at.distance(since)).filter(|since| *since < length)?;
        Some(length.saturating_sub(since))
    };
    [
        left(choice.ordered_at, settings.lockout),
        left(choice.automatic_at, settings.flip_period),
        left(choice.switched_at, settings.cool_down),
    ]
}

fn finding(
    act: Act,
    is_switch: bool,
    suspect: Stack,
    charge: &Charge,
    proof: &Result<Proof, Obstacle>,
) -> Finding {
    let other = suspect.other();
    let mut numbers = charge.numbers();
    let because = match proof {
        Ok(Proof { bad, of, window }) => {
            numbers.insert("other_bad".to_owned(), json!(bad));
            numbers.insert("other_of".to_owned(), json!(of));
            let (share, window) = (percent(share(*bad, *of)), length(*window));
            format!(
                "while {bad} of {of} answers of {other} in the last {window} were bad ({share})"
            )
        }
        Err(obstacle) => {
            numbers.insert("obstacle".to_owned(), json!(obstacle.as_str()));
            format!("but {}", obstacle.about(other))
        }
    };
    let cure = if is_switch {
        format!("switch to {other}")
    } else {
        format!("end the canary to {suspect}")
    };
    let done = match act {
        Act::Take(_) => format!("Decided to {cure}"),
        Act::Recommend(_) => format!("Recommended to {cure}"),
        Act::Stay | Act::Recovered => format!("Did not {cure}"),
    };
    let sentence = format!("{done}: {}, {because}.", charge.of(suspect));
    Finding { act, sentence, numbers }
}

impl Obstacle {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Unready(why) => why.as_str(),
            Self::TooFew { .. } => "too-few-answers",
            Self::Stale => "stale",
            Self::Unrehearsed => "no-rehearsals",
            Self::NoBetter { .. } => "no-better",
            Self::Off(_) => "off",
            Self::Unclear => "unclear",
            Self::LockedOut(_) => "locked-out",
            Self::CoolDown(_) => "cool-down",
            Self::Flipped(_) => "flipped",
            Self::Undecided => "undecided",
        }
    }

    /// The end of a sentence.
    fn about(&self, other: Stack) -> String {
        let no_better = format!("{other} is not proven better");
        match self {
            Self::Unready(why) => format!("{other} is not ready: {why}"),
            Self::TooFew { answers, min } => {
                format!("{no_better}: it has {answers} answers to show, and {min} are asked for")
            }
            Self::Stale => format!("{no_better}: it answered no mirrored request lately"),
            Self::Unrehearsed => format!("{no_better}: its release knows no rehearsals"),
            Self::NoBetter { bad, of, window } => {
                let (share, window) = (percent(share(*bad, *of)), length(*window));
                format!(
                    "{no_better}: {bad} of its {of} answers in the last {window} were as bad ({share})"
                )
            }
            Self::Off(charge) => format!("{other} decides otherwise than usual: {charge}"),
            Self::Unclear => format!("nothing tells which of it and {other} is right"),
            Self::LockedOut(left) => {
                let left = left.as_secs();
                format!("an operator chose, who is not overruled for another {left} s")
            }
            Self::CoolDown(left) => {
                format!(
                    "the stack changed a moment ago, and {} s are to pass first",
                    left.as_secs()
                )
            }
            Self::Flipped(left) => {
                let left = left.as_secs();
                format!("the edge switched by itself not long ago, and may again in {left} s")
            }
            Self::Undecided => format!("{no_better} yet"),
        }
    }
}

#[cfg(test)]
mod tests;
