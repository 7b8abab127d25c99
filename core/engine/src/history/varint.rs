//! Whole numbers in as few bytes as they need: LEB128, seven bits a byte, the lowest first.
//!
//! One byte at a time, on purpose: reading eight at once was measured and is slower, since where the
//! next number begins then waits for the length of this one.

use super::DecodeError;

/// The most bytes of one number.
pub(super) const BYTES_MAX: usize = 10;

pub(super) fn put(row: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        row.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    row.push(value.to_le_bytes()[0]);
}

#[inline]
pub(super) fn take(row: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(row)?;
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

#[inline]
pub(super) fn take_byte(row: &mut &[u8]) -> Result<u8, DecodeError> {
    row.split_off_first().copied().ok_or(DecodeError::Short)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LEB128, one byte at a time.
    fn plain(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(u8::try_from(value % 0x80 + 0x80).unwrap());
            value /= 0x80;
        }
        bytes.push(u8::try_from(value).unwrap());
        bytes
    }

    #[test]
    fn a_number_of_any_length_is_leb128_and_is_read_again() {
        let edges =
            (0..64).flat_map(|bit| [-1, 0, 1].map(|by| (1_u64 << bit).wrapping_add_signed(by)));
        for value in edges.chain([0x0123_4567_89ab_cdef, u64::MAX]) {
            let mut row = Vec::new();
            put(&mut row, value);
            assert_eq!(row, plain(value), "{value:#x}");
            assert!(row.len() <= BYTES_MAX);
            // At the end of a row, and before the rest of it.
            for rest in [&[][..], &[0; 9], &[0xff; 9]] {
                let row = [&row[..], rest].concat();
                let mut left = &row[..];
                assert_eq!(take(&mut left), Ok(value), "{value:#x}");
                assert_eq!(left, rest, "{value:#x}");
            }
            for cut in 0..row.len() {
                assert_eq!(take(&mut &row[..cut]), Err(DecodeError::Short), "{value:#x}");
            }
        }
    }

    #[test]
    fn a_number_past_64_bits_is_refused() {
        for row in [[0xff; 10], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
            assert_eq!(take(&mut &row[..]), Err(DecodeError::Impossible("number")));
        }
    }
}
