//! The way to the edges: each is asked on its admin listener, all at once, and none is waited for longer
//! than it takes to tell that it does not answer.

use std::net::SocketAddr;
use std::time::Duration;

use backstop_contract::{Order, Problem};
use backstop_settings::Token;
use bytes::Bytes;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::exchange::{Place, exchange};

/// An edge writes an order to its disk before it answers.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The edges that are to follow.
pub struct Edges {
    addresses: Vec<SocketAddr>,
    bearer: String,
}

/// What one edge said.
pub struct Answered {
    /// Which one.
    pub edge: SocketAddr,
    /// Its answer; why it did not do as it was asked.
    pub outcome: Result<Value, String>,
}

impl Edges {
    /// Those at these admin addresses, which all know this token.
    pub fn new(addresses: Vec<SocketAddr>, token: &Token) -> Self {
        Self { addresses, bearer: token.bearer().expose().clone() }
    }

    /// Asks all of them for a path.
    pub async fn get(&self, path: &str) -> Vec<Answered> {
        self.ask("GET", path, Bytes::new()).await
    }

    /// Tells all of them an order.
    pub async fn order(&self, order: &Order) -> Vec<Answered> {
        let body = order.to_json().to_string();
        self.ask("POST", order.desk().path(), body.into()).await
    }

    async fn ask(&self, method: &str, path: &str, body: Bytes) -> Vec<Answered> {
        let mut asking = JoinSet::new();
        for (index, edge) in self.addresses.iter().copied().enumerate() {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", edge.to_string())
                .header("authorization", &self.bearer)
                .header("content-type", "application/json")
                .header("content-length", body.len())
                .body(body.clone());
            asking.spawn(async move {
                let outcome = match request {
                    Ok(request) => ask_one(edge, request).await,
                    Err(error) => Err(error.to_string()),
                };
                (index, Answered { edge, outcome })
            });
        }
        let mut answers = Vec::with_capacity(self.addresses.len());
        while let Some(Ok(answer)) = asking.join_next().await {
            answers.push(answer);
        }
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, answered)| answered).collect()
    }
}

async fn ask_one(edge: SocketAddr, request: Request<Bytes>) -> Result<Value, String> {
    let answer = exchange(&Place::Address(edge), request, ANSWER_TIME_MAX).await;
    let (status, body) = answer.map_err(|error| error.to_string())?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|_| "its answer cannot be read".to_owned());
    }
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Err(format!("{}; {}", problem.detail, as_flags(&problem.remedy))),
        Err(_no_problem) => Err(format!("it answered {status}")),
    }
}

/// An edge says what to send; here it is what to type.
fn as_flags(remedy: &str) -> String {
    remedy
        .replace("send \"force\": true", "give --force")
        .replace("send \"reason\": ", "give --reason ")
}

impl Answered {
    /// For people: the sentence that the edge says, or all of its answer where it says none.
    pub fn in_words(&self) -> Result<String, &str> {
        let answer = self.outcome.as_ref().map_err(String::as_str)?;
        let said = answer.get("said").and_then(Value::as_str).map(str::to_owned);
        Ok(said.unwrap_or_else(|| format!("{answer:#}")))
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        match &self.outcome {
            Ok(answer) => answer.clone(),
            Err(why) => json!({ "error": why }),
        }
    }
}
