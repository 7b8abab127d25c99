//! Card numbers, found so that none is stored: 13 to 19 digits, a card issuer's prefix, and Luhn.
//!
//! Digits may stand in groups with single spaces or dashes between them, and within other text.
//! One number in ten passes Luhn by chance; the issuer's prefix takes about half of those away.

use ring::hmac;

use crate::fingerprint::HashKey;

const DIGITS_MIN: usize = 13;
const DIGITS_MAX: usize = 19;
/// The most groups that a card number is written in: 4-4-4-4-3.
const GROUPS_MAX: usize = 5;
/// The groups of a UUID (RFC 9562, section 4), and its characters.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];
const UUID_CHARS: usize = 36;
/// The shortest hexadecimal number that is taken for a random one: an object id of `MongoDB`.
const HEX_DIGITS_MIN: usize = 24;

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
    // Nearly every text ends here, and most at its length.
    if bytes.len() < DIGITS_MIN
        || bytes.iter().filter(|byte| byte.is_ascii_digit()).count() < DIGITS_MIN
    {
        return None;
    }
    let mut start = from;
    while let Some(&byte) = bytes.get(start) {
        if !byte.is_ascii_digit() {
            start += 1;
            continue;
        }
        let (digits, end) = extent(bytes, start);
        // The many short runs of a random name are passed by without a list for each.
        if digits >= DIGITS_MIN
            && let Some(found) = Run::read(bytes, start, end).card(bytes)
        {
            return Some(found);
        }
        start = end;
    }
    None
}

/// A run of digits, in groups with single spaces and dashes between them.
struct Run {
    digits: Vec<u8>,
    /// Byte offset of each digit.
    places: Vec<usize>,
    /// Which digit each group begins with.
    groups: Vec<usize>,
}

/// How many digits the run that begins at `start` has, and where it ends.
fn extent(bytes: &[u8], start: usize) -> (usize, usize) {
    let (mut digits, mut at) = (0, start);
    while let Some(&byte) = bytes.get(at) {
        let joins =
            matches!(byte, b' ' | b'-') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if byte.is_ascii_digit() {
            digits += 1;
        } else if !joins {
            break;
        }
        at += 1;
    }
    (digits, at)
}

impl Run {
    fn read(bytes: &[u8], start: usize, end: usize) -> Self {
        let mut run = Self { digits: Vec::new(), places: Vec::new(), groups: vec![0] };
        for (at, &byte) in bytes.iter().enumerate().take(end).skip(start) {
            if byte.is_ascii_digit() {
                run.digits.push(byte - b'0');
                run.places.push(at);
            } else {
                run.groups.push(run.digits.len());
            }
        }
        run
    }

    /// The first card number in the run: all of it, or whole groups of it, since an expiry date, a
    /// security code or a count may stand beside. A card number never stands inside more digits.
    fn card(&self, bytes: &[u8]) -> Option<Found> {
        let bound = |group: usize| self.groups.get(group).copied().unwrap_or(self.digits.len());
        let spans = (0..self.groups.len()).flat_map(|first| {
            // Written in groups, a card number begins with one of four digits.
            let groups_max = if bound(first + 1) - bound(first) == 4 { GROUPS_MAX } else { 1 };
            let ends = (first + 1..=self.groups.len()).take(groups_max);
            ends.map(move |end| (bound(first), bound(end)))
        });
        std::iter::once((0, self.digits.len()))
            .chain(spans)
            .filter_map(|(from, to)| self.found(from, to))
            .find(|found| !is_in_random_name(bytes, found))
    }

    /// These digits, if they are a card number.
    fn found(&self, from: usize, to: usize) -> Option<Found> {
        let digits = self.digits.get(from..to)?;
        let is_card = (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len())
            && has_issuer(digits)
            && passes_luhn(digits);
        let (start, last) = (*self.places.get(from)?, *self.places.get(to - 1)?);
        is_card.then(|| Found { start, end: last + 1, digits: digits.to_vec() })
    }
}

/// Whether the digits stand within a UUID, or a longer hexadecimal number with a letter in it. One
/// in 1,700 of those has such digits by chance, and they are what ids are made of.
fn is_in_random_name(bytes: &[u8], found: &Found) -> bool {
    let is_in = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    let (before, behind) = bytes.split_at(found.start);
    let start = found.start - before.iter().rev().take_while(|byte| is_in(byte)).count();
    let end = found.start + behind.iter().take_while(|byte| is_in(byte)).count();
    let name = bytes.get(start..end).unwrap_or_default();
    let mut groups = Vec::new();
    let mut at = start;
    for group in name.split(|byte| *byte == b'-') {
        groups.push((at, group));
        at += group.len() + 1;
    }
    let covers = |from: usize, to: usize| from <= found.start && found.end <= to;
    let is_uuid = groups.windows(UUID.len()).any(|five| {
        let from = five.first().map_or(end, |(at, _)| *at);
        five.iter().map(|(_, group)| group.len()).eq(UUID) && covers(from, from + UUID_CHARS)
    });
    let is_long = groups.iter().any(|(at, group)| {
        group.len() >= HEX_DIGITS_MIN
            && group.iter().any(u8::is_ascii_alphabetic)
            && covers(*at, at + group.len())
    });
    is_uuid || is_long
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
                format!("visa{card}x"),
                format!("{card} 12/28"),
                format!("2 {card} 123"),
                format!("12-28 {} 737", spaced.join("-")),
                format!("a1b2c3d4-{card}"),
                format!("550e8400-e29b-41d4-a716-446655440000 {card}"),
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
            "00000000-4111-1111-1111-111111111111",
            "4111111111111111deadbeef",
        ] {
            assert!(!contains(text), "{text}");
        }
    }

    /// A merchant that names its orders by UUID lost one order in 1,700 to a 422: by chance
    /// some groups of it were all digits, passed Luhn and began as a card number does.
    #[test]
    fn a_random_name_is_never_taken_for_a_card_number() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"names");
        for n in 0..20_000_u32 {
            let random = hmac::sign(&key, &n.to_be_bytes());
            let (number, _) = random.as_ref().split_first_chunk().unwrap();
            let hex = format!("{:032x}", u128::from_be_bytes(*number));
            let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
            for name in [&uuid, &hex, &hex[..24], &format!("txn-{uuid}")] {
                assert!(!contains(name), "{name}");
            }
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
