//! Changing `merchants.toml` in place: what an operator wrote there by hand, comments too, stays.

use std::path::Path;
use std::time::Duration;

use backstop_contract::Timestamp;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};

use super::{BUDGET_MAX_MS, BUDGET_MIN_MS, KEYS_MAX, Key, Merchants, check_name};
use crate::document::Document;
use crate::error::SettingsError;
use crate::file::{lock, write_atomically};
use crate::value::write_duration;

/// Read by nobody but the edge and its operator.
const MODE: u32 = 0o600;

const HEADING: &str = "\
# Who may ask, within which budget, with which keys. Edit it with `backstop merchant`, or by hand:
# the edge reads it again when it changes. Of a key only its SHA-256 is kept.
# numeric_ids = true declares that ids which look like card numbers are none.
# stand_in_approvals_max and stand_in_amount_max take the place of those in backstop.toml.
";

/// Adds a merchant with one key, and makes the file if there is none.
pub fn add(file: &Path, name: &str, budget: Duration, test: bool) -> Result<Key, SettingsError> {
    check_name(name).map_err(refused)?;
    let millis = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
    if !(BUDGET_MIN_MS..=BUDGET_MAX_MS).contains(&millis) {
        let (min, max) = (write_duration(BUDGET_MIN_MS), write_duration(BUDGET_MAX_MS));
        return Err(refused(format!("a budget is from {min} to {max}, such as 250ms")));
    }
    edit(file, |merchants| {
        if find(merchants, name).is_some() {
            let remedy = "its keys are made anew with `backstop merchant rotate`";
            return Err(refused(format!("there is a merchant `{name}` already; {remedy}")));
        }
        let key = Key::generate()?;
        let mut merchant = Table::new();
        merchant.insert("name", value(name));
        merchant.insert("budget", value(write_duration(millis)));
        merchant.insert("test", value(test));
        merchant.insert("numeric_ids", value(false));
        let mut keys = Array::new();
        push(&mut keys, &key);
        merchant.insert("keys", value(keys));
        merchants.push(merchant);
        Ok(key)
    })
}

/// Gives a merchant one more key; the ones it has stay until they are revoked.
pub fn rotate(file: &Path, name: &str) -> Result<Key, SettingsError> {
    edit(file, |merchants| {
        let keys = keys_of(merchants, name)?;
        if keys.len() >= KEYS_MAX {
            let what = format!("`{name}` has {KEYS_MAX} keys, which is the most; revoke some");
            return Err(refused(what));
        }
        let key = Key::generate()?;
        push(keys, &key);
        Ok(key)
    })
}

/// Takes away one key of a merchant, or all of them; the ids of those taken.
pub fn revoke(file: &Path, name: &str, id: Option<&str>) -> Result<Vec<String>, SettingsError> {
    edit(file, |merchants| {
        let keys = keys_of(merchants, name)?;
        let mut revoked = Vec::new();
        keys.retain(|key| {
            let key = key.as_inline_table().and_then(|key| key.get("id")?.as_str());
            let goes = key.is_some_and(|key| id.is_none_or(|id| id == key));
            if let Some(key) = key.filter(|_| goes) {
                revoked.push(key.to_owned());
            }
            !goes
        });
        match id {
            Some(id) if revoked.is_empty() => {
                let remedy = "`backstop merchant list` shows the ids";
                Err(refused(format!("`{name}` has no key `{id}`; {remedy}")))
            }
            _ => Ok(revoked),
        }
    })
}

/// Takes a merchant away, with all its keys and what is written about it.
pub fn remove(file: &Path, name: &str) -> Result<(), SettingsError> {
    edit(file, |merchants| {
        let is_named = |table: &Table| table.get("name").and_then(Item::as_str) == Some(name);
        let place = merchants.iter().position(is_named).ok_or_else(|| unknown(name))?;
        merchants.remove(place);
        Ok(())
    })
}

/// Changes the file under its lock. It is checked before and after; unless both are fine it is left
/// as it was.
fn edit<T>(
    file: &Path,
    change: impl FnOnce(&mut ArrayOfTables) -> Result<T, SettingsError>,
) -> Result<T, SettingsError> {
    let failed = |source| SettingsError::Write { file: file.to_owned(), source };
    let _lock = lock(file).map_err(failed)?;
    let before = if file.exists() { Document::read(file)? } else { Document::new(file, HEADING) };
    Merchants::read(&before)?;
    let unreadable = |error: toml_edit::TomlError| {
        before.wrong(&error.span().unwrap_or_default(), error.message())
    };
    let mut toml: DocumentMut = before.text().parse().map_err(unreadable)?;
    let trailing = toml.trailing().as_str().unwrap_or_default().to_owned();
    let merchants = toml
        .entry("merchant")
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()))
        .as_array_of_tables_mut()
        .ok_or_else(|| {
            refused(format!("{}: write each merchant as [[merchant]]", file.display()))
        })?;
    // The comments that the file begins with belong to its first merchant, or, with none, to its end.
    let remarks = merchants.get(0).map_or_else(|| trailing.clone(), remarks_before);
    let was_empty = merchants.is_empty();
    let outcome = change(merchants)?;
    match merchants.get_mut(0) {
        Some(first) if !remarks_before(first).starts_with(remarks.trim_end()) => {
            let own = remarks_before(first);
            first.decor_mut().set_prefix(format!("{}\n\n{}", remarks.trim_end(), own.trim_start()));
            if was_empty {
                toml.set_trailing("");
            }
        }
        Some(_) => {}
        None => toml.set_trailing(format!("{remarks}{trailing}")),
    }
    let after = toml.to_string();
    Merchants::read(&Document::new(file, after.as_str()))?;
    write_atomically(file, after.as_bytes(), MODE).map_err(failed)?;
    Ok(outcome)
}

fn remarks_before(merchant: &Table) -> String {
    merchant.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned()
}

fn find<'t>(merchants: &'t mut ArrayOfTables, name: &str) -> Option<&'t mut Table> {
    merchants.iter_mut().find(|table| table.get("name").and_then(Item::as_str) == Some(name))
}

fn keys_of<'t>(
    merchants: &'t mut ArrayOfTables,
    name: &str,
) -> Result<&'t mut Array, SettingsError> {
    find(merchants, name)
        .ok_or_else(|| unknown(name))?
        .get_mut("keys")
        .and_then(Item::as_array_mut)
        .ok_or_else(|| refused(format!("write the keys of `{name}` as keys = [{{ … }}]")))
}

fn unknown(name: &str) -> SettingsError {
    refused(format!("there is no merchant `{name}`; `backstop merchant list` shows them"))
}

/// Adds a key on a line of its own.
fn push(keys: &mut Array, key: &Key) {
    let mut kept = InlineTable::new();
    kept.insert("id", key.id().into());
    kept.insert("sha256", key.sha256().into());
    kept.insert("created", Timestamp::now().to_string().into());
    let mut kept = Value::InlineTable(kept);
    kept.decor_mut().set_prefix("\n    ");
    keys.push_formatted(kept);
    keys.set_trailing("\n");
    keys.set_trailing_comma(true);
}

fn refused(what: impl Into<String>) -> SettingsError {
    SettingsError::Refused { what: what.into() }
}
