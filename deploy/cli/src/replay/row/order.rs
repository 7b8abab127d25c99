//! Orders, one article a line, for the policy `claim`. A cancellation among them does not say which
//! line it cancels, so it is left out.

use csv::StringRecord;
use serde::Serialize;

use super::{Body, Fault, Line, Row, fault, fields, named, places, time};

const RIGHT: &str = "a file of orders has line_id, ts, order_id, kind, customer_id, sku, qty";

/// Where the columns are: `line_id, ts, order_id, kind, customer_id, sku, qty`.
#[derive(Debug)]
pub struct Columns([usize; 7]);

impl Columns {
    /// Finds them by their names.
    pub fn find(header: &StringRecord) -> Result<Self, Fault> {
        let names = ["line_id", "ts", "order_id", "kind", "customer_id", "sku", "qty"];
        places(header, names, RIGHT).map(Self)
    }

    /// A line as a claim.
    pub fn read(&self, record: &StringRecord) -> Result<Line, Fault> {
        /// What the policy reads.
        #[derive(Serialize)]
        struct Attributes<'a> {
            sku: &'a str,
            qty: u32,
        }
        let [line, ts, order, kind, customer, sku, qty] = fields(record, self.0);
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
        Ok(Line::Request(Row { id, at: Some(at), body, later: None }))
    }
}
