//! The bytes of a history row: a version, the number of buckets, then each bucket as a shape and
//! varints (LEB128), times as distances from the bucket before.
//!
//! Most buckets are one event that was approved or not and is no fraud; their shape says so in one byte.

use super::{BUCKETS_MAX, Bucket, DAY};

const VERSION: u8 = 1;

/// A version, a count below 2^14, a time.
pub(super) const HEAD_BYTES_MAX: usize = 1 + 2 + 10;
/// A shape and six varints of at most ten bytes.
pub(super) const BUCKET_BYTES_MAX: usize = 1 + 6 * 10;

/// More than one instant: a span follows.
const SPAN: u8 = 1;
/// More than one event: a count follows.
const MANY: u8 = 2;
/// A sum follows; without it the sum is zero.
const SUM: u8 = 4;
/// All of the sum was approved.
const APPROVED: u8 = 8;
/// A part of it was: the approved sum follows.
const PART: u8 = 16;
/// A number of frauds follows; without it there is none.
const FRAUDS: u8 = 32;
const ALL: u8 = SPAN | MANY | SUM | APPROVED | PART | FRAUDS;

/// Why bytes are not a history row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer release, or by something else.
    #[error("history rows of version {0} are unknown here; this release reads version {VERSION}")]
    Version(u8),
    /// The row ends early.
    #[error("the history row ends early")]
    Short,
    /// The row goes on after its end.
    #[error("the history row goes on after its end")]
    Long,
    /// The row says something that no history says.
    #[error("the history row has an impossible {0}")]
    Impossible(&'static str),
}

pub(super) fn encode(buckets: &[Bucket]) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEAD_BYTES_MAX + buckets.len() * 9);
    row.push(VERSION);
    put(&mut row, buckets.len() as u64);
    let mut before = 0_i64;
    for bucket in buckets {
        put_bucket(&mut row, bucket, before);
        before = bucket.last;
    }
    row
}

fn put_bucket(row: &mut Vec<u8>, bucket: &Bucket, before: i64) {
    let span = bucket.last.abs_diff(bucket.first);
    let parts = [
        (SPAN, span > 0, span),
        (MANY, bucket.count > 1, bucket.count),
        (SUM, bucket.sum > 0, bucket.sum),
        (APPROVED, bucket.sum > 0 && bucket.approved == bucket.sum, 0),
        (PART, bucket.approved > 0 && bucket.approved < bucket.sum, bucket.approved),
        (FRAUDS, bucket.frauds > 0, bucket.frauds),
    ];
    let shape = parts.iter().filter(|part| part.1).fold(0, |shape, part| shape | part.0);
    row.push(shape);
    // The first distance is from 1970 and may be negative; the others cannot be. Zigzag serves both.
    let distance = bucket.first.wrapping_sub(before);
    put(row, ((distance << 1) ^ (distance >> 63)).cast_unsigned());
    for (part, there, value) in parts {
        if there && part != APPROVED {
            put(row, value);
        }
    }
}

fn put(row: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            return row.push(low);
        }
        row.push(low | 0x80);
    }
}

pub(super) fn decode(row: &[u8]) -> Result<Vec<Bucket>, DecodeError> {
    let mut bytes = row.iter().copied();
    match bytes.next().ok_or(DecodeError::Short)? {
        VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let count = usize::try_from(take(&mut bytes)?).unwrap_or(usize::MAX);
    if count > BUCKETS_MAX {
        return Err(DecodeError::Impossible("number of buckets"));
    }
    let mut buckets: Vec<Bucket> = Vec::with_capacity(count);
    for _ in 0..count {
        let bucket = take_bucket(&mut bytes, buckets.last().map(|bucket| bucket.last))?;
        buckets.push(bucket);
    }
    match bytes.next() {
        None => Ok(buckets),
        Some(_) => Err(DecodeError::Long),
    }
}

fn take_bucket(
    bytes: &mut impl Iterator<Item = u8>,
    before: Option<i64>,
) -> Result<Bucket, DecodeError> {
    let shape = bytes.next().ok_or(DecodeError::Short)?;
    if shape & !ALL != 0 {
        return Err(DecodeError::Impossible("shape"));
    }
    let zigzag = take(bytes)?;
    let distance = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
    let mut part = |flag, otherwise| if shape & flag == 0 { Ok(otherwise) } else { take(bytes) };
    let span = part(SPAN, 0)?;
    let count = part(MANY, 1)?;
    let sum = part(SUM, 0)?;
    let approved = part(PART, if shape & APPROVED == 0 { 0 } else { sum })?;
    let frauds = part(FRAUDS, 0)?;

    let first = before.unwrap_or(0).checked_add(distance);
    let last = first.and_then(|first| first.checked_add_unsigned(span));
    let (Some(first), Some(last)) = (first, last) else {
        return Err(DecodeError::Impossible("time"));
    };
    // Joining never crosses a cell, and the widest cell is a day.
    let one_cell = first.div_euclid(DAY) == last.div_euclid(DAY);
    if before.is_some_and(|before| first <= before) || !one_cell {
        return Err(DecodeError::Impossible("time"));
    }
    if count == 0 || approved > sum || frauds > count {
        return Err(DecodeError::Impossible("count or sum"));
    }
    Ok(Bucket { first, last, count, sum, approved, frauds })
}

fn take(bytes: &mut impl Iterator<Item = u8>) -> Result<u64, DecodeError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.next().ok_or(DecodeError::Short)?;
        let low = u64::from(byte & 0x7f);
        if (low << shift) >> shift != low {
            break;
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::Impossible("number"))
}
