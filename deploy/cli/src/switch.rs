//! `backstop switch`: which stack serves. The edges decide, and insist on a reason; this asks them, all of
//! them at once, and says which did not follow.

mod ask;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use backstop_contract::canary::{By, Percent, Share};
use backstop_contract::order::What;
use backstop_contract::{Canary, Order, Stack};
use backstop_settings::{Layout, Token, parse_duration};
use clap::Subcommand;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

use crate::dir::Dir;
use crate::running::{Running, State};
use crate::status::ask_up_in_time;
use ask::{Answered, Edges};

/// An edge refused, or did not answer.
const NOT_ALL: u8 = 1;
/// Nothing was asked.
const REFUSED: u8 = 2;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The admin address of an edge, several times for several [default: the one that runs here]
    #[arg(long, value_name = "HOST:PORT", global = true)]
    proxy: Vec<SocketAddr>,
    /// Print what the edges answer as one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Send new requests to prod
    Prod(To),
    /// Send new requests to old-prod
    OldProd(To),
    /// Show which stack serves, since when and why, and how both fare
    Status,
    /// Show the last switches
    History,
    /// Go back to how it was before the last order
    Undo(Terms),
    /// Send a part of the requests to a stack: --percent 14, or --modulo 7; `off` for none
    Canary(CanaryArgs),
    /// Send all requests of one merchant to a stack, whatever the others do; `off` for where they go
    Pin {
        /// Its name
        merchant: String,
        #[arg(value_parser = ["prod", "old-prod", "off"])]
        to: String,
        #[command(flatten)]
        terms: Terms,
    },
}

/// What every order has.
#[derive(clap::Args, Clone, Debug)]
struct Terms {
    /// Why, in a sentence for those who read the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// Do not ask; only a terminal is asked
    #[arg(long)]
    yes: bool,
    /// Even if the stack is cold or unwell; on SQLite a hung core of the stack that is left is ended
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
struct To {
    #[command(flatten)]
    terms: Terms,
    /// Revert by itself after this long, such as 15m
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    lasts: Option<Duration>,
}

#[derive(clap::Args)]
struct CanaryArgs {
    #[arg(value_parser = ["prod", "old-prod", "off"])]
    to: String,
    /// So many of a hundred
    #[arg(long, value_name = "N", value_parser = percent, conflicts_with = "modulo")]
    percent: Option<Percent>,
    /// One in so many
    #[arg(long, value_name = "N")]
    modulo: Option<u64>,
    /// Those that leave this remainder
    #[arg(long, value_name = "N", default_value_t = 0, requires = "modulo")]
    remainder: u64,
    /// Keep the requests of a merchant together, not those of an account
    #[arg(long)]
    by_merchant: bool,
    #[command(flatten)]
    to_terms: To,
}

/// Why nothing was asked.
#[derive(Debug, thiserror::Error)]
enum SwitchError {
    /// No edge is known.
    #[error("nothing runs in {0}; start it with `backstop up`, or name the edges with --proxy")]
    NotRunning(String),
    /// The token is missing.
    #[error(transparent)]
    Token(backstop_settings::SettingsError),
    /// A canary without a size.
    #[error("how much? give --percent 14, or --modulo 7")]
    NoShare,
    /// The person said no.
    #[error("nothing was done")]
    No,
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "such as 30s, 15m or 2h".to_owned())
}

fn percent(text: &str) -> Result<Percent, String> {
    let number = text.trim_end_matches(['%', ' ']).parse::<f64>().ok();
    let percent = number.and_then(|number| Percent::try_from(number).ok());
    percent.ok_or_else(|| "over 0 and at most 100".to_owned())
}

/// Asks every edge. The exit code is 1 when one did not follow, and 2 when none was asked.
pub async fn run(args: Args) -> ExitCode {
    match ask(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_ALL),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

async fn ask(args: Args) -> Result<bool, SwitchError> {
    let layout = args.dir.layout();
    let edges = Edges::new(addresses(&layout, args.proxy)?, &token(&layout)?);
    let (what, terms, lasts) = match args.action {
        Action::Status => return Ok(shown(&edges.get("/admin/switch").await, args.json)),
        Action::History => return Ok(shown(&edges.get("/admin/switch/history").await, args.json)),
        Action::Prod(To { terms, lasts }) => (What::Switch(Stack::Prod), terms, lasts),
        Action::OldProd(To { terms, lasts }) => (What::Switch(Stack::OldProd), terms, lasts),
        Action::Undo(terms) => (What::Undo, terms, None),
        Action::Canary(canary) => {
            let what = What::Canary(canary.canary()?);
            (what, canary.to_terms.terms, canary.to_terms.lasts)
        }
        Action::Pin { merchant, to, terms } => {
            (What::Pin { merchant, to: Stack::parse(&to) }, terms, None)
        }
    };
    let order = Order {
        what,
        reason: terms.reason.unwrap_or_default(),
        who: who(),
        lasts,
        force: terms.force,
        dry_run: terms.dry_run,
    };
    warn_of_sqlite(&layout, &order.what);
    if !order.dry_run && !terms.yes && std::io::stdin().is_terminal() {
        let rehearsal = Order { dry_run: true, ..order.clone() };
        if !shown(&edges.order(&rehearsal).await, false) || !is_confirmed() {
            return Err(SwitchError::No);
        }
    }
    let followed = shown(&edges.order(&order).await, args.json);
    if let What::Switch(to) = order.what
        && followed
        && order.force
        && !order.dry_run
        && is_sqlite(&layout)
    {
        end_hung_core(&layout, to.other()).await;
    }
    Ok(followed)
}

/// A core that hangs may hold the write lock of both. `up` starts it again.
async fn end_hung_core(layout: &Layout, left: Stack) {
    let Some(status) = ask_up_in_time(layout).await else { return };
    for core in status.processes {
        let is_left = core.tier == "core" && core.stack.as_deref() == Some(left.as_str());
        if !is_left || core.state != State::Hung || !core.is_alive() {
            continue;
        }
        if let Some(pid) = core.pid.and_then(|pid| i32::try_from(pid).ok()) {
            eprintln!("the core of {left} is silent: ended, for the lock that it may hold");
            // It may have ended just now.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl CanaryArgs {
    /// Which part it is; none for `off`.
    fn canary(&self) -> Result<Option<Canary>, SwitchError> {
        let Some(to) = Stack::parse(&self.to) else { return Ok(None) };
        let share = match (self.percent, self.modulo) {
            (Some(percent), _) => Share::Percent(percent),
            (None, Some(divisor)) => Share::Modulo { divisor, remainder: self.remainder },
            (None, None) => return Err(SwitchError::NoShare),
        };
        let by = if self.by_merchant { By::Merchant } else { By::Account };
        Ok(Some(Canary { to, share, by }))
    }
}

fn addresses(layout: &Layout, named: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, SwitchError> {
    if !named.is_empty() {
        return Ok(named);
    }
    let running = Running::load(layout).map(|running| vec![running.admin]);
    running.ok_or_else(|| SwitchError::NotRunning(layout.root().display().to_string()))
}

fn token(layout: &Layout) -> Result<Token, SwitchError> {
    Token::read(&layout.admin_token()).map_err(SwitchError::Token)
}

/// Who orders, as the audit log is to name them.
pub fn who() -> String {
    let user = User::from_uid(Uid::current()).ok().flatten().map(|user| user.name);
    user.unwrap_or_else(|| format!("uid {}", Uid::current()))
}

fn is_sqlite(layout: &Layout) -> bool {
    Running::load(layout).is_some_and(|running| running.database == "sqlite")
}

/// On SQLite the other stack is another process, and not another database.
fn warn_of_sqlite(layout: &Layout, what: &What) {
    if is_sqlite(layout) && matches!(what, What::Switch(_)) {
        eprintln!(
            "warning: on SQLite both stacks share one write lock: a core that hangs with it holds up \
             the other's too; `--force` ends it"
        );
    }
}

fn is_confirmed() -> bool {
    eprint!("go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut said = String::new();
    // No answer is a no.
    let _ = std::io::stdin().lock().read_line(&mut said);
    matches!(said.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Prints what each edge said; whether all of them did as they were asked.
fn shown(answers: &[Answered], json: bool) -> bool {
    if json {
        let all: serde_json::Map<_, _> =
            answers.iter().map(|it| (it.edge.to_string(), it.to_json())).collect();
        println!("{}", serde_json::Value::Object(all));
    } else {
        for answer in answers {
            match answer.in_words() {
                Ok(words) if answers.len() == 1 => println!("{words}"),
                Ok(words) => println!("{}: {words}", answer.edge),
                Err(why) => eprintln!("error: {} did not follow: {why}", answer.edge),
            }
        }
    }
    answers.iter().all(|answer| answer.outcome.is_ok())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn an_operator_may_write_it_in_any_of_the_documented_ways() {
        for words in [
            "prod --reason fixed",
            "old-prod --reason broken --for 15m --dry-run --yes --force",
            "old-prod --reason broken --proxy 127.0.0.1:1 --proxy 127.0.0.1:2",
            "status --json",
            "history",
            "undo",
            "canary old-prod --percent 14 --reason try",
            "canary old-prod --percent 0.5% --reason try --for 1h",
            "canary prod --modulo 7 --remainder 3 --by-merchant --reason try",
            "canary off --reason enough",
            "pin demo old-prod --reason theirs",
            "pin demo off --reason over",
        ] {
            let parsed = Command::try_parse_from(["switch"].into_iter().chain(words.split(' ')));
            assert!(parsed.is_ok(), "{words}: {}", parsed.err().unwrap());
        }
        for words in [
            "staging --reason x",
            "old-prod --reason x --for ever",
            "canary prod --percent 101 --reason x",
            "canary prod --percent 1 --modulo 7 --reason x",
        ] {
            let parsed = Command::try_parse_from(["switch"].into_iter().chain(words.split(' ')));
            assert!(parsed.is_err(), "{words}");
        }
    }
}
