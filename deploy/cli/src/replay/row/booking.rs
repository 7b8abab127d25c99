//! Bookings of hotel rooms, for the policy `booking`, and the requests that cancel them. The file knows
//! only days: a booking is made as its day begins, and cancelled as a day ends.

use csv::StringRecord;
use serde::Serialize;

use super::{
    AMOUNT_MAX, Body, Fault, Later, Line, Row, fault, fields, flag, minor_units, named, places,
    time,
};

const RIGHT: &str = "a file of bookings has source_row, booked_on, hotel, room_type_reserved, \
                     arrive_on, nights, adr, agent_id, is_canceled, final_status_on";

/// Where the columns are, in the order of [`RIGHT`].
#[derive(Debug)]
pub struct Columns([usize; 10]);

impl Columns {
    /// Finds them by their names.
    pub fn find(header: &StringRecord) -> Result<Self, Fault> {
        let names = [
            "source_row",
            "booked_on",
            "hotel",
            "room_type_reserved",
            "arrive_on",
            "nights",
            "adr",
            "agent_id",
            "is_canceled",
            "final_status_on",
        ];
        places(header, names, RIGHT).map(Self)
    }

    /// A stay as a booking, and its cancellation as what comes later.
    pub fn read(&self, record: &StringRecord) -> Result<Line, Fault> {
        /// What the policy reads, and how long the stay is.
        #[derive(Serialize)]
        struct Attributes<'a> {
            hotel: &'a str,
            room_type: &'a str,
            arrive_on: &'a str,
            nights: u32,
        }
        let [row, booked_on, hotel, room_type, arrive_on, nights, rate, agent, ..] =
            fields(record, self.0);
        let row = named("source_row", row)?;
        // Nobody books a room to be paid for it: a rate below zero puts an earlier one right.
        if rate.starts_with('-') {
            return Ok(Line::Adjust);
        }
        let nights = whole_nights(nights)?;
        let stay = Stay { row, agent, amount: amount(rate, nights)? };
        let attributes = Attributes {
            hotel: named("hotel", hotel)?,
            room_type: named("room_type_reserved", room_type)?,
            arrive_on: named("arrive_on", arrive_on)?,
            nights,
        };
        let booked = moment("booked_on", booked_on, "00:00:00Z")?;
        let mut request = stay.request(format!("booking-{row}"), &booked, attributes)?;
        request.later = self.cancel(record, &stay, &request)?.map(Box::new).map(Later::Cancelled);
        Ok(Line::Request(request))
    }

    /// The request that cancels a booking, if it was cancelled.
    fn cancel(
        &self,
        record: &StringRecord,
        stay: &Stay<'_>,
        booking: &Row,
    ) -> Result<Option<Row>, Fault> {
        /// What the policy reads of a cancellation.
        #[derive(Serialize)]
        struct Attributes<'a> {
            cancels: &'a str,
        }
        let [.., cancelled, cancelled_on] = fields(record, self.0);
        if !flag("is_canceled", cancelled)? {
            return Ok(None);
        }
        let at = moment("final_status_on", cancelled_on, "23:59:59Z")?;
        let request =
            stay.request(format!("cancel-{}", stay.row), &at, Attributes { cancels: &booking.id })?;
        if request.at < booking.at {
            let wrong = "final_status_on is before booked_on";
            return Err(fault(wrong, "give the day of the cancellation"));
        }
        Ok(Some(request))
    }
}

/// What a booking and its cancellation have in common.
struct Stay<'a> {
    row: &'a str,
    agent: &'a str,
    amount: u64,
}

impl Stay<'_> {
    fn request(&self, id: String, at: &str, attributes: impl Serialize) -> Result<Row, Fault> {
        let account = if self.agent.is_empty() {
            format!("guest-{}", self.row)
        } else {
            format!("agent-{}", self.agent)
        };
        let request = Body {
            id: &id,
            policy: "booking",
            account: &account,
            amount: Some(self.amount),
            currency: Some("EUR"),
            at,
            attributes,
        };
        let body = request.to_bytes();
        Ok(Row { id, at: Some(time(at)?), body, later: None })
    }
}

/// All nights at their mean rate, in cents.
fn amount(rate: &str, nights: u32) -> Result<u64, Fault> {
    let amount = minor_units("adr", rate)?.checked_mul(u64::from(nights));
    let too_much = || fault("adr times nights is over 2^53 - 1 cents", "give a smaller adr");
    amount.filter(|amount| *amount <= AMOUNT_MAX).ok_or_else(too_much)
}

fn whole_nights(text: &str) -> Result<u32, Fault> {
    let wrong = |_not_whole| fault(format!("nights is {text:?}"), "give a whole number of nights");
    text.parse().map_err(wrong)
}

/// A time of a day of the file.
fn moment(column: &str, day: &str, time_of_day: &str) -> Result<String, Fault> {
    let moment = format!("{day}T{time_of_day}");
    let wrong = |_no_time| fault(format!("{column} is {day:?}"), "give a day, such as 2015-07-01");
    time(&moment).map(|_valid| moment).map_err(wrong)
}
