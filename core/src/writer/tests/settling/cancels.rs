//! Cancels that clients were told of, and decisions that were cancelled before anybody knew what their
//! clients had been told. Whatever comes first, all that moved adds up.

use super::*;
use crate::fixture::cancel;

const STOCKED: i64 = 5;

/// Core granted the claim `a`: two of the article `a`, and two coins.
async fn claimed<B: Books>() -> BenchOver<B> {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", STOCKED).await;
    assert_eq!(bench.decide(claim("a", "ann", "a", 2)).await.decision, Approve);
    bench
}

fn cancel_of_a(id: &str) -> Question {
    cancel(id, "chest", "ann", "a")
}

async fn assert_holds<B: Books>(bench: &BenchOver<B>, left: i64, held: i64) {
    assert_eq!(
        (bench.stock("sku:a").await, bench.balances("ann").await),
        (Some(left), coins(held))
    );
    bench.assert_conserved("ann", "a", STOCKED).await;
}

async fn cancelled_by<B: Books>(bench: &BenchOver<B>) -> Option<String> {
    bench.stored("a").await.unwrap().cancelled_by
}

pub(crate) async fn a_cancel_that_a_client_was_granted_releases_late<B: Books>() {
    let mut bench = claimed::<B>().await;
    for _ in 0..2 {
        let granted = advice("n", 1, cancel_of_a("c"), Approve);
        assert_eq!(bench.settle(granted).await, Became::Applied);
        assert_eq!(cancelled_by(&bench).await.as_deref(), Some("c"));
        assert_holds(&bench, 5, 0).await;
    }
    assert_eq!(bench.discrepancies().await, 0);
    let again = bench.decide(cancel_of_a("d")).await;
    assert_eq!(again.reasons, ["already_cancelled"]);
}

/// Core did not know yet that the claim had been granted, and so would not cancel it.
pub(crate) async fn a_cancel_that_core_had_declined_is_granted<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", STOCKED).await;
    assert_eq!(bench.decide(cancel_of_a("c")).await.reasons, ["nothing_to_cancel"]);
    let claimed = advice("n", 1, claim("a", "ann", "a", 2), Approve);
    assert_eq!(bench.settle(claimed).await, Became::Applied);
    assert_holds(&bench, 3, 2).await;
    let granted = advice("n", 2, cancel_of_a("c"), Approve);
    assert_eq!(bench.settle(granted).await, Became::Overridden);
    assert_eq!(cancelled_by(&bench).await.as_deref(), Some("c"));
    assert_holds(&bench, 5, 0).await;
}

pub(crate) async fn a_cancel_that_core_had_granted_and_the_client_was_not_holds_again_what_is_there<
    B: Books,
>() {
    // How many others have taken of the five since, and what is left to hold again.
    for (others, left, why) in [(0, 3, ""), (4, 0, "out_of_stock sku:a 1")] {
        let mut bench = claimed::<B>().await;
        assert_eq!(bench.decide(cancel_of_a("c")).await.decision, Approve);
        assert_holds(&bench, 5, 0).await;
        if others > 0 {
            bench.decide(claim("b", "bob", "a", others)).await;
        }
        for _ in 0..2 {
            let declined = advice("n", 1, cancel_of_a("c"), Decline);
            assert_eq!(bench.settle(declined).await, Became::Overridden);
        }
        assert_eq!(cancelled_by(&bench).await, None);
        assert_eq!(bench.stock("sku:a").await, Some(left));
        assert_eq!(bench.balances("ann").await, coins(2), "the coins are there again");
        let told = bench.told().await;
        assert_eq!(told.last().unwrap().3, why);
        // It can be cancelled again, and gives back what it holds.
        assert_eq!(bench.decide(cancel_of_a("d")).await.decision, Approve);
        assert_eq!(bench.stock("sku:a").await, Some(5 - others));
        assert_eq!(bench.balances("ann").await, coins(0));
    }
}

pub(crate) async fn a_decision_that_was_cancelled_meanwhile_is_corrected_and_moves_nothing_more<
    B: Books,
>() {
    for verdict in [Decline, Review] {
        let mut bench = claimed::<B>().await;
        assert_eq!(bench.decide(cancel_of_a("c")).await.decision, Approve);
        let lines = bench.lines().await;
        let told = advice("n", 1, claim("a", "ann", "a", 2), verdict);
        assert_eq!(bench.settle(told).await, Became::Overridden);
        assert_eq!(bench.stored("a").await.unwrap().answer.decision, verdict);
        assert_eq!(bench.lines().await, lines, "all of it was released before");
        assert_eq!(bench.told().await.last().unwrap().3, "cancelled_by c");
        assert_holds(&bench, 5, 0).await;
        // A fee that its decline would have cost is not taken for what was called off.
        assert_eq!(bench.decide(cancel_of_a("d")).await.reasons, ["nothing_to_cancel"]);
    }
}

/// The client was told no, and no: core had granted the claim, and had released it.
pub(crate) async fn a_cancel_of_what_was_corrected_since_is_called_off_and_leaves_nothing<
    B: Books,
>() {
    let mut bench = claimed::<B>().await;
    assert_eq!(bench.decide(cancel_of_a("c")).await.decision, Approve);
    let told = vec![
        settle(advice("n", 1, claim("a", "ann", "a", 2), Decline)),
        settle(advice("n", 2, cancel_of_a("c"), Decline)),
    ];
    for outcome in bench.serve(told).await {
        assert_eq!(became(outcome), (Became::Overridden, ""));
    }
    let stored = bench.stored("a").await.unwrap();
    assert!(stored.cancelled_by.is_none() && stored.moves.is_empty());
    assert_holds(&bench, 5, 0).await;
}

pub(crate) async fn a_cancel_of_what_nobody_knows_stands_and_says_what_it_could_not_release<
    B: Books,
>() {
    let mut bench = claimed::<B>().await;
    let stranger = cancel("c", "chest", "bob", "a");
    let unknown = cancel("d", "chest", "ann", "z");
    assert_eq!(bench.decide(cancel_of_a("b")).await.decision, Approve);
    for (number, question) in [(1, stranger), (2, unknown), (3, cancel_of_a("e"))] {
        let granted = advice("n", number, question, Approve);
        assert_eq!(bench.settle(granted).await, Became::Applied);
    }
    let whys: Vec<_> = bench.told().await.into_iter().map(|line| (line.1, line.3)).collect();
    let why = |id: &str, why: &str| (id.to_owned(), why.to_owned());
    let nothing = "nothing_to_cancel";
    assert_eq!(whys, [why("c", nothing), why("d", nothing), why("e", "already_cancelled")]);
    assert_eq!(cancelled_by(&bench).await.as_deref(), Some("b"));
    assert_holds(&bench, 5, 0).await;
}
