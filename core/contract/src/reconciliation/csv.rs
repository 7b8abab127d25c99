//! CSV as RFC 4180 has it: written so that no spreadsheet takes a cell for a formula, read with the line
//! of every mistake.

use std::borrow::Cow;
use std::fmt::Write as _;

/// What a spreadsheet may take for the beginning of a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// One cell to write.
pub enum Cell<'a> {
    /// Words, whosever they are. What could be a formula begins with an apostrophe then.
    Text(&'a str),
    /// A number of ours.
    Whole(i128),
    /// Nothing.
    None,
}

impl<'a> Cell<'a> {
    /// Words, if there are any.
    pub fn text(text: Option<&'a str>) -> Self {
        text.map_or(Self::None, Self::Text)
    }

    /// A number, if there is one.
    pub fn whole(number: Option<impl Into<i128>>) -> Self {
        number.map_or(Self::None, |number| Self::Whole(number.into()))
    }
}

/// A table under way.
pub struct Table {
    csv: String,
    columns: usize,
}

impl Table {
    /// A table with this header line.
    pub fn new(header: &[&str]) -> Self {
        let mut table = Self { csv: String::new(), columns: header.len() };
        table.row(header.iter().map(|name| Cell::Text(name)));
        table
    }

    /// Writes one line; the cells that it lacks are empty.
    pub fn row<'a>(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) {
        let all = cells.into_iter().chain(std::iter::repeat_with(|| Cell::None));
        for (place, cell) in all.take(self.columns).enumerate() {
            if place > 0 {
                self.csv.push(',');
            }
            match cell {
                Cell::Text(text) => write_text(&mut self.csv, text),
                // Memory takes all that is written to it.
                Cell::Whole(number) => write!(self.csv, "{number}").unwrap_or_default(),
                Cell::None => {}
            }
        }
        self.csv.push_str("\r\n");
    }

    /// The whole file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.csv.into_bytes()
    }
}

fn write_text(csv: &mut String, text: &str) {
    let is_formula = text.starts_with(FORMULA);
    if !is_formula && !text.contains([',', '"', '\r', '\n']) {
        return csv.push_str(text);
    }
    csv.push('"');
    if is_formula {
        csv.push('\'');
    }
    csv.push_str(&text.replace('"', "\"\""));
    csv.push('"');
}

/// The lines of a CSV file. Ends after the first mistake.
pub struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

/// Where and what is wrong, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
    /// What would be right.
    pub remedy: &'static str,
}

impl<'a> Lines<'a> {
    /// Those of `text`; what some spreadsheets put before the first is skipped.
    pub fn new(text: &'a str) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 }
    }

    /// The cells of one line. Those in quotes may go over several.
    fn cells(&mut self) -> Result<Vec<Cow<'a, str>>, Mistake> {
        let mut cells = Vec::new();
        loop {
            let cell = if let Some(quoted) = self.rest.strip_prefix('"') {
                self.quoted(quoted)?
            } else {
                let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
                let (cell, rest) = self.rest.split_at(end);
                self.rest = rest;
                Cow::Borrowed(
                    cell.strip_suffix('\r').filter(|_| !rest.starts_with(',')).unwrap_or(cell),
                )
            };
            cells.push(cell);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            let end = self.rest.strip_prefix('\r').unwrap_or(self.rest);
            let Some(rest) = end.strip_prefix('\n').or(end.is_empty().then_some("")) else {
                let what = "there is text behind the closing quote of a cell";
                return Err(self.mistake(what, "end the cell there, or write a quote in it twice"));
            };
            self.rest = rest;
            return Ok(cells);
        }
    }

    /// A cell in quotes, from behind the first.
    fn quoted(&mut self, mut text: &'a str) -> Result<Cow<'a, str>, Mistake> {
        let mut cell = Cow::Borrowed("");
        loop {
            let Some((part, rest)) = text.split_once('"') else {
                let what = "a cell begins with a quote and has no closing one";
                return Err(self.mistake(what, "close it, or write a quote within quotes twice"));
            };
            cell += part;
            let Some(more) = rest.strip_prefix('"') else {
                self.rest = rest;
                return Ok(cell);
            };
            cell += "\"";
            text = more;
        }
    }

    const fn mistake(&self, what: &'static str, remedy: &'static str) -> Mistake {
        Mistake { line: self.line, what, remedy }
    }
}

impl<'a> Iterator for Lines<'a> {
    /// Where a line begins, and its cells. Empty lines are passed over.
    type Item = Result<(usize, Vec<Cow<'a, str>>), Mistake>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let (begins, before) = (self.line, self.rest);
            let cells = match self.cells() {
                Ok(cells) => cells,
                Err(mistake) => {
                    self.rest = "";
                    return Some(Err(mistake));
                }
            };
            let read = before.get(..before.len() - self.rest.len()).unwrap_or_default();
            self.line += read.bytes().filter(|byte| *byte == b'\n').count();
            let is_empty = matches!(cells.as_slice(), [only] if only.is_empty());
            if !is_empty {
                return Some(Ok((begins, cells)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(texts: &[&str]) -> String {
        String::from_utf8(Table::new(texts).into_bytes()).unwrap()
    }

    fn read(text: &str) -> Result<Vec<(usize, Vec<String>)>, Mistake> {
        let owned = |cells: Vec<Cow<'_, str>>| cells.into_iter().map(Cow::into_owned).collect();
        Lines::new(text).map(|line| line.map(|(begins, cells)| (begins, owned(cells)))).collect()
    }

    #[test]
    fn no_cell_begins_as_a_formula_does() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"so\"", "\"say \"\"so\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\tx", "\"'\tx\""),
        ] {
            assert_eq!(written(&[text]), format!("{expected}\r\n"), "{text}");
        }
    }

    #[test]
    fn numbers_stay_as_they_are_and_a_short_row_is_filled_up() {
        let mut table = Table::new(&["a", "b", "c", "d"]);
        table.row([Cell::Whole(-5), Cell::None, Cell::whole(Some(7_u64))]);
        assert_eq!(table.into_bytes(), b"a,b,c,d\r\n-5,,7,\r\n");
    }

    #[test]
    fn lines_are_read_with_where_they_begin() {
        let text = "\u{feff}id,decision\r\n\"a\n\"\"b\"\"\",approve\n\n c ,\"\"\n,\nlast,x\r";
        let expected = [
            (1, vec!["id", "decision"]),
            (2, vec!["a\n\"b\"", "approve"]),
            (5, vec![" c ", ""]),
            (6, vec!["", ""]),
            (7, vec!["last", "x"]),
        ];
        let read = read(text).unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|(line, cells)| (*line, cells.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        assert_eq!(read, expected);
        assert!(super::tests::read("").unwrap().is_empty());
    }

    #[test]
    fn a_quote_in_the_wrong_place_is_named_with_its_line() {
        for (text, line, what) in [
            ("a\n\"b", 2, "no closing one"),
            ("a,\"b\"c\n", 1, "text behind the closing quote"),
            ("a\r\n\r\n\"b\" ,c\n", 3, "text behind the closing quote"),
        ] {
            let mistake = read(text).unwrap_err();
            assert_eq!(mistake.line, line, "{text:?}");
            assert!(mistake.what.contains(what), "{text:?}: {}", mistake.what);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            cells in proptest::collection::vec("[a-c,\"\r\n=é ]{0,6}", 2..5)
        ) {
            let texts: Vec<&str> = cells.iter().map(String::as_str).collect();
            let lines = read(&written(&texts)).unwrap();
            prop_assert_eq!(lines.len(), 1);
            let again: Vec<&str> = lines[0].1.iter().map(String::as_str).collect();
            let expected: Vec<String> = texts
                .iter()
                .map(|text| if text.starts_with(FORMULA) { format!("'{text}") } else { (*text).into() })
                .collect();
            prop_assert_eq!(again, expected);
        }
    }
}
