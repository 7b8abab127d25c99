//! The one function that says whether a request is valid, and what would be right when it is not.
//!
//! Edge and api both call it, so the same bad request gets the same problem document whoever is
//! alive. Syntax is judged before the schema, and the schema before meaning: 400 before 422.
//!
//! The edge gets bodies from clients and [`receive`]s them, still restricted; the api gets what the
//! edge has taken the card numbers out of, and [`check`]s it.

use std::time::Duration;

use bytes::Bytes;

use crate::attributes::{Attributes, Value};
use crate::card;
use crate::class::Restricted;
use crate::json::{Json, parse};
use crate::problem::Problem;
use crate::request::{EventTime, FORCE, Money, Request};
use crate::timestamp::Timestamp;

/// The most characters in an `id`, an `account` or the name of an attribute.
pub const NAME_CHARS_MAX: usize = 128;
/// The most attributes in a request.
pub const ATTRIBUTES_MAX: usize = 64;
/// The most bytes in the text of an attribute.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The largest whole number that every JSON reader, and Lua, holds exactly (RFC 8259, section 6).
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// How far an event time may be from now, but for test keys.
pub const EVENT_TIME_OFF_MAX: Duration = Duration::from_hours(24);
/// The policies whose requests may come without an amount.
const MONEY_OPTIONAL: [&str; 1] = ["claim"];
/// Names of attributes that begin so are the service's own.
const RESERVED: &str = "backstop_";

const FIELDS: &str = "the fields are id, policy, account, amount, currency, at and attributes";

/// What a request is judged against, besides itself.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// When the edge had the whole request.
    pub now: Timestamp,
    /// Asked with a test key: the event time may lie anywhere, and a tier may be forced.
    pub test: bool,
    /// The merchant declared that its ids are plain numbers, which may look like card numbers.
    pub numeric_ids: bool,
    /// Whether a policy of this name exists.
    pub policies: &'a dyn Fn(&str) -> bool,
}

/// A valid request and the body it was read from, before card numbers were taken out of both.
pub struct Received {
    pub(crate) request: Request,
    pub(crate) body: Bytes,
}

/// As [`check`], for a body as a client sent it. What comes of it is restricted until its card
/// numbers are replaced.
pub fn receive(
    body: Restricted<Bytes>,
    terms: &Terms<'_>,
) -> Result<Restricted<Received>, Problem> {
    let body = body.uncover();
    let request = check(&body, terms)?;
    Ok(Restricted::new(Received { request, body }))
}

/// Reads a body as a request, or says what must change first. Names the first fault in the order
/// syntax, schema, meaning.
pub fn check(body: &[u8], terms: &Terms<'_>) -> Result<Request, Problem> {
    check_within(body, terms, TEXT_BYTES_MAX)
}

/// The same for a body that the edge has found valid and then taken the card numbers out of: what
/// replaces one is longer, by less than three times.
pub fn check_again(body: &[u8], terms: &Terms<'_>) -> Result<Request, Problem> {
    check_within(body, terms, 3 * TEXT_BYTES_MAX)
}

fn check_within(body: &[u8], terms: &Terms<'_>, text_bytes_max: usize) -> Result<Request, Problem> {
    let request = Draft::read(parse(body)?, text_bytes_max)?.finish()?;
    check_meaning(&request, terms)?;
    Ok(request)
}

/// The checks whose failure is a 422, and what only test keys may do.
fn check_meaning(request: &Request, terms: &Terms<'_>) -> Result<(), Problem> {
    if request.attributes.get(FORCE).is_some() {
        if !terms.test {
            let detail = "only test keys may force a tier";
            return Err(field(
                &attribute_pointer(FORCE),
                detail,
                "leave it out, or use a test key",
            ));
        }
        if request.force().is_none() {
            let remedy = "send \"edge\" or \"api\", or leave it out";
            return Err(field(&attribute_pointer(FORCE), "there is no tier to force so", remedy));
        }
    }
    if !(terms.policies)(&request.policy) {
        return Err(Problem::unknown_policy());
    }
    for (pointer, name) in [("/id", &request.id), ("/account", &request.account)] {
        if !terms.numeric_ids && card::contains(name) {
            return Err(Problem::card_number(pointer));
        }
    }
    if request.attributes.iter().any(|(name, _)| card::contains(name)) {
        return Err(Problem::card_number("/attributes"));
    }
    match &request.at {
        Some(at) if !terms.test && at.timestamp.distance(terms.now) > EVENT_TIME_OFF_MAX => {
            Err(Problem::time_out_of_range())
        }
        _ => Ok(()),
    }
}

fn field(pointer: &str, detail: impl Into<String>, remedy: &'static str) -> Problem {
    Problem::field(pointer, detail, remedy)
}

/// The fields read so far.
#[derive(Default)]
struct Draft {
    id: Option<String>,
    policy: Option<String>,
    account: Option<String>,
    amount: Option<u64>,
    currency: Option<String>,
    at: Option<EventTime>,
    attributes: Option<Attributes>,
}

impl Draft {
    /// Reads the fields of a body in their order, up to the first that is wrong.
    fn read(body: Json<'_>, text_bytes_max: usize) -> Result<Self, Problem> {
        let Json::Object(fields) = body else {
            return Err(Problem::not_json(format!("the body is {}, not an object", body.noun())));
        };
        let mut draft = Self::default();
        for (name, value) in fields {
            draft.take(&name, value, text_bytes_max)?;
        }
        Ok(draft)
    }

    /// The request, once every field was read; what is missing is named here.
    fn finish(self) -> Result<Request, Problem> {
        let missing = |name: &str, remedy| {
            field(&format!("/{name}"), format!("the field {name} is missing"), remedy)
        };
        let id = self.id.ok_or_else(|| missing("id", "send a string of 1 to 128 characters"))?;
        let policy =
            self.policy.ok_or_else(|| missing("policy", "name the policy, such as payment"))?;
        let account = self
            .account
            .ok_or_else(|| missing("account", "send a string of 1 to 128 characters"))?;
        let money = match (self.amount, self.currency) {
            (Some(amount), Some(currency)) => Some(Money { amount, currency }),
            (None, None) if MONEY_OPTIONAL.contains(&policy.as_str()) => None,
            (None, _) => {
                return Err(missing("amount", "send whole minor units, such as 5716 for 57.16"));
            }
            (Some(_), None) => {
                return Err(missing("currency", "send the ISO 4217 code, such as GBP"));
            }
        };
        let attributes = self.attributes.unwrap_or_default();
        Ok(Request { id, policy, account, money, at: self.at, attributes })
    }

    /// Takes one top-level field.
    fn take(&mut self, name: &str, value: Json<'_>, text_bytes_max: usize) -> Result<(), Problem> {
        match name {
            "id" => put(&mut self.id, "/id", text_of("/id", value, NAME_CHARS_MAX)?),
            "policy" => {
                put(&mut self.policy, "/policy", text_of("/policy", value, NAME_CHARS_MAX)?)
            }
            "account" => {
                put(&mut self.account, "/account", text_of("/account", value, NAME_CHARS_MAX)?)
            }
            "amount" => put(&mut self.amount, "/amount", amount_of(&value)?),
            "currency" => put(&mut self.currency, "/currency", currency_of(value)?),
            "at" => put(&mut self.at, "/at", event_time_of(value)?),
            "attributes" => {
                let attributes = attributes_of(&value, text_bytes_max)?;
                put(&mut self.attributes, "/attributes", attributes)
            }
            _ => Err(unknown_field(name)),
        }
    }
}

fn unknown_field(name: &str) -> Problem {
    let shown = shown(name);
    field(&pointer("", &shown), format!("the field {shown} is not known"), FIELDS)
}

/// A name as it may be shown: bounded, and without what could be a card number.
fn shown(name: &str) -> String {
    if card::contains(name) { "(a card number)".into() } else { name.chars().take(64).collect() }
}

/// A JSON pointer to `name` within `parent`, escaped as RFC 6901 has it.
fn pointer(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn attribute_pointer(name: &str) -> String {
    pointer("/attributes", &shown(name))
}

fn put<T>(slot: &mut Option<T>, pointer: &str, value: T) -> Result<(), Problem> {
    if slot.replace(value).is_some() {
        return Err(field(pointer, "the field is given twice", "give each field once"));
    }
    Ok(())
}

/// Counting characters costs; the number of bytes bounds it for almost every name.
fn is_longer(text: &str, chars_max: usize) -> bool {
    text.len() > chars_max && text.chars().count() > chars_max
}

fn text_of(pointer: &str, value: Json<'_>, chars_max: usize) -> Result<String, Problem> {
    let remedy = "send a string of 1 to 128 characters, none of them a control character";
    let text = match value {
        Json::Text(text) => text,
        other => return Err(field(pointer, format!("it is {}", other.noun()), remedy)),
    };
    if text.is_empty() {
        Err(field(pointer, "it is empty", remedy))
    } else if is_longer(&text, chars_max) {
        Err(field(pointer, format!("it has over {chars_max} characters"), remedy))
    } else if text.chars().any(char::is_control) {
        Err(field(pointer, "it holds a control character", remedy))
    } else {
        Ok(text.into_owned())
    }
}

fn amount_of(value: &Json<'_>) -> Result<u64, Problem> {
    let remedy = "send whole minor units from 0 to 9007199254740991, such as 5716 for 57.16";
    match value {
        Json::Whole(whole) => match u64::try_from(*whole) {
            Ok(amount) if amount <= INTEGER_MAX => Ok(amount),
            Ok(_beyond) => Err(field("/amount", "it is over 9007199254740991", remedy)),
            Err(_negative) => Err(field("/amount", "it is out of range", remedy)),
        },
        other => Err(field("/amount", format!("it is {}", other.noun()), remedy)),
    }
}

fn currency_of(value: Json<'_>) -> Result<String, Problem> {
    let remedy = "send the ISO 4217 code, three capital letters, such as GBP";
    match value {
        Json::Text(code) if code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase()) => {
            Ok(code.into_owned())
        }
        Json::Text(_) => Err(field("/currency", "it is not three capital letters", remedy)),
        other => Err(field("/currency", format!("it is {}", other.noun()), remedy)),
    }
}

fn event_time_of(value: Json<'_>) -> Result<EventTime, Problem> {
    let remedy = "send RFC 3339 with an offset, such as 2018-08-01T00:00:31Z, from 1970 on";
    match value {
        Json::Text(text) => match Timestamp::parse(&text) {
            Some(timestamp) => Ok(EventTime { timestamp, text: text.into_owned() }),
            None => Err(field("/at", "it is not an RFC 3339 time", remedy)),
        },
        other => Err(field("/at", format!("it is {}", other.noun()), remedy)),
    }
}

fn attribute_of<'a>(
    name: &str,
    value: &'a Json<'_>,
    text_bytes_max: usize,
) -> Result<Value<'a>, Problem> {
    let at = || attribute_pointer(name);
    let remedy = "send a string, a number, true or false; attributes are flat";
    match value {
        Json::Text(text) if text.len() <= text_bytes_max => Ok(Value::Text(text)),
        Json::Text(_) => Err(field(&at(), "it has over 1024 bytes", "send at most 1024 bytes")),
        Json::Whole(whole) if whole.unsigned_abs() <= u128::from(INTEGER_MAX) => {
            Ok(i64::try_from(*whole).map_or(Value::Integer(0), Value::Integer))
        }
        Json::Whole(_) => {
            let remedy = "send whole numbers within 9007199254740991 of zero, or a string";
            Err(field(&at(), "it is a whole number out of range", remedy))
        }
        Json::Number(number) => Ok(Value::Number(*number)),
        Json::Flag(flag) => Ok(Value::Flag(*flag)),
        other => Err(field(&at(), format!("it is {}", other.noun()), remedy)),
    }
}

fn attributes_of(value: &Json<'_>, text_bytes_max: usize) -> Result<Attributes, Problem> {
    let Json::Object(pairs) = value else {
        let remedy = "send an object of names and values, or leave it out";
        return Err(field("/attributes", format!("it is {}", value.noun()), remedy));
    };
    if pairs.len() > ATTRIBUTES_MAX {
        return Err(field("/attributes", "there are over 64 attributes", "send at most 64"));
    }
    let text_bytes = pairs.iter().map(|(name, value)| name.len() + value.text_bytes()).sum();
    let mut attributes = Attributes::with_capacity(pairs.len(), text_bytes);
    for (name, value) in pairs {
        if name.is_empty() || is_longer(name, NAME_CHARS_MAX) {
            let detail = "the name of an attribute is empty or over 128 characters";
            return Err(field("/attributes", detail, "name each with 1 to 128 characters"));
        }
        if name.starts_with(RESERVED) && name != FORCE {
            let remedy = "choose a name that does not begin with backstop_";
            return Err(field(&attribute_pointer(name), "the name is reserved", remedy));
        }
        let Some(free) = attributes.vacant(name) else {
            let detail = "the attribute is given twice";
            return Err(field(&attribute_pointer(name), detail, "give each name once"));
        };
        free.insert(attribute_of(name, value, text_bytes_max)?);
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests;
