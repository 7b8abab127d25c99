//! `backstop rules status`: the draft, what is tried, what is live, and what each tier decides by, at once.
//! The files are read here, so that it tells the most of it with nothing running.

use std::fmt::Write as _;

use backstop_contract::rollout::PATH;
use backstop_contract::{Stack, Timestamp};
use backstop_lua::publication::Stage;
use backstop_lua::{Bundle, Publication, Scope};
use backstop_settings::Layout;
use serde_json::{Value, json};

use super::folder::Folder;
use super::follow::{self, Shown};
use crate::exchange::ExchangeError;
use crate::operator;

/// How to say it.
#[derive(clap::Args)]
pub struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// All that is known.
struct Status {
    draft: Option<(String, Result<String, String>)>,
    scopes: Vec<(Scope, Option<Publication>)>,
    tiers: Vec<(String, Stack, Result<Shown, ExchangeError>)>,
    /// What the edge tells; why not, where it does not.
    edge: Result<Value, String>,
}

/// Prints it.
pub fn run(folder: &Folder, args: &Args) {
    let layout = folder.layout();
    let draft = folder.find().ok().map(|draft| {
        let version = Bundle::load(&draft).map(|bundle| bundle.version().to_owned());
        (draft.display().to_string(), version.map_err(|error| error.to_string()))
    });
    let status = tokio::runtime::Handle::current().block_on(look(&layout, draft));
    let text = if args.json { status.json().to_string() } else { status.shown() };
    println!("{}", text.trim_end());
}

async fn look(layout: &Layout, draft: Option<(String, Result<String, String>)>) -> Status {
    let scopes = follow::published(layout);
    let mut tiers = Vec::new();
    for stack in Stack::ALL {
        for tier in ["core", "api"] {
            tiers.push((tier.to_owned(), stack, follow::look(layout, tier, stack).await));
        }
    }
    let told = operator::ask(layout, PATH).await.map_err(|error| error.to_string());
    let read = |body: bytes::Bytes| serde_json::from_slice(&body).map_err(|it| it.to_string());
    Status { draft, scopes, tiers, edge: told.and_then(read) }
}

impl Status {
    fn shown(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        match &self.draft {
            Some((folder, Ok(version))) => _ = writeln!(text, "draft {version}, in {folder}"),
            Some((folder, Err(wrong))) => _ = writeln!(text, "draft in {folder}: {wrong}"),
            None => _ = writeln!(text, "no draft"),
        }
        for (scope, publication) in &self.scopes {
            match publication {
                Some(publication) => self.show(&mut text, *scope, publication),
                None => _ = writeln!(text, "\n{scope}: nothing was ever published"),
            }
            let Scope::Stack(stack) = scope else { continue };
            self.show_tiers(&mut text, *stack, publication.as_ref());
        }
        match &self.edge {
            Ok(edge) => {
                let own = |name: &str| edge.get("edge")?.get(name)?.as_str();
                let version = own("version").unwrap_or_default();
                _ = writeln!(text, "  proxy       decides by {version} where it is alone");
                if let Some(why) = own("refusal") {
                    _ = writeln!(text, "  proxy       refuses what is published: {why}");
                }
            }
            Err(why) => _ = writeln!(text, "  proxy       tells nothing: {why}"),
        }
        text
    }

    fn show(&self, text: &mut String, scope: Scope, publication: &Publication) {
        let Publication { live, candidate, earlier, broke, generation, .. } = publication;
        let active = self.edge.as_ref().ok().and_then(|edge| edge.get("active")?.as_str());
        let serves = if active == Some(scope.as_str()) { ", serves" } else { "" };
        _ = writeln!(text, "\n{scope}: publication {generation}{serves}");
        let by = if live.who.is_empty() { String::new() } else { format!(", by {}", live.who) };
        _ = writeln!(
            text,
            "  live        {} since {}{by}: {}{}",
            live.version,
            live.since,
            live.reason,
            self.answers(scope, &live.version)
        );
        if live.default_due > Timestamp::now() {
            _ = writeln!(text, "              the edge takes its defaults at {}", live.default_due);
        }
        if let Some(it) = candidate {
            let stage = match it.stage {
                Stage::Shadow => "shadow".to_owned(),
                Stage::Percent(percent) => format!("{} %", f64::from(percent)),
            };
            _ = writeln!(
                text,
                "  {stage:<11} {} since {}, by {}: {}{}",
                it.version,
                it.since,
                it.who,
                it.reason,
                self.answers(scope, &it.version)
            );
        }
        if let Some(before) = earlier.last() {
            _ = writeln!(text, "  before      {}", before.version);
        }
        for version in broke {
            _ = writeln!(text, "  taken back  {version}, since it broke");
        }
    }

    fn show_tiers(&self, text: &mut String, stack: Stack, publication: Option<&Publication>) {
        for (tier, _, shown) in self.tiers.iter().filter(|(_, its, _)| *its == stack) {
            let name = format!("{tier}-{stack}");
            let shown = match shown {
                Ok(shown) => shown,
                Err(why) => {
                    let is_gone = matches!(why, ExchangeError::Connect(_));
                    let what = if is_gone { "run" } else { "answer" };
                    _ = writeln!(text, "  {name:<13} does not {what}");
                    continue;
                }
            };
            let versions: Vec<_> = shown
                .versions
                .iter()
                .map(|(version, stage)| format!("{version} {stage}"))
                .collect();
            let lags = match publication {
                Some(publication) if !shown.follows(publication) => ": not what is published",
                _ => "",
            };
            _ = writeln!(text, "  {name:<13} {}{lags}", versions.join(", "));
            for ([outcome, live, shadow], count) in &shown.shadow {
                let what = match outcome.as_str() {
                    "flip" => format!("{live} -> {shadow}"),
                    "agree" => format!("agrees: {live}"),
                    other => other.to_owned(),
                };
                _ = writeln!(text, "    in the shadow {what:<22} {count:>9}");
            }
        }
    }

    /// How many answers of a version have passed the edge, and how many of them were safe ones.
    fn answers(&self, scope: Scope, version: &str) -> String {
        let is_it = |it: &&Value| {
            let is = |name: &str, value: &str| it.get(name).and_then(Value::as_str) == Some(value);
            is("scope", scope.as_str()) && is("version", version)
        };
        let all = self.edge.as_ref().ok().and_then(|edge| edge.get("answers")?.as_array());
        let Some(it) = all.and_then(|all| all.iter().find(is_it)) else { return String::new() };
        let count = |name: &str| it.get(name).and_then(Value::as_u64).unwrap_or_default();
        format!(" ({} answers, {} of them safe ones)", count("answers"), count("breaches"))
    }

    fn json(&self) -> Value {
        let scopes = self.scopes.iter().map(
            |(scope, publication)| json!({ "scope": scope.as_str(), "publication": publication }),
        );
        let tiers = self.tiers.iter().map(|(tier, stack, shown)| {
            let shadow = |it: &Shown| {
                let one = |([outcome, live, shadow], count): &([String; 3], u64)| {
                    json!({ "outcome": outcome, "live": live, "shadow": shadow, "count": count })
                };
                it.shadow.iter().map(one).collect::<Vec<_>>()
            };
            json!({
                "tier": tier,
                "stack": stack,
                "versions": shown.as_ref().ok().map(|it| &it.versions),
                "shadow": shown.as_ref().ok().map(shadow),
            })
        });
        let draft = self.draft.as_ref().map(|(folder, version)| {
            json!({ "folder": folder, "version": version.as_ref().ok(), "wrong": version.as_ref().err() })
        });
        json!({
            "draft": draft,
            "scopes": scopes.collect::<Vec<_>>(),
            "tiers": tiers.collect::<Vec<_>>(),
            "edge": self.edge.as_ref().ok(),
        })
    }
}
