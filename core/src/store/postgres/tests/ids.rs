//! Ids that are taken for new, and those that are not.

use super::*;
use crate::store::tests::key;

fn asked(ids: &[&str]) -> Wanted {
    let asked = ids.iter().map(|id| key(id)).collect();
    Wanted { asked, stock: vec![row("a")], ..Wanted::default() }
}

async fn found(store: &mut PostgresStore, wanted: Wanted) -> Vec<String> {
    let loaded = store.begin().await.unwrap().load(wanted).await.unwrap();
    let mut ids: Vec<_> = loaded.decisions.into_keys().map(|key| key.id).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn only_ids_that_this_core_knows_are_looked_for_until_one_was_refused() {
    let books = PostgresBooks::new().await;
    let (mut prod, mut old_prod) = (books.open().await, books.open().await);
    decide(&mut prod, &["a"]).await;
    decide(&mut old_prod, &["b", "c"]).await;
    assert_eq!(found(&mut prod, asked(&["a", "b"])).await, ["a"]);
    assert_eq!(decisions(&mut prod, &["b"]).await.len(), 1, "what must be seen is read");
    assert_eq!(found(&mut prod, asked(&["a", "b"])).await, ["a", "b"], "what was seen is known");
    let only = Wanted { asked: vec![key("c")], ..Wanted::default() };
    assert_eq!(found(&mut prod, only).await, ["c"], "a unit that reads reads all");
    let mut third = books.open().await;
    assert_eq!(found(&mut third, asked(&["a", "b", "c"])).await, [""; 0]);
    let (question, decided) = (crate::fixture::question("c"), crate::store::tests::decided("c"));
    let changes = Changes { decided: vec![(&question, &decided)], ..Changes::default() };
    let refused = third.begin().await.unwrap().commit(&changes, &|| true).await;
    assert!(matches!(refused, Err(CoreError::Conflict)), "{refused:?}");
    assert_eq!(found(&mut third, asked(&["a", "b", "c"])).await, ["a", "b", "c"]);
}
