//! How a policy asks history: `history.customer:count("24h")`. A borrowed view, so that no history
//! is copied to be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use backstop_contract::Timestamp;
use backstop_engine::History;
use backstop_engine::history::KEPT;
use mlua::{FromLua, Lua, UserDataMethods, Value};

use crate::library::Function;
use crate::meter::Meter;

/// The event time of the call under way; windows end there.
#[derive(Clone, Default)]
pub(crate) struct Now(Arc<AtomicI64>);

impl Now {
    pub(crate) fn set(&self, at: Timestamp) {
        self.0.store(at.as_millis(), Ordering::Relaxed);
    }

    fn get(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

const WINDOW: (&str, &str, &str) = ("window", "Window", "how long, such as \"24h\"");
const DELAY: (&str, &str, &str) = ("delay?", "Window", "how long before now the window ends");

/// What a history answers, as it is registered below.
pub(crate) const ACCESSORS: &[Function] = &[
    Function {
        name: "count",
        parameters: &[WINDOW, DELAY],
        returns: ("integer", "how many"),
        says: "How many requests there were, whatever was decided.",
    },
    Function {
        name: "sum",
        parameters: &[WINDOW, DELAY],
        returns: ("integer", "minor units"),
        says: "The sum of their amounts.",
    },
    Function {
        name: "mean",
        parameters: &[WINDOW, DELAY],
        returns: ("number?", "minor units; nil without requests"),
        says: "Their mean amount.",
    },
    Function {
        name: "frauds",
        parameters: &[WINDOW, DELAY],
        returns: ("integer", "how many"),
        says: "How many of them were labelled fraud since.",
    },
    Function {
        name: "risk",
        parameters: &[WINDOW, DELAY],
        returns: ("number?", "0 to 1; nil without requests"),
        says: "The share of frauds among them.",
    },
    Function {
        name: "distinct",
        parameters: &[WINDOW],
        returns: ("integer", "how many; 64 means 64 or more"),
        says: "How many different counterparties there were, where keys names one.",
    },
    Function {
        name: "last_seen",
        parameters: &[],
        returns: ("integer?", "milliseconds since 1970; nil without requests"),
        says: "When the latest request was.",
    },
];

/// Teaches a machine the methods of a history; `meter` notes what is asked.
pub(crate) fn register(lua: &Lua, now: &Now, meter: Option<&Arc<Meter>>) -> mlua::Result<()> {
    /// Counts are whole, and so are sums; Lua has numbers alone.
    type Of<T> = fn(&History, &Span, Timestamp) -> T;
    let numbers: [(&str, Of<u64>); 3] = [
        ("count", |past, span, now| past.count(span.window, span.delay, now)),
        ("sum", |past, span, now| past.sum(span.window, span.delay, now)),
        ("frauds", |past, span, now| past.frauds(span.window, span.delay, now)),
    ];
    let means: [(&str, Of<Option<f64>>); 2] = [
        ("mean", |past, span, now| past.mean(span.window, span.delay, now)),
        ("risk", |past, span, now| past.risk(span.window, span.delay, now)),
    ];
    lua.register_userdata_type::<History>(|methods| {
        for (name, of) in numbers {
            let (at, meter) = (now.clone(), meter.cloned());
            methods.add_method(name, move |_, past, span: Span| {
                let answer = of(past, &span, at.get());
                note(meter.as_ref(), past, span.reach(), || (span.call(name), answer.to_string()));
                Ok(answer as f64)
            });
        }
        for (name, of) in means {
            let (at, meter) = (now.clone(), meter.cloned());
            methods.add_method(name, move |_, past, span: Span| {
                let answer = of(past, &span, at.get());
                note(meter.as_ref(), past, span.reach(), || (span.call(name), shown_or_nil(answer)));
                Ok(answer)
            });
        }
        let (at, noting) = (now.clone(), meter.cloned());
        methods.add_method("distinct", move |_, past, span: Span| {
            if span.delay > Duration::ZERO {
                let wrong = "distinct takes a window alone: a counterparty is known by when it was last met";
                return Err(mlua::Error::runtime(wrong));
            }
            let answer = past.distinct(span.window, at.get());
            let said = || (span.call("distinct"), answer.to_string());
            note(noting.as_ref(), past, span.reach(), said);
            Ok(answer as f64)
        });
        let (at, noting) = (now.clone(), meter.cloned());
        methods.add_method("last_seen", move |_, past, ()| {
            let answer = past.last_seen(at.get()).map(|seen| seen.as_millis() as f64);
            // It looks back as far as it must.
            let reach = answer.map_or(KEPT, |_| Duration::ZERO);
            let said = || ("last_seen()".to_owned(), shown_or_nil(answer));
            note(noting.as_ref(), past, reach, said);
            Ok(answer)
        });
    })
}

fn note(
    meter: Option<&Arc<Meter>>,
    past: &History,
    reach: Duration,
    said: impl FnOnce() -> (String, String),
) {
    if let Some(meter) = meter {
        let (call, answer) = said();
        meter.asked(past, reach, &call, answer);
    }
}

fn shown_or_nil(answer: Option<f64>) -> String {
    answer.map_or_else(|| "nil".to_owned(), |number| number.to_string())
}

/// The arguments of most methods: a window, and how long before now it ends.
struct Span {
    window: Duration,
    delay: Duration,
}

impl Span {
    /// How long before now it begins.
    const fn reach(&self) -> Duration {
        self.window.saturating_add(self.delay)
    }

    /// A call with it, as a rule would write it.
    fn call(&self, name: &str) -> String {
        if self.delay.is_zero() {
            return format!("{name}({:?})", written(self.window));
        }
        format!("{name}({:?}, {:?})", written(self.window), written(self.delay))
    }
}

/// A length of time in its largest whole unit.
fn written(length: Duration) -> String {
    let seconds = length.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

impl mlua::FromLuaMulti for Span {
    fn from_lua_multi(values: mlua::MultiValue, lua: &Lua) -> mlua::Result<Self> {
        let mut values = values.into_iter();
        let window = Length::from_lua(values.next().unwrap_or(Value::Nil), lua)?.0;
        let delay = match values.next() {
            None | Some(Value::Nil) => Duration::ZERO,
            Some(value) => Length::from_lua(value, lua)?.0,
        };
        let span = Self { window, delay };
        if span.reach() > KEPT {
            let days = KEPT.as_secs() / (24 * 60 * 60);
            return Err(mlua::Error::runtime(format!("history is kept for {days} days")));
        }
        Ok(span)
    }
}

/// A length of time as a policy writes it.
struct Length(Duration);

impl FromLua for Length {
    fn from_lua(value: Value, _: &Lua) -> mlua::Result<Self> {
        let text = value.as_string().map(mlua::LuaString::to_string_lossy);
        text.as_deref().and_then(parse).map(Self).ok_or_else(|| {
            let wrong = text.map_or_else(|| value.type_name().to_owned(), |text| shown(&text));
            mlua::Error::runtime(format!(
                "{wrong} is not a length of time; write such as \"90s\", \"5m\", \"1h\" or \"7d\""
            ))
        })
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(16).collect::<String>())
}

/// Reads digits and a unit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_digits_and_one_unit() {
        let seconds = |text| parse(text).map(|length| length.as_secs());
        for (text, expected) in [
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("1h", Some(3600)),
            ("7d", Some(604_800)),
            ("0s", Some(0)),
            ("99999999d", Some(99_999_999 * 86_400)),
            ("", None),
            ("h", None),
            ("1", None),
            ("1w", None),
            ("-1h", None),
            ("1.5h", None),
            ("+1h", None),
            ("1 h", None),
            ("1é", None),
            ("123456789s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }
}
