//! A merchant's key: `bsk_<id>_<secret>`. The prefix lets scanners of leaked secrets know it, the id
//! says which key it is without giving it away.

use std::fmt::{self, Write as _};

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::SettingsError;

const PREFIX: &str = "bsk_";
/// 40 bits: enough that no two keys of a file meet.
const ID_CHARS: usize = 8;
/// 200 bits: nothing to guess.
const SECRET_CHARS: usize = 40;
/// Longer than any key there is; what is longer is not even hashed.
const KEY_CHARS_MAX: usize = 128;

/// 32 letters, so that five random bits choose one evenly; none reads as another.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

/// A key in plain text, shown once to whoever had it made. Only its hash is kept.
pub struct Key {
    plain: String,
}

impl Key {
    /// A key that nobody has seen.
    pub(super) fn generate() -> Result<Self, SettingsError> {
        let mut random = [0; ID_CHARS + SECRET_CHARS];
        SystemRandom::new().fill(&mut random).map_err(|_unspecified| SettingsError::Random)?;
        let letters: String = random
            .iter()
            .filter_map(|byte| LETTERS.get(usize::from(byte & 31)).copied().map(char::from))
            .collect();
        let (id, secret) = letters.split_at(ID_CHARS);
        Ok(Self { plain: format!("{PREFIX}{id}_{secret}") })
    }

    /// The whole key, as it goes behind `Authorization: Bearer`.
    pub fn plain(&self) -> &str {
        &self.plain
    }

    /// The part that names it and is no secret.
    pub fn id(&self) -> &str {
        id_of(&self.plain).unwrap_or_default()
    }

    /// SHA-256 of the whole key, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        to_hex(digest(&SHA256, self.plain.as_bytes()).as_ref())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, secret)", self.id())
    }
}

/// The id within a key, if it has the form of one.
pub fn id_of(key: &str) -> Option<&str> {
    if key.len() > KEY_CHARS_MAX {
        return None;
    }
    let (id, _secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    is_id(id).then_some(id)
}

/// Whether this can be the id of a key.
pub fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=32).contains(&text.len()) && text.bytes().all(is_plain)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Reads 64 hexadecimal digits.
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
