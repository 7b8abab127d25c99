//! What is written is read, and what is not sound is not.

use proptest::prelude::*;

use super::*;

fn answer<'a>(merchant: &'a str, json: &'a [u8], request: &'a [u8], number: u64) -> Record<'a> {
    Record::Said(Answer {
        key: Key::of(merchant, "txn-1"),
        hash: RequestHash::from_bytes(&[7; 32]).unwrap(),
        advice: (number > 0).then_some(AdviceId { epoch: 3, number }),
        received_at: Timestamp::from_millis(1_533_081_631_000),
        verdict: Verdict::Review,
        tier: TierCode::Edge,
        test: true,
        numeric_ids: false,
        merchant,
        answer: json,
        request,
    })
}

fn settled() -> Record<'static> {
    let acknowledged = |number, outcome: &str, why: &str| Acknowledged {
        advice: AdviceId { epoch: 9, number },
        outcome: Outcome::from(outcome.to_owned()),
        why: why.to_owned(),
    };
    Record::Settled(vec![
        acknowledged(1, "applied", ""),
        acknowledged(2, "refused", "no such policy"),
        acknowledged(u64::MAX, "moonlight", ""),
    ])
}

#[test]
fn every_record_is_read_as_it_was_written() {
    let opening = Opening { node: [9; 16], epoch: u64::MAX, at: Timestamp::from_millis(1) };
    for record in [
        Record::Opened(opening),
        answer("demo", br#"{"id":"txn-1"}"#, br#"{"id":"txn-1","amount":5}"#, 8),
        answer("", b"", b"", 0),
        settled(),
        Record::Settled(Vec::new()),
    ] {
        let bytes = record.encode(77).unwrap();
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.record, record);
        assert_eq!((decoded.sequence, decoded.bytes), (77, &bytes[..]));
    }
}

#[test]
fn a_record_of_the_greatest_length_is_written_and_a_longer_one_is_not() {
    let empty = answer("demo", b"", b"", 1).encode(1).unwrap().len();
    let request = vec![b'x'; RECORD_BYTES_MAX - empty + 1];
    let longest = answer("demo", b"", &request[1..], 1).encode(1).unwrap();
    assert_eq!(longest.len(), RECORD_BYTES_MAX);
    assert!(decode(&longest).is_ok());
    assert_eq!(answer("demo", b"", &request, 1).encode(1), None);
}

#[test]
fn a_newer_version_is_named_and_not_misread() {
    let mut bytes = BytesMut::from(&settled().encode(1).unwrap()[..]);
    bytes[12] = VERSION + 1;
    assert_eq!(decode(&bytes), Err(Flaw::Damaged), "a flipped bit is no new version");
    seal(&mut bytes).unwrap();
    assert_eq!(decode(&bytes), Err(Flaw::Newer(VERSION + 1)));
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let why = "ü".repeat(WHY_BYTES_MAX);
    let list = vec![Acknowledged {
        advice: AdviceId { epoch: 1, number: 1 },
        outcome: Outcome::Refused,
        why,
    }];
    let bytes = Record::Settled(list).encode(1).unwrap();
    let Record::Settled(read) = decode(&bytes).unwrap().record else { panic!() };
    assert_eq!(read[0].why, "ü".repeat(WHY_BYTES_MAX / 2));
}

proptest! {
    #[test]
    fn no_flipped_bit_goes_unseen(at in 0_usize..2_000, bit in 0_u8..8) {
        let bytes = answer("demo", &[b'a'; 300], &[b'b'; 900], 8).encode(77).unwrap();
        let mut flipped = bytes.to_vec();
        let at = at % flipped.len();
        flipped[at] ^= 1 << bit;
        prop_assert_eq!(decode(&flipped), Err(Flaw::Damaged));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let mut sealed = BytesMut::from(&MAGIC[..]);
        sealed.put_bytes(0, 8);
        sealed.put_u8(VERSION);
        sealed.put_slice(&bytes);
        seal(&mut sealed).unwrap();
        let _ = decode(&sealed);
    }
}
