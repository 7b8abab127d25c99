//! What was decided, recalled over every kind of books: with its request, and without itself.

use backstop_contract::{Request, Value};
use backstop_lua::Keys;

use super::*;
use crate::fixture::wish;
use crate::rehearsals::Recalled;

const CUSTOMER: &str = "customer:customer-1";

impl<B: Books> BenchOver<B> {
    async fn recall(&self, key: DecisionKey, history: &[&str], stock: &[&str]) -> Option<Recalled> {
        let named = |key: &&str| (format!("its {key}"), (*key).to_owned());
        let keys = Keys {
            history: history.iter().map(named).collect(),
            stock: stock.iter().map(|key| (*key).to_owned()).collect(),
            ..Keys::default()
        };
        self.rehearsals(1).recall(key, keys, None).await.unwrap()
    }

    /// What is left of a chest when this decision is left out.
    async fn chest_without(&self, id: &str) -> i64 {
        self.recall(key(id), &[], &["sku:chest"]).await.unwrap().stock["sku:chest"]
    }
}

pub(crate) async fn a_request_is_recalled_as_it_was_asked_with_what_became_of_it<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    let attributes = [
        ("coins", Value::Integer(2)),
        ("share", Value::Number(0.1)),
        ("whole", Value::Number(3.0)),
        ("gift", Value::Flag(true)),
        ("note", Value::Text("a \0 in \"ä\"")),
    ];
    for question in [question("a"), wish("b\0", "spend", "ann\0", &attributes)] {
        let id = question.request.id.clone();
        let answer = bench.answer(question.clone()).await.answer;
        assert!(bench.label(&id, true).await);
        let rows = bench.rows().await;
        let recalled = bench.recall(key(&id), &[], &[]).await.unwrap();
        assert_eq!((recalled.decided.answer, recalled.decided.fraud), (answer, Some(true)));
        assert_eq!(recalled.question.request, question.request);
        assert_eq!(recalled.question.at(), question.at());
        assert_eq!(bench.rows().await, rows, "nothing is written");
    }
    let mut forced = question("forced");
    let named = [("backstop_force", Value::Text("api")), ("terminal", Value::Text("3156"))];
    forced.request.attributes = named.into_iter().collect();
    bench.answer(forced).await;
    let recalled = bench.recall(key("forced"), &[], &[]).await.unwrap();
    let expected = Request { id: "forced".to_owned(), ..question("a").request };
    assert_eq!(recalled.question.request, expected, "a tier is forced once");
    for (merchant, id) in [("demo", "unknown"), ("other", "a")] {
        let key = DecisionKey { merchant: merchant.to_owned(), id: id.to_owned() };
        assert!(bench.recall(key, &[CUSTOMER], &["sku:chest"]).await.is_none());
    }
}

/// An author asks what the next version says of a payment that was a fraud. If it found itself counted, and
/// its own chargeback, every version would look clever.
pub(crate) async fn a_decision_is_not_in_its_own_history_and_its_label_is_not_either<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.answer(question("a")).await;
    bench.label("a", true).await;
    let before = bench.history(CUSTOMER).await;
    bench.answer(question("b")).await;
    bench.label("b", true).await;
    assert_eq!(bench.counted(CUSTOMER).await, (2, 2));
    let recalled = bench.recall(key("b"), &[CUSTOMER, "nobody"], &[]).await.unwrap();
    let expected =
        [(format!("its {CUSTOMER}"), before), ("its nobody".to_owned(), History::default())];
    assert_eq!(recalled.histories, expected.into());

    bench.answer(question("c")).await;
    let recalled = bench.recall(key("b"), &[CUSTOMER], &[]).await.unwrap();
    let history = &recalled.histories[&format!("its {CUSTOMER}")];
    let (hour, now) = (Duration::from_hours(1), recalled.question.at());
    let seen =
        (history.count(hour, Duration::ZERO, now), history.frauds(hour, Duration::ZERO, now));
    assert_eq!(seen, (2, 1), "what came since is in it");
    assert_eq!(bench.counted(CUSTOMER).await, (3, 2), "the books are as they were");
}

pub(crate) async fn a_claim_of_the_last_unit_finds_it_and_a_cancel_what_it_gave_back<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:chest", 1).await;
    bench.answer(claim("taken", "ann", "chest", 1)).await;
    bench.answer(claim("none", "ann", "chest", 1)).await;
    assert_eq!(bench.stock("sku:chest").await, Some(0));
    assert_eq!(bench.chest_without("taken").await, 1);
    assert_eq!(bench.chest_without("none").await, 0);
    let recalled = bench.recall(key("taken"), &[], &["sku:chest", "sku:unset"]).await.unwrap();
    assert_eq!(recalled.stock["sku:unset"], 0, "as core decides");

    bench.answer(cancel("back", "chest", "ann", "taken")).await;
    assert_eq!(bench.stock("sku:chest").await, Some(1));
    assert_eq!(bench.chest_without("taken").await, 1, "it is given back already");
    assert_eq!(bench.chest_without("back").await, 0, "or it would be given back once more");
}
