//! Random requests and advices, in sets cut at random, over books that break at random, against a model: a
//! few maps, one request after another.
//!
//! A caller that hears nothing asks again, as a real one does, so each request counts once: where its
//! unit was committed unseen, the retry finds it; where it was not, the retry makes it.

mod oracle;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use backstop_contract::{Effects, Question};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::oracle::{Oracle, Said};
use super::*;
use crate::decide::settle::{Advice, UNACCEPTABLE};
use crate::fixture::{advice, cancel, claim, spend};

const ACCOUNTS: [&str; 3] = ["ann", "bob", "customer-1"];
const ARTICLES: [&str; 3] = ["a", "b", "c"];
/// So few that most are repeated, with the same body or another.
const IDS: u8 = 16;
const CASES: u32 = 32;
/// More than there are faults in a step.
const ROUNDS_MAX: usize = 16;
/// More than a step asks.
const SET_MAX: usize = 64;
/// So small that several are complete at once, and one is read while the one before is committed.
const SMALL_SET: usize = 3;

/// One request, in small numbers. An id has an account of its own.
#[derive(Clone, Debug)]
enum Request {
    Claim {
        id: u8,
        article: usize,
        quantity: i64,
    },
    Spend {
        id: u8,
        coins: i64,
    },
    Pay {
        id: u8,
        amount: u64,
    },
    Cancel {
        id: u8,
        target: u8,
        of_a_claim: bool,
        by_its_account: bool,
    },
    Label {
        id: u8,
        fraud: bool,
    },
    /// A node told its client so.
    Advise {
        of: Box<Request>,
        verdict: Verdict,
        node: &'static str,
    },
}

/// What happens at once, and what goes wrong in it.
#[derive(Clone, Debug)]
enum Step {
    Serve { asked: Vec<Request>, set_max: usize, faults: Vec<Fault> },
    Stock { article: usize, remaining: i64 },
}

fn id(number: u8) -> String {
    format!("txn-{number:02}")
}

fn account(number: u8) -> &'static str {
    ACCOUNTS[usize::from(number) % ACCOUNTS.len()]
}

impl Request {
    fn question(&self) -> Option<Question> {
        Some(match self {
            Self::Claim { id: number, article, quantity } => {
                claim(&id(*number), account(*number), ARTICLES[*article], *quantity)
            }
            Self::Spend { id: number, coins } => spend(&id(*number), account(*number), *coins),
            Self::Pay { id: number, amount } => asked(&id(*number), "payment", *amount),
            Self::Cancel { id: number, target, of_a_claim, by_its_account } => {
                let policy = if *of_a_claim { "chest" } else { "spend" };
                let by = account(if *by_its_account { *target } else { *target + 1 });
                cancel(&id(*number), policy, by, &id(*target))
            }
            Self::Label { .. } | Self::Advise { .. } => return None,
        })
    }

    fn ask(&self) -> Ask {
        match (self, self.question(), self.advice()) {
            (Self::Label { id: number, fraud }, ..) => label(&id(*number), *fraud),
            (_, Some(question), _) => decide(question),
            (_, _, Some(advice)) => Ask::Settle(Box::new(advice)),
            (_, None, None) => unreachable!("only a label asks nothing"),
        }
    }

    /// The same one has the same number.
    fn advice(&self) -> Option<Advice> {
        let Self::Advise { of, verdict, node } = self else { return None };
        let mut hasher = DefaultHasher::new();
        format!("{of:?} {verdict:?}").hash(&mut hasher);
        Some(advice(node, hasher.finish(), of.question()?, *verdict))
    }

    const fn is_advice(&self) -> bool {
        matches!(self, Self::Advise { .. })
    }

    /// What most ask under an id, so that what is told, asked and asked again meets.
    fn usual(id: u8) -> Self {
        match id % 8 {
            0..3 => {
                Self::Claim { id, article: usize::from(id % 3), quantity: i64::from(1 + id % 2) }
            }
            3 => Self::Spend { id, coins: 13 },
            4 => Self::Spend { id, coins: 2 },
            5 => Self::Pay { id, amount: u64::from(id) },
            _ => Self::Cancel { id, target: id - 6, of_a_claim: true, by_its_account: true },
        }
    }
}

fn requests() -> impl Strategy<Value = Request> {
    let verdict = prop::sample::select(&[Verdict::Approve, Verdict::Decline, Verdict::Review][..]);
    // One node mostly, and mostly it says the same of an id; of the other it is not known.
    let advice =
        (asks(), verdict, prop::bool::weighted(0.9)).prop_map(|(of, verdict, is_first)| {
            let node = if is_first { "first" } else { "second" };
            Request::Advise { of: Box::new(of), verdict, node }
        });
    prop_oneof![
        6 => asks(),
        4 => advice,
        1 => (0..IDS, any::<bool>()).prop_map(|(id, fraud)| Request::Label { id, fraud }),
    ]
}

fn asks() -> impl Strategy<Value = Request> {
    let mostly = || prop::bool::weighted(0.8);
    prop_oneof![
        11 => (0..IDS).prop_map(Request::usual),
        4 => (0..IDS, 0..ARTICLES.len(), 0..5_i64)
            .prop_map(|(id, article, quantity)| Request::Claim { id, article, quantity }),
        // Thirteen is the one that is declined.
        2 => (0..IDS, prop_oneof![1..5_i64, Just(13)])
            .prop_map(|(id, coins)| Request::Spend { id, coins }),
        1 => (0..IDS, 1..4_u64).prop_map(|(id, amount)| Request::Pay { id, amount }),
        4 => (0..IDS, 0..IDS, mostly(), mostly())
            .prop_map(|(id, target, of_a_claim, by_its_account)| {
                Request::Cancel { id, target, of_a_claim, by_its_account }
            }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let seen = || {
        prop_oneof![
            3 => Just(Fault::None),
            1 => Just(Fault::Conflict),
            1 => Just(Fault::Refused),
            1 => (0..6_u8).prop_map(Fault::CutLoad),
        ]
    };
    let fault = prop_oneof![
        6 => seen(),
        3 => (0..12_u8).prop_map(Fault::CutCommit),
        1 => Just(Fault::Unseen),
    ];
    let at_once = (prop::collection::vec(requests(), 1..12), prop::collection::vec(fault, 0..4));
    // Their order stays as it is: advices would come first, and what was decided unseen before what failed.
    let in_turn = (prop::collection::vec(asks(), 4..12), prop::collection::vec(seen(), 0..4));
    let step = prop_oneof![
        6 => at_once.prop_map(|(asked, faults)| Step::Serve { asked, set_max: SET_MAX, faults }),
        3 => in_turn.prop_map(|(asked, faults)| Step::Serve { asked, set_max: SMALL_SET, faults }),
        1 => (0..ARTICLES.len(), 0..12_i64)
            .prop_map(|(article, remaining)| Step::Stock { article, remaining }),
    ];
    prop::collection::vec(step, 1..10)
}

pub(crate) async fn stock_balances_history_and_answers_are_those_of_a_model_whatever_breaks<
    B: Books,
>() {
    // The runner of properties blocks, so it has a thread of its own.
    let outcome = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&steps(), |steps| {
            runtime.block_on(play::<B>(&steps));
            Ok(())
        })
    });
    outcome.join().unwrap().unwrap();
}

async fn play<B: Books>(steps: &[Step]) {
    let mut bench = BenchOver::<B>::new().await;
    let mut oracle = Oracle::default();
    for (article, remaining) in ARTICLES.iter().zip([4, 8, 12]) {
        set_stock(&mut bench, &mut oracle, article, remaining).await;
    }
    for step in steps {
        match step {
            Step::Stock { article, remaining } => {
                set_stock(&mut bench, &mut oracle, ARTICLES[*article], *remaining).await;
            }
            Step::Serve { asked, set_max, faults } => {
                let desk = Arc::get_mut(&mut bench.writer.desk).unwrap();
                desk.settings.batch_max = *set_max;
                bench.faults.expect(faults.iter().copied());
                serve(&mut bench, &mut oracle, asked).await;
                bench.faults.clear();
            }
        }
    }
    oracle.check(&mut bench).await;
}

async fn set_stock<B: Books>(
    bench: &mut BenchOver<B>,
    oracle: &mut Oracle,
    article: &str,
    remaining: i64,
) {
    let key = format!("sku:{article}");
    bench.set_stock(&key, remaining).await;
    oracle.set_stock(key, remaining);
}

/// Asks until everything is answered, and compares each answer with the model's.
async fn serve<B: Books>(bench: &mut BenchOver<B>, oracle: &mut Oracle, set: &[Request]) {
    // A label that comes before its decision finds nothing, but one that is asked again may find it.
    let knows = |request: &&Request| match request {
        Request::Label { id: number, .. } => oracle.knows(&id(*number)),
        _ => true,
    };
    let asked: Vec<&Request> = set.iter().filter(knows).collect();
    // A writer takes the advices of a set first.
    let (mut asked, live): (Vec<_>, Vec<_>) = asked.into_iter().partition(|it| it.is_advice());
    asked.extend(live);
    let mut waiting = VecDeque::from_iter((!asked.is_empty()).then_some(asked));
    let mut rounds = 0..ROUNDS_MAX;
    while let Some(asked) = waiting.pop_front() {
        assert!(rounds.next().is_some(), "never answered: {asked:?}");
        let asks = asked.iter().map(|request| request.ask()).collect();
        let outcomes = bench.serve(asks).await;
        let (mut unknown, mut failed) = (Vec::new(), Vec::new());
        for (request, outcome) in asked.into_iter().zip(outcomes) {
            match outcome {
                // A row that the database refuses: the node hears so, and will not come again.
                Ok(Outcome::Settled { why: UNACCEPTABLE, .. }) => oracle.set_aside(request),
                Ok(outcome) => assert_eq!(said(outcome), oracle.ask(request), "{request:?}"),
                Err(CoreError::Unusable) => unknown.push(request),
                Err(CoreError::Failed | CoreError::Conflict) => failed.push(request),
                Err(error) => panic!("{request:?}: {error}"),
            }
        }
        // What nobody knows may have happened already, and then before what did not.
        waiting.extend([unknown, failed].into_iter().filter(|asked| !asked.is_empty()));
    }
}

fn said(outcome: Outcome) -> Said {
    match outcome {
        Outcome::Decided(Fresh { answer, .. }) | Outcome::Replayed(answer) => {
            Said::Decided(answer.decision, answer.reasons, answer.effects)
        }
        Outcome::IdReused => Said::IdReused,
        Outcome::Labelled { found } => Said::Labelled(found),
        Outcome::Settled { outcome, .. } => Said::Settled(outcome),
        Outcome::StockSet | Outcome::Arrived => panic!("nobody asked for that"),
    }
}
