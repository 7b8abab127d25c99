//! What a merchant says of a transaction later, such as a chargeback.

use bytes::Bytes;
use serde::Serialize;

use crate::class::Restricted;
use crate::one_field;
use crate::problem::Problem;

/// What the merchant learned of a transaction since it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    /// It was fraud.
    pub fraud: bool,
}

impl Label {
    /// Reads a body as it came from a client. A label has no place for a card number.
    pub fn receive(body: Restricted<Bytes>) -> Result<Self, Problem> {
        Self::read(&body.uncover())
    }

    /// Reads `{"fraud": true}` or `{"fraud": false}`; nothing less, nothing more.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        let wrong = || {
            Problem::field(
                "/fraud",
                "the body is not an object with the one field fraud, true or false",
                "send {\"fraud\": true} or {\"fraud\": false}",
            )
        };
        one_field::read(body, "fraud", wrong).map(|fraud| Self { fraud })
    }

    /// The label as a body.
    pub fn to_json(self) -> Vec<u8> {
        // One flag always serializes.
        serde_json::to_vec(&self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_field_and_a_flag() {
        assert_eq!(Label::read(b"{\"fraud\": true}"), Ok(Label { fraud: true }));
        assert_eq!(Label::read(b" {\"fraud\":false}\n"), Ok(Label { fraud: false }));
        assert_eq!(Label::read(&Label { fraud: true }.to_json()), Ok(Label { fraud: true }));
    }

    #[test]
    fn anything_else_is_refused_without_repeating_it() {
        let wrong: [(&[u8], bool); 11] = [
            (b"", false),
            (b"{", false),
            (b"{\"fraud\": true} x", false),
            (b"{\"fraud\": \"\xff\"}", false),
            (b"[true]", true),
            (b"true", true),
            (b"{}", true),
            (b"{\"fraud\": \"4111111111111111\"}", true),
            (b"{\"fraud\": 1}", true),
            (b"{\"fraud\": true, \"fraud\": true}", true),
            (b"{\"fraud\": true, \"why\": null}", true),
        ];
        for (body, names_the_field) in wrong {
            let shown = String::from_utf8_lossy(body);
            let problem = Label::read(body).expect_err(&shown);
            assert_eq!(problem.status, 400, "{shown}");
            assert_eq!(problem.pointer.is_some(), names_the_field, "{shown}");
            assert!(!problem.detail.contains("4111"), "{shown}");
        }
    }
}
