//! What became of the tests, as `JUnit` XML: every build server reads it.

use std::fmt::Write as _;

use super::Tested;

/// The report.
pub fn report(all: &[Tested]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for tested in all {
        let failures = tested.outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
        let time: f64 = tested.outcomes.iter().map(|outcome| outcome.time.as_secs_f64()).sum();
        let file = escaped(&tested.file);
        // Strings take what is written to them, here and below.
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{failures}\" time=\"{time:.6}\">",
            tested.outcomes.len()
        );
        for outcome in &tested.outcomes {
            let (name, time) = (escaped(&outcome.name), outcome.time.as_secs_f64());
            let case = format!("classname=\"{file}\" name=\"{name}\" time=\"{time:.6}\"");
            let _ = match &outcome.failure {
                None => writeln!(xml, "    <testcase {case}/>"),
                Some(failure) => {
                    let line = failure.line.unwrap_or_default();
                    let message = escaped(&failure.message);
                    writeln!(
                        xml,
                        "    <testcase {case}><failure message=\"{message}\">{file}:{line}: {message}</failure></testcase>"
                    )
                }
            };
        }
        xml.push_str("  </testsuite>\n");
    }
    xml + "</testsuites>\n"
}

/// What XML cannot hold is left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(' '),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use backstop_lua::spec::{Failure, Outcome};

    use super::*;

    #[test]
    fn a_failure_is_told_with_its_line_and_nothing_breaks_the_xml() {
        let outcome = |name: &str, failure: Option<&str>| Outcome {
            name: name.to_owned(),
            time: Duration::from_micros(1500),
            failure: failure.map(|it| Failure { line: Some(7), message: it.to_owned() }),
        };
        let outcomes = vec![outcome("a", None), outcome("b <&>", Some("got \"x\"\u{1b}"))];
        let xml = report(&[Tested { file: "tests/p.lua".to_owned(), outcomes }]);
        for part in [
            "tests=\"2\" failures=\"1\" time=\"0.003000\"",
            "name=\"a\" time=\"0.001500\"/>",
            "name=\"b &lt;&amp;&gt;\"",
            "<failure message=\"got &quot;x&quot;\">tests/p.lua:7: got",
        ] {
            assert!(xml.contains(part), "{part}: {xml}");
        }
    }
}
