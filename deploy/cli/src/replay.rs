//! `backstop replay`: sends a file of requests, each at the moment it is due, and reports what a merchant
//! would have seen.
//!
//! | module | holds |
//! |---|---|
//! | [`file`], [`row`] | reading the file ahead, and its lines as requests |
//! | [`schedule`], [`pace`] | what is due when, and waiting for that moment |
//! | [`drive`] | the open loop: sending, whatever became of what was sent before |
//! | [`outcome`], [`tally`], [`quality`] | what came of each, added up |
//! | [`answers`], [`progress`] | what is written down and shown meanwhile |

mod answers;
mod drive;
pub mod error;
pub mod file;
mod outcome;
mod pace;
mod progress;
pub mod quality;
pub mod row;
mod schedule;
mod tally;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use backstop_contract::Timestamp;
use backstop_settings::parse_duration;
use clap::ArgGroup;
use tokio::time::Instant;

use self::answers::Answers;
use self::drive::{Bounds, Ending, drive};
use self::error::ReplayError;
use self::file::{Selection, Source};
use self::pace::Pace;
use self::progress::Progress;
use self::schedule::{Labelling, Pacing, Schedule};
use self::tally::Tally;
use crate::client::{Client, Key};
use crate::report::{Latencies, Report};

/// The most connections that one replay opens.
const CONNECTIONS_MAX: u64 = 4_096;
/// The most often that a request is sent again.
const RETRIES_MAX: u64 = 100;

/// Sends every request of the file when it is due, whatever became of the ones before: its latency
/// counts from that moment. Exits with 1 if any was not answered with a decision.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("pacing").required(true).args(["rate", "speedup"])))]
pub struct Args {
    #[command(flatten)]
    dir: crate::dir::Dir,
    /// A CSV file of transactions, orders or bookings, or one request a line as JSON; gzip or plain
    file: PathBuf,
    /// Send N requests a second
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// Send by the times that the file gives, X times faster
    #[arg(long, value_name = "X", value_parser = positive)]
    speedup: Option<f64>,
    /// Keep N connections open
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    connections: u64,
    /// Send a request again, under the same id, up to N times when its connection breaks
    #[arg(long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=RETRIES_MAX))]
    retry: u64,
    /// Wait so long for one answer, then count it as unanswered
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = length)]
    give_up: Duration,
    /// Report frauds as such once the file's time is so long past them, such as 7d
    #[arg(long, value_name = "TIME", value_parser = length)]
    labels_after: Option<Duration>,
    /// Label the honest transactions too
    #[arg(long, requires = "labels_after")]
    label_all: bool,
    /// Begin at this time of the file, such as 2018-08-01
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// End before this time of the file
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Send at most N requests of the file
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Write every answer to FILE, one JSON object a line
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

/// Replays the file and prints the report: 0 when all was decided, 1 when not, 2 when there is
/// something wrong with what was asked for.
pub async fn run(args: Args) -> ExitCode {
    // One thread drives everything: the generator must not take both cores from what it measures.
    let driven = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(ReplayError::Run)?.block_on(replay(&args))
    });
    match driven.await.unwrap_or_else(|lost| Err(ReplayError::Run(lost.into()))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all was decided; the report has been printed.
async fn replay(args: &Args) -> Result<bool, ReplayError> {
    let source = Source::open(&args.file)?;
    if args.labels_after.is_some() && !source.labelled() {
        return Err(ReplayError::NoLabels(args.file.clone()));
    }
    // The files lie in the past, and only a test key may send that.
    let client = Client::new(&args.dir.layout(), Key::Test)?;
    let answers = args.answers.as_deref().map(Answers::create).transpose()?;
    let mut progress = Progress::new(source.bytes());
    let batches = source.read_ahead(args.selection())?;
    let mut schedule = Schedule::new(batches, args.pacing(), args.labelling(), Instant::now());
    let mut tally = Tally::default();
    let ending = drive(
        &client,
        &mut schedule,
        args.bounds(),
        &mut Pace::finest(),
        interrupted(),
        |schedule, landed| {
            tally.record(landed);
            if let Some(answers) = &answers {
                answers.record(schedule, landed);
            }
            progress.show(schedule.bytes_read(), &tally.counts);
        },
    )
    .await?;
    progress.clear();
    let written = answers.map_or(Ok(()), Answers::finish);
    let report = report(args, &schedule, tally, &ending);
    print(&report, args.json);
    if report.counts.sent == 0 && ending.error.is_none() && !ending.stopped {
        eprintln!("nothing was sent: {}", args.nothing());
    }
    written?;
    ending.error.map_or(Ok(report.ok), Err)
}

impl Args {
    fn selection(&self) -> Selection {
        let timed = self.speedup.is_some() || self.from.is_some() || self.until.is_some();
        Selection { from: self.from, until: self.until, limit: self.limit, timed }
    }

    fn pacing(&self) -> Pacing {
        match (self.rate, self.speedup) {
            (_, Some(speedup)) => Pacing::Speedup(speedup),
            // Clap has seen to it that there is one of them.
            (rate, None) => Pacing::Rate(rate.unwrap_or(1.0)),
        }
    }

    fn labelling(&self) -> Option<Labelling> {
        self.labels_after.map(|after| Labelling { after, honest_too: self.label_all })
    }

    fn bounds(&self) -> Bounds {
        let connections = usize::try_from(self.connections).unwrap_or(1);
        Bounds { connections, retries: self.retry, give_up: self.give_up }
    }

    /// Why a file that is as it should be had nothing to send, as far as it is known here.
    fn nothing(&self) -> String {
        let file = self.file.display();
        if self.from.is_some() || self.until.is_some() || self.limit == Some(0) {
            format!("no request of {file} is within --from, --until and --limit")
        } else {
            format!("there is no request in {file}")
        }
    }

    fn asked(&self) -> String {
        match self.pacing() {
            Pacing::Rate(rate) => format!("{rate} a second"),
            Pacing::Speedup(speedup) => format!("{speedup} times as fast as it happened"),
        }
    }
}

fn report(args: &Args, schedule: &Schedule, tally: Tally, ending: &Ending) -> Report {
    let mut counts = tally.counts;
    counts.connections.opened += ending.opened;
    counts.connections.lost += ending.lost;
    let elapsed_s = ending.elapsed.as_secs_f64();
    Report {
        file: args.file.file_name().unwrap_or(args.file.as_os_str()).to_string_lossy().into(),
        asked: args.asked(),
        elapsed_s,
        answers_per_s: if elapsed_s > 0.0 { counts.answered as f64 / elapsed_s } else { 0.0 },
        stopped: ending.stopped,
        // Nothing sent shows nothing.
        ok: counts.all_decided() && counts.sent > 0 && !ending.stopped,
        latency_ms: Latencies {
            from_due: tally.from_due.summary(),
            from_sent: tally.from_sent.summary(),
        },
        counts,
        left_out: schedule.left_out(),
    }
}

fn print(report: &Report, json: bool) {
    let mut out = std::io::stdout().lock();
    // A reader that has gone needs no report.
    let _ = if json {
        let text = serde_json::to_string(report).unwrap_or_default();
        writeln!(out, "{text}")
    } else {
        write!(out, "{report}")
    };
}

/// Resolves when the person at the terminal has seen enough.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn positive(text: &str) -> Result<f64, &'static str> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or("give a number over 0, such as 500")
}

fn length(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("give a length of time, such as 250ms, 30s or 7d")
}

/// A point of time, as it is given on a command line.
pub fn moment(text: &str) -> Result<Timestamp, &'static str> {
    let midnight = || Timestamp::parse(&format!("{text}T00:00:00Z"));
    Timestamp::parse(text)
        .or_else(midnight)
        .ok_or("give a day or RFC 3339, such as 2018-08-01 or 2018-08-01T12:00:00Z")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.args)
    }

    #[test]
    fn the_flags_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_rate_or_a_speedup_is_needed_and_not_both() {
        assert_eq!(parse("replay f --rate 500").unwrap().pacing(), Pacing::Rate(500.0));
        assert_eq!(parse("replay f --speedup 1440").unwrap().pacing(), Pacing::Speedup(1440.0));
        for line in [
            "replay f",
            "replay f --rate 1 --speedup 1",
            "replay f --rate 0",
            "replay f --rate NaN",
            "replay f --speedup -1",
            "replay --rate 1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn times_are_days_or_moments() {
        let args =
            parse("replay f --rate 1 --from 2018-08-01 --until 2018-08-01T12:00:00Z").unwrap();
        let selection = args.selection();
        assert_eq!(selection.from, Timestamp::parse("2018-08-01T00:00:00Z"));
        assert_eq!(selection.until, Timestamp::parse("2018-08-01T12:00:00Z"));
        assert!(parse("replay f --rate 1 --from august").is_err());
    }

    #[test]
    fn labels_are_off_unless_asked_for() {
        assert!(parse("replay f --rate 1").unwrap().labelling().is_none());
        let labelling = parse("replay f --rate 1 --labels-after 7d").unwrap().labelling().unwrap();
        assert_eq!(labelling.after, Duration::from_hours(7 * 24));
        assert!(!labelling.honest_too);
        assert!(parse("replay f --rate 1 --label-all").is_err());
    }

    #[test]
    fn connections_and_retries_are_bounded() {
        assert_eq!(parse("replay f --rate 1").unwrap().bounds().connections, 64);
        assert!(parse("replay f --rate 1 --connections 4096 --retry 100").is_ok());
        for line in ["--connections 0", "--connections 4097", "--retry 101"] {
            assert!(parse(&format!("replay f --rate 1 {line}")).is_err(), "{line}");
        }
    }
}
