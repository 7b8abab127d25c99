//! The way to the better stack by itself: when it is taken, and what comes before it.

use serde_json::Value;
use tokio::task::yield_now;

use super::*;

#[tokio::test(start_paused = true)]
async fn it_goes_to_the_better_stack_by_itself_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    let answer = Counts::of(&Tier::Core, None, false, Verdict::Approve).unwrap();
    let verdict = Some(Verdict::Approve);
    let mut switched_after = None;
    // Ten minutes of health, then every request comes too late. 200 a second, 20 of them mirrored.
    for slot in 0..1_280_u32 {
        let is_well = slot < 1_200;
        let active = switch.stacks.choice().course.active;
        for _ in 0..100 {
            let cause = (active == Stack::Prod && !is_well).then_some(Cause::Deadline);
            switch.saw(active, &decision(cause), timing(20));
        }
        for _ in 0..10 {
            let served = verdict.filter(|_| is_well);
            switch.mirrored(active.other(), Mirrored { answer, served, verdict });
        }
        well(&switch);
        if !is_well && slot % 2 == 0 {
            for stack in Stack::ALL {
                switch.wrote(stack, Instant::now());
            }
        }
        switch.look().await;
        if switched_after.is_none() && active == Stack::OldProd {
            switched_after = Some(slot - 1_200);
        }
        tokio::time::advance(SECOND / 2).await;
    }
    let slots = switched_after.expect("it switched");
    println!("gone after {} requests", slots * 100);
    assert!((5..20).contains(&slots), "{slots}");
    let lines = log_of(&folder);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let Record { who, what, from, to, reason, numbers, .. } = &lines[0];
    let words = (who.as_str(), what.as_str(), from.as_str(), to.as_str());
    assert_eq!(words, ("automatic", "automatic", "prod", "old-prod"));
    assert!(
        reason.starts_with("Decided to switch to old-prod: ")
            && reason.contains("missed their deadline"),
        "{reason}"
    );
    assert_eq!(numbers["charge"], "misses");
}

#[tokio::test(start_paused = true)]
async fn more_is_mirrored_from_the_first_look_at_a_bad_stack_on_and_until_it_is_well_again() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    // In quarters of a second: so many, and whether they are late; what is mirrored then, and why.
    for (quarters, is_late, percent, doubt) in [
        (40, false, 1, None),
        (1, true, 10, Some("misses")),
        (4, false, 10, Some("misses")),
        (120, false, 1, None),
    ] {
        for _ in 0..quarters {
            well(&switch);
            for _ in 0..50 {
                let cause = is_late.then_some(Cause::Deadline);
                switch.saw(Stack::Prod, &decision(cause), timing(20));
            }
            switch.look().await;
            tokio::time::advance(SECOND / 4).await;
        }
        let status = switch.status();
        assert_eq!((switch.mirror_percent(), &status["doubt"]), (percent, &doubt.into()));
        assert_eq!(status["mirror_percent"], percent);
    }
    // Not after an order: it holds for longer than what is mirrored now would count.
    well(&switch);
    switch.obey(order(TO_OLD)).await.unwrap();
    switch.saw(Stack::OldProd, &decision(Some(Cause::Deadline)), timing(20));
    switch.look().await;
    assert_eq!((switch.mirror_percent(), &switch.status()["doubt"]), (1, &Value::Null));
}

/// Both stacks share a disk. When that takes nothing for a moment, clients of the one that serves are stood
/// in for, while the other, which only rehearses, looks well.
#[tokio::test(start_paused = true)]
async fn it_stays_until_the_other_stack_has_shown_that_it_writes_while_this_one_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    let answer = Counts::of(&Tier::Core, None, false, Verdict::Approve).unwrap();
    // In half seconds: prod is late from the first on, but for a while in which probes are written.
    for slot in 0..60_u32 {
        let (is_late, writes) = (!(20..40).contains(&slot), slot >= 30);
        let cause = is_late.then_some(Cause::Deadline);
        for _ in 0..100 {
            switch.saw(Stack::Prod, &decision(cause.clone()), timing(20));
        }
        for _ in 0..50 {
            let (served, verdict) = (None, Some(Verdict::Approve));
            switch.mirrored(Stack::OldProd, Mirrored { answer, served, verdict });
        }
        well(&switch);
        if writes && slot % 2 == 0 {
            switch.wrote(Stack::OldProd, Instant::now());
        }
        switch.look().await;
        let active = switch.stacks.choice().course.active;
        assert_eq!(active == Stack::OldProd, slot >= 40, "{slot}");
        tokio::time::advance(SECOND / 2).await;
    }
}

/// So many times in half a second prod is late, and old-prod well.
fn half_a_second_of_a_bad_prod(switch: &Switch) {
    let answer = Counts::of(&Tier::Core, None, false, Verdict::Approve).unwrap();
    for _ in 0..50 {
        switch.saw(Stack::Prod, &decision(Some(Cause::Deadline)), timing(20));
        let (served, verdict) = (None, Some(Verdict::Approve));
        switch.mirrored(Stack::OldProd, Mirrored { answer, served, verdict });
    }
    well(switch);
}

/// Old-prod wrote while clients were being stood in for, and then nobody looked at it for long: a disk that
/// takes nothing now may well have taken something then.
#[tokio::test(start_paused = true)]
async fn what_was_written_long_ago_or_after_the_last_bad_answer_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    // In half seconds. It had written before prod was known to be bad; later it writes again.
    for slot in 0..60_u32 {
        if [0, 1, 2, 50, 52].contains(&slot) {
            switch.wrote(Stack::OldProd, Instant::now());
        }
        half_a_second_of_a_bad_prod(&switch);
        if slot >= 30 {
            switch.look().await;
        }
        assert_eq!(switch.stacks.choice().course.active, Stack::Prod, "{slot}");
        tokio::time::advance(SECOND / 2).await;
    }
    // The third in a row, but asked after the last answer that was bad, and before the look at it.
    half_a_second_of_a_bad_prod(&switch);
    tokio::time::advance(10 * MS).await;
    switch.wrote(Stack::OldProd, Instant::now());
    tokio::time::advance(100 * MS).await;
    switch.look().await;
    assert_eq!(switch.stacks.choice().course.active, Stack::Prod);
    half_a_second_of_a_bad_prod(&switch);
    switch.look().await;
    assert_eq!(switch.stacks.choice().course.active, Stack::OldProd);
}

/// Ready to go by itself at the next look.
async fn about_to_go(folder: &tempfile::TempDir) -> Arc<Switch> {
    let switch = open(folder);
    for _ in 0..40 {
        half_a_second_of_a_bad_prod(&switch);
        switch.look().await;
        tokio::time::advance(SECOND / 2).await;
    }
    for _ in 0..3 {
        switch.wrote(Stack::OldProd, Instant::now());
    }
    half_a_second_of_a_bad_prod(&switch);
    lock(&switch.watch).finding = None;
    switch
}

/// An operator had just ordered prod to stay, and was overruled a moment later by what had been found
/// before; and an edge that had made room for its successor still went elsewhere.
#[tokio::test(start_paused = true)]
async fn what_was_found_before_an_order_or_before_the_end_does_not_come_after_it() {
    for is_ordered in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let switch = about_to_go(&folder).await;
        let turn = switch.turn.lock().await;
        let (first, second) = (switch.clone(), switch.clone());
        // They come in this order, and each waits for its turn.
        let first = tokio::spawn(async move {
            if is_ordered {
                first.obey(order(What::Switch(Stack::Prod))).await.unwrap();
            } else {
                first.close().await;
            }
        });
        for _ in 0..10 {
            yield_now().await;
        }
        let second = tokio::spawn(async move { second.look().await });
        while lock(&switch.watch).finding.is_none() {
            yield_now().await;
        }
        drop(turn);
        first.await.unwrap();
        second.await.unwrap();
        let choice = switch.stacks.choice();
        assert_eq!((choice.course.active, choice.generation), (Stack::Prod, is_ordered.into()));
        assert_eq!(switch.status()["found"], Value::Null);
    }
    // Where nobody comes before it, it goes.
    let folder = tempfile::tempdir().unwrap();
    let switch = about_to_go(&folder).await;
    switch.look().await;
    assert_eq!(switch.stacks.choice().course.active, Stack::OldProd);
}
