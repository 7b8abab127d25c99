//! `backstop rules test`: the tests that lie beside the rules, in the sandbox and under the limits that the
//! rules have in production.

mod junit;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstop_lua::Breach;
use backstop_lua::spec::{self, Failure, Outcome};

use super::RulesError;
use super::check::finding::Finding;
use super::folder::{Folder, shown};

/// The most bytes in a file of tests.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which tests, and where to report.
#[derive(clap::Args)]
pub struct Args {
    /// Only the tests whose name has this in it
    #[arg(value_name = "WORDS")]
    only: Option<String>,
    /// Also report to FILE, as XML that every build server reads
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl Args {
    /// All of them, and nothing but words.
    pub const fn all() -> Self {
        Self { only: None, junit: None }
    }
}

/// What became of the tests of one file.
pub struct Tested {
    /// Such as `tests/payment.lua`.
    pub file: String,
    /// Each of them.
    pub outcomes: Vec<Outcome>,
}

/// Prints each test and its time. Whether all passed.
pub fn run(folder: &Folder, args: &Args) -> Result<bool, RulesError> {
    let (rules, limits) = folder.load()?;
    let (rules, folder) = (Arc::new(rules), folder.find()?);
    let texts = texts_in(&folder)?;
    if texts.is_empty() {
        let wrong = format!("no tests in {}; see backstop rules new", shown(&folder, spec::FOLDER));
        return Err(RulesError::Nothing(wrong));
    }
    let mut all = Vec::new();
    for (file, text) in &texts {
        let told = spec::run(&rules, limits.slices, &folder.join(spec::FOLDER), file, text);
        let mut outcomes = told.unwrap_or_else(|breach| vec![no_tests(&breach)]);
        if let Some(only) = &args.only {
            outcomes.retain(|outcome| outcome.name.contains(only) || file.contains(only));
        }
        all.push(Tested { file: file.clone(), outcomes });
    }
    for tested in &all {
        print(&folder, tested, &texts);
    }
    let outcomes = || all.iter().flat_map(|tested| &tested.outcomes);
    let failed = outcomes().filter(|outcome| outcome.failure.is_some()).count();
    let time: Duration = outcomes().map(|outcome| outcome.time).sum();
    println!("{} tests, {failed} failed, {:.1} ms", outcomes().count(), millis(time));
    if let Some(path) = &args.junit {
        let failed = |source| RulesError::Write { path: path.clone(), source };
        fs::write(path, junit::report(&all)).map_err(failed)?;
    }
    Ok(failed == 0)
}

/// The files of tests in a folder of rules, by their names.
fn texts_in(folder: &Path) -> Result<BTreeMap<String, String>, RulesError> {
    let within = folder.join(spec::FOLDER);
    let Ok(entries) = fs::read_dir(&within) else { return Ok(BTreeMap::new()) };
    let mut texts = BTreeMap::new();
    for entry in entries {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RulesError::Read { path, source }
        };
        let path = entry.map_err(failed(&within))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_none_or(|ending| ending != "lua") {
            continue;
        }
        if fs::metadata(&path).map_err(failed(&path))?.len() > FILE_BYTES_MAX {
            let wrong = format!("is over {FILE_BYTES_MAX} bytes; move cases to a JSON file");
            return Err(RulesError::Case { file: path.display().to_string(), wrong });
        }
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        texts.insert(format!("{}/{name}", spec::FOLDER), text);
    }
    Ok(texts)
}

/// A file that is no file of tests fails as one test.
fn no_tests(breach: &Breach) -> Outcome {
    let (line, message) = match breach {
        Breach::Raised { place, message }
        | Breach::Nonsense { place, message }
        | Breach::Sandbox { place, message } => (place.line, message.clone()),
        Breach::OutOfTime { place, .. } => (place.line, breach.to_string()),
        other => (None, other.to_string()),
    };
    let failure = Some(Failure { line, message });
    Outcome { name: "(the file itself)".to_owned(), time: Duration::ZERO, failure }
}

fn print(folder: &Path, tested: &Tested, texts: &BTreeMap<String, String>) {
    for outcome in &tested.outcomes {
        let word = if outcome.failure.is_some() { "FAIL" } else { "ok  " };
        println!("{word} {:>9.3} ms  {}", millis(outcome.time), outcome.name);
        let Some(failure) = &outcome.failure else { continue };
        let file = shown(folder, &tested.file);
        let finding = Finding::new(&file, failure.line, failure.message.clone(), "");
        let text = texts.get(&tested.file).cloned().unwrap_or_default();
        print!("{}", finding.shown(&BTreeMap::from([(file, text)])));
    }
}

/// Milliseconds, to the microsecond.
pub fn millis(length: Duration) -> f64 {
    length.as_secs_f64() * 1000.0
}
