//! Small files that one process keeps for the next: a value and a hash over its very bytes, so that what
//! is read is what was written, whole, or is known not to be. A copy stands in for one that can not be read.

use std::fs;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::audit;
use crate::file::write_atomically;

/// For its owner alone: such files name people and their reasons.
const MODE: u32 = 0o600;

/// What was found.
#[derive(Debug, PartialEq)]
pub enum Found<T> {
    /// What was written last.
    Kept(T),
    /// Nothing was ever written.
    Nothing,
    /// The file can not be read, and why; its copy can.
    Copy(T, String),
    /// Neither can be read.
    Lost(String),
}

/// How a file holds a value.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    hash: String,
}

/// What `file` holds, or else its copy in `good`.
pub fn read<T: DeserializeOwned>(file: &Path, good: &Path) -> Found<T> {
    match (read_one(file), read_one(good)) {
        (Ok(Some(value)), _) => Found::Kept(value),
        (Ok(None), Ok(None)) => Found::Nothing,
        (broken, Ok(Some(copy))) => {
            let why = broken.err().unwrap_or_else(|| format!("{} is gone", file.display()));
            Found::Copy(copy, why)
        }
        (Err(why), _) | (Ok(None), Err(why)) => Found::Lost(why),
    }
}

/// Puts a value in the place of the one in `file`. Durable when it returns; the old one stays where it
/// fails.
pub fn write<T: Serialize>(file: &Path, value: &T) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let json = serde_json::to_string(value)?;
    let hash = audit::hash(json.as_bytes());
    let mut bytes = serde_json::to_vec(&Sealed { content: &RawValue::from_string(json)?, hash })?;
    bytes.push(b'\n');
    write_atomically(file, &bytes, MODE)
}

/// The value in one file; none where there is none; what is wrong where it can not be read.
fn read_one<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, String> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: cannot be read: {error}", file.display())),
    };
    opened(&bytes).map(Some).map_err(|what| format!("{}: {what}", file.display()))
}

fn opened<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let sealed: Sealed<'_> =
        serde_json::from_slice(bytes).map_err(|error| format!("is not whole: {error}"))?;
    if audit::hash(sealed.content.get().as_bytes()) != sealed.hash {
        return Err("was changed: its hash does not fit".to_owned());
    }
    serde_json::from_str(sealed.content.get()).map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_at_any_byte_and_any_changed_byte_give_way_to_the_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (file, good) = (dir.path().join("kept/a.json"), dir.path().join("good/a.json"));
        assert_eq!(read::<u64>(&file, &good), Found::Nothing);
        write(&good, &1_234_567).unwrap();
        assert!(matches!(read::<u64>(&file, &good), Found::Copy(1_234_567, _)));
        write(&file, &7_654_321).unwrap();
        assert_eq!(read(&file, &good), Found::Kept(7_654_321));
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() - 1 {
            fs::write(&file, &whole[..length]).unwrap();
            let Found::Copy(copy, why) = read::<u64>(&file, &good) else { panic!("{length}") };
            assert_eq!(copy, 1_234_567);
            assert!(why.contains("a.json"), "{why}");
        }
        for at in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(opened::<u64>(&changed).is_err(), "byte {at}");
        }
        fs::write(&good, "{}").unwrap();
        fs::write(&file, "").unwrap();
        assert!(matches!(read::<u64>(&file, &good), Found::Lost(_)));
    }
}
