//! A chain that holds, and every way in which one can be tampered with.

use super::*;

fn record(reason: &str) -> Record {
    Record {
        at: Timestamp::from_millis(1_700_000_000_000),
        who: "maria".into(),
        what: "switch".into(),
        generation: 1,
        from: "prod".into(),
        to: "old-prod".into(),
        reason: reason.into(),
        numbers: Map::from_iter([("errors".into(), 23.into()), ("share".into(), 0.011.into())]),
    }
}

/// So many lines, one after the other.
fn lines(count: u64) -> Vec<String> {
    let mut head = (0, GENESIS.to_owned());
    (1..=count)
        .map(|n| {
            let line =
                Line::after((head.0, &head.1), record(&format!("reason \"{n}\",\"hash\":\"x\"}}")));
            head = (line.sequence, line.hash.clone());
            line.to_text()
        })
        .collect()
}

fn follow(text: &str) -> Result<Verified, (usize, String)> {
    let mut chain = Chain::default();
    let followed = chain.follow(Path::new("audit.log"), text.as_bytes(), true);
    followed.map(|()| chain.end()).map_err(|broken| (broken.line, broken.what))
}

#[test]
fn a_line_is_read_as_it_was_written() {
    for text in lines(3) {
        let line = Line::read(text.trim_end()).unwrap();
        assert_eq!(line.to_text(), text);
    }
    let bare = Record { numbers: Map::new(), ..record("r") };
    let line = Line::after((0, GENESIS), bare);
    assert_eq!(Line::read(line.to_text().trim_end()), Ok(line));
}

#[test]
fn an_untouched_log_is_a_chain() {
    let verified = follow(&lines(5).concat()).unwrap();
    assert_eq!((verified.lines, verified.first, verified.last), (5, 1, 5));
    assert_eq!(follow("").unwrap(), Verified::default());
    // Older files were let go.
    let verified = follow(&lines(5)[2..].concat()).unwrap();
    assert_eq!((verified.lines, verified.first), (3, 3));
}

#[test]
fn a_line_of_a_newer_release_with_more_fields_is_read() {
    let line = Line::after((0, GENESIS), record("r"));
    let more = format!("{},\"approved_by\":\"ann\"", line.unsealed());
    let text = format!("{more}{SEAL}{}{SEAL_END}", hash(more.as_bytes()));
    assert_eq!(Line::read(&text).unwrap().record, line.record);
}

#[test]
fn the_first_line_that_does_not_fit_is_named() {
    let good = lines(4);
    let changed = good[1].replace("maria", "mario");
    // Whoever changes a line and seals it anew is found one line later.
    let mut resealed = Line::read(good[1].trim_end()).unwrap();
    resealed.record.who = "mario".into();
    resealed.hash = hash(resealed.unsealed().as_bytes());
    let resealed = resealed.to_text();
    let first_again = Line::after((0, "abc"), record("r")).to_text();
    for (what, text, line) in [
        ("changed", [&good[0], &changed, &good[2]], 2),
        ("sealed anew", [&good[0], &resealed, &good[2]], 3),
        ("taken out", [&good[0], &good[2], &good[3]], 2),
        ("put twice", [&good[0], &good[1], &good[1]], 3),
        ("swapped", [&good[1], &good[0], &good[2]], 2),
        ("no line", [&good[0], &"{}\n".to_owned(), &good[2]], 2),
        ("empty", [&good[0], &"\n".to_owned(), &good[2]], 2),
        ("another first", [&first_again, &good[1], &good[2]], 1),
    ] {
        let (at, why) = follow(&text.map(String::as_str).concat()).expect_err(what);
        assert_eq!(at, line, "{what}: {why}");
    }
}

#[test]
fn every_single_byte_counts() {
    let text = lines(2).concat();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let mut chain = Chain::default();
        let followed = chain.follow(Path::new("audit.log"), &bytes, true);
        // Without its end, the last line is unfinished, which is shown and is no break.
        let is_shown = chain.end().torn_bytes > 0;
        assert!(followed.is_err() || (at + 1 == text.len() && is_shown), "byte {at}");
    }
}

#[test]
fn an_unfinished_last_line_is_shown_and_anywhere_else_a_break() {
    let good = lines(2);
    for cut in 1..good[1].len() {
        let text = format!("{}{}", good[0], &good[1][..cut]);
        let verified = follow(&text).unwrap();
        assert_eq!((verified.lines, verified.torn_bytes), (1, cut));
        let in_the_middle = Chain::default().follow(Path::new("a"), text.as_bytes(), false);
        assert_eq!(in_the_middle.unwrap_err().line, 2);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(GROWING), &text).unwrap();
        assert_eq!(tail(dir.path(), 9).unwrap().len(), 1, "{cut}");
    }
}

#[test]
fn the_chain_goes_on_from_file_to_file() {
    let dir = tempfile::tempdir().unwrap();
    let good = lines(6);
    let write = |name: &str, lines: &[String]| {
        std::fs::write(dir.path().join(name), lines.concat()).unwrap();
    };
    assert_eq!(verify(dir.path()).unwrap(), Verified::default());
    write(&full_name(1), &good[..2]);
    write(&full_name(3), &good[2..4]);
    write(GROWING, &good[4..]);
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.lines, verified.first, verified.last), (6, 1, 6));
    let sequences = |max| -> Vec<u64> {
        tail(dir.path(), max).unwrap().into_iter().map(|line| line.sequence).collect()
    };
    assert_eq!((sequences(3), sequences(100)), (vec![4, 5, 6], vec![1, 2, 3, 4, 5, 6]));
    // A file in the middle is gone.
    std::fs::remove_file(dir.path().join(full_name(3))).unwrap();
    let error = verify(dir.path()).unwrap_err().to_string();
    assert!(error.contains("audit.log:1: line 5 does not follow line 2"), "{error}");
}
