//! Which rules the tiers decide by just now, as each of them shows it on its socket.

use std::collections::BTreeMap;
use std::time::Duration;

use backstop_contract::Stack;
use backstop_lua::{Publication, Scope};
use backstop_settings::Layout;
use bytes::Bytes;
use hyper::Request;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::exchange::{ExchangeError, Place, exchange};

/// A tier that has not followed by then is named.
const FOLLOW_TIME_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Metrics are answered from memory.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

/// What one tier shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Each version it decides by or tries, and the stage of that.
    pub versions: BTreeMap<String, String>,
    /// What the bundle in the shadow said, by outcome, the live verdict and its own.
    pub shadow: Vec<([String; 3], u64)>,
}

/// What a tier of a stack shows.
pub async fn look(layout: &Layout, tier: &str, stack: Stack) -> Result<Shown, ExchangeError> {
    let place = Place::Socket(layout.socket(tier, stack.as_str()));
    let request = Request::get("/metrics").header("host", "localhost").body(Bytes::new());
    let request = request.map_err(ExchangeError::Request)?;
    let (_, body) = exchange(&place, request, ANSWER_TIME_MAX).await?;
    Ok(read(&String::from_utf8_lossy(&body)))
}

/// Waits until the tiers of a stack do as an edge has written: in words, who does, and whether all do that
/// run.
pub async fn wait(layout: &Layout, told: &Value) -> (String, bool) {
    let publication = told.get("publication").cloned().unwrap_or_default();
    let scope = told.get("scope").and_then(Value::as_str).and_then(Stack::parse);
    let (Some(stack), Ok(publication)) =
        (scope, serde_json::from_value::<Publication>(publication))
    else {
        return (String::new(), true);
    };
    let deadline = Instant::now() + FOLLOW_TIME_MAX;
    let (mut said, mut do_follow) = (Vec::new(), true);
    for tier in ["core", "api"] {
        let (words, is_well) = loop {
            let shown = look(layout, tier, stack).await;
            let is_late = Instant::now() >= deadline;
            match shown {
                Ok(shown) if shown.follows(&publication) => break ("follows", true),
                Ok(_) if is_late => break ("does not follow yet: see `backstop logs`", false),
                Err(ExchangeError::Connect(_)) => {
                    break ("does not run: it begins with this", true);
                }
                // It may only be busy.
                Err(_) if is_late => break ("does not answer: see `backstop status`", false),
                _ => sleep(LOOK_EVERY).await,
            }
        };
        said.push(format!("{tier}-{stack} {words}"));
        do_follow &= is_well;
    }
    (said.join(", "), do_follow)
}

impl Shown {
    /// Whether this is what is published.
    pub fn follows(&self, publication: &Publication) -> bool {
        self.versions == wanted(publication)
    }
}

/// The versions of a publication, and their stages.
pub fn wanted(publication: &Publication) -> BTreeMap<String, String> {
    let tried = publication.candidate.iter();
    let tried = tried.map(|it| (it.version.clone(), it.stage.to_string()));
    std::iter::once((publication.live.version.clone(), "live".to_owned())).chain(tried).collect()
}

/// What is published for each scope; none where nothing is.
pub fn published(layout: &Layout) -> Vec<(Scope, Option<Publication>)> {
    Scope::ALL.into_iter().map(|scope| (scope, scope.read_any(layout))).collect()
}

/// What the text of a tier's metrics shows.
fn read(text: &str) -> Shown {
    let mut shown = Shown::default();
    for line in text.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Some((name, labels)) = series.split_once('{') else { continue };
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let label = |name| label(name).unwrap_or_default();
        match name {
            "backstop_rules_in_force" => {
                shown.versions.insert(label("version"), label("stage"));
            }
            "backstop_shadow_total" => {
                let what = ["outcome", "live", "shadow"].map(label);
                shown.shadow.push((what, value.parse().unwrap_or_default()));
            }
            _ => {}
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core that hung was said not to run, and the command went well.
    #[tokio::test(start_paused = true)]
    async fn a_tier_that_is_silent_runs_and_does_not_follow() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let live = Publication::first("0123456789ab", backstop_contract::Timestamp::default());
        let told = serde_json::json!({ "scope": "prod", "publication": live });
        let (words, do_follow) = wait(&layout, &told).await;
        assert_eq!(words.matches("does not run").count(), 2, "{words}");
        assert!(do_follow, "they begin with it");

        let socket = layout.socket("core", "prod");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let _silent = std::os::unix::net::UnixListener::bind(socket).unwrap();
        let begun = Instant::now();
        let (words, do_follow) = wait(&layout, &told).await;
        assert!(words.starts_with("core-prod does not answer"), "{words}");
        assert!(words.contains("api-prod does not run"), "{words}");
        assert!(!do_follow && begun.elapsed() >= FOLLOW_TIME_MAX);
    }

    #[test]
    fn what_a_tier_shows_is_read_from_its_metrics() {
        let shown = read(concat!(
            "# HELP backstop_rules_in_force 1 for …\n",
            "backstop_rules_in_force{stage=\"live\",version=\"a\"} 1\n",
            "backstop_rules_in_force{stage=\"10%\",version=\"b\"} 1\n",
            "backstop_shadow_total{live=\"approve\",outcome=\"flip\",shadow=\"decline\",version=\"c\"} 7\n",
            "backstop_core_queue 0\n",
        ));
        let versions = [("a", "live"), ("b", "10%")];
        let versions = versions.map(|(version, stage)| (version.to_owned(), stage.to_owned()));
        assert_eq!(shown.versions, BTreeMap::from(versions));
        let flip = ["flip", "approve", "decline"].map(str::to_owned);
        assert_eq!(shown.shadow, [(flip, 7)]);
    }
}
