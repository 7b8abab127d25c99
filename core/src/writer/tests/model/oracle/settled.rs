//! What becomes of an advice, in the model's own words: what the first node said stands, the rest is put
//! on record.

use super::*;

impl Oracle {
    /// It was refused for a reason that the model knows nothing of, and nothing came of it.
    pub(in super::super) fn set_aside(&mut self, request: &Request) {
        let Request::Advise { node, .. } = request else { unreachable!("only advices are") };
        self.set_aside.insert(record(request, node));
    }

    pub(super) fn settle(
        &mut self,
        request: &Request,
        of: &Request,
        verdict: Verdict,
        node: &'static str,
    ) -> Became {
        let question = of.question().unwrap();
        let id = question.request.id.clone();
        let record = record(request, node);
        let Some(known) = self.told.get(&id) else {
            let whole = self.apply(of, question, verdict, node);
            self.recorded.extend((!whole).then_some(record));
            return Became::Applied;
        };
        if known.question.request != question.request {
            self.recorded.insert(record);
            return Became::Refused;
        }
        let was = known.verdict();
        match (known.node, known.first) {
            (None, _) if was == verdict => {
                self.say(&id, verdict, node, Standing::Match);
                Became::Match
            }
            (None, _) => {
                self.correct(of, &question, verdict);
                self.say(&id, verdict, node, Standing::Overridden);
                self.recorded.insert(record);
                Became::Overridden
            }
            (Some(_), _) if was != verdict => {
                self.told.get_mut(&id).unwrap().standing = Standing::Conflict;
                self.recorded.insert(record);
                Became::Conflict
            }
            (Some(first), None) if first == node => Became::Applied,
            (Some(first), Some(decided)) if first == node && decided != was => Became::Overridden,
            (Some(_), _) => Became::Match,
        }
    }

    /// Puts in what nobody knew. Returns whether all of it moved.
    fn apply(
        &mut self,
        of: &Request,
        question: Question,
        verdict: Verdict,
        node: &'static str,
    ) -> bool {
        let told = Told {
            question,
            said: told(verdict),
            took: None,
            coins: 0,
            cancelled_by: None,
            fraud: None,
            standing: Standing::Applied,
            node: Some(node),
            first: None,
        };
        let id = told.question.request.id.clone();
        // Nothing that it moves hangs on whether it is known itself; a cancel of its own id finds none.
        let (took, coins, whole) = self.promise(of, &told.question, verdict);
        self.told.insert(id, Told { took, coins, ..told });
        whole
    }

    /// Moves what a client was told, as far as it is there.
    fn promise(
        &mut self,
        of: &Request,
        question: &Question,
        verdict: Verdict,
    ) -> (Option<(String, i64)>, i64, bool) {
        let nothing = (None, 0, true);
        match (of, verdict) {
            (Request::Claim { article, quantity: wanted @ 1.., .. }, Verdict::Approve) => {
                let key = format!("sku:{}", ARTICLES[*article]);
                let left = self.stock.get_mut(&key).unwrap();
                let there = std::cmp::min(*left, *wanted);
                *left -= there;
                self.move_coins(question, *wanted);
                ((there > 0).then_some((key, there)), *wanted, there == *wanted)
            }
            (Request::Spend { coins, .. }, Verdict::Approve | Verdict::Decline) => {
                let coins = if verdict == Verdict::Approve { *coins } else { 1 };
                self.move_coins(question, -coins);
                (None, -coins, true)
            }
            (Request::Cancel { target, .. }, Verdict::Approve) => {
                let released = self.cancel(question, &id(*target));
                (None, 0, !released.declined)
            }
            _ => nothing,
        }
    }

    /// Undoes what core did, and does what the client was told.
    fn correct(&mut self, of: &Request, question: &Question, verdict: Verdict) {
        let id = question.request.id.clone();
        let known = self.told.get(&id).unwrap();
        if known.cancelled_by.is_some() {
            return;
        }
        let (took, coins, was) = (known.took.clone(), known.coins, known.verdict());
        if let (Request::Cancel { target, .. }, Verdict::Approve) = (of, was) {
            self.hold_again(question, &super::id(*target));
        }
        if let Some((key, quantity)) = took {
            *self.stock.get_mut(&key).unwrap() += quantity;
        }
        if coins != 0 {
            self.move_coins(question, -coins);
        }
        let (took, coins, _) = self.promise(of, question, verdict);
        let known = self.told.get_mut(&id).unwrap();
        (known.took, known.coins) = (took, coins);
    }

    /// Takes back what a cancel had released.
    fn hold_again(&mut self, question: &Question, target: &str) {
        let by = Some(question.request.id.clone());
        let Some(target) = self.told.get_mut(target).filter(|it| it.cancelled_by == by) else {
            return;
        };
        target.cancelled_by = None;
        if target.verdict() != Verdict::Approve {
            (target.took, target.coins) = (None, 0);
            return;
        }
        if let Some((key, quantity)) = target.took.take() {
            let left = self.stock.get_mut(&key).unwrap();
            let there = std::cmp::min(*left, quantity);
            *left -= there;
            target.took = (there > 0).then_some((key, there));
        }
        let coins = target.coins;
        self.move_coins(question, coins);
    }

    /// The answer is what the client was told from now on.
    fn say(&mut self, id: &str, verdict: Verdict, node: &'static str, standing: Standing) {
        let known = self.told.get_mut(id).unwrap();
        known.first = Some(known.verdict());
        known.said = told(verdict);
        (known.standing, known.node) = (standing, Some(node));
    }
}

fn record(request: &Request, node: &'static str) -> (String, &'static str, u64) {
    let advice = request.advice().unwrap();
    (advice.question.request.id, node, advice.key.number)
}

/// The answer that every advice of the fixture carries.
fn told(verdict: Verdict) -> Said {
    Said::Decided(verdict, vec!["told".to_owned()], Effects::default())
}
