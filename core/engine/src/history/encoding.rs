//! The bytes of a history row: a version, the number of buckets, then each bucket as a shape and
//! varints (LEB128), times as distances from the bucket before.
//!
//! Most buckets are one event that was approved or not and is no fraud; their shape says so in one byte.
//!
//! Version 2 goes on with the counterparties: how many, then each as the distance back in time from
//! the one before, the first from the newest bucket, and eight bytes of hash. A row without any stays
//! version 1, byte for byte. So a release that knows only version 1 shares its rows with this one until a
//! policy names counterparties, which that release could not run either; after that it refuses those rows.

use super::counterparties::{COUNTERPARTIES_MAX, Counterparties, Met};
use super::varint::{self, put, take, take_byte};
use super::{BUCKETS_MAX, Bucket, DAY, History};

/// A row of buckets.
const PLAIN: u8 = 1;
/// A row of buckets and counterparties.
const WITH_COUNTERPARTIES: u8 = 2;

/// A count below 2^14.
pub(super) const COUNT_BYTES_MAX: usize = 2;
/// A version, a count, a time.
pub(super) const HEAD_BYTES_MAX: usize = 1 + COUNT_BYTES_MAX + varint::BYTES_MAX;
/// A shape and six varints.
pub(super) const BUCKET_BYTES_MAX: usize = 1 + 6 * varint::BYTES_MAX;
/// A varint and a hash.
pub(super) const MET_BYTES_MAX: usize = varint::BYTES_MAX + 8;

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
    #[error("history rows of version {0} are unknown here; this release reads 1 and 2")]
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

pub(super) fn encode(history: &History) -> Vec<u8> {
    let (buckets, met) = (&history.buckets, &history.counterparties.0);
    let mut row = Vec::with_capacity(HEAD_BYTES_MAX + buckets.len() * 12 + met.len() * 13);
    row.push(if met.is_empty() { PLAIN } else { WITH_COUNTERPARTIES });
    put(&mut row, buckets.len() as u64);
    let mut before = 0_i64;
    for bucket in buckets {
        put_bucket(&mut row, bucket, before);
        before = bucket.last;
    }
    if !met.is_empty() {
        put(&mut row, met.len() as u64);
    }
    let mut after = before;
    for Met { last, hash } in met.iter().rev() {
        put(&mut row, after.abs_diff(*last));
        row.extend_from_slice(&hash.to_le_bytes());
        after = *last;
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

pub(super) fn decode(mut row: &[u8]) -> Result<History, DecodeError> {
    let version = take_byte(&mut row)?;
    if !matches!(version, PLAIN | WITH_COUNTERPARTIES) {
        return Err(DecodeError::Version(version));
    }
    let count = take_count(&mut row, BUCKETS_MAX, "number of buckets")?;
    let mut buckets: Vec<Bucket> = Vec::with_capacity(count);
    for _ in 0..count {
        let bucket = take_bucket(&mut row, buckets.last().map(|bucket| bucket.last))?;
        buckets.push(bucket);
    }
    let counterparties = match buckets.last() {
        Some(newest) if version == WITH_COUNTERPARTIES => {
            take_counterparties(&mut row, newest.last)?
        }
        None if version == WITH_COUNTERPARTIES => {
            return Err(DecodeError::Impossible("number of buckets"));
        }
        _ => Counterparties::default(),
    };
    if row.is_empty() { Ok(History { buckets, counterparties }) } else { Err(DecodeError::Long) }
}

fn take_count(row: &mut &[u8], max: usize, what: &'static str) -> Result<usize, DecodeError> {
    let count = usize::try_from(take(row)?).unwrap_or(usize::MAX);
    if count > max { Err(DecodeError::Impossible(what)) } else { Ok(count) }
}

fn take_counterparties(row: &mut &[u8], newest: i64) -> Result<Counterparties, DecodeError> {
    let count = take_count(row, COUNTERPARTIES_MAX, "number of counterparties")?;
    let mut met: Vec<Met> = Vec::with_capacity(count);
    let mut after = newest;
    for _ in 0..count {
        let last = after.checked_sub_unsigned(take(row)?);
        after = last.ok_or(DecodeError::Impossible("time"))?;
        let (hash, rest) = row.split_first_chunk().ok_or(DecodeError::Short)?;
        met.push(Met { last: after, hash: u64::from_le_bytes(*hash) });
        *row = rest;
    }
    met.reverse();
    Ok(Counterparties(met))
}

#[inline]
fn take_bucket(row: &mut &[u8], before: Option<i64>) -> Result<Bucket, DecodeError> {
    let shape = take_byte(row)?;
    if shape & !ALL != 0 {
        return Err(DecodeError::Impossible("shape"));
    }
    let zigzag = take(row)?;
    let distance = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
    let mut part = |flag, otherwise| if shape & flag == 0 { Ok(otherwise) } else { take(row) };
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
    let one_cell = span == 0 || first.div_euclid(DAY) == last.div_euclid(DAY);
    if before.is_some_and(|before| first <= before) || !one_cell {
        return Err(DecodeError::Impossible("time"));
    }
    if count == 0 || approved > sum || frauds > count {
        return Err(DecodeError::Impossible("count or sum"));
    }
    Ok(Bucket { first, last, count, sum, approved, frauds })
}
