//! JSON read as far as a flat schema needs: repeated names are kept, so that they can be refused,
//! and what lies deeper is only told apart, so that nesting costs nothing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::problem::Problem;

/// The body and its attributes: objects below are empty, whatever they hold.
const LEVELS: u8 = 2;

/// A JSON value. Lists hold nothing here: no field is a list.
pub(crate) enum Json {
    Text(String),
    Whole(i128),
    Number(f64),
    Flag(bool),
    Null,
    List,
    Object(Vec<(String, Json)>),
}

impl Json {
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
}

/// Reads a body. All of its syntax is judged, however deep.
pub(crate) fn parse(body: &[u8]) -> Result<Json, Problem> {
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
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_i64<E>(self, whole: i64) -> Result<Json, E> {
        Ok(Json::Whole(whole.into()))
    }

    fn visit_u64<E>(self, whole: u64) -> Result<Json, E> {
        Ok(Json::Whole(whole.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        match self.0.checked_sub(1) {
            None => while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {},
            Some(below) => {
                while let Some(name) = map.next_key()? {
                    fields.push((name, map.next_value_seed(Level(below))?));
                }
            }
        }
        Ok(Json::Object(fields))
    }
}
