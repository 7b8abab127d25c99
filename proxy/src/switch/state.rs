//! The choice on disk. It is written before it holds, and read before the edge takes a request: after a
//! crash at any byte it is either the old one or the new one, never neither.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use backstop_settings::{Layout, audit, write_atomically};

use crate::switch::choice::Choice;

/// For its owner alone: it names people and their reasons.
const MODE: u32 = 0o600;

/// The file of the choice, and a copy for when it can not be read.
#[derive(Debug)]
pub struct Store {
    file: PathBuf,
    good: PathBuf,
}

/// What was found at the start.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// The choice that was in force.
    Kept(Choice),
    /// Nothing was ever ordered here.
    Nothing,
    /// The file can not be read; its copy holds the last one that could.
    Copy(Choice, String),
    /// Neither can be read.
    Lost(String),
}

/// How the file holds it: a hash over the very bytes of the choice.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(borrow)]
    choice: &'a RawValue,
    hash: String,
}

impl Store {
    /// The files in this directory, which are made when something is written.
    pub fn new(layout: &Layout) -> Self {
        Self { file: layout.choice(), good: layout.good_choice() }
    }

    /// The choice to begin with.
    pub fn read(&self) -> Found {
        match (read(&self.file), read(&self.good)) {
            (Ok(Some(choice)), _) => Found::Kept(choice),
            (Ok(None), Ok(None)) => Found::Nothing,
            (broken, Ok(Some(copy))) => {
                let why =
                    broken.err().unwrap_or_else(|| format!("{} is gone", self.file.display()));
                Found::Copy(copy, why)
            }
            (Err(why), _) | (Ok(None), Err(why)) => Found::Lost(why),
        }
    }

    /// Puts the next choice in the place of this one. Durable when it returns; the old one stays where
    /// it fails.
    pub fn write(&self, choice: &Choice) -> io::Result<()> {
        put(&self.file, &to_bytes(choice)?)
    }

    /// Keeps a copy of what is written. Where that fails, the copy is one behind.
    pub fn keep(&self, choice: &Choice) -> io::Result<()> {
        put(&self.good, &to_bytes(choice)?)
    }
}

fn put(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    write_atomically(file, bytes, MODE)
}

fn to_bytes(choice: &Choice) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(choice)?;
    let hash = audit::hash(json.as_bytes());
    let mut bytes = serde_json::to_vec(&Sealed { choice: &RawValue::from_string(json)?, hash })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The choice in a file; nothing where there is none; what is wrong where it can not be read.
fn read(file: &Path) -> Result<Option<Choice>, String> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: cannot be read: {error}", file.display())),
    };
    from_bytes(&bytes).map(Some).map_err(|what| format!("{}: {what}", file.display()))
}

fn from_bytes(bytes: &[u8]) -> Result<Choice, String> {
    let sealed: Sealed<'_> =
        serde_json::from_slice(bytes).map_err(|error| format!("is no choice: {error}"))?;
    if audit::hash(sealed.choice.get().as_bytes()) != sealed.hash {
        return Err("was changed: its hash does not fit".to_owned());
    }
    serde_json::from_str(sealed.choice.get()).map_err(|error| format!("is no choice: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_contract::order::What;
    use backstop_contract::{Stack, Timestamp};

    use crate::switch::choice::{Hand, Kind};

    fn next(choice: &Choice, to: Stack) -> Choice {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let (who, reason) = ("maria".to_owned(), "prod is slow, \"again\"".to_owned());
        choice
            .ordered(&What::Switch(to), None, Hand { kind: Kind::Switch, at, who, reason })
            .unwrap()
    }

    #[test]
    fn a_choice_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(&Layout::new(dir.path()));
        assert_eq!(store.read(), Found::Nothing);
        let choice = next(&next(&Choice::default(), Stack::OldProd), Stack::Prod);
        store.write(&choice).unwrap();
        assert_eq!(store.read(), Found::Kept(choice));
    }

    #[test]
    fn a_crash_at_any_byte_of_a_write_leaves_the_old_choice_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let store = Store::new(&layout);
        let old = next(&Choice::default(), Stack::OldProd);
        let new = next(&old, Stack::Prod);
        let bytes = to_bytes(&new).unwrap();
        for length in 0..=bytes.len() {
            store.write(&old).unwrap();
            store.keep(&old).unwrap();
            let part = &bytes[..length];
            // The process ended while it wrote beside the file.
            std::fs::write(dir.path().join("switch/choice.json.new"), part).unwrap();
            assert_eq!(store.read(), Found::Kept(old.clone()), "{length} bytes beside it");
            // The disk kept the name and lost what was not yet on it.
            std::fs::write(layout.choice(), part).unwrap();
            match store.read() {
                Found::Copy(choice, why) => {
                    assert_eq!(choice, old, "{length}");
                    assert!(why.contains("choice.json"), "{why}");
                }
                // Only the end of the line is lacking.
                Found::Kept(choice) => assert!(choice == new && length + 1 >= bytes.len()),
                found => panic!("{length} bytes: {found:?}"),
            }
            // And the next order is written all the same.
            store.write(&new).unwrap();
            assert_eq!(store.read(), Found::Kept(new.clone()));
        }
    }

    #[test]
    fn no_changed_byte_goes_unseen() {
        let bytes = to_bytes(&next(&Choice::default(), Stack::OldProd)).unwrap();
        for at in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(from_bytes(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_can_not_be_read_gives_way_to_its_copy_and_then_to_nothing_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let store = Store::new(&layout);
        let old = next(&Choice::default(), Stack::OldProd);
        store.write(&old).unwrap();
        store.keep(&old).unwrap();
        std::fs::remove_file(layout.choice()).unwrap();
        assert!(matches!(store.read(), Found::Copy(choice, _) if choice == old));
        std::fs::write(layout.choice(), b"{}").unwrap();
        std::fs::write(layout.good_choice(), b"\0\0\0").unwrap();
        assert!(matches!(store.read(), Found::Lost(_)));
        std::fs::remove_file(layout.good_choice()).unwrap();
        assert!(matches!(store.read(), Found::Lost(_)));
    }

    #[test]
    fn a_choice_of_a_newer_release_is_understood_as_far_as_it_goes() {
        let json = r#"{"generation":7,"course":{"active":"old-prod","moon":1},"moonlight":true}"#;
        let hash = audit::hash(json.as_bytes());
        let choice = from_bytes(format!("{{\"choice\":{json},\"hash\":\"{hash}\"}}").as_bytes());
        let choice = choice.unwrap();
        assert_eq!((choice.generation, choice.course.active), (7, Stack::OldProd));
    }
}
