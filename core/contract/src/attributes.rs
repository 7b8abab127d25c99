//! The attributes of a request: flat, sorted by name, and all their text in one string, so that a
//! request costs two allocations however many it has.

use std::fmt;

use serde::Serialize;

/// The value of an attribute. It is confidential: it prints as its type alone.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value<'a> {
    /// At most 1 KiB.
    Text(&'a str),
    /// Within ±(2^53 - 1), so that every JSON reader and Lua agree on it.
    Integer(i64),
    /// Finite.
    Number(f64),
    /// True or false.
    Flag(bool),
}

/// Names and their values, in the order of the names.
#[derive(Clone, Default)]
pub struct Attributes {
    text: String,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Sorts as the name does, as far as it goes, and is compared at once.
    head: u64,
    name: Span,
    value: Kept,
}

/// A value whose text lies with all the other text.
#[derive(Clone, Copy)]
enum Kept {
    Text(Span),
    Integer(i64),
    Number(f64),
    Flag(bool),
}

/// Where a text begins and ends, in bytes.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

impl Attributes {
    /// None yet, with room for so many and so much text in them.
    pub(crate) fn with_capacity(count: usize, text_bytes: usize) -> Self {
        Self { text: String::with_capacity(text_bytes), entries: Vec::with_capacity(count) }
    }

    /// The value of the attribute of this name.
    pub fn get(&self, name: &str) -> Option<Value<'_>> {
        let place = self.place(name).ok()?;
        self.entries.get(place).map(|entry| self.value(entry))
    }

    /// Each name and value, in the order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Value<'_>)> {
        self.entries.iter().map(|entry| (self.text(entry.name), self.value(entry)))
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All names and texts, one after another.
    pub(crate) fn all_text(&self) -> &str {
        &self.text
    }

    /// The place for an attribute of this name; `None` when there is one already.
    pub(crate) fn vacant<'a>(&'a mut self, name: &'a str) -> Option<Vacant<'a>> {
        let place = self.place(name).err()?;
        Some(Vacant { attributes: self, name, place })
    }

    /// Where the attribute of this name is, or where it would go.
    fn place(&self, name: &str) -> Result<usize, usize> {
        let head = head(name);
        self.entries.binary_search_by(|entry| {
            entry.head.cmp(&head).then_with(|| self.text(entry.name).cmp(name))
        })
    }

    fn value(&self, entry: &Entry) -> Value<'_> {
        match entry.value {
            Kept::Text(span) => Value::Text(self.text(span)),
            Kept::Integer(integer) => Value::Integer(integer),
            Kept::Number(number) => Value::Number(number),
            Kept::Flag(flag) => Value::Flag(flag),
        }
    }

    fn text(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    fn keep(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span { start, end: self.text.len() }
    }
}

/// The first bytes of a name, as a number.
fn head(name: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
    u64::from_be_bytes(bytes)
}

/// The place of an attribute that is not there yet.
pub(crate) struct Vacant<'a> {
    attributes: &'a mut Attributes,
    name: &'a str,
    place: usize,
}

impl Vacant<'_> {
    /// Puts the attribute there.
    pub(crate) fn insert(self, value: Value<'_>) {
        let Self { attributes, name, place } = self;
        let (head, name) = (head(name), attributes.keep(name));
        let value = match value {
            Value::Text(text) => Kept::Text(attributes.keep(text)),
            Value::Integer(integer) => Kept::Integer(integer),
            Value::Number(number) => Kept::Number(number),
            Value::Flag(flag) => Kept::Flag(flag),
        };
        attributes.entries.insert(place, Entry { head, name, value });
    }
}

/// Of two attributes with one name the first counts.
impl<'a, N: AsRef<str>> FromIterator<(N, Value<'a>)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, Value<'a>)>>(pairs: I) -> Self {
        let mut attributes = Self::default();
        for (name, value) in pairs {
            if let Some(free) = attributes.vacant(name.as_ref()) {
                free.insert(value);
            }
        }
        attributes
    }
}

impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text",
            Self::Integer(_) => "Integer",
            Self::Number(_) => "Number",
            Self::Flag(_) => "Flag",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_a_sorted_map_in_which_the_first_of_a_name_counts(
            pairs in prop::collection::vec(("[a-c]{0,3}|same-name-[a-c]?", ".{0,4}"), 0..24)
        ) {
            let attributes: Attributes =
                pairs.iter().map(|(name, text)| (name, Value::Text(text))).collect();
            let mut expected = BTreeMap::new();
            for (name, text) in &pairs {
                expected.entry(name.as_str()).or_insert(Value::Text(text));
            }
            prop_assert!(attributes.iter().eq(expected.iter().map(|(name, value)| (*name, *value))));
            for name in ["", "a", "ab", "abc", "d", "same-name-", "same-name-b"] {
                prop_assert_eq!(attributes.get(name), expected.get(name).copied());
            }
        }
    }
}
