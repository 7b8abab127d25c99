//! `backstop merchant`: who may ask, and their keys. The edge sees each change within a second.

use std::process::ExitCode;
use std::time::Duration;

use backstop_settings::merchants::{self, Key};
use backstop_settings::{Layout, Merchant, Merchants, SettingsError, parse_duration};
use clap::Subcommand;
use comfy_table::{Table, presets};

use crate::dir::Dir;
use crate::report::grouped;

/// Nothing was changed.
const REFUSED: u8 = 2;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Add a merchant, and print its key: the one time that it can be seen
    Add {
        /// 1 to 64 of a-z, 0-9 and -
        name: String,
        /// The longest that an answer may take, such as 250ms
        #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = budget)]
        budget: Duration,
        /// Its requests may replay the past and force a tier
        #[arg(long)]
        test: bool,
    },
    /// Give a merchant one more key, and print it; the others hold until they are revoked
    Rotate {
        /// The merchant
        name: String,
    },
    /// Take away one key of a merchant, or all of them
    Revoke {
        /// The merchant
        name: String,
        /// The key to take away, by its id; without it, all
        #[arg(long, value_name = "ID")]
        key: Option<String>,
    },
    /// Take away a merchant, with all its keys; what was decided for it stays in the books
    Remove {
        /// The merchant
        name: String,
    },
    /// Show all merchants and the ids of their keys
    List,
}

fn budget(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "not a duration; write it as 250ms or 2s".to_owned())
}

/// Does what is asked, and prints a new key alone on stdout.
pub fn run(args: Args) -> ExitCode {
    match act(&args.dir.layout(), args.action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

fn act(layout: &Layout, action: Action) -> Result<(), SettingsError> {
    let file = layout.merchants();
    if !file.exists() {
        let what = format!(
            "{}: there is no such file; start with `backstop up`, which makes it, or name its --dir",
            file.display()
        );
        return Err(SettingsError::Refused { what });
    }
    match action {
        Action::Add { name, budget, test } => {
            show(&name, &merchants::add(&file, &name, budget, test)?);
        }
        Action::Rotate { name } => show(&name, &merchants::rotate(&file, &name)?),
        Action::Revoke { name, key } => {
            let revoked = merchants::revoke(&file, &name, key.as_deref())?;
            if revoked.is_empty() {
                println!("{name} has no key; `backstop merchant rotate {name}` makes one");
            } else {
                println!("revoked of {name}: {}", revoked.join(", "));
            }
        }
        Action::Remove { name } => {
            merchants::remove(&file, &name)?;
            println!("removed {name}");
        }
        Action::List => println!("{}", table(&Merchants::load(&file)?)),
    }
    Ok(())
}

fn show(name: &str, key: &Key) {
    eprintln!("the key of {name}, id {}; keep it, it is not shown again:", key.id());
    println!("{}", key.plain());
}

fn table(merchants: &Merchants) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["merchant", "budget", "kind", "stand-ins a minute", "keys", "made"]);
    for (merchant, keys) in merchants.iter() {
        let lines = |line: fn(&merchants::KeptKey) -> String| {
            keys.iter().map(line).collect::<Vec<_>>().join("\n")
        };
        table.add_row([
            merchant.name.clone(),
            format!("{:?}", merchant.budget),
            if merchant.test { "test" } else { "live" }.to_owned(),
            stand_ins(merchant),
            lines(|key| key.id.clone()),
            lines(|key| key.created.to_string()),
        ]);
    }
    table
}

/// What of its own a merchant has in place of the caps in `backstop.toml`.
fn stand_ins(merchant: &Merchant) -> String {
    let approvals =
        merchant.stand_in_approvals_max.map(|max| format!("{} approvals", grouped(max)));
    let amount = merchant.stand_in_amount_max.map(|max| format!("{} minor units", grouped(max)));
    let own: Vec<String> = approvals.into_iter().chain(amount).collect();
    if own.is_empty() { "as [edge] says".to_owned() } else { own.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_shows_each_merchant_with_the_ids_of_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let add =
            || Action::Add { name: "shop".into(), budget: Duration::from_millis(250), test: true };
        // A new file beside merchants that were moved away would lock all of those out.
        let refused = act(&layout, add()).unwrap_err().to_string();
        assert!(refused.contains("backstop up"), "{refused}");
        std::fs::write(layout.merchants(), "").unwrap();
        act(&layout, add()).unwrap();
        act(&layout, Action::Rotate { name: "shop".into() }).unwrap();
        let merchants = Merchants::load(&layout.merchants()).unwrap();
        let text = table(&merchants).to_string();
        let (_, keys) = merchants.iter().next().unwrap();
        assert_eq!(keys.len(), 2);
        for expected in ["shop", "250ms", "test", &keys[0].id, &keys[1].id] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        assert!(text.contains("as [edge] says"), "{text}");
        let file = std::fs::read_to_string(layout.merchants()).unwrap();
        let own = "test = true\nstand_in_approvals_max = 1500\nstand_in_amount_max = 0";
        std::fs::write(layout.merchants(), file.replace("test = true", own)).unwrap();
        let text = table(&Merchants::load(&layout.merchants()).unwrap()).to_string();
        assert!(text.contains("1,500 approvals") && text.contains("0 minor units"), "{text}");
        act(&layout, Action::Remove { name: "shop".into() }).unwrap();
        assert_eq!(Merchants::load(&layout.merchants()).unwrap().iter().count(), 0);
    }

    #[test]
    fn a_budget_needs_its_unit() {
        assert_eq!(budget("250ms"), Ok(Duration::from_millis(250)));
        assert!(budget("250").is_err());
    }
}
