//! Decisions, their labels, and the history that counts them.

use super::*;
use crate::fixture;
use crate::store::settled::{PutDecision, Was};

pub(crate) async fn what_was_committed_is_there_when_opened_again<B: Books>() {
    let books = B::new().await;
    decide(&mut books.open().await, &["a", "b"]).await;
    let found = decisions(&mut books.open().await, &["a", "b", "c"]).await;
    assert_eq!(found, HashMap::from([(key("a"), decided("a")), (key("b"), decided("b"))]));
}

pub(crate) async fn ids_differ_by_every_character_and_belong_to_a_merchant<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let ids = ["a", "A", "a ", "ä", "a\u{308}", "'); DROP TABLE decisions; --", "%", "{\"a\",b}"];
    decide(&mut store, &ids).await;
    let found = decisions(&mut store, &ids).await;
    for id in ids {
        assert_eq!(found.get(&key(id)), Some(&decided(id)), "{id:?}");
    }
    let other = DecisionKey { merchant: "other".to_owned(), id: "a".to_owned() };
    let wanted = Wanted { decisions: vec![other], ..Wanted::default() };
    assert!(load(&mut store, wanted).await.decisions.is_empty());
}

pub(crate) async fn history_is_replaced_and_found_by_its_key<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let wanted = || Wanted { history: vec![row("a"), row("b")], ..Wanted::default() };
    for events in [1, 3] {
        let was =
            load(&mut store, wanted()).await.history.get(&row("a")).map_or(0, |it| it.version);
        let encoded = history(events).encode();
        let history = vec![put(encoded.as_slice(), was)];
        commit(&mut store, &Changes { history, ..Changes::default() }).await.unwrap();
    }
    let found = load(&mut store, wanted()).await.history;
    assert_eq!(found.len(), 1);
    assert_eq!(found.get(&row("a")).unwrap().value, history(3));
}

pub(crate) async fn labels_change_the_decisions_they_name_and_no_other<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["a", "b", "c"]).await;
    let (key_a, key_b) = (key("a"), key("b"));
    let mut was = [None, None];
    for (a, b) in [(true, false), (false, true)] {
        let labelled = |id, fraud| Decided { fraud: Some(fraud), ..decided(id) };
        let (now_a, now_b) = (labelled("a", a), labelled("b", b));
        let [was_a, was_b] = was.map(|fraud| Was { fraud, ..Was::default() });
        let marked = vec![
            PutDecision { key: &key_a, decided: &now_a, was: was_a },
            PutDecision { key: &key_b, decided: &now_b, was: was_b },
        ];
        commit(&mut store, &Changes { marked, ..Changes::default() }).await.unwrap();
        was = [Some(a), Some(b)];
        let found = decisions(&mut store, &["a", "b", "c"]).await;
        let fraud = |id| found.get(&key(id)).unwrap().fraud;
        assert_eq!((fraud("a"), fraud("b"), fraud("c")), (Some(a), Some(b), None));
    }
}

pub(crate) async fn an_id_is_decided_once_whatever_the_writer_believes<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["b"]).await;
    let rows = asked(&["a", "b", "c"]);
    let changes = Changes { decided: pairs(&rows), ..Changes::default() };
    let error = commit(&mut store, &changes).await.unwrap_err();
    assert!(matches!(error, CoreError::Conflict), "{error}");
    assert_eq!(decisions(&mut store, &["a", "b", "c"]).await.len(), 1, "all or nothing");
}

pub(crate) async fn an_amount_that_no_column_holds_is_refused_and_nothing_else_is_broken<
    B: Books,
>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let (asked, answered) = (fixture::asked("a", "payment", u64::MAX), decided("a"));
    let changes = Changes { decided: vec![(&asked, &answered)], ..Changes::default() };
    let error = commit(&mut store, &changes).await.unwrap_err();
    assert!(!error.is_unusable(), "{error}");
    decide(&mut store, &["b"]).await;
    assert_eq!(decisions(&mut store, &["a", "b"]).await.len(), 1);
}

pub(crate) async fn more_rows_than_one_statement_carries_are_written_and_found<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let ids: Vec<_> = (0..1024).map(|id| format!("txn-{id:04}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    decide(&mut store, &ids).await;
    assert_eq!(decisions(&mut store, &ids).await.len(), ids.len());
}

pub(crate) async fn a_record_is_found_while_the_writer_is_busy_and_once_committed<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["a"]).await;
    let records = B::records(&store);
    let mut unit = store.begin().await.unwrap();
    unit.load(Wanted { decisions: vec![key("a")], ..Wanted::default() }).await.unwrap();
    assert_eq!(records.find(key("a")).await.unwrap(), Some(decided("a")));
    assert_eq!(records.find(key("b")).await.unwrap(), None, "not committed yet");
    let rows = asked(&["b"]);
    unit.commit(&Changes { decided: pairs(&rows), ..Changes::default() }, &|| true).await.unwrap();
    assert_eq!(records.find(key("b")).await.unwrap(), Some(decided("b")));
}
