//! What the edge still owes core, by its own account.

use crate::system::{System, Wire, until};

/// What its book holds, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Answers of which core has not heard.
    pub unsettled: usize,
    /// Those that core refused.
    pub set_aside: usize,
}

/// As the edge's metrics say. Panics where there is no book.
pub fn owed(system: &System) -> Owed {
    let metrics = Wire::connect(system.admin).send("GET", "/metrics", &[], b"").text;
    let book: Vec<_> =
        metrics.lines().filter(|it| it.starts_with("backstop_book_entries{")).collect();
    assert!(!book.is_empty(), "the edge has no book");
    let count = |state: &str| {
        let label = format!(r#"state="{state}""#);
        let of = book.iter().filter(|line| line.contains(&label));
        of.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    };
    Owed { unsettled: count("unsettled"), set_aside: count("set_aside") }
}

/// Waits until core knows of everything, as long as it gets on with it.
pub fn settled(system: &System) {
    let mut before = owed(system).unsettled;
    while before > 0 {
        let now = until("core hears of more", || {
            Some(owed(system).unsettled).filter(|now| *now == 0 || *now < before)
        });
        before = now;
    }
    assert_eq!(owed(system).set_aside, 0, "core refused none");
}
