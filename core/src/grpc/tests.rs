//! Core whole, over its real socket, asked as api asks it.

mod recall;
mod settle;

use std::path::{Path, PathBuf};

use backstop_contract::{Decision, Verdict};
use backstop_engine::History;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::Code;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::*;
use crate::Running;
use crate::fixture::{asked, claim, config, question};
use crate::store::Store as _;
use crate::store::sqlite::SqliteStore;

/// Long, so that a caller that leaves less is told so, and does not give up before it hears.
const BEGIN_MIN: Duration = Duration::from_secs(2);

struct Served {
    core: Running,
    channel: Channel,
    socket: PathBuf,
    folder: TempDir,
}

async fn served() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.settings.begin_min = BEGIN_MIN;
    let socket = config.socket.clone();
    // What a killed process leaves behind does not keep the next one from starting.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let core = crate::start(config).await.unwrap();
    let channel = connect(&socket).await;
    Served { core, channel, socket, folder }
}

async fn connect(socket: &Path) -> Channel {
    Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect().await.unwrap()
}

/// One call, with this `grpc-timeout` if any.
async fn call<Q, A>(
    channel: &Channel,
    method: &'static str,
    message: Q,
    timeout: &str,
) -> Result<A, Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(message);
    if !timeout.is_empty() {
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
    }
    let path = PathAndQuery::from_static(method);
    grpc.unary(request, path, ProstCodec::<Q, A>::default()).await.map(Response::into_inner)
}

async fn decide(channel: &Channel, question: &Question) -> Result<wire::DecideReply, Status> {
    let message = wire::DecideRequest::from(question);
    call(channel, "/backstop.core.v1.Core/Decide", message, "9S").await
}

async fn label(channel: &Channel, id: &str, fraud: bool) -> bool {
    let message = wire::LabelRequest { merchant: "demo".into(), id: id.into(), fraud };
    let reply = call(channel, "/backstop.core.v1.Core/Label", message, "").await;
    let wire::LabelReply { found } = reply.unwrap();
    found
}

async fn find(channel: &Channel, id: &str) -> Option<wire::Record> {
    let message = wire::FindRequest { merchant: "demo".into(), id: id.into() };
    let reply = call(channel, "/backstop.core.v1.Core/Find", message, "").await;
    let wire::FindReply { record } = reply.unwrap();
    record
}

fn answer(reply: wire::DecideReply) -> Decision {
    match reply.outcome {
        Some(wire::decide_reply::Outcome::Decision(answer)) => answer.try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_is_decided_found_labelled_and_repeated() {
    let Served { core, channel, socket: _, folder: _folder } = served().await;
    assert_eq!(find(&channel, "a").await, None);
    assert!(!label(&channel, "a", true).await);

    let reply = decide(&channel, &question("a")).await.unwrap();
    let keys: Vec<_> = reply.history.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["customer:customer-1", "terminal:3156"]);
    assert!(reply.history.iter().all(|row| History::decode(&row.row).is_ok()));
    let first = answer(reply);
    assert_eq!((first.decision, first.is_final, first.replayed), (Verdict::Approve, true, false));

    assert!(label(&channel, "a", true).await);
    let record = find(&channel, "a").await.unwrap();
    assert_eq!((record.settlement.as_str(), record.fraud), ("decided", Some(true)));
    assert_eq!(Decision::try_from(record.decision.unwrap()).unwrap(), first);

    let again = decide(&channel, &question("a")).await.unwrap();
    assert!(again.history.is_empty(), "a replay read no history");
    let again = answer(again);
    assert!(again.replayed);
    assert_eq!(Decision { replayed: false, ..again }, first);
    core.stop().await;
}

#[tokio::test]
async fn what_cannot_be_decided_says_why_in_its_status() {
    let Served { core, channel, socket: _, folder: _folder } = served().await;
    let reused = asked("a", "payment", 1);
    decide(&channel, &question("a")).await.unwrap();
    let reply = decide(&channel, &reused).await.unwrap();
    assert_eq!(
        reply.outcome,
        Some(wire::decide_reply::Outcome::IdReused(wire::IdReused {})),
        "an expected outcome is an answer"
    );

    let whole = || wire::DecideRequest::from(&question("b"));
    let unknown = wire::DecideRequest::from(&asked("b", "unknown", 1));
    let unhashed = wire::DecideRequest { request_hash: vec![1; 31], ..whole() };
    let huge = wire::DecideRequest { merchant: "m".repeat(MESSAGE_BYTES_MAX), ..whole() };
    let overflowing = wire::DecideRequest::from(&asked("b", "payment", u64::MAX));
    let cases = [
        (unknown, "9S", Code::InvalidArgument),
        (unhashed, "9S", Code::InvalidArgument),
        (wire::DecideRequest { transaction: None, ..whole() }, "9S", Code::InvalidArgument),
        (whole(), "soon", Code::InvalidArgument),
        (huge, "9S", Code::OutOfRange),
        (whole(), "1S", Code::DeadlineExceeded),
        (overflowing, "9S", Code::Internal),
    ];
    for (message, timeout, code) in cases {
        let method = "/backstop.core.v1.Core/Decide";
        let reply: Result<wire::DecideReply, _> = call(&channel, method, message, timeout).await;
        assert_eq!(reply.unwrap_err().code(), code);
        assert_eq!(find(&channel, "b").await, None, "nothing was written: {code:?}");
    }
    core.stop().await;
}

async fn stock(channel: &Channel, key: &str, remaining: Option<i64>) -> Result<Option<i64>, Code> {
    let message = wire::StockRequest { merchant: "demo".into(), key: key.into(), remaining };
    let reply = call(channel, "/backstop.core.v1.Core/Stock", message, "").await;
    reply.map(|wire::StockReply { remaining }| remaining).map_err(|status| status.code())
}

async fn balances(channel: &Channel, account: &str) -> (Vec<(String, i64)>, bool) {
    let message = wire::BalancesRequest { merchant: "demo".into(), account: account.into() };
    let reply = call(channel, "/backstop.core.v1.Core/Balances", message, "").await;
    let wire::BalancesReply { balance, found } = reply.unwrap();
    (balance.into_iter().collect(), found)
}

#[tokio::test]
async fn stock_is_set_and_shown_and_so_are_the_balances_it_was_claimed_for() {
    let Served { core, channel, socket: _, folder: _folder } = served().await;
    assert_eq!(stock(&channel, "sku:a", None).await, Ok(None), "no such stock");
    assert_eq!(balances(&channel, "ann").await, (Vec::new(), false));
    for remaining in [0, LEVEL_MAX, 30] {
        assert_eq!(stock(&channel, "sku:a", Some(remaining)).await, Ok(Some(remaining)));
        assert_eq!(stock(&channel, "sku:a", None).await, Ok(Some(remaining)));
    }
    for (key, remaining) in [("sku:a", -1), ("sku:a", LEVEL_MAX + 1), ("", 1)] {
        let refused = stock(&channel, key, Some(remaining)).await;
        assert_eq!(refused, Err(Code::InvalidArgument), "{key} {remaining}");
    }
    let claimed = answer(decide(&channel, &claim("a", "ann", "a", 6)).await.unwrap());
    assert_eq!(claimed.effects.stock, [("sku:a".to_owned(), 24)].into());
    assert_eq!(claimed.effects.balance, [("coins".to_owned(), 6)].into());
    assert_eq!(stock(&channel, "sku:a", None).await, Ok(Some(24)));
    assert_eq!(balances(&channel, "ann").await, (vec![("coins".to_owned(), 6)], true));
    core.stop().await;
}

#[tokio::test]
async fn metrics_are_shown_beside_grpc_on_the_same_socket() {
    let Served { core, channel, socket, folder: _folder } = served().await;
    decide(&channel, &question("a")).await.unwrap();
    decide(&channel, &question("a")).await.unwrap();
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: core\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    let decided = r#"backstop_decisions_total{cause="none",decided_by="core",decision="approve",stack="prod"} 1"#;
    for line in [
        decided,
        r#"backstop_decision_seconds_count{tier="core"} 2"#,
        r#"backstop_core_transactions_total{end="committed"} 2"#,
        "backstop_core_queue 0",
        "backstop_core_batch_requests_count 2",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    core.stop().await;
}

#[tokio::test]
async fn a_stopped_core_has_ended_and_its_books_are_whole() {
    let Served { core, channel, socket, folder } = served().await;
    decide(&channel, &question("a")).await.unwrap();
    core.stop().await;
    assert!(decide(&channel, &question("b")).await.is_err());

    let core = crate::start(config(folder.path())).await.unwrap();
    let channel = connect(&socket).await;
    assert!(answer(decide(&channel, &question("a")).await.unwrap()).replayed);
    core.stop().await;
}

#[tokio::test]
async fn a_database_that_breaks_is_unavailable_and_comes_back() {
    let Served { core, channel, socket: _, folder } = served().await;
    decide(&channel, &question("a")).await.unwrap();
    // Another process holds the write lock for longer than core waits.
    let file = folder.path().join("backstop.db");
    let mut holder = SqliteStore::open(&file, Duration::from_secs(2)).await.unwrap();
    let held = holder.begin().await.unwrap();
    let refused = decide(&channel, &question("b")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(find(&channel, "a").await.is_some(), "reading goes on");
    drop(held);
    assert!(!answer(decide(&channel, &question("b")).await.unwrap()).replayed);
    core.stop().await;
}
