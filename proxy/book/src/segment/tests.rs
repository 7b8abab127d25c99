//! Every cut and every flip of a small segment.

use proptest::prelude::*;

use super::*;
use crate::place::AdviceId;
use crate::record::{Acknowledged, Opening, Record};
use backstop_contract::{Outcome, Timestamp};

const ROOM: usize = 64;

/// A segment of records of different lengths, with room behind: its bytes, and where each begins.
fn segment(count: u64) -> (Vec<u8>, Vec<usize>) {
    let opening = Opening { node: [1; 16], epoch: 1, at: Timestamp::from_millis(1) };
    let mut bytes = Vec::new();
    let mut begins = Vec::new();
    for number in 0..count {
        let record = if number == 0 { Record::Opened(opening) } else { settled(number) };
        begins.push(bytes.len());
        bytes.extend_from_slice(&record.encode(number).unwrap());
        bytes.resize(padded(bytes.len()), 0);
    }
    bytes.resize(bytes.len() + ROOM, 0);
    (bytes, begins)
}

fn settled(number: u64) -> Record<'static> {
    let advice = AdviceId { epoch: 1, number };
    let why = "y".repeat(usize::try_from(number % 13).unwrap());
    Record::Settled(vec![Acknowledged { advice, outcome: Outcome::Refused, why }])
}

/// The sequences that are read, each with where it begins, and the end.
fn read(bytes: &[u8]) -> (Vec<(u64, usize)>, End) {
    let mut found = Vec::new();
    let end = recover(bytes, |at, decoded| found.push((decoded.sequence, at))).unwrap();
    (found, end)
}

fn expected(begins: &[usize]) -> Vec<(u64, usize)> {
    begins.iter().enumerate().map(|(sequence, at)| (sequence as u64, *at)).collect()
}

#[test]
fn a_whole_segment_is_read_and_ends_clean_with_and_without_room() {
    let (bytes, begins) = segment(6);
    let at = bytes.len() - ROOM;
    assert_eq!(read(&bytes), (expected(&begins), End::Clean { at }));
    assert_eq!(read(&bytes[..at]), (expected(&begins), End::Clean { at }));
    assert_eq!(read(&[]), (Vec::new(), End::Clean { at: 0 }));
    assert_eq!(read(&[0; 100]), (Vec::new(), End::Clean { at: 0 }));
}

#[test]
fn cut_at_any_byte_it_keeps_every_record_before_and_is_torn_or_clean() {
    let (bytes, begins) = segment(6);
    let ends: Vec<usize> =
        begins.iter().map(|at| at + decode(&bytes[*at..]).unwrap().bytes.len()).collect();
    for cut in 0..bytes.len() {
        // As a file is cut, and as one that was preallocated is: with zeros behind.
        let mut zeroed = bytes[..cut].to_vec();
        zeroed.resize(bytes.len(), 0);
        for remains in [&bytes[..cut], &zeroed] {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let (found, end) = read(remains);
            // A record whose last bytes are zero is whole without them, if zeros take their place.
            let least = expected(&begins[..whole]);
            assert_eq!(found[..whole], least[..], "cut at {cut}");
            assert!(found.len() == whole || remains.len() == bytes.len(), "cut at {cut}");
            assert!(!matches!(end, End::Corrupt { .. }), "cut at {cut}: {end:?}");
        }
    }
}

#[test]
fn what_is_broken_in_the_middle_costs_that_record_alone() {
    let (bytes, begins) = segment(6);
    for (broken, at) in begins.iter().enumerate() {
        let mut damaged = bytes.clone();
        damaged[at + 20] ^= 1;
        let (found, end) = read(&damaged);
        let mut left = expected(&begins);
        left.remove(broken);
        assert_eq!(found, left);
        match begins.get(broken + 1) {
            Some(next) => assert_eq!(end, End::Corrupt { at: *at, bytes: next - at }),
            None => assert!(matches!(end, End::Torn { at: torn, .. } if torn == *at), "{end:?}"),
        }
    }
}

#[test]
fn two_broken_places_are_told_together() {
    let (mut bytes, begins) = segment(6);
    for broken in [1, 3] {
        bytes[begins[broken] + 20] ^= 1;
    }
    let (found, end) = read(&bytes);
    assert_eq!(found.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 2, 4, 5]);
    let lost = begins[2] - begins[1] + begins[4] - begins[3];
    assert_eq!(end, End::Corrupt { at: begins[1], bytes: lost });
}

#[test]
fn a_text_that_is_a_record_is_none() {
    // A client that knows the format sends a record inside its request. The magic is no UTF-8, so
    // whatever JSON it sends can not hold one.
    let record = settled(1).encode(1).unwrap();
    assert!(std::str::from_utf8(&record[..4]).is_err());
}

proptest! {
    #[test]
    fn whatever_is_flipped_no_record_is_wrong_and_every_untouched_one_is_read(
        flips in prop::collection::vec((0_usize..4_000, 0_u8..8), 1..6),
    ) {
        let (bytes, begins) = segment(12);
        let mut damaged = bytes.clone();
        let mut touched = vec![];
        for (at, bit) in flips {
            let at = at % bytes.len();
            damaged[at] ^= 1 << bit;
            touched.push(at);
        }
        let (found, _) = read(&damaged);
        for (sequence, at) in expected(&begins) {
            let length = decode(&bytes[at..]).unwrap().bytes.len();
            let whole = damaged[at..at + length] == bytes[at..at + length];
            prop_assert_eq!(found.contains(&(sequence, at)), whole, "{} touched at {:?}", sequence, touched);
        }
        prop_assert!(found.iter().all(|it| expected(&begins).contains(it)));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let (found, _) = read(&bytes);
        prop_assert!(found.is_empty());
    }
}
