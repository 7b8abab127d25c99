//! What is asked of the books: from when to when, and how the answer shall read.

use std::borrow::Cow;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::problem::Problem;
use crate::timestamp::Timestamp;

/// The longest span of one statement: as long as core keeps its records.
pub const SPAN_MAX: Duration = Duration::from_hours(400 * 24);
/// The span where none is asked for, up to its end.
const SPAN_USUAL: Duration = Duration::from_hours(24);

const TIME: &str = "send RFC 3339 such as 2026-11-22T08:00:00Z, or a date such as 2026-11-22, which \
                    begins at midnight UTC";

/// A stretch of time; its end is not in it. One in hand is at most [`SPAN_MAX`] long and not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    from: Timestamp,
    to: Timestamp,
}

impl Span {
    /// From the texts of `from` and `to`, each RFC 3339 or a date; without `to` it ends `now`, without
    /// `from` it is the 24 hours before its end.
    pub fn parse(from: Option<&str>, to: Option<&str>, now: Timestamp) -> Result<Self, Problem> {
        let to = to.map_or(Ok(now), |text| time("to", text))?;
        let from = from.map_or_else(|| Ok(before(to, SPAN_USUAL)), |text| time("from", text))?;
        if from >= to {
            let remedy = "send a from that is earlier than to; without to the span ends now";
            return Err(Problem::malformed("the span is empty: from is not before to", remedy));
        }
        if from.distance(to) > SPAN_MAX {
            let remedy = "ask for at most 400 days at a time";
            return Err(Problem::malformed("the span is over 400 days", remedy));
        }
        Ok(Self { from, to })
    }

    /// Its first millisecond.
    pub const fn from(self) -> Timestamp {
        self.from
    }

    /// The millisecond after its last.
    pub const fn to(self) -> Timestamp {
        self.to
    }

    /// Whether this moment is in it.
    pub fn contains(self, moment: Timestamp) -> bool {
        self.from <= moment && moment < self.to
    }

    /// The same as a query, from one tier to the next.
    pub fn to_query(self) -> String {
        format!("from={}&to={}", self.from, self.to)
    }
}

/// In which shape an answer is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// For machines, and the default.
    #[default]
    Json,
    /// For spreadsheets.
    Csv,
}

impl Form {
    /// What the one parameter `format` says, or else the header `Accept`; JSON where neither does.
    pub fn read(query: Option<&str>, accept: Option<&str>) -> Result<Self, Problem> {
        let [format] = parameters(query, ["format"])?;
        Self::chosen(format.as_deref(), accept)
    }

    /// The `Content-Type` of an answer in it.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    fn chosen(format: Option<&str>, accept: Option<&str>) -> Result<Self, Problem> {
        match format {
            Some("json") => Ok(Self::Json),
            Some("csv") => Ok(Self::Csv),
            Some(_) => {
                let detail = "the parameter format names no form that there is";
                Err(Problem::malformed(detail, "send format=json or format=csv, or leave it out"))
            }
            None => Ok(accept.map_or(Self::Json, Self::accepted)),
        }
    }

    /// The first of the two that is named.
    fn accepted(accept: &str) -> Self {
        let named = accept.split(',').find_map(|range| {
            let essence = range.split(';').next().unwrap_or_default().trim();
            let is = |name: &str| essence.eq_ignore_ascii_case(name);
            match () {
                () if is("text/csv") => Some(Self::Csv),
                () if is("application/json") || is("*/*") => Some(Self::Json),
                () => None,
            }
        });
        named.unwrap_or_default()
    }
}

/// What `GET /v1/reconciliation` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Over which time.
    pub span: Span,
    /// In which form.
    pub form: Form,
}

impl Inquiry {
    /// Reads the query, whose parameters are `from`, `to` and `format`, and the header `Accept`.
    pub fn read(
        query: Option<&str>,
        accept: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let [from, to, format] = parameters(query, ["from", "to", "format"])?;
        let span = Span::parse(from.as_deref(), to.as_deref(), now)?;
        Ok(Self { span, form: Form::chosen(format.as_deref(), accept)? })
    }
}

/// The values of the parameters that there may be. A plus is a plus, so that `+02:00` may stand as it is.
fn parameters<'a, const N: usize>(
    query: Option<&'a str>,
    names: [&str; N],
) -> Result<[Option<Cow<'a, str>>; N], Problem> {
    let remedy = || format!("the parameters are {}", names.join(", "));
    let mut values = [const { None }; N];
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = values.iter_mut().zip(names).find(|(_, known)| *known == name);
        let Some((slot, name)) = known else {
            return Err(Problem::malformed(
                "the query has a parameter that is not known",
                remedy(),
            ));
        };
        let value = percent_decode_str(value).decode_utf8_lossy();
        if slot.replace(value).is_some() {
            return Err(Problem::malformed(
                format!("the parameter {name} is given twice"),
                "give each parameter once",
            ));
        }
    }
    Ok(values)
}

fn time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let is_date = text.len() == "2026-11-22".len();
    let moment = if is_date {
        Timestamp::parse(&format!("{text}T00:00:00Z"))
    } else {
        Timestamp::parse(text)
    };
    moment.ok_or_else(|| Problem::malformed(format!("the parameter {name} is no time"), TIME))
}

/// So long before, but never before 1970.
fn before(moment: Timestamp, length: Duration) -> Timestamp {
    let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(std::cmp::max(moment.as_millis().saturating_sub(millis), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn asked(query: &str) -> Result<(String, String), String> {
        let now = at("2026-11-22T09:30:00Z");
        let inquiry = Inquiry::read(Some(query), None, now);
        inquiry
            .map(|it| (it.span.from().to_string(), it.span.to().to_string()))
            .map_err(|problem| format!("{} {}; {}", problem.status, problem.detail, problem.remedy))
    }

    #[test]
    fn a_span_is_of_times_or_dates_and_else_the_last_24_hours() {
        let midnight = "2026-11-22T00:00:00.000Z";
        for (query, from, to) in [
            ("", "2026-11-21T09:30:00.000Z", "2026-11-22T09:30:00.000Z"),
            ("from=2026-11-22", midnight, "2026-11-22T09:30:00.000Z"),
            ("to=2026-11-22", "2026-11-21T00:00:00.000Z", midnight),
            ("from=2026-11-01&to=2026-11-22", "2026-11-01T00:00:00.000Z", midnight),
            (
                "from=2026-11-22T01:00:00+02:00",
                "2026-11-21T23:00:00.000Z",
                "2026-11-22T09:30:00.000Z",
            ),
            (
                "from=2026-11-22T01%3A00%3A00%2B02%3A00",
                "2026-11-21T23:00:00.000Z",
                "2026-11-22T09:30:00.000Z",
            ),
            ("from=2025-10-18&to=2026-11-22", "2025-10-18T00:00:00.000Z", midnight),
            ("to=1970-01-01T01:00:00Z", "1970-01-01T00:00:00.000Z", "1970-01-01T01:00:00.000Z"),
        ] {
            assert_eq!(asked(query), Ok((from.into(), to.into())), "{query}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused_with_what_would_be_right() {
        for (query, expected) in [
            ("from=yesterday", "parameter from is no time; send RFC 3339 such as"),
            ("to=2026-13-22", "parameter to is no time"),
            ("to=", "parameter to is no time"),
            ("from=2026-11-22&to=2026-11-22", "from is not before to"),
            ("from=2026-11-23", "without to the span ends now"),
            ("from=2025-10-17&to=2026-11-22", "over 400 days; ask for at most 400 days"),
            ("form=2026-11-22", "not known; the parameters are from, to, format"),
            ("from=2026-11-21&from=2026-11-20", "from is given twice"),
            ("format=xml", "format=json or format=csv"),
        ] {
            let problem = asked(query).unwrap_err();
            assert!(
                problem.starts_with("400 ") && problem.contains(expected),
                "{query}: {problem}"
            );
        }
    }

    #[test]
    fn a_span_travels_as_a_query_and_ends_before_its_end() {
        let now = at("2026-11-22T09:30:00.123Z");
        let span = Span::parse(None, None, now).unwrap();
        let again = Inquiry::read(Some(&span.to_query()), None, at("2030-01-01T00:00:00Z"));
        assert_eq!(again, Ok(Inquiry { span, form: Form::Json }));
        assert!(span.contains(span.from()) && !span.contains(span.to()));
    }

    #[test]
    fn the_form_is_the_parameters_or_the_first_that_accept_names() {
        for (query, accept, expected) in [
            (None, None, Form::Json),
            (None, Some("text/csv"), Form::Csv),
            (None, Some("Text/CSV;q=0.9, application/json"), Form::Csv),
            (None, Some("application/json, text/csv"), Form::Json),
            (None, Some("text/html, */*"), Form::Json),
            (Some("format=csv"), Some("application/json"), Form::Csv),
            (Some("format=json"), Some("text/csv"), Form::Json),
        ] {
            assert_eq!(Form::read(query, accept), Ok(expected), "{query:?} {accept:?}");
        }
        assert!(Form::read(Some("from=2026-11-22"), None).is_err());
    }
}
