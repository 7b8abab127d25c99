//! Rows of a file as requests. A label never becomes part of one: it is what the answer is held against.

use backstop_contract::Timestamp;
use bytes::Bytes;
use csv::StringRecord;
use serde::Serialize;

/// The largest amount that every JSON reader agrees on, 2^53 - 1.
const AMOUNT_MAX: u64 = (1 << 53) - 1;

const TRANSACTIONS: &str =
    "a file of transactions has txn_id, ts, customer_id, terminal_id, amount and may have is_fraud";
const ORDERS: &str = "a file of orders has line_id, ts, order_id, kind, customer_id, sku, qty";

/// One request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The id of the request.
    pub id: String,
    /// When it happened, in the file's time.
    pub at: Timestamp,
    /// The request, as it is sent.
    pub body: Bytes,
    /// What it turned out to be, where the file says so.
    pub fraud: Option<bool>,
}

/// What a line of the file is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A request.
    Request(Row),
    /// A cancellation of an order, which is not replayed.
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
    pub right: &'static str,
}

fn fault(wrong: impl Into<String>, right: &'static str) -> Fault {
    Fault { wrong: wrong.into(), right }
}

/// Which column holds what, as the header has it.
#[derive(Debug)]
pub enum Columns {
    /// Card transactions, for the policy `payment`.
    Transactions {
        /// One place a column: `txn_id, ts, customer_id, terminal_id, amount`.
        places: [usize; 5],
        /// The place of `is_fraud`.
        fraud: Option<usize>,
    },
    /// Lines of orders, for the policy `claim`.
    Orders {
        /// One place a column: `line_id, ts, order_id, kind, customer_id, sku, qty`.
        places: [usize; 7],
    },
}

impl Columns {
    /// Finds the columns. What else the file has is not read.
    pub fn find(header: &StringRecord) -> Result<Self, Fault> {
        let place = |name: &str| header.iter().position(|column| column == name);
        let needed = |name: &str, right| {
            place(name).ok_or_else(|| fault(format!("there is no column {name}"), right))
        };
        if place("txn_id").is_some() {
            let needed = |name| needed(name, TRANSACTIONS);
            let places = [
                needed("txn_id")?,
                needed("ts")?,
                needed("customer_id")?,
                needed("terminal_id")?,
                needed("amount")?,
            ];
            return Ok(Self::Transactions { places, fraud: place("is_fraud") });
        }
        if place("line_id").is_some() {
            let needed = |name| needed(name, ORDERS);
            let places = [
                needed("line_id")?,
                needed("ts")?,
                needed("order_id")?,
                needed("kind")?,
                needed("customer_id")?,
                needed("sku")?,
                needed("qty")?,
            ];
            return Ok(Self::Orders { places });
        }
        let right = "its first line must name columns: txn_id, ts, customer_id, terminal_id, \
                     amount, or line_id, ts, order_id, kind, customer_id, sku, qty";
        Err(fault("this is neither a file of transactions nor one of orders", right))
    }

    /// Whether the file says what was fraud.
    pub const fn labelled(&self) -> bool {
        matches!(self, Self::Transactions { fraud: Some(_), .. })
    }

    /// Reads one line.
    pub fn read(&self, record: &StringRecord) -> Result<Line, Fault> {
        let field = |place: usize| record.get(place).unwrap_or_default();
        match *self {
            Self::Transactions { places, fraud } => {
                transaction(places.map(field), fraud.map(field)).map(Line::Request)
            }
            Self::Orders { places } => order(places.map(field)),
        }
    }
}

fn transaction(
    [id, ts, customer, terminal, amount]: [&str; 5],
    label: Option<&str>,
) -> Result<Row, Fault> {
    /// What the policy `payment` reads.
    #[derive(Serialize)]
    struct Attributes<'a> {
        terminal: &'a str,
    }
    let at = time(ts)?;
    let id = format!("txn-{}", named("txn_id", id)?);
    let request = Body {
        id: &id,
        policy: "payment",
        account: &format!("customer-{}", named("customer_id", customer)?),
        amount: Some(minor_units(amount)?),
        currency: Some("GBP"),
        at: ts,
        attributes: Attributes { terminal: named("terminal_id", terminal)? },
    };
    let body = request.to_bytes();
    Ok(Row { id, at, body, fraud: label.map(flag).transpose()? })
}

fn order([line, ts, order, kind, customer, sku, qty]: [&str; 7]) -> Result<Line, Fault> {
    /// What the policy `claim` reads.
    #[derive(Serialize)]
    struct Attributes<'a> {
        sku: &'a str,
        qty: u32,
    }
    let at = time(ts)?;
    match kind {
        "order" => {}
        "cancel" => return Ok(Line::Cancel),
        "adjust" => return Ok(Line::Adjust),
        _ => return Err(fault(format!("kind is {kind:?}"), "give order, cancel or adjust")),
    }
    let account = if customer.is_empty() {
        format!("guest-{}", named("order_id", order)?)
    } else {
        format!("customer-{customer}")
    };
    let whole = "give a whole number of units, 1 or more";
    let qty = qty.parse().ok().filter(|units| *units > 0);
    let id = format!("line-{}", named("line_id", line)?);
    let request = Body {
        id: &id,
        policy: "claim",
        account: &account,
        amount: None,
        currency: None,
        at: ts,
        attributes: Attributes {
            sku: named("sku", sku)?,
            qty: qty.ok_or_else(|| fault("qty of an order is not a number of units", whole))?,
        },
    };
    let body = request.to_bytes();
    Ok(Line::Request(Row { id, at, body, fraud: None }))
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

fn flag(text: &str) -> Result<bool, Fault> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(fault(format!("is_fraud is {text:?}"), "give 0 or 1")),
    }
}

/// Pounds as pence, exactly: no binary fraction comes in between.
fn minor_units(text: &str) -> Result<u64, Fault> {
    let wrong = || fault(format!("amount is {text:?}"), "give pounds and pence, such as 57.16");
    let (pounds, pence) = text.split_once('.').unwrap_or((text, "00"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(pounds) || !digits(pence) || pence.len() > 2 {
        return Err(wrong());
    }
    let tens: u64 = if pence.len() == 1 { 10 } else { 1 };
    let pounds: u64 = pounds.parse().map_err(|_too_long| wrong())?;
    let pence: u64 = pence.parse().map_err(|_never| wrong())?;
    let minor = pounds.checked_mul(100).and_then(|minor| minor.checked_add(pence * tens));
    minor.filter(|minor| *minor <= AMOUNT_MAX).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TXNS: &str = "txn_id,ts,customer_id,terminal_id,amount,is_fraud,fraud_scenario";
    const LINES: &str = "line_id,ts,order_id,kind,customer_id,sku,qty,unit_price,country";

    fn record(line: &str) -> StringRecord {
        StringRecord::from(line.split(',').collect::<Vec<_>>())
    }

    fn read(header: &str, line: &str) -> Result<Line, Fault> {
        Columns::find(&record(header)).and_then(|columns| columns.read(&record(line)))
    }

    fn request(header: &str, line: &str) -> Row {
        match read(header, line) {
            Ok(Line::Request(row)) => row,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_transaction_becomes_a_payment_and_keeps_its_label_to_itself() {
        let row = request(TXNS, "7,2018-04-01T00:00:31Z,596,3156,57.16,1,2");
        assert_eq!(
            row.body,
            r#"{"id":"txn-7","policy":"payment","account":"customer-596","amount":5716,"currency":"GBP","at":"2018-04-01T00:00:31Z","attributes":{"terminal":"3156"}}"#
        );
        assert_eq!((row.id.as_str(), row.fraud), ("txn-7", Some(true)));
        assert_eq!(row.at, Timestamp::parse("2018-04-01T00:00:31Z").unwrap());
    }

    #[test]
    fn columns_are_found_by_name_wherever_they_are() {
        let row =
            request("amount,x,ts,terminal_id,txn_id,customer_id", "1,?,2018-04-01T00:00:31Z,3,4,5");
        assert_eq!(
            row.body,
            r#"{"id":"txn-4","policy":"payment","account":"customer-5","amount":100,"currency":"GBP","at":"2018-04-01T00:00:31Z","attributes":{"terminal":"3"}}"#
        );
        assert_eq!(row.fraud, None);
    }

    #[test]
    fn an_order_becomes_a_claim_by_its_customer_or_by_a_guest() {
        let row = request(LINES, "9,2010-12-01T08:26:00Z,536365,order,17850,85123A,6,2.55,UK");
        assert_eq!(
            row.body,
            r#"{"id":"line-9","policy":"claim","account":"customer-17850","at":"2010-12-01T08:26:00Z","attributes":{"sku":"85123A","qty":6}}"#
        );
        let guest = request(LINES, "9,2010-12-01T08:26:00Z,536365,order,,85123A,6,2.55,UK");
        assert!(guest.body.windows(24).any(|part| part == br#""account":"guest-536365""#));
    }

    #[test]
    fn cancels_and_adjusts_are_told_apart_and_not_requests() {
        let cancel = "9,2010-12-01T08:26:00Z,C536365,cancel,17850,85123A,-6,2.55,UK";
        assert_eq!(read(LINES, cancel), Ok(Line::Cancel));
        let adjust = "9,2010-12-01T08:26:00Z,A536365,adjust,,B,1,2.55,UK";
        assert_eq!(read(LINES, adjust), Ok(Line::Adjust));
    }

    #[test]
    fn amounts_are_exact() {
        let cases = [
            ("57.16", 5716),
            ("0.29", 29), // 28.999… as a binary fraction
            ("57", 5700),
            ("57.1", 5710),
            ("57.01", 5701),
            ("0.00", 0),
            ("90071992547409.91", AMOUNT_MAX),
        ];
        for (text, minor) in cases {
            assert_eq!(minor_units(text), Ok(minor), "{text}");
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "1.234",
            "-1.00",
            "+1.00",
            "1e3",
            "1,00",
            "NaN",
            "90071992547409.92",
        ] {
            assert!(minor_units(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bad_row_says_which_column_and_what_would_be_right() {
        let cases = [
            (TXNS, "7,2018-04-01 00:00,5,3,1.00,0,0", "ts is", "RFC 3339"),
            (TXNS, ",2018-04-01T00:00:31Z,5,3,1.00,0,0", "txn_id is empty", "its own"),
            (TXNS, "7,2018-04-01T00:00:31Z,,3,1.00,0,0", "customer_id is empty", "its own"),
            (TXNS, "7,2018-04-01T00:00:31Z,5,,1.00,0,0", "terminal_id is empty", "its own"),
            (TXNS, "7,2018-04-01T00:00:31Z,5,3,1.005,0,0", "amount is", "57.16"),
            (TXNS, "7,2018-04-01T00:00:31Z,5,3,1.00,yes,0", "is_fraud is", "0 or 1"),
            (LINES, "9,2010-12-01T08:26:00Z,5,return,1,A,6,2.55,UK", "kind is", "cancel"),
            (LINES, "9,2010-12-01T08:26:00Z,5,order,1,A,0,2.55,UK", "qty", "1 or more"),
            (LINES, "9,2010-12-01T08:26:00Z,,order,,A,1,2.55,UK", "order_id is empty", "its own"),
            ("txn_id,ts,customer_id,amount", "", "no column terminal_id", "terminal_id"),
            ("line_id,ts", "", "no column order_id", "order_id"),
            ("source_row,booked_on", "", "neither", "txn_id"),
        ];
        for (header, line, wrong, right) in cases {
            let fault = read(header, line).unwrap_err();
            assert!(fault.wrong.contains(wrong), "{line}: {fault:?}");
            assert!(fault.right.contains(right), "{line}: {fault:?}");
        }
    }
}
