//! `backstop rules try`: one request, what policy and default make of it, and what they took.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstop_engine::Moves;
use backstop_lua::meter::Asked;
use backstop_lua::{Breach, Bundle, Keys, Meter, Price, Rules, Ruling, Scene};
use serde_json::Value as Json;

use super::RulesError;
use super::books::Books;
use super::folder::{Folder, Limits};
use super::recalled::Recalled;
use super::test::millis;

/// The most bytes in a request to try, with its history.
const BYTES_MAX: u64 = 4 << 20;

const HELP: &str = "\
A file, or the id of a request that the running system in --dir has decided. What exists, ends in .json
or is - (standard input) is a file; --id says that it is an id all the same.

A file has the request as it is sent, or with what is known when it comes:
  { \"request\": { \"policy\": \"payment\", \"amount\": 5716, … },
    \"history\": { \"customer\": [ { \"ago\": \"2h\", \"amount\": 500, \"times\": 3, \"fraud\": true } ] },
    \"stock\": { \"sku:85123A\": 6 } }
What it does not say is made up.

Of an id the books have the request. History, stock and balances are as they are now, without its decision,
and what core would make of the ruling is told, too.";

/// Which request.
#[derive(clap::Args)]
pub struct Args {
    /// A file with one request as JSON, - for standard input, or the id of a request that was decided
    #[arg(long_help = HELP)]
    request: PathBuf,
    /// It is an id, whatever files there are
    #[arg(long)]
    id: bool,
    /// Whose request the id is [default: the merchant of merchant.key]
    #[arg(long, value_name = "NAME")]
    merchant: Option<String>,
    /// The policy to ask, where the request in the file names none
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
}

impl Args {
    /// The id that is meant, where it is not a file.
    fn id(&self) -> Option<&str> {
        let file = &self.request;
        let is_file = file.as_os_str() == "-"
            || file.exists()
            || file.extension().is_some_and(|extension| extension == "json");
        self.request.to_str().filter(|_| self.id || !is_file)
    }

    fn wrong(&self, wrong: String) -> RulesError {
        RulesError::Case { file: self.request.display().to_string(), wrong }
    }
}

/// Prints what became of the request.
pub fn run(folder: &Folder, args: &Args) -> Result<bool, RulesError> {
    let limits = folder.limits()?;
    let bundle = Bundle::load(folder.find()?)?;
    if args.id().is_some() && args.policy.is_some() {
        let right = "is an id, and --policy goes with a file: the books have the policy of an id";
        return Err(args.wrong(right.to_owned()));
    }
    let find = |id: &str| Recalled::find(folder, args.merchant.as_deref(), id);
    let mut recalled = args.id().map(find).transpose()?;
    let mut scene = match &recalled {
        Some(recalled) => recalled.scene.clone(),
        None => read(args)?,
    };
    let meter = Arc::new(Meter::default());
    let rules = Rules::metered(bundle, limits.memory_bytes_max, Arc::clone(&meter))?;
    let policy = &scene.question.request.policy;
    if !rules.has_policy(policy) {
        let known: Vec<&str> = rules.bundle().policies().collect();
        let wrong = format!("there is no policy {policy:?}; there are {}", known.join(", "));
        return Err(args.wrong(wrong));
    }
    let mut books = None;
    if let Some(recalled) = &mut recalled {
        // Without keys it has no answer but the safe one, and meets nothing.
        if let Ok(keys) = rules.keys(&scene.question, limits.slices.policy) {
            let (met, besides) = recalled.meeting(&keys)?;
            (scene, books) = (met, Some(besides));
        }
        print!("{}", recalled.told);
    }
    let (by_policy, breaches) = ask(&rules, &meter, &scene, limits, books.as_ref());
    print!("{by_policy}{}", ask_default(&rules, &meter, &scene, limits));
    Ok(breaches == 0)
}

fn read(args: &Args) -> Result<Scene, RulesError> {
    let failed = |source| RulesError::Read { path: args.request.clone(), source };
    let wrong = |wrong: String| args.wrong(wrong);
    if args.merchant.is_some() {
        let right = "is a file, and --merchant goes with an id; give --id where an id is meant";
        return Err(wrong(right.to_owned()));
    }
    let mut text = String::new();
    if args.request.as_os_str() == "-" {
        std::io::stdin().take(BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(&args.request).map_err(failed)?;
        file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    }
    if text.len() as u64 > BYTES_MAX {
        return Err(wrong(format!("is over {BYTES_MAX} bytes; leave out what no policy reads")));
    }
    let case: Json = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("is no JSON: {error}; see backstop rules try --help")))?;
    let policy = args.policy.as_deref();
    Scene::read(&case, policy).map_err(|error| wrong(error.to_string()))
}

/// Asks call by call, for each has its price. How many of them broke.
fn ask(
    rules: &Rules,
    meter: &Meter,
    scene: &Scene,
    limits: Limits,
    books: Option<&Books>,
) -> (String, usize) {
    let slice = limits.slices.policy;
    let question = &scene.question;
    let mut text = format!("policy {} of version {}\n", question.request.policy, rules.version());
    let mut prices = Vec::new();
    let keys = match rules.keys(question, slice) {
        Ok(keys) => keys,
        Err(breach) => {
            show_ruling(&mut text, &rules.safe_answer(question, scene.stand_in, breach));
            return (text, 1);
        }
    };
    prices.push(("keys", meter.price()));
    let (histories, stock) = scene.seen(&keys);
    meter.take_asked();
    let ruling = rules.decide_by_policy(question, &histories, &stock, scene.stand_in, slice);
    prices.push(("decide", meter.price()));
    let asked = meter.take_asked();
    let mut broken = usize::from(ruling.breach.is_some());
    show_ruling(&mut text, &ruling);
    show_read(&mut text, &keys, &stock, &asked);
    let mut moves = Ok(Moves::default());
    // What broke moves nothing.
    if rules.moves(&question.request.policy) && !scene.cancels() && ruling.breach.is_none() {
        moves = rules.effects(question, &keys, ruling.verdict, slice);
        prices.push(("effects", meter.price()));
    }
    broken += usize::from(moves.is_err());
    show_moves(&mut text, &moves);
    if let Some(books) = books {
        let carried_out = match &moves {
            Ok(moves) => books.carried_out(&ruling, moves),
            Err(breach) => {
                let safe = rules.safe_answer(question, scene.stand_in, breach.clone());
                Some(("core", format!("answers {}, which is safe", safe.verdict.as_str())))
            }
        };
        for (word, said) in books.caveats(&asked).iter().chain(&carried_out) {
            line(&mut text, word, said);
        }
    }
    show_prices(&mut text, &prices, slice, limits.memory_bytes_max);
    (text, broken)
}

fn ask_default(rules: &Rules, meter: &Meter, scene: &Scene, limits: Limits) -> String {
    let policy = &scene.question.request.policy;
    let mut text = format!("default {policy}\n");
    let ruling = scene.ask_default(rules, limits.slices);
    show_ruling(&mut text, &ruling);
    if rules.default_says(policy).is_some() {
        let prices = [("decide", meter.price())];
        show_prices(&mut text, &prices, limits.slices.default, limits.memory_bytes_max);
    }
    text
}

fn show_ruling(text: &mut String, ruling: &Ruling) {
    line(text, "decision", ruling.verdict.as_str());
    line(text, "reasons", &ruling.reasons.join(", "));
    line(text, "score", &ruling.score.to_string());
    if let Some(breach) = &ruling.breach {
        line(text, "broke", &breach.to_string());
    }
}

fn show_read(
    text: &mut String,
    keys: &Keys,
    stock: &std::collections::BTreeMap<String, i64>,
    asked: &[Asked],
) {
    for (name, key) in &keys.history {
        line(text, "wants", &format!("history.{name}, of {key}"));
    }
    for key in &keys.stock {
        let left = stock.get(key).map_or("nobody knows".to_owned(), ToString::to_string);
        line(text, "wants", &format!("stock[{key:?}], of which is left: {left}"));
    }
    for Asked { question, answer, .. } in asked {
        line(text, "read", &format!("{question} = {answer}"));
    }
}

fn show_moves(text: &mut String, moves: &Result<Moves, Breach>) {
    let moves = match moves {
        Ok(moves) => moves,
        Err(breach) => return line(text, "moves", &format!("nothing: {breach}")),
    };
    let tables = [("take", &moves.take), ("credit", &moves.credit), ("debit", &moves.debit)];
    for (word, quantities) in tables {
        for (key, quantity) in quantities {
            line(text, "moves", &format!("{word} {quantity} of {key}"));
        }
    }
}

fn show_prices(text: &mut String, prices: &[(&str, Price)], slice: Duration, bytes_max: usize) {
    let parts = prices.iter().map(|(name, price)| format!("{name} {:.3} ms", millis(price.time)));
    let parts: Vec<String> = parts.collect();
    line(text, "time", &format!("{}; each may take {slice:?}", parts.join(", ")));
    let most = prices.iter().map(|(_, price)| price.bytes).max().unwrap_or_default();
    line(text, "memory", &format!("{} of {}", bytes(most), bytes(bytes_max / 2)));
}

/// What the machine's memory grows by at least.
const STEP: usize = 16 * 1024;

/// Bytes, as people read them.
pub fn bytes(count: usize) -> String {
    match count {
        0..STEP => "under 16 KiB".to_owned(),
        STEP..10_485_760 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}

/// A line of what is told of one thing.
pub fn line(text: &mut String, word: &str, said: &str) {
    // A string takes what is written to it.
    let _ = writeln!(text, "  {word:<9} {said}");
}
