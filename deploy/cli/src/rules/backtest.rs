//! `backstop rules backtest`: a file of requests, decided by two versions of the rules, each with the history
//! it would have had, and with labels as late as they really come.
//!
//! Each version runs on a thread of its own, and the file is read on a third: what one version decides is
//! nothing to the other.

pub mod past;
mod player;
mod report;
pub mod requests;
mod seen;
mod tally;

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use backstop_contract::{Stack, Timestamp};
use backstop_lua::{Bundle, Rules};
use backstop_settings::parse_duration;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use self::player::{Played, Player};
use self::requests::{Entry, Requests};
pub use self::tally::Tally;
use super::RulesError;
use super::folder::{Folder, Limits};

/// Batches on their way to the players and back.
const BATCHES_MAX: usize = 16;
/// Drawn at most so often.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Which requests, and against what.
#[derive(clap::Args)]
pub struct Args {
    /// A file as replay takes it, or recorded decisions: { "request": …, "decision": …, "fraud": … } a line
    file: PathBuf,
    /// Compare with the rules in DIR [default: what was recorded, else the rules in --dir, else the shipped ones]
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Frauds are known so long after they happened
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = length)]
    labels_after: Duration,
    /// Judge from this time of the file on; what is before it is only history
    #[arg(long, value_name = "TIME", value_parser = crate::replay::moment)]
    from: Option<Timestamp>,
    /// End before this time of the file
    #[arg(long, value_name = "TIME", value_parser = crate::replay::moment)]
    until: Option<Timestamp>,
    /// Take at most N requests of the file
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// So much is left of every stock [default: nobody knows]
    #[arg(long, value_name = "N")]
    stock: Option<i64>,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// All of this file, against what is in force.
    pub const fn of(file: PathBuf) -> Self {
        const LABELS_AFTER: Duration = Duration::from_hours(7 * 24);
        let (against, from, until, limit, stock) = (None, None, None, None, None);
        Self { file, against, labels_after: LABELS_AFTER, from, until, limit, stock, json: false }
    }
}

/// Decides the file twice and prints what is different.
pub fn run(folder: &Folder, args: &Args) -> Result<bool, RulesError> {
    tally(folder, args, folder.active()).map(|_shown| true)
}

/// The same, for who wants to know what was counted; against the rules of this stack.
pub fn tally(folder: &Folder, args: &Args, stack: Stack) -> Result<Tally, RulesError> {
    let began = Instant::now();
    let (rules, limits) = folder.load()?;
    let (against, its_name) = against(folder, args, stack)?;
    let against = Rules::new(against, limits.memory_bytes_max)?;
    let mut requests = Requests::open(&args.file, args.until, args.limit)?;
    let is_same = rules.version() == against.version();
    let mut tally = Tally::new(rules.version(), against.version(), its_name);
    let player = |rules| Player::new(rules, limits, args.labels_after, args.from, args.stock);
    let new = Seat::begin(player(rules))?;
    // The same rules decide the same: once is enough.
    let old = if is_same { None } else { Some(Seat::begin(player(against))?) };
    play(&mut requests, &new, old.as_ref(), args, &mut tally)?;
    tally.took = began.elapsed();
    let text = if args.json { tally.json() + "\n" } else { tally.shown(&args.file) };
    print!("{text}");
    if tally.judged == 0 {
        return Err(RulesError::Nothing(
            "no request of the file asks for these policies within --from and --until".to_owned(),
        ));
    }
    Ok(tally)
}

/// The rules to compare with, and what they are called.
fn against(folder: &Folder, args: &Args, stack: Stack) -> Result<(Bundle, String), RulesError> {
    if let Some(dir) = &args.against {
        return Ok((Bundle::load(dir)?, dir.display().to_string()));
    }
    let mine = folder.find()?;
    match folder.in_force(stack).filter(|dir| *dir != mine) {
        Some(dir) => Ok((Bundle::load(&dir)?, dir.display().to_string())),
        None => Ok((Bundle::shipped(), "shipped".to_owned())),
    }
}

/// One version at its table: batches go in, and what it decided comes out.
struct Seat {
    hands: SyncSender<Arc<Vec<Entry>>>,
    results: Receiver<Vec<Played>>,
}

impl Seat {
    fn begin(mut player: Player) -> Result<Self, RulesError> {
        let (hands, dealt) = sync_channel::<Arc<Vec<Entry>>>(BATCHES_MAX);
        let (done, results) = sync_channel(BATCHES_MAX);
        let play = move || {
            for entries in dealt {
                let decided = entries.iter().map(|entry| player.play(entry)).collect();
                if done.send(decided).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("backtest".to_owned())
            .spawn(play)
            .map_err(RulesError::Run)?;
        Ok(Self { hands, results })
    }

    fn deal(&self, entries: &Arc<Vec<Entry>>) -> Result<(), RulesError> {
        self.hands.send(Arc::clone(entries)).map_err(|_gone| lost())
    }

    fn take(&self) -> Result<Vec<Played>, RulesError> {
        self.results.recv().map_err(|_gone| lost())
    }
}

fn lost() -> RulesError {
    RulesError::Run(std::io::Error::other("a thread of the backtest broke"))
}

fn play(
    requests: &mut Requests,
    new: &Seat,
    old: Option<&Seat>,
    args: &Args,
    tally: &mut Tally,
) -> Result<(), RulesError> {
    tally.labelled = requests.labelled();
    let mut bar = Bar::new(requests.bytes());
    let mut dealt: VecDeque<Arc<Vec<Entry>>> = VecDeque::new();
    let mut left = args.limit.unwrap_or(u64::MAX);
    loop {
        let batch = if left > 0 { requests.next()? } else { None };
        let is_over = batch.is_none();
        if let Some(mut batch) = batch {
            batch.entries.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= batch.entries.len() as u64;
            let entries = Arc::new(batch.entries);
            new.deal(&entries)?;
            old.map_or(Ok(()), |old| old.deal(&entries))?;
            dealt.push_back(entries);
            bar.show(batch.bytes_read, tally);
        }
        while dealt.len() >= BATCHES_MAX || (is_over && !dealt.is_empty()) {
            let Some(entries) = dealt.pop_front() else { break };
            let new = new.take()?;
            let old = old.map(Seat::take).transpose()?;
            for (place, entry) in entries.iter().enumerate() {
                if let Some(new) = new.get(place).copied() {
                    let old = old.as_ref().and_then(|old| old.get(place)).copied().unwrap_or(new);
                    let recorded = entry.said.filter(|_| args.against.is_none());
                    tally.count(entry, new, old, recorded);
                }
            }
        }
        if is_over {
            bar.clear();
            return Ok(());
        }
    }
}

/// How far it is, where somebody watches.
struct Bar {
    bar: Option<ProgressBar>,
    drawn: Instant,
}

impl Bar {
    fn new(bytes: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {elapsed}  {msg}");
        let bar = std::io::stderr().is_terminal().then(|| {
            ProgressBar::new(bytes)
                .with_style(style.unwrap_or_else(|_template| ProgressStyle::default_bar()))
        });
        Self { bar, drawn: Instant::now() }
    }

    fn show(&mut self, bytes_read: u64, tally: &Tally) {
        let Some(bar) = &self.bar else { return };
        if self.drawn.elapsed() < DRAW_EVERY {
            return;
        }
        self.drawn = Instant::now();
        bar.set_position(bytes_read);
        let grouped = crate::report::grouped;
        let (read, changed) = (grouped(tally.read), grouped(tally.changed));
        bar.set_message(format!("{read} requests, {changed} decided otherwise"));
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn length(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("give a length of time, such as 7d")
}

/// The limits a backtest decides under: those of production, but a machine that does something else at the
/// same time must not change an answer.
fn patient(limits: Limits) -> backstop_lua::Slices {
    const TIMES: u32 = 20;
    let slices = limits.slices;
    backstop_lua::Slices {
        policy: slices.policy.saturating_mul(TIMES),
        default: slices.default.saturating_mul(TIMES),
    }
}

#[cfg(test)]
mod tests;
