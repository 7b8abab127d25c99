//! `backstop audit`: who switched what, when and why. It reads the files, so nothing need run.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use backstop_settings::audit::{self, AuditError, Line};
use clap::Subcommand;

use crate::dir::Dir;

/// The log is not what it was written as.
const BROKEN: u8 = 1;
/// The log could not be read.
const UNREADABLE: u8 = 2;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show the last lines of the audit log
    Tail {
        /// So many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: usize,
        /// As they stand in the file, one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check that no line was changed or taken out since it was written
    Verify,
}

/// Prints what the files say. The exit code of verify is 1 when a line does not fit, and 2 when a file
/// cannot be read.
pub fn run(args: &Args) -> ExitCode {
    let folder = args.dir.layout().switch();
    let outcome = match &args.action {
        Action::Tail { lines, json } => tail(&folder, *lines, *json),
        Action::Verify => verify(&folder),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(match error {
                AuditError::Broken(_) => BROKEN,
                AuditError::Read { .. } => UNREADABLE,
            })
        }
    }
}

fn tail(folder: &Path, lines_max: usize, json: bool) -> Result<(), AuditError> {
    let lines = audit::tail(folder, lines_max);
    let lines = lines.map_err(|source| AuditError::Read { file: folder.to_owned(), source })?;
    if lines.is_empty() {
        eprintln!("nothing was ever ordered here: {} has no log", folder.display());
    }
    let text: String =
        lines.iter().map(|line| if json { line.to_text() } else { in_words(line) }).collect();
    // Nobody is left to tell of a closed pipe.
    let _closed = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn verify(folder: &Path) -> Result<(), AuditError> {
    let audit::Verified { lines, first, last, torn_bytes, head } = audit::verify(folder)?;
    match lines {
        0 => println!("nothing was ever ordered here: {} has no log", folder.display()),
        1 => println!("1 line, number {first}, is as it was written; its hash is {head}"),
        _ => println!(
            "{lines} lines, {first} to {last}, are as they were written; the last hash is {head}"
        ),
    }
    if torn_bytes > 0 {
        println!("a crash left {torn_bytes} bytes of one more, which the next start cuts off");
    }
    Ok(())
}

/// One line for people.
pub fn in_words(Line { sequence, record, .. }: &Line) -> String {
    let audit::Record { at, who, what, from, to, reason, .. } = record;
    let moved = if from == to { to.clone() } else { format!("{from} -> {to}") };
    format!("{sequence:>5}  {at}  {who}  {what}  {moved}  {reason}\n")
}

#[cfg(test)]
mod tests {
    use backstop_contract::Timestamp;

    use super::*;

    fn record(to: &str) -> audit::Record {
        audit::Record {
            at: Timestamp::default(),
            who: "ann".into(),
            what: "switch".into(),
            generation: 1,
            from: "prod".into(),
            to: to.into(),
            reason: "the release declines everything".into(),
            numbers: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_line_says_who_did_what_and_why() {
        let line = Line::after((6, audit::GENESIS), record("old-prod"));
        let words = in_words(&line);
        assert!(words.contains("    7  1970-01-01T00:00:00"), "{words}");
        assert!(
            words.ends_with("ann  switch  prod -> old-prod  the release declines everything\n")
        );
    }

    #[test]
    fn a_log_that_was_written_verifies_and_one_that_was_changed_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(verify(folder).is_ok(), "there is none yet");
        let first = Line::after((0, audit::GENESIS), record("old-prod"));
        let second = Line::after((1, &first.hash), record("prod"));
        let text = first.to_text() + &second.to_text();
        let file = folder.join(audit::GROWING);
        std::fs::write(&file, &text).unwrap();
        assert!(verify(folder).is_ok());
        std::fs::write(&file, text.replacen("ann", "bob", 1)).unwrap();
        assert!(matches!(verify(folder), Err(AuditError::Broken(_))));
    }
}
