//! `backstop rules check`: what is wrong with the rules, before they decide anything. A file is first
//! loaded as production loads it, then read, then run on made-up requests.

pub mod finding;
mod reading;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use backstop_lua::{Bundle, BundleError, Rules, Says, World};

use self::finding::Finding;
use self::reading::{Known, Reading, read};
use super::RulesError;
use super::folder::{Folder, Limits, shown};

/// The stack of the thread that reads: the text of a rule may lie deeper in itself than that of a program.
const STACK_BYTES: usize = 64 << 20;
/// Stands in for the policy of a default that is loaded alone.
const ANY_POLICY: &str = "return { fields = {}, safe = 'review', strict = false, \
                          keys = function() return {} end, decide = function() return 'review' end }";

/// Prints what is wrong. Whether nothing is.
pub fn run(folder: &Folder) -> Result<bool, RulesError> {
    let (rules, limits) = (folder.find()?, folder.limits()?);
    let checked = check(&rules, limits)?;
    for finding in &checked.findings {
        let mut finding = finding.clone();
        let file = shown(&rules, &finding.file);
        let texts = checked.texts.get(&finding.file).cloned().map(|text| (file.clone(), text));
        finding.file = file;
        print!("{}", finding.shown(&texts.into_iter().collect()));
    }
    let files = checked.texts.len();
    match checked.findings.len() {
        0 => println!("{files} files, nothing wrong: version {}", checked.version),
        1 => println!("{files} files, 1 thing wrong"),
        many => println!("{files} files, {many} things wrong"),
    }
    Ok(checked.findings.is_empty())
}

/// What a check came to.
pub struct Checked {
    /// What is wrong, by file and line.
    pub findings: Vec<Finding>,
    /// The files.
    pub texts: BTreeMap<String, String>,
    /// The version of the bundle; empty when it could not be loaded.
    pub version: String,
}

/// Checks a folder of rules, each file for itself and then all together.
pub fn check(folder: &Path, limits: Limits) -> Result<Checked, RulesError> {
    let texts: BTreeMap<String, String> = Bundle::texts_in(folder)?.into_iter().collect();
    let world = World::new().map_err(|error| RulesError::Sandbox(error.to_string()))?;
    let rows = Bundle::rows_in(folder)?;
    let mut findings = Vec::new();
    let mut readings = BTreeMap::new();
    for (file, text) in &texts {
        let alone = load_alone(file, text, limits);
        let fields = alone.as_ref().ok().and_then(|rules| Some(says(rules, file)?.fields));
        let reading = read_apart(file, text, &world, &rows, fields);
        // What is no Lua at all is said once, by who refused it.
        if alone.is_ok() || reading.is_lua {
            findings.extend(reading.findings.iter().cloned());
        }
        findings.extend(alone.err());
        readings.insert(file.clone(), reading);
    }
    let mut version = String::new();
    match Bundle::load(folder).and_then(|bundle| Rules::new(bundle, limits.memory_bytes_max)) {
        Ok(rules) => {
            rules.version().clone_into(&mut version);
            findings.extend(trial::findings(&rules, &readings, limits, &findings));
        }
        Err(error) if findings.is_empty() => findings.push(refusal("", error)),
        Err(_told_above) => {}
    }
    findings.sort();
    findings.dedup();
    Ok(Checked { findings, texts, version })
}

/// What a file says of itself.
fn says<'a>(rules: &'a Rules, file: &str) -> Option<Says<'a>> {
    let name = |folder| file.strip_prefix(folder)?.strip_suffix(".lua");
    let policy = name("policies/").and_then(|name| rules.policy_says(name));
    policy.or_else(|| name("defaults/").and_then(|name| rules.default_says(name)))
}

/// Loads one file as production would, its top level under the limits.
fn load_alone(file: &str, text: &str, limits: Limits) -> Result<Rules, Finding> {
    let mut texts = vec![(file, text)];
    if !file.starts_with("policies/") {
        texts.push(("policies/any.lua", ANY_POLICY));
    }
    Bundle::from_texts(texts)
        .and_then(|bundle| Rules::new(bundle, limits.memory_bytes_max))
        .map_err(|error| refusal(file, error))
}

/// What refused a file, as a finding.
fn refusal(file: &str, error: BundleError) -> Finding {
    match error {
        BundleError::Refused { place, message } => {
            let (wrong, right) = trial::parted(&message);
            Finding::new(&place.file, place.line, wrong, right)
        }
        other => Finding::new(file, None, other.to_string(), ""),
    }
}

/// Reads a text on a thread with room for what it may lie in.
fn read_apart(
    file: &str,
    text: &str,
    world: &World,
    rows: &BTreeSet<String>,
    fields: Option<&[String]>,
) -> Reading {
    std::thread::scope(|scope| {
        let reader = || read(file, text, &Known { world, fields, rows });
        let thread =
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, reader);
        thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests;
