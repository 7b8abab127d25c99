//! The bytes of one record. They outlive releases, so each names its version, and each carries its own
//! length and checksum, so that whatever an accident leaves behind is read rightly or not at all.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | magic, with bytes that no JSON has: nothing a client sends can look like a record |
//! | 4..8 | length, header included, padding to the next multiple of eight not |
//! | 8..12 | CRC32C of everything after it, and of the length |
//! | 12, 13 | version, kind |
//! | 14..16 | zero |
//! | 16..24 | sequence: of the node's epoch, in the order in which records were made |
//! | 24.. | the payload |
//!
//! Numbers are little-endian. The first 16 bytes mean the same in every version there will be.

use backstop_contract::{Outcome, RequestHash, Tier, Timestamp, Verdict};
use bytes::{BufMut, Bytes, BytesMut};

use crate::place::{AdviceId, Key};

/// The version that this release writes, and the newest that it reads.
pub const VERSION: u8 = 1;
/// The longest record. Bodies are cut far below by the edge; what is over it is never written.
pub const RECORD_BYTES_MAX: usize = 1 << 19;
/// Records begin at multiples of this.
pub const ALIGNMENT: usize = 8;
/// The longest reason of a refusal that is kept.
pub const WHY_BYTES_MAX: usize = 200;

const MAGIC: [u8; 4] = [0xff, b'B', b'k', 0xfe];
const HEADER: usize = 24;
const CHECKED_FROM: usize = 12;

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// The head of every segment.
    Opened(Opening),
    /// An answer.
    Said(Answer<'a>),
    /// What core made of advices.
    Settled(Vec<Acknowledged>),
}

/// Who wrote a segment, and when it was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The name of the node, a UUID.
    pub node: [u8; 16],
    /// The epoch of the process.
    pub epoch: u64,
    /// When.
    pub at: Timestamp,
}

/// An answer as it was released, and for a stand-in what core needs to settle it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<'a> {
    /// Of merchant and id.
    pub key: Key,
    /// Of the request.
    pub hash: RequestHash,
    /// Of a stand-in; `None` where core decided.
    pub advice: Option<AdviceId>,
    /// When the edge had the request.
    pub received_at: Timestamp,
    /// Also in the answer; here, so that nobody parses JSON to rebuild an index.
    pub verdict: Verdict,
    /// As the verdict.
    pub tier: TierCode,
    /// Asked with a test key.
    pub test: bool,
    /// The merchant's ids may look like card numbers.
    pub numeric_ids: bool,
    /// Whose request it was.
    pub merchant: &'a str,
    /// The decision as JSON.
    pub answer: &'a [u8],
    /// The request as JSON; empty where core decided.
    pub request: &'a [u8],
}

/// What core made of one advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Which.
    pub advice: AdviceId,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was refused, cut to [`WHY_BYTES_MAX`]; else empty.
    pub why: String,
}

/// A tier in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TierCode {
    /// Named by another release; its name is in the JSON.
    Newer = 0,
    /// [`Tier::Core`].
    Core = 1,
    /// [`Tier::Api`].
    Api = 2,
    /// [`Tier::Edge`].
    Edge = 3,
    /// [`Tier::Client`].
    Client = 4,
}

/// Why there is no record in some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// None begins here, or it is cut short, or a checksum is wrong.
    Damaged,
    /// A sound record of a version that this release does not know.
    Newer(u8),
}

/// A record and how long it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<'a> {
    /// What it says.
    pub record: Record<'a>,
    /// Its number.
    pub sequence: u64,
    /// Its bytes, without padding.
    pub bytes: &'a [u8],
}

impl TierCode {
    /// Every code.
    pub const ALL: [Self; 5] = [Self::Newer, Self::Core, Self::Api, Self::Edge, Self::Client];

    /// The code of a tier.
    pub const fn of(tier: &Tier) -> Self {
        match tier {
            Tier::Core => Self::Core,
            Tier::Api => Self::Api,
            Tier::Edge => Self::Edge,
            Tier::Client => Self::Client,
            Tier::Newer(_) => Self::Newer,
        }
    }

    /// Its tier; a newer one is named `newer`.
    pub fn tier(self) -> Tier {
        match self {
            Self::Core => Tier::Core,
            Self::Api => Tier::Api,
            Self::Edge => Tier::Edge,
            Self::Client => Tier::Client,
            Self::Newer => Tier::Newer("newer".into()),
        }
    }

    /// The word of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Api => "api",
            Self::Edge => "edge",
            Self::Client => "client",
            Self::Newer => "newer",
        }
    }

    fn read(byte: u8) -> Self {
        Self::ALL.into_iter().find(|code| *code as u8 == byte).unwrap_or(Self::Newer)
    }
}

impl Record<'_> {
    /// The record's bytes; `None` where it is over [`RECORD_BYTES_MAX`].
    pub fn encode(&self, sequence: u64) -> Option<Bytes> {
        let mut out = BytesMut::with_capacity(HEADER + self.payload_bytes_about());
        out.put_slice(&MAGIC);
        out.put_bytes(0, CHECKED_FROM - MAGIC.len());
        out.put_u8(VERSION);
        out.put_u8(self.kind());
        out.put_bytes(0, 2);
        out.put_u64_le(sequence);
        match self {
            Self::Opened(opening) => put_opening(&mut out, opening),
            Self::Said(answer) => put_answer(&mut out, answer)?,
            Self::Settled(list) => put_settled(&mut out, list)?,
        }
        seal(&mut out)?;
        Some(out.freeze())
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Opened(_) => 1,
            Self::Said(_) => 2,
            Self::Settled(_) => 3,
        }
    }

    fn payload_bytes_about(&self) -> usize {
        match self {
            Self::Opened(_) => 32,
            Self::Said(it) => 96 + it.merchant.len() + it.answer.len() + it.request.len(),
            Self::Settled(list) => 2 + list.len() * 32,
        }
    }
}

/// How far it is from the start of a record to the next one.
pub const fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// Whether a record could begin with these bytes: a cheap question, asked at every step of a scan.
pub fn may_begin(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The record at the start of `bytes`.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, Flaw> {
    let (mut cursor, version, kind, bytes) = unseal(bytes).ok_or(Flaw::Damaged)?;
    if version > VERSION {
        return Err(Flaw::Newer(version));
    }
    let sequence = cursor.u64().ok_or(Flaw::Damaged)?;
    let record = match kind {
        1 => cursor.opening().map(Record::Opened),
        2 => cursor.answer().map(Record::Said),
        3 => cursor.settled().map(Record::Settled),
        // A kind is never added without a new version.
        _ => None,
    };
    Ok(Decoded { record: record.ok_or(Flaw::Damaged)?, sequence, bytes })
}

fn checksum(length: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), rest)
}

/// Puts length and checksum where they belong.
fn seal(out: &mut BytesMut) -> Option<()> {
    if out.len() > RECORD_BYTES_MAX {
        return None;
    }
    let length = u32::try_from(out.len()).ok()?.to_le_bytes();
    let sum = checksum(&length, out.get(CHECKED_FROM..)?);
    out.get_mut(4..8)?.copy_from_slice(&length);
    out.get_mut(8..12)?.copy_from_slice(&sum.to_le_bytes());
    Some(())
}

/// The inside of a sound record, its version and kind, and all its bytes.
fn unseal(bytes: &[u8]) -> Option<(Cursor<'_>, u8, u8, &[u8])> {
    if !may_begin(bytes) {
        return None;
    }
    let length_bytes = bytes.get(4..8)?;
    let length = usize::try_from(u32::from_le_bytes(length_bytes.try_into().ok()?)).ok()?;
    if !(HEADER..=RECORD_BYTES_MAX).contains(&length) {
        return None;
    }
    let bytes = bytes.get(..length)?;
    let sum = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    if checksum(length_bytes, bytes.get(CHECKED_FROM..)?) != sum {
        return None;
    }
    Some((Cursor(bytes.get(16..)?), *bytes.get(12)?, *bytes.get(13)?, bytes))
}

fn put_opening(out: &mut BytesMut, opening: &Opening) {
    out.put_slice(&opening.node);
    out.put_u64_le(opening.epoch);
    out.put_i64_le(opening.at.as_millis());
}

fn put_answer(out: &mut BytesMut, it: &Answer<'_>) -> Option<()> {
    let verdict = match it.verdict {
        Verdict::Approve => 1,
        Verdict::Decline => 2,
        Verdict::Review => 3,
    };
    let flags = u8::from(it.test) | u8::from(it.numeric_ids) << 1;
    // No advice has the number 0.
    let advice = it.advice.unwrap_or(AdviceId { epoch: 0, number: 0 });
    out.put_slice(it.key.as_bytes());
    out.put_slice(it.hash.as_bytes());
    out.put_u64_le(advice.epoch);
    out.put_u64_le(advice.number);
    out.put_i64_le(it.received_at.as_millis());
    out.put_slice(&[verdict, it.tier as u8, flags, 0]);
    for length in [it.merchant.len(), it.answer.len(), it.request.len()] {
        out.put_u32_le(u32::try_from(length).ok()?);
    }
    out.put_slice(it.merchant.as_bytes());
    out.put_slice(it.answer);
    out.put_slice(it.request);
    Some(())
}

fn put_settled(out: &mut BytesMut, list: &[Acknowledged]) -> Option<()> {
    out.put_u16_le(u16::try_from(list.len()).ok()?);
    for it in list {
        out.put_u64_le(it.advice.epoch);
        out.put_u64_le(it.advice.number);
        for text in [it.outcome.as_str(), &it.why] {
            let text = cut(text, WHY_BYTES_MAX);
            out.put_u8(u8::try_from(text.len()).ok()?);
            out.put_slice(text.as_bytes());
        }
    }
    Some(())
}

/// The start of a text, at most `bytes_max` of it.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

/// Reads from the front. Every step may find the end instead.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.array().map(u32::from_le_bytes)?).ok()
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        self.array().map(i64::from_le_bytes).map(Timestamp::from_millis)
    }

    fn advice(&mut self) -> Option<AdviceId> {
        Some(AdviceId { epoch: self.u64()?, number: self.u64()? })
    }

    fn short_text(&mut self) -> Option<&'a str> {
        let [length] = self.array()?;
        std::str::from_utf8(self.bytes(usize::from(length))?).ok()
    }

    fn opening(&mut self) -> Option<Opening> {
        Some(Opening { node: self.array()?, epoch: self.u64()?, at: self.timestamp()? })
    }

    fn answer(&mut self) -> Option<Answer<'a>> {
        let key = Key::from_bytes(self.array()?);
        let hash = RequestHash::from_bytes(self.bytes(32)?)?;
        let advice = self.advice()?;
        let received_at = self.timestamp()?;
        let [verdict, tier, flags, _] = self.array()?;
        let verdict = match verdict {
            1 => Verdict::Approve,
            2 => Verdict::Decline,
            3 => Verdict::Review,
            _ => return None,
        };
        let lengths = [self.length()?, self.length()?, self.length()?];
        let [merchant, answer, request] = lengths.map(|length| self.bytes(length));
        Some(Answer {
            key,
            hash,
            advice: (advice.number > 0).then_some(advice),
            received_at,
            verdict,
            tier: TierCode::read(tier),
            test: flags & 1 != 0,
            numeric_ids: flags & 2 != 0,
            merchant: std::str::from_utf8(merchant?).ok()?,
            answer: answer?,
            request: request?,
        })
    }

    fn settled(&mut self) -> Option<Vec<Acknowledged>> {
        let count = u16::from_le_bytes(self.array()?);
        (0..count)
            .map(|_| {
                let advice = self.advice()?;
                let outcome = Outcome::from(self.short_text()?.to_owned());
                let why = self.short_text()?.to_owned();
                Some(Acknowledged { advice, outcome, why })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
