//! What a merchant was told and what the books say of it, side by side.
//!
//! | part | holds |
//! |---|---|
//! | [`Inquiry`], [`Span`], [`Form`] | what is asked: from when to when, and how it shall read |
//! | [`Statement`] | what a merchant was told in a span of time, and what became of it |
//! | [`Upload`] | what a merchant says that it saw, its client's own decisions included |
//! | [`compare`] | the upload against the books: every difference by its name |
//! | [`Ids`], [`Records`] | how the edge asks the api for the books' side of it |

mod comparison;
mod csv;
mod inquiry;
mod record;
mod statement;
mod upload;

pub use comparison::{Comparison, Difference, Finding, Side, compare};
pub use inquiry::{Form, Inquiry, SPAN_MAX, Span};
pub use record::{IDS_BYTES_MAX, IDS_MAX, Ids, Record, Records};
pub use statement::{Gap, Kind, LINES_MAX, Line, Statement, Total};
pub use upload::{Media, ROWS_MAX, Row, UPLOAD_BYTES_MAX, Upload};

use crate::decision::Verdict;
use crate::request::Money;

/// The largest statement, comparison or list of records as a body: 10,000 lines of ids as long as they may be.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What would not have moved, or would have, if the books had been right as they were: above zero where
/// `told` approves against them, below where they approve against it. Zero without money.
fn between(told: Verdict, books: Option<Verdict>, money: Option<&Money>) -> i64 {
    // An amount is under 2^53.
    let amount = money.map_or(0, |money| i64::try_from(money.amount).unwrap_or(i64::MAX));
    match (told == Verdict::Approve, books == Some(Verdict::Approve)) {
        (true, false) => amount,
        (false, true) => -amount,
        (true, true) | (false, false) => 0,
    }
}
