//! A request that the running system has decided, as its books have it: for `try`. Core is asked on its
//! socket, as api asks it; what it tells leaves the decision itself out of history and stock.

mod ask;

use std::path::PathBuf;

use backstop_contract::wire::{self, Incomplete, RecallReply, RecallRequest};
use backstop_contract::{Decision, HashKey, Request, Stack, Standing};
use backstop_engine::{DecodeError, History};
use backstop_lua::{Keys, Scene};
use backstop_settings::{Layout, Merchants, SettingsError};
use tokio::net::UnixStream;
use tokio::runtime::Handle;

use self::ask::{Untold, ask};
use super::attempt::line;
use super::books::Books;
use super::folder::Folder;

/// What the history and stock of a recalled request are.
const AS_OF: &str = "history and stock are as they are now, without this decision: what is known since, such \
                     as labels, is in them\n";

/// Why there is no such request.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// There is nobody to ask.
    #[error(
        "the request {id:?} was looked for in {dir}, and no core runs there; start it with `backstop up`, or \
         name its --dir (a file to try must exist)"
    )]
    NotRunning { id: String, dir: String },
    /// There will be somebody to ask.
    #[error(
        "the request {id:?} was looked for in {dir}: `backstop up` runs there, and no core listens yet; try again \
         in a moment, or see `backstop status`"
    )]
    Starting { id: String, dir: String },
    /// It can be nobody's.
    #[error("{}: there is no merchant {merchant:?}; there are {known}", file.display())]
    NoMerchant { file: PathBuf, merchant: String, known: String },
    /// The books have none.
    #[error(
        "the request {id:?} of {merchant} was looked for in the books of {dir}, and there is none; give \
         --merchant NAME if it was another's, and wait where the edge stood in: it is there once it is \
         settled (a file to try must exist)"
    )]
    Unknown { id: String, dir: String, merchant: String },
    /// Nobody who was asked told.
    #[error("no core tells of the request {id:?}: {why}; see `backstop status`")]
    Untold { id: String, why: String },
    /// The directory does not say whose requests are meant.
    #[error("{}: does not say whose request it is ({why}); give --merchant NAME", file.display())]
    Merchant { file: PathBuf, why: String },
    /// The merchants cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What core told is not whole.
    #[error("core told what this release cannot read: {0}")]
    Senseless(#[from] Incomplete),
    /// A row of history is not one.
    #[error("core told a history that this release cannot read: {0}")]
    History(#[from] DecodeError),
}

/// A request that was decided.
pub struct Recalled {
    /// The request, and nothing that it meets.
    pub scene: Scene,
    /// What the books say of it, for people.
    pub told: String,
    source: Source,
}

/// Where it is found.
struct Source {
    layout: Layout,
    /// The stack that is asked first: the one that serves, and then whichever told.
    first: Stack,
    merchant: String,
    id: String,
}

impl Recalled {
    /// What the books of the running system have under this id. Without a merchant, whose key the directory
    /// holds.
    pub fn find(folder: &Folder, merchant: Option<&str>, id: &str) -> Result<Self, RecallError> {
        let layout = folder.layout();
        let (id, run_json) = (id.to_owned(), layout.run_json());
        match run_json.try_exists() {
            Ok(true) => {}
            Ok(false) => {
                return Err(RecallError::NotRunning {
                    id,
                    dir: layout.root().display().to_string(),
                });
            }
            Err(error) => {
                let why = format!("{}: {error}", run_json.display());
                return Err(RecallError::Untold { id, why });
            }
        }
        let merchant = merchant.map_or_else(|| of_the_key(&layout), |name| Ok(name.to_owned()))?;
        let mut source = Source { layout, first: folder.active(), merchant, id };
        let recalled = source.recall(Vec::new(), Vec::new())?;
        let record = recalled.record.ok_or(Incomplete("record"))?;
        let request = recalled.transaction.ok_or(Incomplete("transaction"))?.try_into()?;
        let hash_key = source.hash_key();
        let scene = source.scene(request, &recalled.request_hash, hash_key.as_ref());
        let told = source.told(&scene, record, hash_key.is_some())?;
        Ok(Self { scene, told, source })
    }

    /// The request with what a policy that asks for `keys` would see now, and what there is besides.
    pub fn meeting(&mut self, keys: &Keys) -> Result<(Scene, Books), RecallError> {
        let rows = keys.history.values().cloned().collect();
        let recalled = self.source.recall(rows, keys.stock.clone())?;
        let mut scene = Scene { stock: recalled.stock, ..self.scene.clone() };
        for (name, key) in &keys.history {
            let row = recalled.history.iter().find(|row| row.key == *key);
            let row = row.ok_or(Incomplete("history"))?;
            scene.histories.insert(name.clone(), History::decode(&row.row)?);
        }
        let books = Books::of(&scene, &recalled.balance, recalled.cancel);
        Ok((scene, books))
    }
}

impl Source {
    fn recall(
        &mut self,
        history: Vec<String>,
        stock: Vec<String>,
    ) -> Result<wire::Recalled, RecallError> {
        let (merchant, id) = (self.merchant.clone(), self.id.clone());
        let message = RecallRequest { merchant, id, history, stock };
        let reply = Handle::current().block_on(self.ask(&message))?;
        reply.recalled.ok_or_else(|| self.unknown())
    }

    /// Why the books have none. They may have one of a merchant who is no longer in the file.
    fn unknown(&self) -> RecallError {
        let (file, merchant) = (self.layout.merchants(), self.merchant.clone());
        if let Ok(merchants) = Merchants::load(&file) {
            let known: Vec<_> = merchants.iter().map(|(known, _)| known.name.as_str()).collect();
            if !known.contains(&merchant.as_str()) {
                let known = known.join(", ");
                return RecallError::NoMerchant { file, merchant, known };
            }
        }
        RecallError::Unknown { id: self.id.clone(), dir: self.dir(), merchant }
    }

    fn dir(&self) -> String {
        self.layout.root().display().to_string()
    }

    /// The stacks have the same books, and either may tell.
    async fn ask(&mut self, message: &RecallRequest) -> Result<RecallReply, RecallError> {
        let mut whys = Vec::new();
        for stack in [self.first, self.first.other()] {
            let socket = self.layout.socket("core", stack.as_str());
            match ask(&socket, message.clone()).await {
                Ok(reply) => {
                    self.first = stack;
                    return Ok(reply);
                }
                Err(Untold::Gone) => {}
                Err(why) => whys.push(format!("core-{stack} {why}")),
            }
        }
        let id = self.id.clone();
        if !whys.is_empty() {
            return Err(RecallError::Untold { id, why: whys.join("; ") });
        }
        let does_up_live = UnixStream::connect(self.layout.up_socket()).await.is_ok();
        let dir = self.dir();
        Err(if does_up_live {
            RecallError::Starting { id, dir }
        } else {
            RecallError::NotRunning { id, dir }
        })
    }

    /// The request as the rules were asked about it. The books keep one time of it, the client's or that of
    /// receipt, and a default may read only the client's: the hash of the request tells which it is.
    fn scene(&self, mut request: Request, hash: &[u8], key: Option<&HashKey>) -> Scene {
        let at = request.at.take();
        let was_sent_none = key.is_some_and(|key| key.hash(&request).as_bytes() == hash);
        let received_at = at.as_ref().map(|at| at.timestamp).unwrap_or_default();
        request.at = at.filter(|_| !was_sent_none);
        let mut scene = Scene::bare(request);
        scene.question.received_at = received_at;
        scene.question.merchant.clone_from(&self.merchant);
        scene
    }

    fn hash_key(&self) -> Option<HashKey> {
        let secret = std::fs::read(self.layout.hash_key()).ok()?;
        Some(HashKey::new(secret.as_slice().try_into().ok()?))
    }

    fn told(
        &self,
        scene: &Scene,
        record: wire::Record,
        is_time_known: bool,
    ) -> Result<String, RecallError> {
        let wire::Record { decision, settlement, fraud, decided_first, .. } = record;
        let decision = Decision::try_from(decision.ok_or(Incomplete("decision"))?)?;
        let Decision { decided_by, cause, stack, decided_at, .. } = &decision;
        let mut text =
            format!("request {} of {}, at {}\n", self.id, self.merchant, scene.question.at());
        line(&mut text, "decision", decision.decision.as_str());
        line(&mut text, "reasons", &decision.reasons.join(", "));
        line(&mut text, "score", &decision.score.to_string());
        let cause = cause.as_ref().map(|it| format!(", cause {}", it.as_str())).unwrap_or_default();
        let by = format!("{}{cause}, on {stack}, at {decided_at}", decided_by.as_str());
        line(&mut text, "by", &by);
        line(&mut text, "version", &decision.policy_version);
        if settlement != Standing::Decided.as_str() {
            let first = if decided_first.is_empty() { "nothing" } else { &decided_first };
            line(&mut text, "settled", &format!("{settlement}; core itself had decided {first}"));
        }
        if let Some(fraud) = fraud {
            line(&mut text, "label", if fraud { "fraud" } else { "no fraud" });
        }
        if !is_time_known {
            let file = self.layout.hash_key();
            let why = format!("{} cannot be read, and nothing else can tell", file.display());
            line(&mut text, "time", &format!("taken as sent by the client: {why}"));
        }
        text.push_str(AS_OF);
        Ok(text)
    }
}

/// The merchant whose key the directory holds.
fn of_the_key(layout: &Layout) -> Result<String, RecallError> {
    let file = layout.merchant_key();
    let wrong = |why: String| RecallError::Merchant { file: file.clone(), why };
    let key = std::fs::read_to_string(&file).map_err(|error| wrong(error.to_string()))?;
    let merchants = Merchants::load(&layout.merchants())?;
    let merchant = merchants.authenticate(key.trim()).map(|merchant| merchant.name.clone());
    merchant.ok_or_else(|| wrong("no merchant has this key".to_owned()))
}

#[cfg(test)]
mod tests;
