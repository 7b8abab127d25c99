//! Card transactions, for the policy `payment`.

use csv::StringRecord;
use serde::Serialize;

use super::{Body, Fault, Later, Row, fields, flag, minor_units, named, places, time};

const RIGHT: &str =
    "a file of transactions has txn_id, ts, customer_id, terminal_id, amount and may have is_fraud";

/// Where the columns are.
#[derive(Debug)]
pub struct Columns {
    /// `txn_id, ts, customer_id, terminal_id, amount`.
    places: [usize; 5],
    /// `is_fraud`.
    fraud: Option<usize>,
}

impl Columns {
    /// Finds them by their names.
    pub fn find(header: &StringRecord) -> Result<Self, Fault> {
        let names = ["txn_id", "ts", "customer_id", "terminal_id", "amount"];
        let places = places(header, names, RIGHT)?;
        Ok(Self { places, fraud: header.iter().position(|column| column == "is_fraud") })
    }

    /// Whether the file says what was fraud.
    pub const fn labelled(&self) -> bool {
        self.fraud.is_some()
    }

    /// A transaction as a payment.
    pub fn read(&self, record: &StringRecord) -> Result<Row, Fault> {
        /// What the policy reads.
        #[derive(Serialize)]
        struct Attributes<'a> {
            terminal: &'a str,
        }
        let [id, ts, customer, terminal, amount] = fields(record, self.places);
        let at = time(ts)?;
        let id = format!("txn-{}", named("txn_id", id)?);
        let request = Body {
            id: &id,
            policy: "payment",
            account: &format!("customer-{}", named("customer_id", customer)?),
            amount: Some(minor_units("amount", amount)?),
            currency: Some("GBP"),
            at: ts,
            attributes: Attributes { terminal: named("terminal_id", terminal)? },
        };
        let body = request.to_bytes();
        let fraud = self.fraud.and_then(|place| record.get(place));
        let fraud = fraud.map(|text| flag("is_fraud", text)).transpose()?;
        Ok(Row { id, at: Some(at), body, later: fraud.map(Later::Fraud) })
    }
}
