//! A TOML file and where in it a thing stands, so that every error can name the line.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::error::SettingsError;

/// At most this alike (0 to 1), two keys are not taken for each other.
const ALIKE_MIN: f64 = 0.7;

/// A file's text; every error it makes names file and line.
pub struct Document {
    file: PathBuf,
    text: String,
}

impl Document {
    pub fn read(file: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| SettingsError::Read { file: file.to_owned(), source })?;
        Ok(Self::new(file, text))
    }

    pub fn new(file: &Path, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), text: text.into() }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file as a `T`, or the first thing that is wrong in it.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        toml::from_str(&self.text).map_err(|error| self.explain(&error))
    }

    /// The file as a table whose keys and values know their place.
    pub fn table(&self) -> Result<DeTable<'_>, SettingsError> {
        match DeTable::parse(&self.text) {
            Ok(table) => Ok(table.into_inner()),
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// An error at a place in the file.
    pub fn wrong(&self, at: &Range<usize>, what: impl Into<String>) -> SettingsError {
        let before = self.text.get(..at.start).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        SettingsError::Wrong { file: self.file.clone(), line, what: what.into() }
    }

    /// An error at the value of `[section] key`, or at the top when it is not written there.
    pub fn wrong_value(&self, section: &str, key: &str, what: &str) -> SettingsError {
        let at = DeTable::parse(&self.text).ok().and_then(|table| {
            let section = table.get_ref().get(section)?.get_ref().as_table()?.get(key)?.span();
            Some(section)
        });
        self.wrong(&at.unwrap_or_default(), format!("[{section}] {key}: {what}"))
    }

    fn explain(&self, error: &toml::de::Error) -> SettingsError {
        let at = error.span().unwrap_or_default();
        let what = error.message().trim_end().replace('\n', ", ");
        match DeTable::parse(&self.text).ok().and_then(|table| key_of(table.get_ref(), &at)) {
            Some(key) => self.wrong(&at, format!("{key}: {what}")),
            None => self.wrong(&at, what),
        }
    }
}

/// The key whose value stands at `at`, with its section where it has one.
fn key_of(table: &DeTable<'_>, at: &Range<usize>) -> Option<String> {
    let is_in = |span: Range<usize>| span.start <= at.start && at.end <= span.end;
    table.iter().find_map(|(key, value)| match value.get_ref() {
        DeValue::Table(inner) => {
            key_of(inner, at).map(|inner| format!("[{}] {inner}", key.get_ref()))
        }
        DeValue::Array(items) => items
            .iter()
            .find_map(|item| match item.get_ref() {
                DeValue::Table(inner) => {
                    key_of(inner, at).map(|inner| format!("[[{}]] {inner}", key.get_ref()))
                }
                _ => None,
            })
            // What is wrong with a list may be wrong with all of it, which has the place of its key.
            .or_else(|| {
                let is_list = is_in(value.span()) || key.span() == *at;
                is_list.then(|| key.get_ref().to_string())
            }),
        _ => (value.span() == *at).then(|| key.get_ref().to_string()),
    })
}

/// What to say of an unknown key: the nearest one that is known, or all of them.
pub fn unknown_key(key: &str, table: &DeTable<'_>) -> String {
    let known: Vec<&str> = table.keys().map(|name| name.get_ref().as_ref()).collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((alike, name)) if alike > ALIKE_MIN => {
            format!("unknown key `{key}`; did you mean `{name}`?")
        }
        _ => format!("unknown key `{key}`; the keys here are {}", known.join(", ")),
    }
}
