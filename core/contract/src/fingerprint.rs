//! Telling a retry from another request under the same id.

use std::fmt;

use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::request::Request;

/// The secret that proxies of one installation share; it keys every hash of a request or a card.
#[derive(Clone)]
pub struct HashKey {
    requests: hmac::Key,
    cards: hmac::Key,
}

impl HashKey {
    /// Derives a key for each use from the secret, so that no hash of one use helps with the other.
    pub fn new(secret: &[u8; 32]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derive =
            |name: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, name).as_ref());
        Self { requests: derive(b"backstop request"), cards: derive(b"backstop card") }
    }

    pub(crate) const fn for_cards(&self) -> &hmac::Key {
        &self.cards
    }

    /// The hash of a request: equal for two bodies that mean the same, whatever the order of their
    /// fields, their white space or a forced tier. Card numbers must have been replaced before.
    pub fn hash(&self, request: &Request) -> RequestHash {
        let tag = hmac::sign(&self.requests, &request.canonical_json());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        RequestHash(bytes)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(secret)")
    }
}

/// HMAC-SHA-256 of a request in canonical form. Another hash under the same id is another request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestHash([u8; 32]);

impl RequestHash {
    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From the 32 bytes; `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads the 64 hexadecimal digits of the header.
    pub fn from_hex(text: &str) -> Option<Self> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        let pairs: &[[u8; 2]; 32] = pairs.try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high? * 16 + low?).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for RequestHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Each through the formatter by itself would cost as much as the rest of an answer's headers.
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
        let digits = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
        f.write_str(&digits.collect::<String>())
    }
}

impl Serialize for RequestHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
    }
}

impl fmt::Debug for RequestHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
