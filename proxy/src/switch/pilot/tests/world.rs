//! Two stacks under traffic in virtual time, and the mirror between them: seeded, so that a run can be had again, and with the noise
//! that real traffic has.

use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::breaker::State;
use backstop_contract::{Stack, Timestamp};
use backstop_settings::settings;

use super::super::{Act, Finding, Pilot, View};
use crate::switch::choice::{Choice, Hand, Kind};
use crate::switch::doubt::Doubter;
use crate::switch::evidence::{Counts, Evidence};
use crate::switch::standing::{Signs, Standing};

/// How long one step is: the edge looks at the evidence as often.
pub const STEP: Duration = Duration::from_millis(250);

/// How a stack behaves: shares of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Fail.
    pub errors: f64,
    /// Are too late.
    pub misses: f64,
    /// Of those that core decides: are declined.
    pub declines: f64,
    /// Whether its probes are good.
    pub answers_probes: bool,
    /// Whether it answers mirrored requests at all.
    pub rehearses: bool,
}

/// A stack as it ought to be.
pub const WELL: Manner =
    Manner { errors: 0.0, misses: 0.0, declines: 0.06, answers_probes: true, rehearses: true };

/// What goes on around the two.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Requests a second, on average.
    pub rate: f64,
    /// Now and then everything is late for a moment, load swells, and one stack pauses.
    pub is_noisy: bool,
}

/// Both stacks and the pilot over them.
pub struct World {
    pub manners: [Manner; 2],
    pub traffic: Traffic,
    pub choice: Choice,
    pub found: Vec<(Duration, Finding)>,
    pub requests: u64,
    pub mirrored: u64,
    pub elapsed: Duration,
    /// So long the stack that serves was in doubt.
    pub doubted: Duration,
    settings: settings::Switch,
    evidence: Evidence,
    pilot: Pilot,
    doubter: Doubter,
    mirror_percent: u64,
    mirrored_at: Duration,
    signs: [Signs; 2],
    stood_in: bool,
    start: Instant,
    dice: Dice,
    pause: [u32; 2],
}

impl World {
    pub fn new(
        settings: settings::Switch,
        traffic: Traffic,
        manners: [Manner; 2],
        seed: u64,
    ) -> Self {
        let start = Instant::now();
        Self {
            manners,
            traffic,
            choice: Choice::default(),
            found: Vec::new(),
            requests: 0,
            mirrored: 0,
            elapsed: Duration::ZERO,
            doubted: Duration::ZERO,
            evidence: Evidence::new(&settings, start),
            pilot: Pilot::new(settings.clone()),
            doubter: Doubter::new(settings.clone()),
            mirror_percent: settings.mirror_percent,
            mirrored_at: Duration::ZERO,
            settings,
            signs: [Signs::default(); 2],
            stood_in: false,
            start,
            dice: Dice(seed),
            pause: [0; 2],
        }
    }

    /// Goes on for this long, and does what the pilot says.
    pub fn run(&mut self, length: Duration) {
        let end = self.elapsed + length;
        while self.elapsed < end {
            self.step();
        }
    }

    /// Goes on until the active stack changes, but no longer than this; after how many requests and how
    /// long it did.
    pub fn until_switched(&mut self, length_max: Duration) -> Option<(u64, Duration)> {
        let (requests, start, active) = (self.requests, self.elapsed, self.choice.course.active);
        while self.elapsed < start + length_max {
            self.step();
            if self.choice.course.active != active {
                return Some((self.requests - requests, self.elapsed.saturating_sub(start)));
            }
        }
        None
    }

    /// How often it switched by itself.
    pub fn switches(&self) -> usize {
        self.found.iter().filter(|(_, finding)| matches!(finding.act, Act::Take(_))).count()
    }

    /// What it said.
    pub fn sentences(&self) -> Vec<&str> {
        self.found.iter().map(|(_, finding)| finding.sentence.as_str()).collect()
    }

    pub fn at(&self) -> Timestamp {
        let millis = i64::try_from(self.elapsed.as_millis()).unwrap();
        Timestamp::from_millis(1_700_000_000_000 + millis)
    }

    pub fn step(&mut self) {
        self.elapsed += STEP;
        let now = self.start + self.elapsed;
        let rate = self.traffic.rate * self.swell();
        let count = self.dice.poisson(rate * STEP.as_secs_f64());
        self.requests += count;
        self.serve(count, now);
        if self.elapsed.subsec_millis() == 0 {
            let stood_in = std::mem::take(&mut self.stood_in);
            for stack in Stack::ALL {
                let Manner { answers_probes, rehearses, .. } = *stack.of(&self.manners);
                let signs = stack.of_mut(&mut self.signs);
                signs.probed(answers_probes, now);
                signs.refuses_rehearsals = !rehearses;
                if answers_probes && stood_in {
                    signs.wrote(now, self.settings.fresh_for);
                }
            }
        }
        let standings = self.signs.map(|signs| Standing { signs, breaker: State::Closed });
        self.evidence.end_moment(now);
        let view = View {
            now,
            at: self.at(),
            choice: &self.choice,
            evidence: &self.evidence,
            standings: &standings,
        };
        let doubt = self.doubter.look(&view);
        self.mirror_percent = self.doubter.percent(doubt);
        self.doubted += if doubt.is_some() { STEP } else { Duration::ZERO };
        let Some(finding) = self.pilot.look(view) else { return };
        if let Act::Take(course) = finding.act {
            let reason = finding.sentence.clone();
            let hand =
                Hand { kind: Kind::Automatic, at: self.at(), who: "automatic".into(), reason };
            self.choice = self.choice.automatic(course, hand);
        }
        self.found.push((self.elapsed, finding));
    }

    fn serve(&mut self, count: u64, now: Instant) {
        let course = self.choice.course;
        let canary = course.canary.map_or(0, |_| count / 7);
        for (stack, count) in [(course.active, count - canary), (course.active.other(), canary)] {
            let manner = self.manner(stack);
            let answers = self.answer(count, manner);
            self.evidence.served(stack, answers, now);
            if answers.bad > 0 {
                self.stood_in = true;
                stack.of_mut(&mut self.signs).bad_at = Some(now);
            }
        }
        let other = course.active.other();
        let rehearses = other.of(&self.manners).rehearses;
        let mirrored = self.mirror(count);
        self.mirrored += mirrored;
        let mirrored = if rehearses { mirrored } else { 0 };
        let manner = self.manner(other);
        let answers = self.answer(mirrored, manner);
        self.evidence.answered_mirrored(other, answers, now);
        if answers.by_core() > 0 {
            other.of_mut(&mut self.signs).mirrored_at = Some(now);
        }
        // The active one decides the same requests, where it decides any.
        let manner = self.manner(course.active);
        let paired = answers.by_core();
        let failed = self.dice.binomial(paired, (manner.errors + manner.misses).clamp(0.0, 1.0));
        let paired = paired - failed;
        let own = self.verdicts(paired, other.of(&self.manners).declines);
        let of_active = self.verdicts(paired, manner.declines);
        self.evidence.paired(other, own, of_active, now);
    }

    /// So many of these are mirrored, as the edge does it.
    fn mirror(&mut self, count: u64) -> u64 {
        let settings::Switch { mirror_rate_min, mirror_rate_max, .. } = self.settings;
        let within = |rate: u64, time: Duration| {
            u128::from(rate) * time.as_millis() / Duration::from_secs(1).as_millis()
        };
        let drawn = self.dice.binomial(count, self.mirror_percent as f64 / 100.0);
        let overdue = within(mirror_rate_min, self.elapsed.saturating_sub(self.mirrored_at));
        let drawn = std::cmp::max(u128::from(drawn), overdue);
        let most = std::cmp::min(within(mirror_rate_max, STEP), count.into());
        let mirrored = u64::try_from(std::cmp::min(drawn, most)).unwrap();
        if mirrored > 0 {
            self.mirrored_at = self.elapsed;
        }
        mirrored
    }

    /// How a stack behaves just now.
    fn manner(&mut self, stack: Stack) -> Manner {
        let mut manner = *stack.of(&self.manners);
        let pause = stack.of_mut(&mut self.pause);
        if *pause > 0 {
            *pause -= 1;
            manner.misses = 1.0;
        } else if self.traffic.is_noisy && self.dice.below(4 * 60 * 20) == 0 {
            // A pause, as by a checkpoint, every twenty minutes or so; some are long.
            *pause = if self.dice.below(10) == 0 { 6 } else { 1 };
        }
        manner
    }

    /// Load swells over minutes and within a day, and bursts.
    fn swell(&mut self) -> f64 {
        if !self.traffic.is_noisy {
            return 1.0;
        }
        let seconds = self.elapsed.as_secs_f64();
        let slow = 1.0 + 0.6 * (seconds / 7_000.0).sin() + 0.2 * (seconds / 230.0).sin();
        if self.dice.below(400) == 0 { slow * 5.0 } else { slow }
    }

    fn answer(&mut self, count: u64, manner: Manner) -> Counts {
        let failed = self.dice.binomial(count, manner.errors);
        let late = self.dice.binomial(count - failed, manner.misses);
        let bad = failed + late;
        let mut answers = self.verdicts(count - bad, manner.declines);
        (answers.decisions, answers.errors, answers.misses) = (count, failed, late);
        (answers.stand_ins, answers.bad) = (bad, bad);
        answers
    }

    fn verdicts(&mut self, count: u64, share: f64) -> Counts {
        let declined = self.dice.binomial(count, share);
        let reviewed = self.dice.binomial(count - declined, 0.02);
        let approved = count - declined - reviewed;
        Counts { decisions: count, approved, declined, reviewed, ..Counts::default() }
    }
}

/// `SplitMix64`, and what is drawn with it.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return self.normal(mean, mean.sqrt());
        }
        let (mut count, mut product, limit) = (0, self.unit(), (-mean).exp());
        while product > limit {
            count += 1;
            product *= self.unit();
        }
        count
    }

    fn binomial(&mut self, of: u64, share: f64) -> u64 {
        if share > 0.5 {
            return of - self.binomial(of, 1.0 - share);
        }
        let mean = of as f64 * share;
        let drawn = if mean < 30.0 {
            self.poisson(mean)
        } else {
            self.normal(mean, (mean * (1.0 - share)).sqrt())
        };
        std::cmp::min(drawn, of)
    }

    fn normal(&mut self, mean: f64, spread: f64) -> u64 {
        let (radius, angle) = (self.unit(), self.unit());
        let z = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        let drawn = f64::max(mean + spread * z, 0.0).round() as u64;
        drawn
    }
}
