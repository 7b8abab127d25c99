//! A message of advices as core reads it: what the api checks and passes on.

use backstop_contract::advice::{Advice as Written, Advices};
use backstop_contract::validity::{Terms, check_again};
use backstop_contract::{Decision, Question};
use backstop_core::decide::settle::Advice;
use backstop_core::store::settled::{AdviceKey, SequenceKey};

use super::rules::RULES;

/// The advices of one message.
#[derive(Debug)]
pub struct Parcel {
    pub advices: Vec<Advice>,
    /// Which numbers of which epochs are in it.
    pub numbers: Vec<(SequenceKey, Vec<u64>)>,
}

impl Parcel {
    /// Reads `Advices` as JSON. The book writes nothing that can not be read.
    pub fn open(json: &[u8]) -> Self {
        let read: Advices<'_> = serde_json::from_slice(json).expect("advices are JSON");
        let node = read.node.into_owned();
        let advices: Vec<_> = read.advices.iter().map(|it| advice(&node, it)).collect();
        let mut numbers: Vec<(SequenceKey, Vec<u64>)> = Vec::new();
        for Advice { key, .. } in &advices {
            let of = SequenceKey { node: node.clone(), epoch: key.epoch };
            match numbers.iter_mut().find(|(it, _)| *it == of) {
                Some((_, of_epoch)) => of_epoch.push(key.number),
                None => numbers.push((of, vec![key.number])),
            }
        }
        Self { advices, numbers }
    }
}

fn advice(node: &str, written: &Written<'_>) -> Advice {
    let Written { epoch, number, merchant, test, numeric_ids, received_at, hash, request, answer } =
        written;
    let policies = |name: &str| RULES.has_policy(name);
    let terms =
        Terms { now: *received_at, test: *test, numeric_ids: *numeric_ids, policies: &policies };
    let body = request.get().as_bytes();
    let answer: Decision = serde_json::from_str(answer.get()).expect("the answer is a decision");
    let question = Question {
        merchant: merchant.clone().into_owned(),
        test: *test,
        numeric_ids: *numeric_ids,
        request: check_again(body, &terms).expect("what was answered is valid"),
        hash: *hash,
        received_at: *received_at,
        traceparent: String::new(),
        body: body.to_vec().into(),
    };
    let key = AdviceKey { node: node.to_owned(), epoch: *epoch, number: *number };
    Advice { key, question, answer }
}
