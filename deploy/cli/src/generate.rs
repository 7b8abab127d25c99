//! `backstop generate`: a file of transactions to replay where no published one is at hand.
//!
//! Written from the published description of the simulator (see [`world`]); the same seed gives the
//! same bytes on every machine, and the first days are the same however many follow.

mod days;
mod random;
mod world;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::ToSpan;
use jiff::civil::Date;

use self::days::{Days, Pattern, Payment};
use self::random::Random;
use self::world::World;
use crate::report::grouped;

/// The most customers, and the most terminals, of a world.
const PLACES_MAX: i64 = 1_000_000;
/// Ten years.
const DAYS_MAX: i64 = 3_660;

/// What keeps a file from being made.
#[derive(Debug, thiserror::Error)]
enum GenerateError {
    /// The calendar ends before the days do.
    #[error("{start} and {days} days more lie beyond the calendar; start earlier")]
    Calendar {
        /// The first day.
        start: Date,
        /// How many were asked for.
        days: u32,
    },
    /// The file could not be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Makes a file of card transactions with three patterns of fraud among them, labelled.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    _dir: crate::dir::Dir,
    /// Customers, who pay 1.9 times a day on average
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=PLACES_MAX))]
    customers: u32,
    /// Terminals at which they pay
    #[arg(long, value_name = "N", default_value_t = 2_000,
          value_parser = clap::value_parser!(u32).range(1..=PLACES_MAX))]
    terminals: u32,
    /// Days
    #[arg(long, value_name = "N", default_value_t = 7,
          value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX))]
    days: u32,
    /// The first of them
    #[arg(long, value_name = "DAY", default_value = "2018-04-01", value_parser = day)]
    start: Date,
    /// Another seed gives another world
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The file to write, compressed when its name ends in .gz
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Payments, and how many of them follow each pattern.
type Counts = [u64; 4];

/// Makes the file and says what is in it.
pub fn run(args: &Args) -> ExitCode {
    match generate(args) {
        Ok(counts) => {
            println!("{}", told(&args.out, counts));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn generate(args: &Args) -> Result<Counts, GenerateError> {
    let beyond = |_beyond| GenerateError::Calendar { start: args.start, days: args.days };
    args.start.checked_add(i64::from(args.days).days()).map_err(beyond)?;
    let failed = |source| GenerateError::Write { path: args.out.clone(), source };
    let file = BufWriter::new(File::create(&args.out).map_err(failed)?);
    let compressed = args.out.extension().is_some_and(|extension| extension == "gz");
    if compressed {
        let mut gzip = GzEncoder::new(file, Compression::default());
        let counts = write_days(args, &mut gzip).map_err(failed)?;
        gzip.finish().and_then(|mut file| file.flush()).map_err(failed)?;
        Ok(counts)
    } else {
        let mut file = file;
        let counts = write_days(args, &mut file).map_err(failed)?;
        file.flush().map_err(failed)?;
        Ok(counts)
    }
}

fn write_days(args: &Args, out: &mut impl Write) -> io::Result<Counts> {
    let mut random = Random::seeded(args.seed);
    let world = World::new(args.customers, args.terminals, &mut random);
    let mut days = Days::new(world, random);
    let mut counts = Counts::default();
    // The worlds of two seeds share no id, or the second would be refused as other requests under the
    // ids of the first.
    let mut id = args.seed.wrapping_mul(1_000_000_000);
    writeln!(out, "txn_id,ts,customer_id,terminal_id,amount,is_fraud,fraud_scenario")?;
    for day in 0..args.days {
        let date = args.start.saturating_add(i64::from(day).days());
        for payment in days.next_day() {
            write_row(out, id, date, &payment)?;
            id += 1;
            if let Some(count) = counts.get_mut(payment.pattern as usize) {
                *count += 1;
            }
        }
    }
    Ok(counts)
}

fn write_row(out: &mut impl Write, id: u64, date: Date, payment: &Payment) -> io::Result<()> {
    let Payment { second, customer, terminal, amount, pattern } = payment;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (pounds, pence) = (amount / 100, amount % 100);
    let fraud = u8::from(*pattern != Pattern::Honest);
    let scenario = *pattern as u8;
    writeln!(
        out,
        "{id},{date}T{hour:02}:{minute:02}:{second:02}Z,{customer},{terminal},\
         {pounds}.{pence:02},{fraud},{scenario}"
    )
}

fn day(text: &str) -> Result<Date, &'static str> {
    text.parse().map_err(|_no_day| "give a day, such as 2018-04-01")
}

fn told(out: &Path, [honest, obvious, terminal, customer]: Counts) -> String {
    let frauds = obvious + terminal + customer;
    let all = honest + frauds;
    let percent = if all > 0 { frauds as f64 * 100.0 / all as f64 } else { 0.0 };
    let [all, frauds, obvious, terminal, customer] =
        [all, frauds, obvious, terminal, customer].map(grouped);
    format!(
        "{}: {all} transactions, {frauds} frauds ({percent:.2} %): {obvious} over 220.00, \
         {terminal} at compromised terminals, {customer} with leaked cards",
        out.display()
    )
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

    fn args(line: &str) -> Args {
        Cli::try_parse_from(line.split(' ')).unwrap().args
    }

    fn written(line: &str) -> String {
        let mut bytes = Vec::new();
        write_days(&args(line), &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_flags_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_start_that_is_no_day_is_told_what_one_looks_like() {
        for start in ["soon", "2018-13-01", "2018-02-30"] {
            let line = ["generate", "--out", "a", "--start", start];
            let refused = Cli::try_parse_from(line).err().unwrap().to_string();
            assert!(refused.contains("such as 2018-04-01"), "{refused}");
        }
    }

    #[test]
    fn a_seed_decides_every_byte_and_the_first_days_do_not_know_the_later_ones() {
        let small = "generate --out f --customers 100 --terminals 300";
        let three = written(&format!("{small} --days 3"));
        assert_eq!(written(&format!("{small} --days 3")), three);
        assert!(three.starts_with(&written(&format!("{small} --days 2"))));
        assert_ne!(written(&format!("{small} --days 3 --seed 2")), three);
    }

    /// The bytes of one seed, so that a change of the arithmetic on some machine is seen.
    #[test]
    fn the_first_rows_of_a_seed_never_change() {
        let text = written("generate --out f --customers 5 --terminals 5000 --days 1 --seed 42");
        let rows: Vec<_> = text.lines().take(4).collect();
        assert_eq!(rows[0], "txn_id,ts,customer_id,terminal_id,amount,is_fraud,fraud_scenario");
        let first = [
            "42000000000,2018-04-01T03:22:49Z,4,5,47.51,0,0",
            "42000000001,2018-04-01T08:23:02Z,2,4543,66.58,0,0",
            "42000000002,2018-04-01T10:27:06Z,2,551,45.59,0,0",
        ];
        assert_eq!(rows[1..], first);
    }

    #[test]
    fn gzip_and_plain_hold_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, gzip) = (dir.path().join("f.csv"), dir.path().join("f.csv.gz"));
        for path in [&plain, &gzip] {
            let mut args = args("generate --out f --customers 50 --terminals 500 --days 1");
            args.out.clone_from(path);
            generate(&args).unwrap();
        }
        let mut text = String::new();
        let mut gzip = flate2::read::GzDecoder::new(File::open(gzip).unwrap());
        io::Read::read_to_string(&mut gzip, &mut text).unwrap();
        assert_eq!(text, std::fs::read_to_string(plain).unwrap());
    }

    #[test]
    fn what_cannot_be_is_said() {
        let late = args("generate --out f --start 9999-12-31 --days 2");
        assert!(generate(&late).unwrap_err().to_string().contains("start earlier"));
        let nowhere = args("generate --out /nowhere/f");
        assert!(generate(&nowhere).unwrap_err().to_string().contains("/nowhere/f"));
        assert!(Cli::try_parse_from(["generate", "--out", "f", "--days", "0"]).is_err());
    }
}
