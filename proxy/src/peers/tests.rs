//! Apis on real sockets, one of which is killed, lies or says nothing; and the standing of a peer on a
//! clock of its own.

mod false_api;

use backstop_contract::learned::Learning;
use backstop_contract::link::LinkSettings;
use backstop_contract::{
    Attributes, Budget, Cause, Deadline, Decision, Effects, Fallback, HashKey, Question, Reply,
    Request, Tier, Timestamp, Verdict, decide,
};
use backstop_settings::{Address, Token};

use super::*;
use crate::api_client::ApiClient;
use false_api::{FalseApi, Manner};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Three bad calls in a row set a peer aside, for a short while.
const BREAKER: BreakerSettings = BreakerSettings {
    window: ms(5000),
    calls_min: 20,
    bad_share: 0.5,
    open_min: ms(50),
    open_max: ms(200),
    probes: 3,
};

const TOKEN: &str = "bsh_0123456789abcdef";

/// A budget that a busy machine keeps, too.
const AMPLE: Duration = Duration::from_secs(5);
/// One for an api that says nothing, which is waited for until the end.
const SHORT: Duration = Duration::from_secs(1);

/// What a test waits for comes within this time, or never.
const PATIENCE: Duration = Duration::from_secs(20);

fn client(addresses: impl IntoIterator<Item = Address>) -> ApiClient {
    client_that_cuts(addresses, ms(2000))
}

/// One that ends an exchange after `time_max`, when nobody waits for it any more.
fn client_that_cuts(addresses: impl IntoIterator<Item = Address>, time_max: Duration) -> ApiClient {
    let token = Token::new(TOKEN).unwrap();
    let (exchanges_max, idle) = (1024, Duration::from_mins(1));
    let exchanges = Arc::new(Exchanges::new(
        exchanges_max,
        time_max,
        Some(&token),
        tokio::sync::mpsc::channel(1).0,
    ));
    let places = addresses.into_iter().map(|it| Place::new(it, 64, idle).unwrap()).collect();
    let peers = Peers::new("prod", places, BREAKER, exchanges.clone());
    let learning = Learning {
        window: Duration::from_secs(30),
        samples_min: 1000,
        prior_min: ms(50),
        prior_max: ms(1000),
        headroom: 3.0,
        ceiling: Duration::from_secs(10),
        hysteresis: 0.1,
    };
    let (reserve, learns_min, floor_share) = (ms(10), false, 0.5);
    let settings = LinkSettings { reserve, learns_min, floor_share, learning, breaker: BREAKER };
    ApiClient::new("prod", peers, exchanges, settings)
}

/// Answers for them all.
struct Own;

impl Fallback for Own {
    fn decide(&self, question: &Question, cause: Cause, _: Deadline) -> Decision {
        Decision {
            decided_by: Tier::Edge,
            cause: Some(cause),
            is_final: false,
            ..decision(&question.request.id)
        }
    }
}

fn decision(id: &str) -> Decision {
    Decision {
        id: id.to_owned(),
        decision: Verdict::Approve,
        reasons: Vec::new(),
        score: 0,
        decided_by: Tier::Core,
        cause: None,
        is_final: true,
        durable: true,
        stack: "prod".into(),
        policy_version: "v".into(),
        effects: Effects::default(),
        budget_ms: 300,
        elapsed_ms: 0.0,
        decided_at: Timestamp::default(),
        replayed: false,
        server_timing: String::new(),
        calls: Vec::new(),
    }
}

fn question() -> Question {
    let request = Request {
        id: "txn-1".into(),
        policy: "payment".into(),
        account: "customer-1".into(),
        money: None,
        at: None,
        attributes: Attributes::default(),
    };
    Question {
        merchant: "demo".into(),
        test: false,
        numeric_ids: false,
        hash: HashKey::new(&[0; 32]).hash(&request),
        received_at: Timestamp::from_millis(7),
        traceparent: String::new(),
        body: Bytes::from(request.to_json()),
        request,
    }
}

/// Asks once: who answered, and why. There is always an answer, and it is in time.
async fn ask(client: &ApiClient, budget: Duration) -> (Tier, Option<Cause>) {
    let (question, start) = (question(), Instant::now());
    let deadline = Deadline::after(start, Budget::new(budget));
    let answer = decide(client, &Own, &question, deadline, client.link()).await;
    assert!(start.elapsed() < budget + Duration::from_secs(2), "{:?}", start.elapsed());
    let Reply::Decided(answer) = answer else { panic!("{answer:?}") };
    (answer.decided_by, answer.cause)
}

/// How many of `calls` the edge had to answer for.
async fn stand_ins(client: &ApiClient, calls: usize) -> usize {
    stand_ins_within(client, calls, AMPLE).await
}

async fn stand_ins_within(client: &ApiClient, calls: usize, budget: Duration) -> usize {
    let mut count = 0;
    for _ in 0..calls {
        count += usize::from(ask(client, budget).await.0 == Tier::Edge);
    }
    count
}

fn is_up(client: &ApiClient, api: &FalseApi) -> bool {
    let peers = client.peers_up(Instant::now());
    peers.iter().find(|(peer, _)| *peer == api.address().to_string()).unwrap().1
}

/// Asks on until this is so.
async fn until(client: &ApiClient, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        ask(client, AMPLE).await;
        tokio::time::sleep(ms(5)).await;
    }
}

#[tokio::test]
async fn peers_that_are_well_are_asked_in_turn() {
    let apis = [FalseApi::start().await, FalseApi::start().await, FalseApi::start().await];
    let client = client(apis.each_ref().map(FalseApi::address));
    assert_eq!(stand_ins(&client, 12).await, 0);
    assert_eq!(apis.each_ref().map(FalseApi::decisions), [4, 4, 4]);
}

#[tokio::test]
async fn a_bad_peer_is_set_aside_and_taken_back_when_it_is_well() {
    // The second one answers, too, so that it shows whether the first is asked in vain.
    for (manner, budget, stand_ins_max) in
        [(Manner::Gone, AMPLE, 0), (Manner::Garbage, AMPLE, 3), (Manner::Silent, SHORT, 3)]
    {
        let (bad, well) = (FalseApi::start().await, FalseApi::start().await);
        let client = client([bad.address(), well.address()]);
        assert_eq!(stand_ins(&client, 4).await, 0, "{manner:?}: both are well");

        bad.set(manner).await;
        let stood_in = stand_ins_within(&client, 8, budget).await;
        assert!(stood_in <= stand_ins_max, "{manner:?}: {stood_in} stand-ins");
        assert!(!is_up(&client, &bad), "{manner:?}: it is not set aside");
        assert!(is_up(&client, &well), "{manner:?}");
        // It is looked at several times meanwhile, and no request pays for that.
        for _ in 0..10 {
            assert_eq!(stand_ins(&client, 2).await, 0, "{manner:?}: a request was a probe");
            tokio::time::sleep(BREAKER.open_min).await;
        }

        bad.set(Manner::Well).await;
        let before = bad.decisions();
        until(&client, "it is taken back", || is_up(&client, &bad)).await;
        until(&client, "it decides again", || bad.decisions() > before + 3).await;
        assert_eq!(stand_ins(&client, 8).await, 0, "{manner:?}: all is well again");
    }
}

#[tokio::test]
async fn with_every_peer_set_aside_the_stack_is_left_alone_and_comes_back() {
    let apis = [FalseApi::start().await, FalseApi::start().await];
    let client = client(apis.each_ref().map(FalseApi::address));
    for api in &apis {
        api.set(Manner::Gone).await;
    }
    assert_eq!(ask(&client, AMPLE).await, (Tier::Edge, Some(Cause::Unavailable)));
    let mut causes = Vec::new();
    for _ in 0..40 {
        let (tier, cause) = ask(&client, AMPLE).await;
        assert_eq!(tier, Tier::Edge);
        causes.push(cause.unwrap());
    }
    assert!(causes.contains(&Cause::Breaker), "{causes:?}");
    apis[0].set(Manner::Well).await;
    until(&client, "one is taken back", || is_up(&client, &apis[0])).await;
    assert!(!is_up(&client, &apis[1]), "the other one is still gone");
    assert_eq!(stand_ins(&client, 10).await, 0);
}

#[tokio::test]
async fn the_cap_cuts_no_exchange_that_somebody_waits_for() {
    let api = FalseApi::start().await;
    let client = client_that_cuts([api.address()], ms(1));
    api.set(Manner::Slow).await;
    assert_eq!(ask(&client, AMPLE).await, (Tier::Core, None));
}

#[tokio::test]
async fn only_an_api_on_the_network_is_told_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let apis = [FalseApi::start().await, FalseApi::start_at(dir.path().join("api.sock"))];
    let client = client(apis.each_ref().map(FalseApi::address));
    assert_eq!(stand_ins(&client, 2).await, 0);
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(apis.each_ref().map(FalseApi::authorization), [Some(bearer), None]);
}

#[test]
fn a_streak_sets_a_peer_aside_long_before_its_window_would() {
    let now = Instant::now();
    let mut standing = Standing::new(BREAKER, now);
    let mut call = |end| {
        let Admission::Go(pass) = standing.admit(now) else { panic!("{end:?}: it is aside") };
        standing.ended(pass, end, now);
        standing.is_aside(now)
    };
    for _ in 0..1000 {
        assert!(!call(End::Good));
    }
    for end in [End::Bad, End::Bad, End::Good, End::Bad, End::Unfair, End::Bad] {
        assert!(!call(end), "two in a row are no streak");
    }
    assert!(call(End::Bad), "three are");
}

#[test]
fn requests_find_out_whether_a_peer_is_well_only_when_it_says_so() {
    let start = Instant::now();
    let mut standing = Standing::new(BREAKER, start);
    for _ in 0..3 {
        let Admission::Go(pass) = standing.admit(start) else { panic!("not aside yet") };
        standing.ended(pass, End::Bad, start);
    }
    assert_eq!(standing.admit(start + ms(49)), Admission::Wait);
    let due = start + ms(50);
    assert_eq!(standing.admit(due), Admission::Look);
    assert_eq!(standing.admit(due), Admission::Wait, "one looks at a time");
    standing.looked(false, due);
    assert_eq!(
        standing.admit(due + ms(99)),
        Admission::Wait,
        "the next look is later than the first"
    );
    let due = due + ms(100);
    assert_eq!(standing.admit(due), Admission::Look);
    standing.looked(true, due);
    for _ in 0..3 {
        assert!(standing.is_aside(due));
        let Admission::Go(pass) = standing.admit(due) else { panic!("it says that it is well") };
        standing.ended(pass, End::Good, due);
    }
    assert!(!standing.is_aside(due));
}
