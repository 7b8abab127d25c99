//! What is wrong with a rule, said so that its author can mend it: the file, the line, the line itself,
//! and what to write instead.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Below this, two names have too little in common for one to be a slip of the other.
const ALIKE_MIN: f64 = 0.8;
/// As much of a line as is shown.
const LINE_CHARS_MAX: usize = 120;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Such as `policies/payment.lua`.
    pub file: String,
    /// From 1, where it is known.
    pub line: Option<u32>,
    /// What is wrong.
    pub wrong: String,
    /// What to write instead; empty where `wrong` says it.
    pub right: String,
}

impl Finding {
    /// Something wrong in this place.
    pub fn new(
        file: &str,
        line: Option<u32>,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) -> Self {
        Self { file: file.to_owned(), line, wrong: wrong.into(), right: right.into() }
    }

    /// As it is shown, with the line itself from `texts`, the files by name.
    pub fn shown(&self, texts: &BTreeMap<String, String>) -> String {
        let mut shown = self.file.clone();
        let line = self.line.and_then(|number| {
            let text = texts.get(&self.file)?;
            Some((number, text.lines().nth(usize::try_from(number).ok()?.checked_sub(1)?)?))
        });
        // Strings take what is written to them.
        if let Some(number) = self.line {
            let _ = write!(shown, ":{number}");
        }
        let _ = writeln!(shown, ": {}", self.wrong);
        if let Some((number, line)) = line {
            let line: String = line.trim_end().chars().take(LINE_CHARS_MAX).collect();
            let _ = writeln!(shown, "{number:>5} | {line}");
        }
        if !self.right.is_empty() {
            let _ = writeln!(shown, "      = {}", self.right);
        }
        shown
    }
}

/// The known name that this one is most likely a slip of.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let alike = known.map(|known| (strsim::jaro_winkler(name, known), known));
    let nearest = alike.filter(|(alike, _)| *alike >= ALIKE_MIN);
    nearest.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_the_line_and_what_to_write() {
        let texts = BTreeMap::from([("policies/a.lua".to_owned(), "one\n  two\n".to_owned())]);
        let finding = Finding::new("policies/a.lua", Some(2), "two is wrong", "write three");
        let expected = "policies/a.lua:2: two is wrong\n    2 |   two\n      = write three\n";
        assert_eq!(finding.shown(&texts), expected);
        let beyond = Finding::new("policies/a.lua", Some(9), "it is short", "");
        assert_eq!(beyond.shown(&texts), "policies/a.lua:9: it is short\n");
    }

    #[test]
    fn a_slip_is_told_from_another_word() {
        let known = ["terminal", "amount", "account"];
        for (name, expected) in
            [("termnal", Some("terminal")), ("amout", Some("amount")), ("zebra", None)]
        {
            assert_eq!(nearest(name, known.into_iter()), expected);
        }
    }
}
