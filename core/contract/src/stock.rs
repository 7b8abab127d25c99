//! How much is left of something that decisions take from.

use bytes::Bytes;
use serde::Serialize;

use crate::class::Restricted;
use crate::one_field;
use crate::problem::Problem;
use crate::validity::INTEGER_MAX;

/// The most bytes in the key of a stock: as many as a policy may ask for.
pub const KEY_BYTES_MAX: usize = 2048;

/// What is left of one stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stock {
    /// Units, at most 2^53 - 1.
    pub remaining: i64,
}

impl Stock {
    /// Reads a body as it came from an operator. It has no place for a card number.
    pub fn receive(body: Restricted<Bytes>) -> Result<Self, Problem> {
        Self::read(&body.uncover())
    }

    /// Reads `{"remaining": 30}`; nothing less, nothing more.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        let wrong = || {
            Problem::field(
                "/remaining",
                "the body is not an object with the one field remaining, a whole number of units",
                "send 0 to 9007199254740991 units, such as {\"remaining\": 30}",
            )
        };
        let remaining: u64 = one_field::read(body, "remaining", wrong)?;
        let remaining = i64::try_from(remaining).ok().filter(|_| remaining <= INTEGER_MAX);
        Ok(Self { remaining: remaining.ok_or_else(wrong)? })
    }

    /// The stock as a body.
    pub fn to_json(self) -> Vec<u8> {
        // One number always serializes.
        serde_json::to_vec(&self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_is_one_whole_number_of_units() {
        for remaining in [0, 30, 9_007_199_254_740_991] {
            assert_eq!(Stock::read(&Stock { remaining }.to_json()), Ok(Stock { remaining }));
        }
        let wrong: [(&[u8], bool); 9] = [
            (b"", false),
            (b"{\"remaining\": 1} 2", false),
            (b"[30]", true),
            (b"{}", true),
            (b"{\"remaining\": -1}", true),
            (b"{\"remaining\": 1.5}", true),
            (b"{\"remaining\": \"30\"}", true),
            (b"{\"remaining\": 9007199254740992}", true),
            (b"{\"remaining\": 1, \"remaining\": 1}", true),
        ];
        for (body, names_the_field) in wrong {
            let shown = String::from_utf8_lossy(body);
            let problem = Stock::read(body).expect_err(&shown);
            assert_eq!(problem.status, 400, "{shown}");
            assert_eq!(problem.pointer.is_some(), names_the_field, "{shown}");
        }
    }
}
