//! How a policy asks history: `history.customer:count("24h")`. A borrowed view, so that no history
//! is copied to be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use backstop_contract::Timestamp;
use backstop_engine::History;
use backstop_engine::history::KEPT;
use mlua::{FromLua, Lua, UserDataMethods, Value};

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

/// What a history answers, by the names that are registered below.
pub(crate) const ACCESSORS: [&str; 7] =
    ["count", "distinct", "frauds", "last_seen", "mean", "risk", "sum"];

/// Teaches a machine the methods of a history.
pub(crate) fn register(lua: &Lua, now: &Now) -> mlua::Result<()> {
    lua.register_userdata_type::<History>(|methods| {
        let at = now.clone();
        methods.add_method("count", move |_, past, span: Span| {
            Ok(past.count(span.window, span.delay, at.get()) as f64)
        });
        let at = now.clone();
        methods.add_method("sum", move |_, past, span: Span| {
            Ok(past.sum(span.window, span.delay, at.get()) as f64)
        });
        let at = now.clone();
        methods.add_method("mean", move |_, past, span: Span| {
            Ok(past.mean(span.window, span.delay, at.get()))
        });
        let at = now.clone();
        methods.add_method("frauds", move |_, past, span: Span| {
            Ok(past.frauds(span.window, span.delay, at.get()) as f64)
        });
        let at = now.clone();
        methods.add_method("risk", move |_, past, span: Span| {
            Ok(past.risk(span.window, span.delay, at.get()))
        });
        let at = now.clone();
        methods.add_method("distinct", move |_, past, span: Span| {
            if span.delay > Duration::ZERO {
                let wrong = "distinct takes a window alone: a counterparty is known by when it was last met";
                return Err(mlua::Error::runtime(wrong));
            }
            Ok(past.distinct(span.window, at.get()) as f64)
        });
        let at = now.clone();
        methods.add_method("last_seen", move |_, past, ()| {
            Ok(past.last_seen(at.get()).map(|seen| seen.as_millis() as f64))
        });
    })
}

/// The arguments of most methods: a window, and how long before now it ends.
struct Span {
    window: Duration,
    delay: Duration,
}

impl mlua::FromLuaMulti for Span {
    fn from_lua_multi(values: mlua::MultiValue, lua: &Lua) -> mlua::Result<Self> {
        let mut values = values.into_iter();
        let window = Length::from_lua(values.next().unwrap_or(Value::Nil), lua)?.0;
        let delay = match values.next() {
            None | Some(Value::Nil) => Duration::ZERO,
            Some(value) => Length::from_lua(value, lua)?.0,
        };
        if window.saturating_add(delay) > KEPT {
            let days = KEPT.as_secs() / (24 * 60 * 60);
            return Err(mlua::Error::runtime(format!("history is kept for {days} days")));
        }
        Ok(Self { window, delay })
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
fn parse(text: &str) -> Option<Duration> {
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
