//! What is taken up in which order, and the fence at the door.

use super::*;
use crate::fixture::advice;

fn job(ask: Ask) -> Job {
    Job { ask, deadline: None, reply: Box::new(|_| {}) }
}

fn advised(number: u64) -> Ask {
    Ask::Settle(Box::new(advice("n", number, question(&number.to_string()), Verdict::Approve)))
}

/// How many advices and how many that wait are in the next set; advices must come first.
async fn next(waiting: &mut Waiting) -> Option<(usize, usize)> {
    let jobs = waiting.next(4, 3).await?;
    let advices = jobs.iter().take_while(|job| !job.ask.is_live()).count();
    assert!(jobs.iter().skip(advices).all(|job| job.ask.is_live()), "advices go first");
    Some((advices, jobs.len() - advices))
}

#[tokio::test]
async fn a_set_takes_all_who_wait_and_the_fewer_advices_and_advices_alone_at_full_pace() {
    let (lane, mut waiting) = Lane::new(16);
    for number in 0..11 {
        assert!(lane.bulk.try_send(job(advised(number))).is_ok());
    }
    for id in ["a", "b", "c", "d", "e"] {
        assert!(lane.live.try_send(job(decide(question(id)))).is_ok());
    }
    for (expected, may_rest) in
        [((1, 4), false), ((2, 1), false), ((3, 0), false), ((3, 0), false), ((2, 0), true)]
    {
        assert_eq!(next(&mut waiting).await, Some(expected));
        assert_eq!(waiting.may_rest(4), may_rest, "nobody rests while advices wait");
    }
    assert!(lane.live.try_send(job(decide(question("f")))).is_ok());
    assert_eq!(next(&mut waiting).await, Some((0, 1)));
    // What is left when nobody can ask any more is taken, from either.
    assert!(lane.bulk.try_send(job(advised(12))).is_ok());
    drop(lane);
    let mut left = 0;
    while let Some((advices, live)) = next(&mut waiting).await {
        left += advices + live;
    }
    assert_eq!(left, 1);
}

#[tokio::test]
async fn who_brings_more_advices_than_may_wait_waits_with_them() {
    let (lane, mut waiting) = Lane::new(1);
    let queue = Queue { lanes: Arc::new([lane]), metrics: Metrics::new().unwrap() };
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_millis(20), queue.ask_in_bulk(advised(sent)))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 10_000, "there is no bound");
    }
    assert_eq!(next(&mut waiting).await, Some((3, 0)));
    let outcome = queue.ask_in_bulk(advised(sent)).await;
    drop(waiting);
    assert!(outcome.await.is_err(), "the writer is gone");
    assert!(queue.ask_in_bulk(advised(0)).await.await.is_err());
}

fn fenced(metrics: &Metrics, place: &str) -> u64 {
    let prefix = format!("backstop_core_fenced_total{{place=\"{place}\"}} ");
    let text = metrics.render();
    let count = text.lines().find_map(|line| line.strip_prefix(&prefix));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn who_has_less_time_than_a_unit_takes_is_sent_away_at_the_door() {
    let (lane, mut waiting) = Lane::new(4);
    let needed = Duration::from_millis(40);
    lane.needed.set(needed);
    let metrics = Metrics::new().unwrap();
    let queue = Queue { lanes: Arc::new([lane]), metrics: metrics.clone() };
    let ms = Duration::from_millis(1);
    for (left, admitted) in
        [(needed.saturating_sub(ms), false), (needed, true), (Duration::ZERO, false)]
    {
        let deadline = Deadline::after(Instant::now(), Budget::new(left));
        let (said, heard) = oneshot::channel();
        let asked = decide(question("a"));
        queue.put(asked, Some(deadline), |outcome| drop(said.send(outcome)));
        assert_eq!(waiting.live.try_recv().is_ok(), admitted, "{left:?}");
        let too_late = matches!(heard.await, Ok(Err(CoreError::TooLate)));
        assert_eq!(too_late, !admitted, "{left:?}");
    }
    assert_eq!((fenced(&metrics, "admission"), fenced(&metrics, "queue")), (2, 0));
}

#[tokio::test]
async fn each_fence_counts_who_it_stopped() {
    // Long enough that even a busy machine decides the second in half of it.
    let slice = Duration::from_secs(2);
    let mut bench = Bench::with(|desk| desk.settings.policy_time_max = slice).await;
    let by = |left| Some(Deadline::after(Instant::now(), Budget::new(left)));
    // One waited in the queue until it was too late. The second is decided at once, and those after it
    // take the time it had left.
    let set = vec![
        (decide(question("late")), by(Duration::ZERO)),
        (decide(question("impatient")), by(slice / 2)),
        (decide(asked("slow", "endless", 1)), None),
    ];
    let outcomes = bench.serve_by(set).await;
    let too_late = |it: &Result<Outcome, CoreError>| matches!(it, Err(CoreError::TooLate));
    assert_eq!(outcomes.iter().map(too_late).collect::<Vec<_>>(), [true, true, false]);
    let metrics = &bench.writer.desk.metrics;
    let counts = ["admission", "queue", "commit"].map(|place| fenced(metrics, place));
    assert_eq!(counts, [0, 1, 1]);
}

/// A commit may take long before it begins: on SQLite the rows are written by then. What nobody waits for
/// any more is not made durable even so.
#[tokio::test]
async fn the_last_fence_is_asked_when_all_rows_are_written() {
    let mut bench = Bench::new().await;
    let asked_at = std::sync::Mutex::new(0);
    let (asked, answered) = (question("a"), crate::store::tests::decided("a"));
    let changes =
        crate::store::Changes { decided: vec![(&asked, &answered)], ..Default::default() };
    let unit = bench.writer.store.begin().await.unwrap();
    let is_in_time = || {
        *asked_at.lock().unwrap() += 1;
        false
    };
    let error = unit.commit(&changes, &is_in_time).await.unwrap_err();
    assert!(matches!(error, CoreError::TooLate), "{error}");
    assert_eq!(*asked_at.lock().unwrap(), 1);
    assert!(bench.stored("a").await.is_none());
    bench.answer(question("a")).await;
}
