//! What can be read of a segment after any accident. Pure: bytes in, records out.
//!
//! A segment is records, then zeros to its end. A process that dies in the middle of an append leaves a
//! torn tail: nothing in it was ever released, and it is cut. Something sound *behind* what is broken is
//! another matter: the disk lost what it had confirmed, and that is said loudly, whatever is left is kept.

use crate::record::{ALIGNMENT, Decoded, Flaw, decode, may_begin, padded};

/// Most of a segment may be zeros yet: so many at once are told from something else in one comparison.
const ZEROS: [u8; 4096] = [0; 4096];

/// How the bytes of a segment end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing but zeros follows the last record.
    Clean {
        /// Where the last record ends.
        at: usize,
    },
    /// What follows the last record is none, and nothing sound is behind it.
    Torn {
        /// Where the last record ends.
        at: usize,
        /// From there to the last byte that is not zero.
        bytes: usize,
    },
    /// There were sound records behind broken bytes.
    Corrupt {
        /// Where the first of the broken bytes are.
        at: usize,
        /// How many are broken, in all such places.
        bytes: usize,
    },
}

/// A sound record of a version that this release does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of version {0}")]
pub struct NewerVersion(pub u8);

/// Reads every sound record in the bytes of a segment, in order, with where it begins.
pub fn recover<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(usize, Decoded<'a>),
) -> Result<End, NewerVersion> {
    let mut at = 0;
    let mut broken = None;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match decode(rest) {
            Ok(decoded) => {
                let length = decoded.bytes.len();
                each(at, decoded);
                at += padded(length);
            }
            Err(Flaw::Newer(version)) => return Err(NewerVersion(version)),
            Err(Flaw::Damaged) => match next_sound(rest) {
                Some(skipped) => {
                    let (first, lost) = broken.unwrap_or((at, 0));
                    broken = Some((first, lost + skipped));
                    at += skipped;
                }
                None => return Ok(end(at, rest, broken)),
            },
        }
    }
}

/// What can be read of a damaged segment, and nothing else.
pub fn sound(bytes: &[u8]) -> Vec<u8> {
    let mut sound = Vec::with_capacity(bytes.len());
    // A newer version ends it, as it ends every reading: nobody asks for what is sound before that.
    let _ = recover(bytes, |_, decoded| {
        sound.extend_from_slice(decoded.bytes);
        sound.resize(padded(sound.len()), 0);
    });
    sound
}

/// How it ends at `at`, with no record in the `rest`.
fn end(at: usize, rest: &[u8], broken: Option<(usize, usize)>) -> End {
    let zeros: usize =
        rest.rchunks(ZEROS.len()).take_while(|it| is_zeros(it)).map(<[u8]>::len).sum();
    let written = rest.get(..rest.len() - zeros).unwrap_or_default();
    let torn = written.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    match broken {
        Some((first, lost)) => End::Corrupt { at: first, bytes: lost + torn },
        None if torn > 0 => End::Torn { at, bytes: torn },
        None => End::Clean { at },
    }
}

/// How far behind broken bytes the next sound record is, if there is one.
fn next_sound(rest: &[u8]) -> Option<usize> {
    let parts = rest.chunks(ZEROS.len()).enumerate().filter(|(_, part)| !is_zeros(part));
    let steps = parts.flat_map(|(number, part)| {
        let steps = part.chunks(ALIGNMENT).enumerate();
        steps.map(move |(step, chunk)| (number * ZEROS.len() + step * ALIGNMENT, chunk))
    });
    steps
        .filter(|(skipped, chunk)| *skipped > 0 && may_begin(chunk))
        .map(|(skipped, _)| skipped)
        .find(|skipped| rest.get(*skipped..).is_some_and(|it| decode(it) != Err(Flaw::Damaged)))
}

fn is_zeros(part: &[u8]) -> bool {
    ZEROS.get(..part.len()) == Some(part)
}

#[cfg(test)]
mod tests;
