//! Files of every kind, a line at a time.

use super::*;

const TXNS: &str = "txn_id,ts,customer_id,terminal_id,amount,is_fraud,fraud_scenario";
const STAYS: &str = "source_row,booked_on,hotel,room_type_reserved,arrive_on,nights,adr,agent_id,is_canceled,final_status_on";
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
    assert_eq!((row.id.as_str(), row.fraud()), ("txn-7", Some(true)));
    assert_eq!(row.at, Timestamp::parse("2018-04-01T00:00:31Z"));
}

#[test]
fn columns_are_found_by_name_wherever_they_are() {
    let row =
        request("amount,x,ts,terminal_id,txn_id,customer_id", "1,?,2018-04-01T00:00:31Z,3,4,5");
    assert_eq!(
        row.body,
        r#"{"id":"txn-4","policy":"payment","account":"customer-5","amount":100,"currency":"GBP","at":"2018-04-01T00:00:31Z","attributes":{"terminal":"3"}}"#
    );
    assert_eq!(row.later, None);
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
fn a_booking_takes_a_room_for_the_whole_stay() {
    let row = request(STAYS, "890,2014-04-30,resort,E,2015-08-03,7,77.54,40,0,2015-08-10");
    assert_eq!(
        row.body,
        r#"{"id":"booking-890","policy":"booking","account":"agent-40","amount":54278,"currency":"EUR","at":"2014-04-30T00:00:00Z","attributes":{"hotel":"resort","room_type":"E","arrive_on":"2015-08-03","nights":7}}"#
    );
    assert_eq!((row.at, row.later), (Timestamp::parse("2014-04-30T00:00:00Z"), None));
    let refund = "890,2014-04-30,resort,E,2015-08-03,7,-6.38,40,0,2015-08-10";
    assert_eq!(read(STAYS, refund), Ok(Line::Adjust));
}

/// One in eight of the published cancellations comes on the day of the booking, so that both are one day
/// in the file: a cancellation sent first would find nothing to cancel.
#[test]
fn a_booking_is_cancelled_as_its_last_day_ends_by_the_same_account() {
    let row = request(STAYS, "7,2014-04-30,resort,E,2015-08-03,0,77.5,,1,2014-04-30");
    let Some(Later::Cancelled(cancel)) = row.later else { panic!("{row:?}") };
    assert_eq!(
        cancel.body,
        r#"{"id":"cancel-7","policy":"booking","account":"guest-7","amount":0,"currency":"EUR","at":"2014-04-30T23:59:59Z","attributes":{"cancels":"booking-7"}}"#
    );
    assert_eq!(cancel.at, Timestamp::parse("2014-04-30T23:59:59Z"));
    assert!(cancel.at > row.at && cancel.later.is_none());
}

#[test]
fn a_request_goes_out_as_it_stands_in_the_file() {
    let line = br#"{ "policy":"claim","id":"c-1", "account":"a" }"#;
    let row = read_body(line, false).unwrap();
    assert_eq!((row.id.as_str(), row.at, &row.body[..]), ("c-1", None, &line[..]));
    let at = br#"{"id":"c","policy":"claim","account":"a","at":"2018-04-01T00:00:31Z"}"#;
    assert_eq!(read_body(at, true).unwrap().at, Timestamp::parse("2018-04-01T00:00:31Z"));
    assert_eq!(read_body(at, false).unwrap().at, None, "by rate alone, any order will do");
}

#[test]
fn a_bad_request_says_what_the_edge_would_say_of_it() {
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(BODY_BYTES_MAX));
    let cases = [
        (r#"{"policy":"claim","account":"a"}"#, false, "/id: ", "1 to 128"),
        (r#"{"id":"c","policy":"payment","account":"a"}"#, false, "/amount: ", "5716"),
        (r#"{"id":"c","policy":"claim","account":"a","at":"noon"}"#, false, "/at: ", "RFC 3339"),
        (r#"{"id":"c","policy":"claim","account":"a"}"#, true, "when", "--rate"),
        (r#"{"id":"c""#, false, "", "one JSON object"),
        (&long, false, "65536 bytes", "leave out"),
    ];
    for (line, timed, wrong, right) in cases {
        let fault = read_body(line.as_bytes(), timed).unwrap_err();
        assert!(fault.wrong.contains(wrong), "{line}: {fault:?}");
        assert!(fault.right.contains(right), "{line}: {fault:?}");
    }
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
        assert_eq!(minor_units("amount", text), Ok(minor), "{text}");
    }
    for text in
        ["", ".", "1.", ".5", "1.234", "-1.00", "+1.00", "1e3", "1,00", "NaN", "90071992547409.92"]
    {
        assert!(minor_units("amount", text).is_err(), "{text}");
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
        ("source_row,booked_on", "", "no column hotel", "room_type_reserved"),
        (STAYS, "8,2015-07,city,A,2015-08-01,2,1.0,,0,2015-08-03", "booked_on is", "a day"),
        (STAYS, "8,2015-07-01,,A,2015-08-01,2,1.0,,0,2015-08-03", "hotel is empty", "its own"),
        (STAYS, "8,2015-07-01,city,A,2015-08-01,x,1.0,,0,2015-08-03", "nights is", "whole"),
        (STAYS, "8,2015-07-01,city,A,2015-08-01,2,1.005,,0,2015-08-03", "adr is", "57.16"),
        (STAYS, "8,2015-07-01,city,A,2015-08-01,2,1.0,,no,2015-08-03", "is_canceled is", "0 or 1"),
        (STAYS, "8,2015-07-01,city,A,2015-08-01,2,1.0,,1,", "final_status_on is", "a day"),
        (
            STAYS,
            "8,2015-07-01,city,A,2015-08-01,2,1.0,,1,2015-06-30",
            "before booked_on",
            "the day",
        ),
        ("id,name", "", "neither", "source_row"),
        ("", "", "neither", "source_row"),
    ];
    for (header, line, wrong, right) in cases {
        let fault = read(header, line).unwrap_err();
        assert!(fault.wrong.contains(wrong), "{line}: {fault:?}");
        assert!(fault.right.contains(right), "{line}: {fault:?}");
    }
}
