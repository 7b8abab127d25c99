//! What an operator orders: another stack, the one before, a canary, a pin. The admin routes read it and
//! `backstop switch` writes it, so that both mean the same. It is the reader that insists on a reason.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::canary::{By, Canary, Percent, Share};
use crate::card;
use crate::class::Restricted;
use crate::json::{Json, parse};
use crate::problem::Problem;
use crate::stack::Stack;

/// The most characters in a reason.
pub const REASON_CHARS_MAX: usize = 500;
/// The most characters in the name of who orders, or of a merchant.
pub const WHO_CHARS_MAX: usize = 128;
/// The longest that something may be ordered for: a week.
pub const LASTS_SECONDS_MAX: u64 = 7 * 24 * 3_600;
/// The largest divisor of a canary.
pub const DIVISOR_MAX: u64 = 1_000_000;
/// Who orders, where nobody is named.
const SOMEBODY: &str = "operator";

/// One order, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What is to be done.
    pub what: What,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who says so.
    pub who: String,
    /// After this long it reverts by itself.
    pub lasts: Option<Duration>,
    /// Whether the stack need not be ready.
    pub force: bool,
    /// Whether it is only to be said what would happen.
    pub dry_run: bool,
}

/// What may be ordered.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// New requests go to this stack.
    Switch(Stack),
    /// Back to how it was before the last order.
    Undo,
    /// A part of the traffic goes to another stack; none: all of it to the active one.
    Canary(Option<Canary>),
    /// All requests of one merchant go to a stack; none: to where the others go.
    Pin {
        /// Whose requests.
        merchant: String,
        /// Where they go.
        to: Option<Stack>,
    },
}

/// Where an order is sent, and so what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desk {
    /// `POST /admin/switch`.
    Switch,
    /// `POST /admin/switch/undo`.
    Undo,
    /// `POST /admin/switch/canary`.
    Canary,
    /// `POST /admin/switch/pin`.
    Pin,
}

impl Desk {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Switch, Self::Undo, Self::Canary, Self::Pin];

    /// Its path on the admin listener.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Switch => "/admin/switch",
            Self::Undo => "/admin/switch/undo",
            Self::Canary => "/admin/switch/canary",
            Self::Pin => "/admin/switch/pin",
        }
    }

    /// The fields of its own; every order may have those of [`COMMON`].
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Switch => &["to"],
            Self::Undo => &[],
            Self::Canary => &["to", "percent", "modulo", "remainder", "of"],
            Self::Pin => &["merchant", "to"],
        }
    }
}

const COMMON: [&str; 5] = ["reason", "who", "for_seconds", "force", "dry_run"];

impl Order {
    /// Reads a body that was sent to `desk`. An order has no place for a card number.
    pub fn receive(desk: Desk, body: Restricted<Bytes>) -> Result<Self, Problem> {
        Self::read(desk, &body.uncover())
    }

    /// Reads a body that was sent to `desk`: its fields, each at most once, and no others.
    pub fn read(desk: Desk, body: &[u8]) -> Result<Self, Problem> {
        let fields = Fields::read(desk, body)?;
        let what = match desk {
            Desk::Switch => What::Switch(fields.stack()?.ok_or_else(wants_stack)?),
            Desk::Undo => What::Undo,
            Desk::Canary => What::Canary(fields.canary()?),
            Desk::Pin => What::Pin { merchant: fields.merchant()?, to: fields.stack()? },
        };
        let lasts = fields.lasts()?;
        if lasts.is_some() && matches!(what, What::Undo | What::Pin { .. } | What::Canary(None)) {
            let detail = "only a switch or a canary reverts by itself";
            return Err(Problem::field("/for_seconds", detail, "leave for_seconds out"));
        }
        Ok(Self {
            reason: fields.reason(matches!(what, What::Undo))?,
            who: fields.who()?,
            lasts,
            force: fields.flag("force")?,
            dry_run: fields.flag("dry_run")?,
            what,
        })
    }

    /// Where it is to be sent.
    pub const fn desk(&self) -> Desk {
        match self.what {
            What::Switch(_) => Desk::Switch,
            What::Undo => Desk::Undo,
            What::Canary(_) => Desk::Canary,
            What::Pin { .. } => Desk::Pin,
        }
    }

    /// The order as a body that [`Order::read`] reads.
    pub fn to_json(&self) -> Value {
        let of_its_own = match &self.what {
            What::Switch(to) => json!({ "to": to }),
            What::Undo => json!({}),
            What::Canary(None) => json!({ "to": null }),
            What::Canary(Some(Canary { to, share, by })) => match share {
                Share::Percent(percent) => json!({ "to": to, "of": by, "percent": percent }),
                Share::Modulo { divisor, remainder } => {
                    json!({ "to": to, "of": by, "modulo": divisor, "remainder": remainder })
                }
            },
            What::Pin { merchant, to } => json!({ "merchant": merchant, "to": to }),
        };
        let common = json!({
            "reason": Some(&self.reason).filter(|reason| !reason.is_empty()),
            "who": self.who,
            "for_seconds": self.lasts.map(|lasts| lasts.as_secs()),
            "force": self.force,
            "dry_run": self.dry_run,
        });
        let fields = [of_its_own, common].into_iter().filter_map(|it| match it {
            Value::Object(fields) => Some(fields),
            _ => None,
        });
        Value::Object(fields.flatten().collect())
    }
}

/// The fields of one body.
struct Fields<'a> {
    all: Vec<(std::borrow::Cow<'a, str>, Json<'a>)>,
}

impl<'a> Fields<'a> {
    fn read(desk: Desk, body: &'a [u8]) -> Result<Self, Problem> {
        let known = || desk.fields().iter().chain(&COMMON);
        let names = || known().copied().collect::<Vec<_>>().join(", ");
        let Json::Object(all) = parse(body)? else {
            let remedy = format!("send an object; its fields are {}", names());
            return Err(Problem::field("", "the body is not an object", remedy));
        };
        let mut seen: Vec<&str> = Vec::new();
        for (name, _) in &all {
            let Some(known) = known().find(|known| **known == *name) else {
                // An unknown name is not repeated: it may be anything.
                let remedy = format!("the fields here are {}", names());
                return Err(Problem::field(
                    "",
                    "the body has a field that is unknown here",
                    remedy,
                ));
            };
            if seen.contains(known) {
                let detail = "this field is there twice";
                return Err(Problem::field(format!("/{known}"), detail, "send each field once"));
            }
            seen.push(known);
        }
        Ok(Self { all })
    }

    /// The value of a field; null is as good as absent.
    fn get(&self, name: &str) -> Option<&Json<'a>> {
        let (_, value) = self.all.iter().find(|(it, _)| it == name)?;
        (!matches!(value, Json::Null)).then_some(value)
    }

    fn stack(&self) -> Result<Option<Stack>, Problem> {
        match self.get("to") {
            None => Ok(None),
            Some(Json::Text(text)) => Stack::parse(text).map(Some).ok_or_else(wants_stack),
            Some(_) => Err(wants_stack()),
        }
    }

    fn canary(&self) -> Result<Option<Canary>, Problem> {
        let Some(to) = self.stack()? else {
            return match ["percent", "modulo", "remainder", "of"]
                .iter()
                .find(|it| self.get(it).is_some())
            {
                None => Ok(None),
                Some(_) => Err(wants_stack()),
            };
        };
        let by = match self.get("of") {
            None => By::default(),
            Some(Json::Text(text)) if text == "account" => By::Account,
            Some(Json::Text(text)) if text == "merchant" => By::Merchant,
            Some(_) => {
                let detail = "this field says neither account nor merchant";
                return Err(Problem::field("/of", detail, "send account or merchant"));
            }
        };
        Ok(Some(Canary { to, share: self.share()?, by }))
    }

    fn share(&self) -> Result<Share, Problem> {
        let whole = |name| match self.get(name) {
            Some(Json::Whole(whole)) => u64::try_from(*whole).ok(),
            _ => None,
        };
        match (self.get("percent"), self.get("modulo")) {
            (Some(percent), None) => {
                let number = match percent {
                    Json::Whole(whole) => i32::try_from(*whole).ok().map(f64::from),
                    Json::Number(number) => Some(*number),
                    _ => None,
                };
                let percent = number.and_then(|number| Percent::try_from(number).ok());
                let detail = "this field is no number over 0 and at most 100";
                let wrong = || Problem::field("/percent", detail, "send a percentage, such as 14");
                percent.map(Share::Percent).ok_or_else(wrong)
            }
            (None, Some(_)) => {
                let divisor = whole("modulo").filter(|it| (2..=DIVISOR_MAX).contains(it));
                let divisor = divisor.ok_or_else(|| {
                    let remedy = format!("send a whole number from 2 to {DIVISOR_MAX}");
                    Problem::field("/modulo", "this field is no such divisor", remedy)
                })?;
                let remainder =
                    if self.get("remainder").is_some() { whole("remainder") } else { Some(0) };
                let remainder = remainder.filter(|it| *it < divisor).ok_or_else(|| {
                    let detail = "this field is no whole number less than modulo";
                    Problem::field(
                        "/remainder",
                        detail,
                        "send such a number, or leave it out for 0",
                    )
                })?;
                Ok(Share::Modulo { divisor, remainder })
            }
            _ => {
                let detail = "a canary has either percent or modulo";
                Err(Problem::field("/percent", detail, "send one of them, such as \"percent\": 14"))
            }
        }
    }

    fn merchant(&self) -> Result<String, Problem> {
        match self.get("merchant") {
            Some(Json::Text(name)) if is_text(name, WHO_CHARS_MAX) => Ok(name.clone().into_owned()),
            _ => {
                let detail = "this field is no name of a merchant";
                Err(Problem::field(
                    "/merchant",
                    detail,
                    "send one that `backstop merchant list` names",
                ))
            }
        }
    }

    fn lasts(&self) -> Result<Option<Duration>, Problem> {
        match self.get("for_seconds") {
            None => Ok(None),
            Some(Json::Whole(seconds)) if (1..=LASTS_SECONDS_MAX.into()).contains(seconds) => {
                Ok(u64::try_from(*seconds).ok().map(Duration::from_secs))
            }
            Some(_) => {
                let detail = "this field is no whole number of seconds in range";
                let remedy = format!("send 1 to {LASTS_SECONDS_MAX}, or leave it out for no end");
                Err(Problem::field("/for_seconds", detail, remedy))
            }
        }
    }

    /// The reason; only an undo has one of its own.
    fn reason(&self, may_be_absent: bool) -> Result<String, Problem> {
        match self.get("reason") {
            None if may_be_absent => Ok(String::new()),
            Some(Json::Text(text)) if is_text(text.trim(), REASON_CHARS_MAX) => {
                if card::contains(text) {
                    return Err(Problem::card_number("/reason"));
                }
                Ok(text.trim().to_owned())
            }
            _ => {
                let detail = "this order says no reason";
                let remedy = format!(
                    "send \"reason\": a line of 1 to {REASON_CHARS_MAX} characters that those who read the audit log will understand"
                );
                Err(Problem::field("/reason", detail, remedy))
            }
        }
    }

    fn who(&self) -> Result<String, Problem> {
        match self.get("who") {
            None => Ok(SOMEBODY.to_owned()),
            Some(Json::Text(text)) if is_text(text.trim(), WHO_CHARS_MAX) => {
                if card::contains(text) {
                    return Err(Problem::card_number("/who"));
                }
                Ok(text.trim().to_owned())
            }
            Some(_) => {
                let remedy = format!("send a name of 1 to {WHO_CHARS_MAX} characters");
                Err(Problem::field("/who", "this field is no name", remedy))
            }
        }
    }

    fn flag(&self, name: &'static str) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(false),
            Some(Json::Flag(flag)) => Ok(*flag),
            Some(_) => {
                let detail = "this field is neither true nor false";
                Err(Problem::field(format!("/{name}"), detail, "send true or false"))
            }
        }
    }
}

/// One line that is not empty.
fn is_text(text: &str, chars_max: usize) -> bool {
    let chars = text.chars().count();
    (1..=chars_max).contains(&chars) && !text.trim().is_empty() && !text.contains(char::is_control)
}

fn wants_stack() -> Problem {
    let detail = "this field names no stack";
    Problem::field("/to", detail, "send prod or old-prod")
}

#[cfg(test)]
mod tests;
