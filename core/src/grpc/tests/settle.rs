//! Advices and statements over the socket.

use backstop_contract::{Cause, Tier};

use super::*;
use crate::fixture::{NOON, advice};

async fn settle(
    channel: &Channel,
    node: &str,
    advices: Vec<wire::Advice>,
) -> Result<Vec<(u64, String, String)>, Status> {
    let message = wire::SettleRequest { node: node.to_owned(), advices };
    let reply = call(channel, "/backstop.core.v1.Core/Settle", message, "").await;
    let wire::SettleReply { settled } = reply?;
    let mut settled: Vec<_> =
        settled.into_iter().map(|it| (it.number, it.outcome, it.why)).collect();
    settled.sort();
    Ok(settled)
}

/// As api sends it on.
fn message(number: u64, question: &Question, verdict: Verdict) -> wire::Advice {
    let advice = advice("node", number, question.clone(), verdict);
    wire::Advice {
        epoch: 1,
        number,
        request: Some(question.into()),
        answer: Some(advice.answer.into()),
    }
}

async fn statement(channel: &Channel, lines_max: u32) -> wire::StatementReply {
    let merchant = "demo".to_owned();
    let message = wire::StatementRequest { merchant, from: NOON, to: i64::MAX, lines_max };
    call(channel, "/backstop.core.v1.Core/Statement", message, "").await.unwrap()
}

fn became(number: u64, outcome: &str, why: &str) -> (u64, String, String) {
    (number, outcome.to_owned(), why.to_owned())
}

#[tokio::test]
async fn what_clients_were_told_is_settled_found_and_stated() {
    let Served { core, channel, socket: _, folder: _folder } = served().await;
    decide(&channel, &question("a")).await.unwrap();
    decide(&channel, &question("b")).await.unwrap();
    decide(&channel, &question("e")).await.unwrap();
    let nonsense = wire::Advice { answer: None, ..message(6, &question("f"), Verdict::Approve) };
    let mixed = wire::Advice {
        answer: message(7, &question("x"), Verdict::Approve).answer,
        ..message(7, &question("f"), Verdict::Approve)
    };
    let all = || {
        vec![
            message(1, &question("a"), Verdict::Approve),
            message(2, &question("b"), Verdict::Decline),
            message(3, &question("c"), Verdict::Approve),
            message(5, &asked("a", "payment", 1), Verdict::Approve),
            nonsense.clone(),
            mixed.clone(),
        ]
    };
    let expected = [
        became(1, "match", ""),
        became(2, "overridden", ""),
        became(3, "applied", ""),
        became(5, "refused", "id_reused"),
        became(6, "refused", "unacceptable"),
        became(7, "refused", "unacceptable"),
    ];
    for _ in 0..2 {
        assert_eq!(settle(&channel, "node", all()).await.unwrap(), expected);
    }
    assert_eq!(settle(&channel, "node", Vec::new()).await.unwrap(), []);

    let record = find(&channel, "b").await.unwrap();
    let standing = (record.settlement.as_str(), record.decided_first.as_str());
    assert_eq!(standing, ("overridden", "approve"));
    assert_eq!(record.money, Some(wire::Money { amount: 5716, currency: "GBP".to_owned() }));
    let told = Decision::try_from(record.decision.unwrap()).unwrap();
    assert_eq!(
        (told.decision, told.decided_by, told.is_final),
        (Verdict::Decline, Tier::Edge, true)
    );
    assert_eq!(told.cause, Some(Cause::Unavailable));
    let again = answer(decide(&channel, &question("b")).await.unwrap());
    assert_eq!((again.decision, again.replayed), (Verdict::Decline, true));

    let message = wire::FindManyRequest {
        merchant: "demo".to_owned(),
        ids: ["b", "e", "unknown", "b"].map(str::to_owned).into(),
    };
    let found = call(&channel, "/backstop.core.v1.Core/FindMany", message, "").await;
    let wire::FindManyReply { records } = found.unwrap();
    let mut settlements: Vec<_> = records.into_iter().map(|it| it.settlement).collect();
    settlements.sort();
    assert_eq!(settlements, ["decided", "overridden"]);

    let stated = statement(&channel, 10).await;
    let kinds: Vec<_> = stated.totals.iter().map(|it| (it.kind.as_str(), it.count)).collect();
    let expected =
        [("agreed", 1), ("applied_late", 1), ("confirmed", 1), ("corrected", 1), ("refused", 1)];
    assert_eq!(kinds, expected);
    let lines: Vec<_> = stated.lines.iter().map(|it| (it.id.as_str(), it.between)).collect();
    assert_eq!(lines, [("a", 0), ("a", 1), ("b", -5716), ("c", 0)]);
    let [gap] = stated.gaps.try_into().unwrap();
    assert_eq!((gap.node.as_str(), gap.epoch, gap.first, gap.last), ("node", 1, 4, 4));
    assert!(statement(&channel, 1).await.truncated);
    core.stop().await;
}

#[tokio::test]
async fn a_message_of_advices_that_no_node_sends_is_refused_whole() {
    let Served { core, channel, socket: _, folder: _folder } = served().await;
    let one = message(1, &question("a"), Verdict::Approve);
    let long = "n".repeat(129);
    for (node, many) in [("", 1), ("a node", 1), ("nöde", 1), (long.as_str(), 1), ("n", 257)] {
        let refused = settle(&channel, node, vec![one.clone(); many]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{node} {many}");
    }
    assert_eq!(settle(&channel, "n", vec![one; 256]).await.unwrap().len(), 256);
    let message =
        wire::FindManyRequest { merchant: "demo".to_owned(), ids: vec!["a".to_owned(); 1_025] };
    let method = "/backstop.core.v1.Core/FindMany";
    let refused: Result<wire::FindManyReply, _> = call(&channel, method, message, "").await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    core.stop().await;
}

#[tokio::test]
async fn advices_are_to_be_sent_again_while_there_is_no_database() {
    let Served { core, channel, socket: _, folder } = served().await;
    decide(&channel, &question("z")).await.unwrap();
    let file = folder.path().join("backstop.db");
    let mut holder = SqliteStore::open(&file, Duration::from_secs(2)).await.unwrap();
    let held = holder.begin().await.unwrap();
    let one = || vec![message(1, &question("a"), Verdict::Approve)];
    let refused = settle(&channel, "node", one()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    drop(held);
    assert_eq!(settle(&channel, "node", one()).await.unwrap(), [became(1, "applied", "")]);
    core.stop().await;
}
