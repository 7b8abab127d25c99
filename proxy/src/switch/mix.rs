//! Whether both stacks decide alike: what they made of the same requests, and which of them is not as
//! usual where they differ. Pure arithmetic over the evidence.

use backstop_contract::Stack;
use backstop_settings::settings;

use crate::switch::chance;
use crate::switch::charge::{Charge, Kind, even_share, share};
use crate::switch::evidence::{Counts, Evidence, Span};

/// A stack that approves less than this share approves nearly nothing.
const NEARLY_NOTHING: f64 = 0.1;
/// Fewer pairs do not even seem to differ.
const SEEMING_PAIRS_MIN: u64 = 10;
/// Shares that are so many standard deviations apart seem to differ: they do by chance in one of 16,000.
const SEEMING_DEVIATIONS: f64 = 4.0;

/// How many came out in one way.
type Count = fn(&Counts) -> u64;

/// How a decision may come out, and the end of a sentence about it.
const VERDICTS: [(Count, &str); 3] = [
    (|it| it.approved, "were approvals"),
    (|it| it.declined, "were declines"),
    (|it| it.reviewed, "were reviews"),
];

/// What comes of comparing what both stacks made of the same requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Mix {
    /// They agree, or nothing is known.
    Alike,
    /// They differ, and this one is not as usual.
    Charged(Stack, Charge),
    /// They differ, and nobody can tell which is right.
    Unclear(Charge),
}

/// Decisions that are compared with others.
struct Decisions<'a> {
    counts: Counts,
    /// Where they are part of the pairs: moment by moment.
    moments: Option<(&'a Evidence, Stack, Span)>,
}

impl<'a> Decisions<'a> {
    const fn new(counts: Counts) -> Self {
        Self { counts, moments: None }
    }

    fn of_pairs(stack: Stack, span: Span, evidence: &'a Evidence) -> Self {
        let moments = Some((evidence, stack, span));
        Self { counts: evidence.of_pairs(stack, span), moments }
    }

    fn share(&self, count: Count) -> f64 {
        share(count(&self.counts), self.counts.by_core())
    }

    /// The same with every moment weighing alike. While more is mirrored there are more pairs: what differed
    /// for so long is not to count for longer.
    fn even_share(&self, count: Count) -> f64 {
        let Some((evidence, stack, span)) = self.moments else { return self.share(count) };
        let moments = evidence.moments_of_pairs(stack, span).copied();
        even_share(moments, |it| (count(it), it.by_core()))
    }
}

/// Compares them. The one is charged whose decisions are not as they usually are while the other's are;
/// where nothing is known of before, one that approves nearly nothing.
pub fn of_mix(stack: Stack, evidence: &Evidence, settings: &settings::Switch) -> Mix {
    let usual = Decisions::new(evidence.usual());
    for span in [Span::Short, Span::Long] {
        let pairs = |stack| Decisions::of_pairs(stack, span, evidence);
        let (own, other) = (pairs(stack), pairs(stack.other()));
        let Some(own_charge) = differ(&own, &other, span, settings) else { continue };
        let is_unusual = |decisions: &_| differ(decisions, &usual, span, settings).is_some();
        let (own_is_off, other_is_off) = if usual.counts.by_core() >= settings.mix_pairs_min {
            (is_unusual(&own), is_unusual(&other))
        } else {
            (approves_nothing(&own.counts), approves_nothing(&other.counts))
        };
        return match (own_is_off, other_is_off) {
            (true, false) => Mix::Charged(stack, own_charge),
            (false, true) => match differ(&other, &own, span, settings) {
                Some(charge) => Mix::Charged(stack.other(), charge),
                None => Mix::Unclear(own_charge),
            },
            _ => Mix::Unclear(own_charge),
        };
    }
    Mix::Alike
}

fn approves_nothing(counts: &Counts) -> bool {
    share(counts.approved, counts.by_core()) < NEARLY_NOTHING
}

/// How the decisions of a stack differ from what is usual, where there are no pairs to compare: with
/// them, what is unusual may as well be the traffic.
pub fn of_unusual(
    stack: Stack,
    evidence: &Evidence,
    settings: &settings::Switch,
) -> Option<Charge> {
    if evidence.of_pairs(stack, Span::Long).decisions >= settings.mix_pairs_min {
        return None;
    }
    let (answers, usual) = (evidence.of_all(stack, Span::Short), evidence.usual());
    if usual.by_core() < settings.mix_pairs_min {
        let of = answers.by_core();
        let is_off = of >= settings.mix_pairs_min && approves_nothing(&answers);
        return is_off.then_some(Charge {
            kind: Kind::Mix,
            bad: answers.approved,
            of,
            span: Span::Short,
            window: settings.window,
            limit: NEARLY_NOTHING,
            verb: "were approvals",
        });
    }
    differ(&Decisions::new(answers), &Decisions::new(usual), Span::Short, settings)
}

/// The verdict whose share is most apart, if it is apart by more than is fine, and surely.
fn differ(
    own: &Decisions<'_>,
    other: &Decisions<'_>,
    span: Span,
    settings: &settings::Switch,
) -> Option<Charge> {
    let (of, of_other) = (own.counts.by_core(), other.counts.by_core());
    if std::cmp::min(of, of_other) < settings.mix_pairs_min {
        return None;
    }
    let fine = settings.mix_percent as f64 / 100.0;
    let deviations_min = settings.mix_deviations_percent as f64 / 100.0;
    let is_apart = |one: f64, two: f64| (one - two).abs() >= fine;
    VERDICTS
        .into_iter()
        .filter(|(count, _)| {
            let (one, two) = (count(&own.counts), count(&other.counts));
            is_apart(own.share(*count), other.share(*count))
                && chance::deviations((one, of), (two, of_other)) >= deviations_min
                && is_apart(own.even_share(*count), other.even_share(*count))
        })
        .max_by(|one, two| {
            let apart = |count| (own.share(count) - other.share(count)).abs();
            apart(one.0).total_cmp(&apart(two.0))
        })
        .map(|(count, verb)| Charge {
            kind: Kind::Mix,
            bad: count(&own.counts),
            of,
            span,
            window: span.length(settings),
            limit: other.share(count),
            verb,
        })
}

/// Whether the stacks seem to decide otherwise at any time up to now.
pub fn seems_other(evidence: &Evidence, settings: &settings::Switch) -> bool {
    let [one, two] = Stack::ALL.map(|stack| evidence.moments_of_pairs(stack, Span::Short));
    let fine = settings.mix_percent as f64 / 100.0;
    let (mut own, mut other) = (Counts::default(), Counts::default());
    one.zip(two).any(|(one, two)| {
        own += *one;
        other += *two;
        let of = own.by_core();
        of >= SEEMING_PAIRS_MIN
            && VERDICTS.iter().any(|(count, _)| {
                let (one, two) = (count(&own), count(&other));
                (share(one, of) - share(two, of)).abs() >= fine
                    && chance::deviations((one, of), (two, of)) >= SEEMING_DEVIATIONS
            })
    })
}

/// Whether there are so many pairs that more of them would not tell more.
pub fn has_enough_pairs(evidence: &Evidence, settings: &settings::Switch) -> bool {
    evidence.of_pairs(Stack::Prod, Span::Short).by_core() >= pairs_enough(settings)
}

/// With as many pairs, shares that are apart by more than is fine are surely so: at the half, where they
/// vary most, too.
fn pairs_enough(settings: &settings::Switch) -> u64 {
    const VARIANCE_OF_TWO_HALVES: f64 = 0.5;
    let deviations = settings.mix_deviations_percent as f64 / settings.mix_percent as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let enough = (VARIANCE_OF_TWO_HALVES * deviations * deviations).ceil() as u64;
    std::cmp::max(enough, settings.mix_pairs_min)
}

#[cfg(test)]
mod tests;
