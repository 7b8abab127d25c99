//! The names of things: the key of an answer, the number of an advice, a position in a file.

use std::fmt;

use ring::digest;

/// The key of an answer: the first 16 bytes of SHA-256 over merchant, a zero, and id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; Key::BYTES]);

impl Key {
    /// The length of a key.
    pub const BYTES: usize = 16;

    /// The key of a merchant's id. A merchant's name holds no zero.
    pub fn of(merchant: &str, id: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(merchant.as_bytes());
        context.update(&[0]);
        context.update(id.as_bytes());
        let digest = context.finish();
        Self(digest.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// From the bytes of a record.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The number of an advice, contiguous within its epoch; epochs grow, so that the order is that of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdviceId {
    /// Of the node; a new one begins at every start.
    pub epoch: u64,
    /// Of the epoch, from 1.
    pub number: u64,
}

impl AdviceId {
    /// No advice is before it.
    pub const FIRST: Self = Self { epoch: 0, number: 0 };
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The number of the file, from 1.
    pub segment: u32,
    /// Of the record's first byte.
    pub offset: u32,
    /// Of the record, without padding.
    pub length: u32,
}

impl Position {
    /// Of a record that is in memory alone.
    pub const fn in_memory(length: u32) -> Self {
        Self { segment: 0, offset: 0, length }
    }
}
