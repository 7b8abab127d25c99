//! `backstop rules publish`: a draft through its gates, onto the shelf, and a step further: into the shadow,
//! to a share of the accounts, live. Each gate is the command of its name, and refuses as that does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_contract::rollout::{PATH, Step, To};
use backstop_contract::{Rollout, Stack};
use backstop_lua::{Bundle, shelf, spec};
use backstop_settings::{Settings, parse_duration};

use super::folder::{Folder, shown};
use super::{RulesError, backtest, bench, check, follow, test};
use crate::operator;

/// What lies beside the rules and is decided again before they are published.
const RECORDED: &str = "recorded.ndjson";

/// Which draft, how far, and why.
#[derive(clap::Args)]
pub struct Args {
    /// The stack whose rules they become [default: the one that serves]
    #[arg(long, value_parser = stack)]
    stack: Option<Stack>,
    /// How far they go: shadow, a share of the accounts such as 10%, or live
    #[arg(long, value_name = "STAGE", default_value = "shadow", value_parser = to)]
    to: To,
    /// Decide this file again, and refuse what decides too much of it otherwise [default: recorded.ndjson
    /// beside the rules, where there is one]
    #[arg(long, value_name = "FILE")]
    backtest: Option<PathBuf>,
    /// So many of a hundred of that file may be decided otherwise [default: `flips_percent` of
    /// backstop.toml]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=100))]
    flips_max: Option<u64>,
    /// Leave this policy out, which is live: requests that ask for it are refused then. Several times for
    /// several
    #[arg(long, value_name = "POLICY")]
    without: Vec<String>,
    /// Live for so long, their defaults are the edge's [default: `soak` of backstop.toml]
    #[arg(long, value_name = "TIME", value_parser = length)]
    soak: Option<Duration>,
    /// Why, in a sentence for those who read the audit log
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Which stack, and why.
#[derive(clap::Args)]
pub struct Back {
    /// The stack [default: the one that serves]
    #[arg(long, value_parser = stack)]
    stack: Option<Stack>,
    /// Why, in a sentence for those who read the audit log
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Takes a draft through its gates and publishes it. Whether it did.
pub fn run(folder: &Folder, args: &Args) -> Result<bool, RulesError> {
    let draft = folder.find()?;
    let bundle = Bundle::load(&draft)?;
    // The gates compare with what it takes the place of.
    let stack = args.stack.unwrap_or_else(|| folder.active());
    if let Some(gate) = refusing(folder, &draft, stack, args)? {
        println!("refused by {gate}: nothing was published");
        return Ok(false);
    }
    let version = bundle.version().to_owned();
    // What was tested is what is published.
    if Bundle::load(&draft)?.version() != version {
        println!("the draft was changed meanwhile: nothing was published");
        return Ok(false);
    }
    let layout = folder.layout();
    shelf::store(&layout, &bundle, Some(&draft.join(spec::FOLDER)))?;
    let soak_seconds = args.soak.map(|soak| soak.as_secs());
    let step = Step::Publish { version: version.clone(), to: args.to, soak_seconds };
    order(folder, Some(stack), step, &args.reason)
}

/// Takes the last step back. Whether that was done.
pub fn roll_back(folder: &Folder, args: &Back) -> Result<bool, RulesError> {
    order(folder, args.stack, Step::RollBack, &args.reason)
}

/// The gate that refuses, if one does.
fn refusing(
    folder: &Folder,
    draft: &Path,
    stack: Stack,
    args: &Args,
) -> Result<Option<&'static str>, RulesError> {
    println!("check");
    if !check::run(folder)? || !keeps_all(folder, draft, stack, &args.without)? {
        return Ok(Some("check"));
    }
    println!("\ntest");
    if !test::run(folder, &test::Args::all())? {
        return Ok(Some("test"));
    }
    println!("\nbench");
    if !bench::run(folder, &bench::Args::made())? {
        return Ok(Some("bench"));
    }
    let recorded = Some(draft.join(RECORDED)).filter(|file| file.exists());
    let Some(file) = args.backtest.clone().or(recorded) else {
        println!("\nbacktest\nleft out: there is no {}", shown(draft, RECORDED));
        return Ok(None);
    };
    println!("\nbacktest");
    let percent = match args.flips_max {
        Some(percent) => percent,
        None => settings(folder)?.rules.flips_percent,
    };
    let is_passed = passes(folder, file, stack, percent)?;
    Ok((!is_passed).then_some("backtest"))
}

/// Whether every policy that is live is in the draft, too, but for those that are to go.
fn keeps_all(
    folder: &Folder,
    draft: &Path,
    stack: Stack,
    without: &[String],
) -> Result<bool, RulesError> {
    let Some(live) = folder.in_force(stack) else { return Ok(true) };
    let (live, draft) = (Bundle::load(live)?, Bundle::load(draft)?);
    let is_lost = |name: &&str| {
        !draft.policies().any(|it| it == *name) && !without.iter().any(|it| it == *name)
    };
    let lost: Vec<_> = live.policies().filter(is_lost).collect();
    for name in &lost {
        println!("policies/{name}.lua is missing, and live: its requests would be refused");
        println!("      = add it to the draft, or give --without {name}");
    }
    Ok(lost.is_empty())
}

/// Whether a backtest shows nothing that needs another look.
fn passes(folder: &Folder, file: PathBuf, stack: Stack, percent: u64) -> Result<bool, RulesError> {
    let tally = backtest::tally(folder, &backtest::Args::of(file), stack)?;
    let (judged, changed, broke) = (tally.judged, tally.changed, tally.broke);
    if broke > 0 {
        println!("a policy broke on {broke} of {judged} requests");
    }
    let is_over = changed.saturating_mul(100) > judged.saturating_mul(percent);
    if is_over {
        println!(
            "{changed} of {judged} are decided otherwise, and {percent} % may be: where that is meant, give --flips-max"
        );
    }
    Ok(broke == 0 && !is_over)
}

fn settings(folder: &Folder) -> Result<Settings, RulesError> {
    let file = folder.layout().settings();
    Ok(if file.exists() { Settings::load(&file)? } else { Settings::default() })
}

/// Tells the edge, and waits until the tiers that run follow.
fn order(
    folder: &Folder,
    stack: Option<Stack>,
    step: Step,
    reason: &str,
) -> Result<bool, RulesError> {
    let layout = folder.layout();
    let (reason, who) = (reason.to_owned(), crate::switch::who());
    let order = Rollout { stack, step, reason, who };
    let body = serde_json::to_vec(&order).unwrap_or_default();
    let telling = async {
        let told = operator::tell(&layout, PATH, body.into()).await?;
        let told: serde_json::Value = serde_json::from_slice(&told)?;
        println!("\n{}", told.get("said").and_then(serde_json::Value::as_str).unwrap_or_default());
        let (words, do_follow) = follow::wait(&layout, &told).await;
        println!("{words}");
        Ok::<_, operator::OperatorError>(do_follow)
    };
    let do_follow = tokio::runtime::Handle::current().block_on(telling)?;
    if do_follow { Ok(true) } else { Err(RulesError::Unfollowed) }
}

fn stack(text: &str) -> Result<Stack, &'static str> {
    Stack::parse(text).ok_or("prod or old-prod")
}

fn to(text: &str) -> Result<To, &'static str> {
    To::parse(text).ok_or("shadow, live, or a percentage such as 10%")
}

fn length(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("give a length of time, such as 10m")
}
