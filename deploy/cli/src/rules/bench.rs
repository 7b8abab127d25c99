//! `backstop rules bench`: what a decision costs, before anybody waits for it. A call that is over its slice
//! gets the safe answer in production, so here it is refused, with the line that took the time.

mod figures;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstop_lua::{Breach, Bundle, Meter, Rules, Scene};
use nix::time::{ClockId, clock_gettime};

use self::figures::Figures;
use super::RulesError;
use super::attempt::bytes;
use super::backtest::past::Past;
use super::backtest::requests::Requests;
use super::folder::{Folder, Limits};
use super::made::{matter, scenes};

/// The most requests that are priced, for each policy.
const REQUESTS_MAX: u64 = 1_000_000;
/// So many are enough to know.
const REQUESTS_USUAL: u64 = 5_000;
/// A call over its slice is made so often again: only what is always over is the rule's own fault.
const AGAIN: usize = 3;
/// After so many that were over, nobody needs to know more.
const OVER_MAX: usize = 20;
/// What a call gets so that it is known how far it is over.
const PATIENCE: u32 = 20;

/// Which requests.
#[derive(clap::Args)]
pub struct Args {
    /// Price the requests of this file, as replay takes it [default: made-up ones]
    file: Option<PathBuf>,
    /// Price so many requests, for each policy
    #[arg(long, value_name = "N", default_value_t = REQUESTS_USUAL, value_parser = clap::value_parser!(u64).range(1..=REQUESTS_MAX))]
    requests: u64,
}

impl Args {
    /// Made-up requests, and as many as usual.
    pub const fn made() -> Self {
        Self { file: None, requests: REQUESTS_USUAL }
    }
}

/// The calls, in the order in which they come.
const CALLS: [&str; 4] = ["keys", "decide", "effects", "default"];

/// The price of one policy and its default.
struct Tag<'a> {
    rules: &'a Rules,
    limits: Limits,
    policy: String,
    figures: [Figures; 4],
    /// Whether the machine may be a new one: making it is not the next call's price.
    is_cold: bool,
    /// Calls that were over their slice.
    over: usize,
    /// The dearest scene of each call, to be looked at line by line.
    dearest: [Option<(Duration, Scene)>; 4],
}

/// Prints the price of each policy. Whether all are within their slices.
pub fn run(folder: &Folder, args: &Args) -> Result<bool, RulesError> {
    let (rules, limits) = folder.load()?;
    let bundle = Bundle::load(folder.find()?)?;
    println!(
        "{:<9} {:>9} {:>10} {:>10} {:>10} {:>12}",
        "call", "calls", "p50 us", "p99.9 us", "max us", "peak memory"
    );
    let mut is_within = true;
    for (policy, scenes) in scenes_of(&rules, args)? {
        let mut tag = Tag {
            rules: &rules,
            limits,
            policy: policy.clone(),
            figures: Default::default(),
            is_cold: true,
            over: 0,
            dearest: Default::default(),
        };
        for scene in scenes {
            if tag.over >= OVER_MAX {
                break;
            }
            tag.price(&scene);
        }
        is_within &= tag.print(&bundle)?;
    }
    Ok(is_within)
}

/// The requests of each policy.
fn scenes_of(rules: &Rules, args: &Args) -> Result<Vec<(String, Vec<Scene>)>, RulesError> {
    let count = usize::try_from(args.requests).unwrap_or(usize::MAX);
    let Some(file) = &args.file else {
        let made = |policy: &str| (policy.to_owned(), scenes(&matter(rules, policy), count));
        return Ok(rules.bundle().policies().map(made).collect());
    };
    let mut by_policy: Vec<(String, Vec<Scene>)> = Vec::new();
    let mut past = Past::new(None);
    let mut requests = Requests::open(file, None, None)?;
    let mut taken = 0;
    while let (Some(batch), true) = (requests.next()?, taken < count) {
        for entry in batch.entries {
            let policy = entry.question.request.policy.clone();
            if !rules.has_policy(&policy) || taken >= count {
                continue;
            }
            taken += 1;
            let slice = rules.keys(&entry.question, Duration::from_secs(1));
            let mut scene = Scene::bare(entry.question.request.clone());
            scene.question = entry.question.clone();
            scene.level = Some(1_000);
            if let Ok(keys) = slice {
                scene.histories = past.histories(&entry.question.merchant, &keys);
                past.record(&keys, &entry, backstop_contract::Verdict::Approve);
            }
            match by_policy.iter_mut().find(|(name, _)| *name == policy) {
                Some((_, scenes)) => scenes.push(scene),
                None => by_policy.push((policy, vec![scene])),
            }
        }
    }
    if by_policy.is_empty() {
        return Err(RulesError::Nothing(format!(
            "no request in {} asks for these policies",
            file.display()
        )));
    }
    Ok(by_policy)
}

impl Tag<'_> {
    /// Makes the calls of one request, each on its own clock.
    fn price(&mut self, scene: &Scene) {
        let (question, slice) = (&scene.question, self.limits.slices.policy);
        let rules = self.rules;
        let keys = self.call(0, scene, slice, |time_max| rules.keys(question, time_max).ok());
        if let Some(keys) = keys {
            let (histories, stock) = scene.seen(&keys);
            let ruling = self.call(1, scene, slice, |time_max| {
                rules.decide_by_policy(question, &histories, &stock, false, time_max)
            });
            if rules.moves(&self.policy) && !scene.cancels() {
                self.call(2, scene, slice, |time_max| {
                    rules.effects(question, &keys, ruling.verdict, time_max).ok()
                });
            }
        }
        if rules.default_says(&self.policy).is_some() {
            let slice = self.limits.slices.default;
            self.call(3, scene, slice, |time_max| rules.decide_by_default(question, time_max));
        }
    }

    /// What a call computes, table building and all. One that is over is made again: the machine may have
    /// been busy with something else.
    fn call<T>(
        &mut self,
        place: usize,
        scene: &Scene,
        slice: Duration,
        call: impl Fn(Duration) -> T,
    ) -> T {
        let patience = slice.saturating_mul(PATIENCE);
        let timed = || {
            let before = computed();
            let told = call(patience);
            (computed().saturating_sub(before), told)
        };
        if self.is_cold {
            call(patience);
        }
        let (mut time, mut told) = timed();
        for _ in 0..AGAIN {
            if time <= slice {
                break;
            }
            let (again, told_again) = timed();
            (time, told) = (std::cmp::min(time, again), told_again);
        }
        self.is_cold = time > slice;
        self.over += usize::from(self.is_cold);
        if let Some(figures) = self.figures.get_mut(place) {
            figures.record(time);
        }
        if let Some(dearest) = self.dearest.get_mut(place)
            && dearest.as_ref().is_none_or(|(most, _)| time > *most)
        {
            *dearest = Some((time, scene.clone()));
        }
        told
    }

    /// Prints a line for each call. Whether all are within their slices.
    fn print(&self, bundle: &Bundle) -> Result<bool, RulesError> {
        println!("{}", self.policy);
        let mut is_within = true;
        for (place, name) in CALLS.into_iter().enumerate() {
            let (Some(figures), Some(Some((max, scene)))) =
                (self.figures.get(place), self.dearest.get(place))
            else {
                continue;
            };
            let look = self.look(bundle, place, scene)?;
            let micros = |time: Duration| time.as_secs_f64() * 1e6;
            println!(
                "  {name:<7} {:>9} {:>10.1} {:>10.1} {:>10.1} {:>12}",
                figures.count(),
                micros(figures.at(0.5)),
                micros(figures.at(0.999)),
                micros(*max),
                look.peak.map_or("too much".to_owned(), bytes)
            );
            let slices = self.limits.slices;
            let slice = if name == "default" { slices.default } else { slices.policy };
            let memory_max = self.limits.memory_bytes_max / 2;
            if *max > slice {
                is_within = false;
                println!(
                    "  refused: {name} computed for {:.1} ms; it may for {slice:?}{}",
                    micros(*max) / 1e3,
                    look.line
                );
            }
            if look.peak.is_none_or(|peak| peak > memory_max) {
                is_within = false;
                println!(
                    "  refused: {name} needs over {} of memory, which is half of what there is: no call can count on more{}",
                    bytes(memory_max),
                    look.line
                );
            }
        }
        Ok(is_within)
    }

    /// Makes the dearest call once more, under a meter.
    fn look(&self, bundle: &Bundle, place: usize, scene: &Scene) -> Result<Look, RulesError> {
        let memory = self.limits.memory_bytes_max;
        let (by_call, by_line) = (Arc::new(Meter::default()), Arc::new(Meter::by_line()));
        let mut peak = Some(0);
        for meter in [&by_call, &by_line] {
            let rules = Rules::metered(bundle.clone(), memory, Arc::clone(meter))?;
            let breach = call_once(&rules, place, scene, meter);
            if matches!(breach, Some(Breach::OutOfMemory { .. })) {
                peak = None;
            }
        }
        let peak = peak.map(|_| by_call.price().bytes);
        let folder = if place == 3 { "defaults" } else { "policies" };
        let line = by_line.take_slowest().map_or_else(String::new, |(line, share)| {
            format!("; {:.0} % of it on {folder}/{}.lua:{line}", share * 100.0, self.policy)
        });
        Ok(Look { peak, line })
    }
}

/// What the dearest call shows.
struct Look {
    /// Its memory; `None` when that was not enough.
    peak: Option<usize>,
    /// The line that took the most time.
    line: String,
}

/// One call, and what it did wrong. What the calls before it take is not noted.
fn call_once(rules: &Rules, place: usize, scene: &Scene, meter: &Meter) -> Option<Breach> {
    const PATIENT: Duration = Duration::from_secs(2);
    let question = &scene.question;
    if place == 3 {
        meter.take_slowest();
        return rules.decide_by_default(question, PATIENT).breach;
    }
    let keys = match rules.keys(question, PATIENT) {
        Ok(keys) if place > 0 => keys,
        told => return told.err(),
    };
    let (histories, stock) = scene.seen(&keys);
    meter.take_slowest();
    let ruling = rules.decide_by_policy(question, &histories, &stock, false, PATIENT);
    if place == 1 {
        return ruling.breach;
    }
    meter.take_slowest();
    rules.effects(question, &keys, ruling.verdict, PATIENT).err()
}

/// How long this thread has computed.
fn computed() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Into::into)
}
