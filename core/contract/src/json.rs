//! JSON read as far as a flat schema needs: repeated names are kept, so that they can be refused,
//! and what lies deeper is only told apart, so that nesting costs nothing. Text stays in the body
//! where it has no escapes, so that reading copies nothing.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::problem::Problem;

/// The body and its attributes: objects below are empty, whatever they hold.
const LEVELS: u8 = 2;

/// A JSON value. Lists hold nothing here: no field is a list.
pub(crate) enum Json<'a> {
    Text(Cow<'a, str>),
    Whole(i128),
    Number(f64),
    Flag(bool),
    Null,
    List,
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl Json<'_> {
    /// What it is, for a message: never the value, which could be a card number.
    pub(crate) const fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Whole(_) => "a whole number",
            Self::Number(_) => "a number with a fraction or an exponent",
            Self::Flag(_) => "a boolean",
            Self::Null => "null",
            Self::List => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// How long it is as text; nothing where it is none.
    pub(crate) fn text_bytes(&self) -> usize {
        if let Self::Text(text) = self { text.len() } else { 0 }
    }
}

/// Reads a body. All of its syntax is judged, however deep.
pub(crate) fn parse(body: &[u8]) -> Result<Json<'_>, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Problem::not_json(format!("the body is not UTF-8 from byte {} on", error.valid_up_to()))
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Level(LEVELS)
        .deserialize(&mut deserializer)
        .and_then(|json| deserializer.end().map(|()| json))
        .map_err(|error| Problem::not_json(format!("the body is not JSON: {error}")))
}

/// How many levels of objects are still to be read.
struct Level(u8);

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, whole: i64) -> Result<Json<'de>, E> {
        Ok(Json::Whole(whole.into()))
    }

    fn visit_u64<E>(self, whole: u64) -> Result<Json<'de>, E> {
        Ok(Json::Whole(whole.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json<'de>, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut fields = Vec::new();
        match self.0.checked_sub(1) {
            None => while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {},
            Some(below) => {
                while let Some(name) = map.next_key_seed(Name)? {
                    fields.push((name, map.next_value_seed(Level(below))?));
                }
            }
        }
        Ok(Json::Object(fields))
    }
}

/// The name of a field.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Whether the text is written as it is. All of it is looked at: that goes many bytes at a time.
pub(crate) fn is_plain(text: &str) -> bool {
    let is_escaped = |b: &u8| *b < b' ' || *b == b'"' || *b == b'\\';
    text.as_bytes().iter().filter(|b| is_escaped(b)).count() == 0
}

/// Writes a string that [`is_plain`].
pub(crate) fn write_plain(json: &mut Vec<u8>, text: &str) {
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}

/// Writes a string.
pub(crate) fn write_text(json: &mut Vec<u8>, text: &str) {
    if is_plain(text) { write_plain(json, text) } else { write_scalar(json, text) }
}

/// Writes a string, a finite number or a flag.
pub(crate) fn write_scalar<T: Serialize + ?Sized>(json: &mut Vec<u8>, scalar: &T) {
    // These always serialize, and memory takes all that is written to it.
    let _ = serde_json::to_writer(json, scalar);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_is_written_as_others_write_it(text in ".{0,40}|[\0-\"\\\\\\u{7f}-é]{0,40}") {
            let mut json = Vec::new();
            write_text(&mut json, &text);
            prop_assert_eq!(String::from_utf8(json).unwrap(), serde_json::to_string(&text).unwrap());
        }
    }
}
