//! The audit log: who did what to the switch, when and why. Each line holds the hash of the one before
//! it, so that a line can be neither changed nor taken out without its successors showing it.
//!
//! The edge appends; anybody who has the files can [`verify`] them, with nothing running. `audit.log` is
//! the file that grows; a full one is named after its first line, as in `audit-000000000001.log`, and
//! the next begins with the hash of its last.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use backstop_contract::Timestamp;
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The file that grows, in the directory of the log.
pub const GROWING: &str = "audit.log";
/// The hash that stands before the first line of all.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Between what is hashed and its hash.
const SEAL: &str = ",\"hash\":\"";
const SEAL_END: &str = "\"}";

/// What one line says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub at: Timestamp,
    /// Who did it, or `automatic`.
    pub who: String,
    /// What was done, in one word.
    pub what: String,
    /// The choice that it made, or that it left in force.
    pub generation: u64,
    /// The stack that served before.
    pub from: String,
    /// The stack that serves, or ought to.
    pub to: String,
    /// Why, in a plain sentence.
    pub reason: String,
    /// The figures behind it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub numbers: Map<String, Value>,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// From 1, one more in each line.
    pub sequence: u64,
    /// What it says.
    #[serde(flatten)]
    pub record: Record,
    /// The hash of the line before it.
    pub prev: String,
    /// The SHA-256 of all that stands before it in this line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

impl Line {
    /// The next line after one with this sequence and hash.
    pub fn after((sequence, prev): (u64, &str), record: Record) -> Self {
        let mut line = Self {
            sequence: sequence.saturating_add(1),
            record,
            prev: prev.to_owned(),
            hash: String::new(),
        };
        line.hash = hash(line.unsealed().as_bytes());
        line
    }

    /// The line as it stands in the file, its end included.
    pub fn to_text(&self) -> String {
        format!("{}{SEAL}{}{SEAL_END}\n", self.unsealed(), self.hash)
    }

    /// What is hashed: the line up to its hash.
    fn unsealed(&self) -> String {
        let bare = Self { hash: String::new(), ..self.clone() };
        // Plain fields and a map with text keys always serialize.
        let mut json = serde_json::to_string(&bare).unwrap_or_default();
        json.pop();
        json
    }

    /// Reads a line without its end; what is wrong with it, if anything is.
    ///
    /// The bytes as they stand are hashed, so that a line of a newer release, which has more fields, is
    /// read as well.
    pub fn read(text: &str) -> Result<Self, String> {
        let sealed = text.strip_suffix(SEAL_END).and_then(|text| text.rsplit_once(SEAL));
        let Some((hashed, seal)) = sealed else {
            return Err("it does not end with its hash".to_owned());
        };
        let line: Self = serde_json::from_str(text)
            .map_err(|error| format!("it is no line of the log: {error}"))?;
        if hash(hashed.as_bytes()) == seal {
            Ok(line)
        } else {
            Err(format!("line {} was changed: its hash does not fit", line.sequence))
        }
    }
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    digest::digest(&digest::SHA256, bytes).as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _memory_takes_it = write!(hex, "{byte:02x}");
        hex
    })
}

/// A log whose lines are a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many lines there are.
    pub lines: u64,
    /// The sequence of the first: over 1 where older files were let go.
    pub first: u64,
    /// The sequence of the last.
    pub last: u64,
    /// The hash of the last.
    pub head: String,
    /// Bytes of an unfinished line at the end, which a crash leaves and the next start cuts off.
    pub torn_bytes: usize,
}

/// The first line that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {what}", file.display())]
pub struct Broken {
    /// In which file.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Why the log could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file could not be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lines are no chain.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Follows the chain through files as they are, oldest first.
#[derive(Debug, Default)]
pub struct Chain {
    verified: Verified,
}

impl Chain {
    /// Follows it through one file; only the last may end in the middle of a line.
    pub fn follow(&mut self, file: &Path, bytes: &[u8], is_last: bool) -> Result<(), Broken> {
        let mut rest = bytes;
        let mut number = 0;
        let broken = |line, what| Broken { file: file.to_owned(), line, what };
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            number += 1;
            let (text, after) = rest.split_at(end);
            self.line(text).map_err(|what| broken(number, what))?;
            rest = after.get(1..).unwrap_or_default();
        }
        if !rest.is_empty() && !is_last {
            return Err(broken(number + 1, "the file ends in the middle of a line".to_owned()));
        }
        self.verified.torn_bytes = rest.len();
        Ok(())
    }

    fn line(&mut self, text: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
        let line = Line::read(text)?;
        let known = &mut self.verified;
        if known.lines == 0 {
            known.first = line.sequence;
            if line.sequence == 1 && line.prev != GENESIS {
                return Err("it is the first line, and names one before it".to_owned());
            }
        } else if line.prev != known.head {
            let what = format!("line {} does not follow line {}", line.sequence, known.last);
            return Err(what + ": the hash of its predecessor does not fit");
        } else if line.sequence != known.last.saturating_add(1) {
            return Err(format!("line {} follows line {}", line.sequence, known.last));
        }
        known.lines += 1;
        known.last = line.sequence;
        known.head = line.hash;
        Ok(())
    }

    /// What was found, all the way through.
    pub fn end(self) -> Verified {
        self.verified
    }
}

/// The files of the log in `folder`, oldest first; none where there is no log.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut full = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("audit-") && path.extension().is_some_and(|it| it == "log") {
            full.push(path);
        }
    }
    full.sort();
    let growing = folder.join(GROWING);
    if growing.exists() {
        full.push(growing);
    }
    Ok(full)
}

/// What a full file is called that begins with the line of this sequence.
pub fn full_name(first: u64) -> String {
    format!("audit-{first:012}.log")
}

/// Whether the log in `folder` is a chain; the first line that is not of it, if there is one.
pub fn verify(folder: &Path) -> Result<Verified, AuditError> {
    let read = |file: &Path, source| AuditError::Read { file: file.to_owned(), source };
    let files = files(folder).map_err(|source| read(folder, source))?;
    let mut chain = Chain::default();
    for (index, file) in files.iter().enumerate() {
        let bytes = fs::read(file).map_err(|source| read(file, source))?;
        chain.follow(file, &bytes, index + 1 == files.len())?;
    }
    Ok(chain.end())
}

/// The last lines that can be read, at most so many, oldest first. Whether they are a chain,
/// [`verify`] says.
pub fn tail(folder: &Path, lines_max: usize) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for file in files(folder)?.iter().rev() {
        let text = fs::read(file)?;
        let text = String::from_utf8_lossy(&text);
        // Without its end, the last line is not one yet.
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        lines.extend(whole.rev().filter_map(|line| Line::read(line).ok()));
        if lines.len() >= lines_max {
            break;
        }
    }
    lines.truncate(lines_max);
    lines.reverse();
    Ok(lines)
}

#[cfg(test)]
mod tests;
