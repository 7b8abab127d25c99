//! What a merchant says that it saw: rows of CSV or NDJSON, all of them sound or none taken.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;

use super::csv::Lines;
use crate::card;
use crate::class::Restricted;
use crate::decision::{Tier, Verdict};
use crate::json::{Json, parse};
use crate::problem::Problem;
use crate::request::Money;
use crate::timestamp::Timestamp;
use crate::validity::{INTEGER_MAX, NAME_CHARS_MAX};

/// The largest upload.
pub const UPLOAD_BYTES_MAX: usize = 1 << 20;
/// The most rows of one.
pub const ROWS_MAX: usize = 10_000;

/// The columns of a row, or the fields of its object.
const COLUMNS: [&str; 6] = ["id", "decision", "amount", "currency", "decided_by", "at"];
const COLUMNS_REMEDY: &str = "the columns are id and decision, and where you like amount, currency, \
                              decided_by and at";
const SMALLER: &str = "send at most 10000 rows at a time";

/// How the rows of an upload are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `text/csv`: a header line, then a row a line (RFC 4180).
    Csv,
    /// `application/x-ndjson`: an object a line.
    Ndjson,
}

impl Media {
    /// What a `Content-Type` names, parameters such as a charset aside.
    pub fn read(content_type: Option<&str>) -> Result<Self, Problem> {
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("text/csv") {
            Ok(Self::Csv)
        } else if is("application/x-ndjson") {
            Ok(Self::Ndjson)
        } else {
            Err(Problem::unsupported_upload())
        }
    }

    /// The `Content-Type` of it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// One answer as the merchant saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where in the upload it begins, from 1.
    pub line: usize,
    /// The id of the request.
    pub id: String,
    /// What it was told, or decided by itself.
    pub decision: Verdict,
    /// The amount that it has on record.
    pub money: Option<Money>,
    /// Who decided; [`Tier::Client`] where the merchant's own client had to.
    pub decided_by: Option<Tier>,
    /// When.
    pub at: Option<Timestamp>,
}

/// The rows of an upload, each id once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    rows: Vec<Row>,
}

impl Upload {
    /// Reads an upload as a client sent it, or says what is wrong in the first row that is. A card
    /// number as an id is refused, but for merchants with `numeric_ids`.
    pub fn receive(
        body: Restricted<Bytes>,
        media: Media,
        numeric_ids: bool,
    ) -> Result<Self, Problem> {
        let body = body.uncover();
        if body.len() > UPLOAD_BYTES_MAX {
            return Err(Problem::too_large(UPLOAD_BYTES_MAX));
        }
        let text = std::str::from_utf8(&body).map_err(|error| {
            let before = body.get(..error.valid_up_to()).unwrap_or_default();
            let line = before.split(|byte| *byte == b'\n').count();
            Problem::malformed(format!("line {line}: it is not UTF-8"), "send the file as UTF-8")
        })?;
        let mut rows = Rows { taken: Vec::new(), lines: HashMap::new(), numeric_ids };
        match media {
            Media::Csv => rows.read_csv(text)?,
            Media::Ndjson => rows.read_ndjson(text)?,
        }
        if rows.taken.is_empty() {
            return Err(Problem::malformed("there is no row in it", COLUMNS_REMEDY));
        }
        Ok(Self { rows: rows.taken })
    }

    /// The rows, in their order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

/// The rows read so far.
struct Rows {
    taken: Vec<Row>,
    /// Where each id was.
    lines: HashMap<String, usize>,
    numeric_ids: bool,
}

impl Rows {
    fn read_csv(&mut self, text: &str) -> Result<(), Problem> {
        let mut columns: Option<Vec<&'static str>> = None;
        for line in Lines::new(text) {
            let (line, cells) = line.map_err(|mistake| {
                Problem::malformed(
                    format!("line {}: {}", mistake.line, mistake.what),
                    mistake.remedy,
                )
            })?;
            let Some(columns) = &columns else {
                columns = Some(header(line, &cells)?);
                continue;
            };
            if cells.len() != columns.len() {
                let (have, want) = (cells.len(), columns.len());
                let detail =
                    format!("line {line}: it has {have} cells where the header has {want}");
                return Err(Problem::malformed(
                    detail,
                    "send a cell for each column of the header",
                ));
            }
            let mut draft = Draft::default();
            for (column, cell) in columns.iter().zip(cells) {
                draft
                    .take(column, &Given::of_cell(column, cell))
                    .map_err(|wrong| wrong.at(line))?;
            }
            self.take(line, draft)?;
        }
        Ok(())
    }

    fn read_ndjson(&mut self, text: &str) -> Result<(), Problem> {
        for (place, object) in text.lines().enumerate() {
            let line = place + 1;
            if object.trim().is_empty() {
                continue;
            }
            let json = parse(object.as_bytes()).map_err(|problem| {
                let detail = format!("line {line}: {}", problem.detail);
                Problem::malformed(detail, "send one JSON object a line, UTF-8")
            })?;
            let Json::Object(fields) = json else {
                let detail = format!("line {line}: it is {}, not an object", json.noun());
                return Err(Problem::malformed(detail, "send one JSON object a line, UTF-8"));
            };
            let mut draft = Draft::default();
            for (name, value) in fields {
                let Some(column) = COLUMNS.into_iter().find(|column| *column == name) else {
                    let detail = format!("line {line}: it has a field that is not known");
                    return Err(Problem::malformed(detail, COLUMNS_REMEDY));
                };
                draft.take(column, &Given::of_json(value)).map_err(|wrong| wrong.at(line))?;
            }
            self.take(line, draft)?;
        }
        Ok(())
    }

    fn take(&mut self, line: usize, draft: Draft) -> Result<(), Problem> {
        if self.taken.len() == ROWS_MAX {
            return Err(Problem::malformed(
                format!("line {line}: it is one row too many"),
                SMALLER,
            ));
        }
        let row = draft.finish(line).map_err(|wrong| wrong.at(line))?;
        if !self.numeric_ids && card::contains(&row.id) {
            let remedy = "leave the row out: no decision of ours has such an id";
            let what = "it reads as a card number".to_owned();
            return Err(Wrong { column: "id", what, remedy }.at(line));
        }
        if let Some(before) = self.lines.insert(row.id.clone(), line) {
            let what = format!("line {before} has the same id");
            return Err(Wrong { column: "id", what, remedy: "send each id once" }.at(line));
        }
        self.taken.push(row);
        Ok(())
    }
}

/// The columns that a header line names.
fn header(line: usize, cells: &[Cow<'_, str>]) -> Result<Vec<&'static str>, Problem> {
    let wrong = |what: String| Problem::malformed(format!("line {line}: {what}"), COLUMNS_REMEDY);
    let mut columns = Vec::with_capacity(cells.len());
    for (place, cell) in cells.iter().enumerate() {
        let known = COLUMNS.into_iter().find(|column| *column == cell.trim());
        // Not repeated: without a header line this is a row, and may hold anything.
        let column =
            known.ok_or_else(|| wrong(format!("cell {} of the header is not known", place + 1)))?;
        if columns.contains(&column) {
            return Err(wrong(format!("the column {column} is in the header twice")));
        }
        columns.push(column);
    }
    match ["id", "decision"].into_iter().find(|needed| !columns.contains(needed)) {
        Some(lacking) => Err(wrong(format!("the header has no column {lacking}"))),
        None => Ok(columns),
    }
}

/// What stands in a cell.
enum Given<'a> {
    Nothing,
    Text(Cow<'a, str>),
    Whole(i128),
    /// Something else, by its noun.
    Else(&'static str),
}

impl<'a> Given<'a> {
    fn of_cell(column: &str, cell: Cow<'a, str>) -> Self {
        match cell.parse() {
            _ if cell.is_empty() => Self::Nothing,
            Ok(whole) if column == "amount" => Self::Whole(whole),
            _ => Self::Text(cell),
        }
    }

    fn of_json(value: Json<'a>) -> Self {
        match value {
            Json::Null => Self::Nothing,
            Json::Text(text) if text.is_empty() => Self::Nothing,
            Json::Text(text) => Self::Text(text),
            Json::Whole(whole) => Self::Whole(whole),
            other => Self::Else(other.noun()),
        }
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Text(_) => "text",
            Self::Whole(_) => "a number",
            Self::Else(noun) => noun,
        }
    }
}

/// What is wrong in a row, and what would be right.
struct Wrong {
    column: &'static str,
    what: String,
    remedy: &'static str,
}

impl Wrong {
    fn at(self, line: usize) -> Problem {
        let detail = format!("line {line}, column {}: {}", self.column, self.what);
        Problem::malformed(detail, self.remedy)
    }
}

/// The cells of a row read so far.
#[derive(Default)]
struct Draft {
    seen: Vec<&'static str>,
    id: Option<String>,
    decision: Option<Verdict>,
    amount: Option<u64>,
    currency: Option<String>,
    decided_by: Option<Tier>,
    at: Option<Timestamp>,
}

impl Draft {
    fn take(&mut self, column: &'static str, given: &Given<'_>) -> Result<(), Wrong> {
        if self.seen.contains(&column) {
            let what = "it is given twice".to_owned();
            return Err(Wrong { column, what, remedy: "give each field once" });
        }
        self.seen.push(column);
        let (remedy, is_taken) = match column {
            "id" => {
                ("send the id of the request: 1 to 128 characters", put(&mut self.id, given, id))
            }
            "decision" => (
                "send approve, decline or review",
                put(&mut self.decision, given, |given| Verdict::parse(given.text()?)),
            ),
            "amount" => (
                "send whole minor units from 0 to 9007199254740991, such as 5716 for 57.16",
                put(&mut self.amount, given, amount),
            ),
            "currency" => (
                "send the ISO 4217 code, three capital letters, such as GBP",
                put(&mut self.currency, given, currency),
            ),
            "decided_by" => (
                "send core, api or edge as the answer said, or client where your own client decided",
                put(&mut self.decided_by, given, tier),
            ),
            _ => (
                "send RFC 3339 with an offset, such as 2018-08-01T00:00:31Z",
                put(&mut self.at, given, |given| Timestamp::parse(given.text()?)),
            ),
        };
        if is_taken {
            return Ok(());
        }
        let what = format!("it is {} that is none of these", given.noun());
        Err(Wrong { column, what, remedy })
    }

    fn finish(self, line: usize) -> Result<Row, Wrong> {
        let missing = |column, remedy| Wrong { column, what: "it is missing".to_owned(), remedy };
        let money = match (self.amount, self.currency) {
            (None, None) => None,
            (Some(amount), Some(currency)) => Some(Money { amount, currency }),
            (Some(_), None) => {
                return Err(missing("currency", "send the currency of the amount, such as GBP"));
            }
            (None, Some(_)) => {
                return Err(missing("amount", "send an amount in it, or leave the currency out"));
            }
        };
        Ok(Row {
            line,
            id: self.id.ok_or_else(|| missing("id", "send the id of the request"))?,
            decision: self
                .decision
                .ok_or_else(|| missing("decision", "send approve, decline or review"))?,
            money,
            decided_by: self.decided_by,
            at: self.at,
        })
    }
}

impl Given<'_> {
    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// Puts what is given into its slot; whether it may stand there. Nothing may stand anywhere.
fn put<T>(
    slot: &mut Option<T>,
    given: &Given<'_>,
    read: impl FnOnce(&Given<'_>) -> Option<T>,
) -> bool {
    if matches!(given, Given::Nothing) {
        return true;
    }
    *slot = read(given);
    slot.is_some()
}

fn id(given: &Given<'_>) -> Option<String> {
    let is_id =
        |text: &&str| text.chars().count() <= NAME_CHARS_MAX && !text.chars().any(char::is_control);
    given.text().filter(is_id).map(str::to_owned)
}

fn amount(given: &Given<'_>) -> Option<u64> {
    let Given::Whole(whole) = given else { return None };
    u64::try_from(*whole).ok().filter(|amount| *amount <= INTEGER_MAX)
}

fn currency(given: &Given<'_>) -> Option<String> {
    let is_code = |text: &&str| text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase());
    given.text().filter(is_code).map(str::to_owned)
}

/// One of those there are: a slip in `client` would turn its own decisions into answers of ours.
fn tier(given: &Given<'_>) -> Option<Tier> {
    let tier = Tier::from(given.text()?.to_owned());
    (!matches!(tier, Tier::Newer(_))).then_some(tier)
}

#[cfg(test)]
mod tests;
