//! What `backstop rules try ID` asks, as it asks it.

use backstop_contract::{Request as Asked, Value};

use super::*;
use crate::fixture::{cancel, spend, wish};

async fn recall(
    channel: &Channel,
    id: &str,
    keys: usize,
) -> Result<Option<wire::Recalled>, Status> {
    let history = (1..keys).map(|number| format!("customer:customer-{number}")).collect();
    let stock = vec!["sku:a".to_owned()];
    let message = wire::RecallRequest { merchant: "demo".into(), id: id.into(), history, stock };
    let reply = call(channel, "/backstop.core.v1.Core/Recall", message, "5S").await;
    reply.map(|wire::RecallReply { recalled }| recalled)
}

#[tokio::test]
async fn a_decision_is_recalled_whole_and_without_itself() {
    let Served { core, channel, socket: _, folder: _folder } = served().await;
    assert_eq!(recall(&channel, "a", 2).await.unwrap(), None);
    let asked = question("a");
    decide(&channel, &asked).await.unwrap();
    let recalled = recall(&channel, "a", 3).await.unwrap().unwrap();
    assert_eq!(recalled.record, find(&channel, "a").await);
    assert_eq!(recalled.request_hash, asked.hash.as_bytes());
    let request = Asked::try_from(recalled.transaction.unwrap()).unwrap();
    let at = request.at.clone().unwrap();
    assert_eq!((at.timestamp, at.text.as_str()), (asked.at(), "2018-08-01T12:00:00.000Z"));
    assert_eq!(Asked { at: None, ..request }, asked.request);
    let none = History::default().encode();
    let rows: Vec<_> = recalled.history.into_iter().map(|it| (it.key, it.row)).collect();
    let expected = ["customer:customer-1", "customer:customer-2"];
    assert_eq!(rows, expected.map(|key| (key.to_owned(), none.clone())));
    assert_eq!(recalled.stock, [("sku:a".to_owned(), 0)].into());

    assert!(recall(&channel, "a", 128).await.unwrap().is_some());
    let refused = recall(&channel, "a", 129).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    core.stop().await;
}

/// The author's rule debits what the account does not have, or cancels what is cancelled. Core declines, and
/// the rule alone knows nothing of it.
#[tokio::test]
async fn what_core_carries_a_ruling_out_with_is_recalled_without_the_decision() {
    let Served { core, channel, socket: _, folder: _folder } = served().await;
    assert_eq!(stock(&channel, "sku:a", Some(3)).await, Ok(Some(3)));
    let at_terminal = [("terminal", Value::Text("3156"))];
    let cases = [
        (spend("poor", "ann", 1), Verdict::Decline, 0, ""),
        (claim("granted", "ann", "a", 2), Verdict::Approve, 0, ""),
        (wish("moves-nothing", "payment", "ann", &at_terminal), Verdict::Decline, 2, ""),
        (spend("rich", "ann", 2), Verdict::Approve, 2, ""),
        (cancel("back", "chest", "ann", "granted"), Verdict::Approve, 0, "released"),
        (cancel("again", "chest", "ann", "granted"), Verdict::Decline, -2, "already_cancelled"),
        (cancel("of-none", "chest", "ann", "b"), Verdict::Decline, -2, "nothing_to_cancel"),
    ];
    for (question, decision, coins, word) in cases {
        let id = question.request.id.clone();
        assert_eq!(answer(decide(&channel, &question).await.unwrap()).decision, decision, "{id}");
        let recalled = recall(&channel, &id, 1).await.unwrap().unwrap();
        let held = recalled.balance.get("coins").copied().unwrap_or_default();
        assert_eq!((held, recalled.cancel.as_str()), (coins, word), "{id}");
    }
    core.stop().await;
}
