//! Card numbers, found so that none is stored: 13 to 19 digits, a card issuer's prefix, and Luhn.
//!
//! Digits may stand in groups with single spaces or dashes between them, and within other text.
//! One number in ten passes Luhn by chance; the issuer's prefix takes about half of those away.

use ring::hmac;

use crate::fingerprint::HashKey;

const DIGITS_MIN: usize = 13;
const DIGITS_MAX: usize = 19;

/// Whether the text holds a card number.
pub fn contains(text: &str) -> bool {
    find(text, 0).is_some()
}

/// The text with each card number replaced by its issuer, last four digits and a keyed hash, such as
/// `card:411111:1111:9f86d081884c7d65`; `None` when there was none. The same number gives the same
/// replacement, so a policy can still count it.
pub fn replace(text: &str, key: &HashKey) -> Option<String> {
    let mut found = find(text, 0)?;
    let mut clean = String::with_capacity(text.len() + 16);
    let mut copied = 0;
    loop {
        clean.push_str(text.get(copied..found.start).unwrap_or_default());
        clean.push_str(&found.token(key));
        copied = found.end;
        match find(text, copied) {
            Some(next) => found = next,
            None => break,
        }
    }
    clean.push_str(text.get(copied..).unwrap_or_default());
    Some(clean)
}

/// A card number and where it stands in the text, in bytes.
struct Found {
    start: usize,
    end: usize,
    digits: Vec<u8>,
}

impl Found {
    fn token(&self, key: &HashKey) -> String {
        let text: String = self.digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        let tag = hmac::sign(key.for_cards(), text.as_bytes());
        let (hash, _) = tag.as_ref().split_first_chunk().unwrap_or((&[0; 8], &[]));
        let hash = u64::from_be_bytes(*hash);
        let issuer = text.get(..6).unwrap_or_default();
        let last = text.get(text.len() - 4..).unwrap_or_default();
        format!("card:{issuer}:{last}:{hash:016x}")
    }
}

/// The first card number at or after byte `from`.
fn find(text: &str, from: usize) -> Option<Found> {
    let bytes = text.as_bytes();
    let mut start = from;
    while let Some(&byte) = bytes.get(start) {
        if !byte.is_ascii_digit() {
            start += 1;
            continue;
        }
        let run = Run::read(bytes, start);
        if let Some(found) = run.card(start) {
            return Some(found);
        }
        start = run.end;
    }
    None
}

/// A run of digits, single spaces and dashes between them left out.
struct Run {
    digits: Vec<u8>,
    /// Byte offset just behind each digit.
    ends: Vec<usize>,
    end: usize,
}

impl Run {
    fn read(bytes: &[u8], start: usize) -> Self {
        let mut run = Self { digits: Vec::new(), ends: Vec::new(), end: start };
        let mut at = start;
        while let Some(&byte) = bytes.get(at) {
            let joins =
                matches!(byte, b' ' | b'-') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
            if byte.is_ascii_digit() {
                run.digits.push(byte - b'0');
                run.ends.push(at + 1);
            } else if !joins {
                break;
            }
            at += 1;
        }
        run.end = at;
        run
    }

    /// The whole run as a card number. A longer run is some other number: a card number never
    /// stands inside more digits.
    fn card(&self, start: usize) -> Option<Found> {
        let length = self.digits.len();
        let is_card = (DIGITS_MIN..=DIGITS_MAX).contains(&length)
            && has_issuer(&self.digits)
            && passes_luhn(&self.digits);
        is_card.then(|| Found { start, end: self.end, digits: self.digits.clone() })
    }
}

/// Whether the number begins as the card networks' do (ISO/IEC 7812; the networks' published ranges).
fn has_issuer(digits: &[u8]) -> bool {
    let prefix =
        |length: usize| digits.iter().take(length).fold(0_u32, |n, d| n * 10 + u32::from(*d));
    let length = digits.len();
    match prefix(1) {
        4 => matches!(length, 13 | 16 | 19), // Visa
        5 => {
            (51..=55).contains(&prefix(2)) && length == 16           // Mastercard
            || matches!(prefix(2), 50 | 56..=58)
        } // Maestro
        2 => {
            (2221..=2720).contains(&prefix(4)) && length == 16       // Mastercard
            || (2200..=2204).contains(&prefix(4))
        } // Mir
        3 => {
            matches!(prefix(2), 34 | 37) && length == 15             // American Express
            || matches!(prefix(2), 36 | 38 | 39) || (300..=305).contains(&prefix(3)) // Diners Club
            || (3528..=3589).contains(&prefix(4))
        } // JCB
        6 => true,                           // Discover, UnionPay, Maestro, RuPay
        8 => prefix(2) == 81 || prefix(2) == 82, // UnionPay, RuPay
        9 => (9792..=9792).contains(&prefix(4)), // Troy
        _ => false,
    }
}

/// The check digit of ISO/IEC 7812-1, after H. P. Luhn (US patent 2,950,048).
fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .zip([false, true].into_iter().cycle())
        .map(|(&digit, doubled)| match (doubled, digit) {
            (false, _) => u32::from(digit),
            (true, 0..=4) => u32::from(digit) * 2,
            (true, _) => u32::from(digit) * 2 - 9,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Test numbers that the networks publish.
    const CARDS: [&str; 8] = [
        "4111111111111111",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "30569309025904",
        "6011111111111117",
        "3530111333300000",
        "4222222222222",
    ];

    #[test]
    fn finds_the_networks_test_numbers_however_they_are_written() {
        for card in CARDS {
            let spaced: Vec<_> =
                card.as_bytes().chunks(4).map(|c| std::str::from_utf8(c).unwrap()).collect();
            for text in [
                card.to_owned(),
                spaced.join(" "),
                spaced.join("-"),
                format!("paid by {card}, thanks"),
            ] {
                assert!(contains(&text), "{text}");
            }
        }
    }

    #[test]
    fn leaves_other_numbers_alone() {
        for text in [
            "",
            "4111111111111112",
            "411111111111",
            "customer-596",
            "1234567890123452",
            "41111111111111110000",
        ] {
            assert!(!contains(text), "{text}");
        }
    }

    #[test]
    fn the_replacement_shows_issuer_and_last_four_and_is_the_same_for_the_same_card() {
        let key = HashKey::new(&[7; 32]);
        let one = replace("pay 4111 1111 1111 1111 now", &key).unwrap();
        assert!(one.starts_with("pay card:411111:1111:") && one.ends_with(" now"), "{one}");
        let token = one.split(' ').nth(1).unwrap().to_owned();
        assert_eq!(replace("4111111111111111", &key), Some(token));
        assert_ne!(
            replace("4111111111111111", &HashKey::new(&[8; 32])),
            replace("4111111111111111", &key)
        );
        assert_eq!(replace("no card", &key), None);
    }

    proptest! {
        #[test]
        fn nothing_is_left_after_a_replacement(words in prop::collection::vec("[a-z0-9 -]{0,24}|4111111111111111|5555 5555 5555 4444", 0..8)) {
            let text = words.join("|");
            if let Some(clean) = replace(&text, &HashKey::new(&[7; 32])) {
                prop_assert!(!contains(&clean), "{} -> {}", text, clean);
            }
        }
    }
}
