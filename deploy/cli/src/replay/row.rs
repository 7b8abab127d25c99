//! Rows of a file as requests. What became of one never becomes part of it: a label is what the answer
//! is held against, and a cancellation is a request of its own, later.
//!
//! | module | a line is |
//! |---|---|
//! | [`transaction`] | a card transaction, for the policy `payment` |
//! | [`order`] | one article of an order, for the policy `claim` |
//! | [`booking`] | a stay in a hotel, for the policy `booking` |
//! | [`body`] | a request as it is sent |

mod body;
mod booking;
mod order;
mod transaction;

use backstop_contract::Timestamp;
use bytes::Bytes;
use csv::StringRecord;
use serde::Serialize;

pub use self::body::{BODY_BYTES_MAX, read as read_body};

/// The largest amount that every JSON reader agrees on, 2^53 - 1.
const AMOUNT_MAX: u64 = (1 << 53) - 1;

/// One request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The id of the request.
    pub id: String,
    /// When it happened, in the file's time; absent where that does not matter.
    pub at: Option<Timestamp>,
    /// The request, as it is sent.
    pub body: Bytes,
    /// What is known of it later, where the file says so.
    pub later: Option<Later>,
}

/// What is known of a request only after it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Later {
    /// Whether it was fraud.
    Fraud(bool),
    /// That it was cancelled, by this request.
    Cancelled(Box<Row>),
}

impl Row {
    /// Whether it was fraud, where the file says so.
    pub const fn fraud(&self) -> Option<bool> {
        match &self.later {
            Some(Later::Fraud(fraud)) => Some(*fraud),
            _ => None,
        }
    }
}

/// What a line of the file is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A request.
    Request(Row),
    /// A cancellation that does not say of what, which is not replayed.
    Cancel,
    /// A correction of the books, which is not replayed.
    Adjust,
}

/// What is wrong with a line, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

fn fault(wrong: impl Into<String>, right: impl Into<String>) -> Fault {
    Fault { wrong: wrong.into(), right: right.into() }
}

/// Which column holds what, as the header has it.
#[derive(Debug)]
pub enum Columns {
    /// Card transactions.
    Transactions(transaction::Columns),
    /// Lines of orders.
    Orders(order::Columns),
    /// Bookings of rooms.
    Bookings(booking::Columns),
}

impl Columns {
    /// Finds the columns. What else the file has is not read.
    pub fn find(header: &StringRecord) -> Result<Self, Fault> {
        let has = |name| header.iter().any(|column| column == name);
        if has("txn_id") {
            transaction::Columns::find(header).map(Self::Transactions)
        } else if has("line_id") {
            order::Columns::find(header).map(Self::Orders)
        } else if has("source_row") {
            booking::Columns::find(header).map(Self::Bookings)
        } else {
            let right = "begin with a line that names columns (those of transactions begin with \
                         txn_id, of orders with line_id, of bookings with source_row), or give one \
                         request a line, as JSON";
            let empty = header.is_empty();
            let wrong = "there is neither a header that is known nor a request";
            Err(fault(if empty { "the file is empty" } else { wrong }, right))
        }
    }

    /// Whether the file says what was fraud.
    pub const fn labelled(&self) -> bool {
        matches!(self, Self::Transactions(columns) if columns.labelled())
    }

    /// Reads one line.
    pub fn read(&self, record: &StringRecord) -> Result<Line, Fault> {
        match self {
            Self::Transactions(columns) => columns.read(record).map(Line::Request),
            Self::Orders(columns) => columns.read(record),
            Self::Bookings(columns) => columns.read(record),
        }
    }
}

/// The places of these columns; `right` is what the file should have.
fn places<const N: usize>(
    header: &StringRecord,
    names: [&str; N],
    right: &str,
) -> Result<[usize; N], Fault> {
    let mut places = [0; N];
    for (place, name) in places.iter_mut().zip(names) {
        let found = header.iter().position(|column| column == name);
        *place = found.ok_or_else(|| fault(format!("there is no column {name}"), right))?;
    }
    Ok(places)
}

/// The fields at these places.
fn fields<const N: usize>(record: &StringRecord, places: [usize; N]) -> [&str; N] {
    places.map(|place| record.get(place).unwrap_or_default())
}

/// A request as it is written; what a policy reads beyond this is `A`.
#[derive(Serialize)]
struct Body<'a, A> {
    id: &'a str,
    policy: &'a str,
    account: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    at: &'a str,
    attributes: A,
}

impl<A: Serialize> Body<'_, A> {
    fn to_bytes(&self) -> Bytes {
        // Strings and whole numbers always serialize.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

fn named<'a>(column: &str, text: &'a str) -> Result<&'a str, Fault> {
    let empty = || fault(format!("{column} is empty"), "give every row its own");
    if text.is_empty() { Err(empty()) } else { Ok(text) }
}

fn time(text: &str) -> Result<Timestamp, Fault> {
    let right = "give RFC 3339, such as 2018-08-01T00:00:31Z";
    Timestamp::parse(text).ok_or_else(|| fault(format!("ts is {text:?}"), right))
}

fn flag(column: &str, text: &str) -> Result<bool, Fault> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(fault(format!("{column} is {text:?}"), "give 0 or 1")),
    }
}

/// A decimal as hundredths, exactly: no binary fraction comes in between.
fn minor_units(column: &str, text: &str) -> Result<u64, Fault> {
    let wrong =
        || fault(format!("{column} is {text:?}"), "give at most two decimals, such as 57.16");
    let (units, cents) = text.split_once('.').unwrap_or((text, "00"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(units) || !digits(cents) || cents.len() > 2 {
        return Err(wrong());
    }
    let tens: u64 = if cents.len() == 1 { 10 } else { 1 };
    let units: u64 = units.parse().map_err(|_too_long| wrong())?;
    let cents: u64 = cents.parse().map_err(|_never| wrong())?;
    let minor = units.checked_mul(100).and_then(|minor| minor.checked_add(cents * tens));
    minor.filter(|minor| *minor <= AMOUNT_MAX).ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
