//! Two stacks whose apis, on real sockets, answer as a test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use backstop_contract::breaker::BreakerSettings;
use backstop_contract::learned::Learning;
use backstop_contract::link::LinkSettings;
use backstop_contract::{Cause, Decision, Stack, Tier, Verdict};
use backstop_settings::{Address, STACKS};

use crate::api_client::ApiClient;
use crate::exchange::{Exchanges, REHEARSALS};
use crate::peers::Peers;
use crate::place::Place;
use crate::stacks::Stacks;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// How the api of a stack answers.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// After so long.
    pub after: Duration,
    /// Why it is the api that decides; none where it is core.
    pub cause: Option<Cause>,
    /// As a release that knows no rehearsals.
    pub is_old: bool,
}

/// What was asked: the path, and about which account.
pub type Asked = (String, String);

#[derive(Default)]
struct Seen {
    manner: Mutex<Manner>,
    asked: Mutex<Vec<Asked>>,
}

/// Both stacks. They end with the test.
pub struct FalseStacks {
    /// Who asks them.
    pub stacks: Arc<Stacks>,
    seen: [Arc<Seen>; 2],
    _folder: TempDir,
}

impl FalseStacks {
    /// Both, well.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seen: [Arc<Seen>; 2] = Default::default();
        for stack in Stack::ALL {
            let listener = UnixListener::bind(folder.path().join(stack.as_str())).unwrap();
            tokio::spawn(accept(listener, stack.of(&seen).clone()));
        }
        let stacks = stacks_at(|stack| Address::Socket(folder.path().join(stack)));
        Self { stacks, seen, _folder: folder }
    }

    /// Answers so from now on.
    pub fn set(&self, stack: Stack, manner: Manner) {
        *stack.of(&self.seen).manner.lock().unwrap() = manner;
    }

    /// All that this stack was asked.
    pub fn asked(&self, stack: Stack) -> Vec<Asked> {
        stack.of(&self.seen).asked.lock().unwrap().clone()
    }
}

/// Both stacks, with one api each at this address.
pub fn stacks_at(address: impl Fn(&str) -> Address) -> Arc<Stacks> {
    let breaker = BreakerSettings {
        window: SECOND,
        calls_min: 20,
        bad_share: 0.5,
        open_min: SECOND,
        open_max: SECOND,
        probes: 5,
    };
    let learning = Learning {
        window: SECOND,
        samples_min: 100,
        prior_min: MS,
        prior_max: SECOND,
        headroom: 3.0,
        ceiling: SECOND,
        hysteresis: 0.1,
    };
    let link = LinkSettings { reserve: MS, learns_min: false, floor_share: 0.5, learning, breaker };
    let exchanges = Arc::new(Exchanges::new(16, SECOND, None, mpsc::channel(1).0));
    Arc::new(Stacks::new(STACKS.map(|stack| {
        let place = Place::new(address(stack), 1, SECOND).unwrap();
        let peers = Peers::new(stack, vec![place], breaker, exchanges.clone());
        ApiClient::new(stack, peers, exchanges.clone(), link)
    })))
}

async fn accept(listener: UnixListener, seen: Arc<Seen>) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        tokio::spawn(async move { converse(stream, &seen).await });
    }
}

/// Answers one request after the other; `None` when the connection has ended.
async fn converse(stream: UnixStream, seen: &Seen) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (path, body) = request(&mut stream).await?;
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        seen.asked.lock().unwrap().push((path.clone(), text("account")));
        let Manner { after, cause, is_old } = seen.manner.lock().unwrap().clone();
        tokio::time::sleep(after).await;
        let tier = if cause.is_some() { Tier::Api } else { Tier::Core };
        let decision = Decision { cause, ..Decision::by(tier, text("id"), Verdict::Approve) };
        let (status, answer) = if is_old && path == REHEARSALS {
            ("404 Not Found", "{}".to_owned())
        } else {
            ("200 OK", serde_json::to_string(&decision).unwrap())
        };
        let length = answer.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{answer}");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// The path and the body of a request.
async fn request(stream: &mut BufReader<UnixStream>) -> Option<(String, Value)> {
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if path.is_empty() {
            path = line.split(' ').nth(1)?.to_owned();
        }
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = bytes.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((path, serde_json::from_slice(&body).ok()?))
}
