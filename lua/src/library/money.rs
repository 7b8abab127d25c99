//! Money in minor units, from and to how people write it. No binary fraction comes in between.

use backstop_contract::currency::{self, written};
use backstop_contract::validity::INTEGER_MAX;
use mlua::{Lua, LuaString, Table, Value};

use super::{Function, Library, wrong};

/// Shares of an amount are exact to a ten-thousandth of a percent.
const PARTS: i64 = 1_000_000;

pub(super) const LIBRARY: Library = Library {
    name: "money",
    says: "Amounts in minor units, from and to how people write them.",
    functions: &[
        Function {
            name: "minor",
            parameters: &[
                ("text", "string", "such as \"57.16\", in quotes"),
                ("currency", "string", "such as \"GBP\"; it says how many decimals there are"),
            ],
            returns: ("integer", "minor units, such as 5716"),
            says: "An amount as people write it, in minor units.",
        },
        Function {
            name: "text",
            parameters: &[
                ("amount", "integer", "minor units, such as 5716"),
                ("currency", "string", "such as \"GBP\""),
            ],
            returns: ("string", "such as \"57.16\""),
            says: "An amount in minor units, as people write it.",
        },
        Function {
            name: "share",
            parameters: &[
                ("amount", "integer", "minor units"),
                ("percent", "number", "0 to 1000, with up to four decimals"),
            ],
            returns: ("integer", "minor units, a half rounded up"),
            says: "So many percent of an amount.",
        },
    ],
};

pub(super) fn register(lua: &Lua, table: &Table) -> mlua::Result<()> {
    let to_minor = |_: &Lua, (text, currency): (Value, LuaString)| {
        let Value::String(text) = text else {
            return Err(wrong("an amount is not a text; write it in quotes, such as \"57.16\""));
        };
        let decimals = decimals(&currency)?;
        minor(&text.to_string_lossy(), decimals).map(|amount| amount as f64).ok_or_else(|| {
            wrong(format!("that is no amount; write digits with at most {decimals} decimals"))
        })
    };
    table.raw_set("minor", lua.create_function(to_minor)?)?;
    let to_text = |_: &Lua, (amount, currency): (f64, LuaString)| {
        let (amount, decimals) = (whole(amount)?, decimals(&currency)?);
        Ok(written(amount.unsigned_abs(), decimals))
    };
    table.raw_set("text", lua.create_function(to_text)?)?;
    let share_of = |_: &Lua, (amount, percent): (f64, f64)| share(whole(amount)?, percent);
    table.raw_set("share", lua.create_function(share_of)?)
}

fn decimals(currency: &LuaString) -> mlua::Result<u32> {
    let wrong = || wrong("that is no currency; write three capital letters, such as \"GBP\"");
    currency::decimals(&currency.as_bytes()).ok_or_else(wrong)
}

fn minor(text: &str, decimals: u32) -> Option<i64> {
    let (units, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let wide = usize::try_from(decimals).ok()?;
    let odd = text.ends_with('.') || part.len() > wide || units.is_empty() || units.len() > 16;
    if odd || !digits(units) || !digits(part) {
        return None;
    }
    let amount: i64 = format!("{units}{part:0<wide$}").parse().ok()?;
    (amount.unsigned_abs() <= INTEGER_MAX).then_some(amount)
}

/// An amount from 0 that a number holds exactly.
fn whole(amount: f64) -> mlua::Result<i64> {
    if !(0.0..=INTEGER_MAX as f64).contains(&amount) || amount.fract() != 0.0 {
        return Err(wrong("that is no amount; give whole minor units, such as 5716"));
    }
    // Whole and within bounds, so exact.
    #[allow(clippy::cast_possible_truncation)]
    Ok(amount as i64)
}

fn share(amount: i64, percent: f64) -> mlua::Result<f64> {
    if !(0.0..=1000.0).contains(&percent) {
        return Err(wrong(format!("{percent} percent; write a number from 0 to 1000")));
    }
    // Within bounds, so exact once rounded.
    #[allow(clippy::cast_possible_truncation)]
    let parts = (percent * (PARTS / 100) as f64).round() as i64;
    let share =
        (i128::from(amount) * i128::from(parts) + i128::from(PARTS / 2)) / i128::from(PARTS);
    if share > i128::from(INTEGER_MAX) {
        return Err(wrong(format!("the share is over {INTEGER_MAX}; take a smaller one")));
    }
    Ok(share as f64)
}
