//! The bearer token that an operator, or the edge, shows to a listener.

use std::path::Path;

use backstop_contract::class::Confidential;
use subtle::ConstantTimeEq as _;

use crate::error::SettingsError;

/// A shorter token could be guessed; an empty one would let everybody in.
const CHARS_MIN: usize = 16;

/// A token worth asking for.
#[derive(Clone, Debug)]
pub struct Token(Confidential<String>);

impl Token {
    /// The token in `file`, which `backstop up` makes on the first run.
    pub fn read(file: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| SettingsError::Read { file: file.to_owned(), source })?;
        Self::new(text.trim()).ok_or_else(|| SettingsError::Wrong {
            file: file.to_owned(),
            line: 1,
            what: format!(
                "is no token of at least {CHARS_MIN} plain characters; remove it, and `backstop up` makes one"
            ),
        })
    }

    /// This token, if nobody guesses it and a header can carry it.
    pub fn new(text: &str) -> Option<Self> {
        let is_good = text.len() >= CHARS_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| Self(Confidential::new(text.to_owned())))
    }

    /// The value of `Authorization` that shows it.
    pub fn bearer(&self) -> Confidential<String> {
        Confidential::new(format!("Bearer {}", self.0.expose()))
    }

    /// Whether this value of `Authorization` shows it. How long that takes tells nothing of it.
    pub fn is_shown_by(&self, authorization: Option<&str>) -> bool {
        let sent = authorization.and_then(|value| value.strip_prefix("Bearer "));
        sent.is_some_and(|sent| sent.as_bytes().ct_eq(self.0.expose().as_bytes()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lets_in_whoever_shows_it_and_nobody_else() {
        let token = Token::new("bsh_0123456789abcdef").unwrap();
        assert!(token.is_shown_by(Some(token.bearer().expose())));
        let wrong = ["", "Bearer ", "bsh_0123456789abcdef", "Bearer bsh_0123456789abcdee"];
        for wrong in wrong.map(Some).into_iter().chain([None]) {
            assert!(!token.is_shown_by(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hop.token");
        let read = || Token::read(&file).map(|_| ()).map_err(|error| error.to_string());
        assert!(read().unwrap_err().contains("hop.token: cannot be read"));
        for (text, is_good) in [
            ("", false),
            ("fifteen_chars__", false),
            ("sixteen_chars___\n", true),
            ("two words, sixteen_chars", false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read().is_ok(), is_good, "{text:?}");
        }
    }
}
