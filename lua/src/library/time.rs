//! What time it was, where the offset from UTC is known. There is no time zone database: it would have to
//! be the same on every machine, and it changes.

use jiff::tz::Offset;
use mlua::{Lua, LuaString, Table};

use super::{Function, Library, wrong};

const AT: (&str, &str, &str) = ("at", "integer", "milliseconds since 1970, such as tx.at");
const OFFSET: (&str, &str, &str) = ("offset?", "string", "from UTC, such as \"+02:00\"; UTC");
/// As far as any place on Earth is from UTC, and a little more.
const MINUTES_MAX: i32 = 18 * 60;

pub(super) const LIBRARY: Library = Library {
    name: "time",
    says: "What time it was, at a fixed offset from UTC.",
    functions: &[
        Function {
            name: "hour",
            parameters: &[AT, OFFSET],
            returns: ("integer", "0 to 23"),
            says: "The hour of the day.",
        },
        Function {
            name: "minute",
            parameters: &[AT, OFFSET],
            returns: ("integer", "0 to 59"),
            says: "The minute of the hour.",
        },
        Function {
            name: "weekday",
            parameters: &[AT, OFFSET],
            returns: ("integer", "1 is Monday, 7 is Sunday"),
            says: "The day of the week.",
        },
        Function {
            name: "date",
            parameters: &[AT, OFFSET],
            returns: ("string", "such as \"2018-08-01\""),
            says: "The day; dates compare as texts do.",
        },
    ],
};

type Given = (f64, Option<LuaString>);

pub(super) fn register(lua: &Lua, table: &Table) -> mlua::Result<()> {
    let hour = |_: &Lua, given: Given| Ok(there(given)?.hour());
    table.raw_set("hour", lua.create_function(hour)?)?;
    let minute = |_: &Lua, given: Given| Ok(there(given)?.minute());
    table.raw_set("minute", lua.create_function(minute)?)?;
    let weekday = |_: &Lua, given: Given| Ok(there(given)?.weekday().to_monday_one_offset());
    table.raw_set("weekday", lua.create_function(weekday)?)?;
    let date = |_: &Lua, given: Given| Ok(there(given)?.date().to_string());
    table.raw_set("date", lua.create_function(date)?)
}

fn there((at, offset): Given) -> mlua::Result<jiff::civil::DateTime> {
    let offset = offset.map_or(Some(Offset::UTC), |text| parse(&text.to_string_lossy()));
    let offset =
        offset.ok_or_else(|| wrong("that is no offset; write such as \"+02:00\" or \"-05:30\""))?;
    // Out of bounds it saturates, and jiff refuses that.
    #[allow(clippy::cast_possible_truncation)]
    let moment = jiff::Timestamp::from_millisecond(at as i64);
    let moment = moment.ok().filter(|_| at.is_finite());
    moment
        .map(|moment| offset.to_datetime(moment))
        .ok_or_else(|| wrong("that is no time; give milliseconds since 1970, such as tx.at"))
}

fn parse(text: &str) -> Option<Offset> {
    let (sign, rest) = text.split_at_checked(1)?;
    let sign = match sign {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two = |digits: &str| {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<i32>().ok().filter(|_| plain)
    };
    let minutes = two(minutes).filter(|minutes| *minutes < 60)? + 60 * two(hours)?;
    let offset = (minutes <= MINUTES_MAX).then_some(sign * minutes * 60)?;
    Offset::from_seconds(offset).ok()
}
