//! Bodies that are an object with one field. By hand: a derived reader would also take an array.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde_json::error::Category;

use crate::problem::Problem;

/// The value of the one field of a body. `wrong` is the problem of JSON that is something else.
pub fn read<T: DeserializeOwned>(
    body: &[u8],
    name: &'static str,
    wrong: impl FnOnce() -> Problem,
) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = de::Deserializer::deserialize_map(&mut json, OneField { name, of: PhantomData });
    value.and_then(|value| json.end().map(|()| value)).map_err(|error| match error.classify() {
        Category::Data => wrong(),
        Category::Io | Category::Syntax | Category::Eof => Problem::not_json(format!(
            "the body is not JSON from line {}, column {}",
            error.line(),
            error.column()
        )),
    })
}

struct OneField<T> {
    name: &'static str,
    of: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> Visitor<'de> for OneField<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the one field {}", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<T, A::Error> {
        let mut value = None;
        while let Some(name) = fields.next_key::<String>()? {
            if name != self.name || value.replace(fields.next_value()?).is_some() {
                return Err(de::Error::custom("unknown or repeated field"));
            }
        }
        value.ok_or_else(|| de::Error::missing_field(self.name))
    }
}
