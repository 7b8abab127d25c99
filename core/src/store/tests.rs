//! What every store must do. One suite: a store joins it with `suite!(ItsBooks);`.

pub(crate) mod decisions;
pub(crate) mod effects;
pub(crate) mod postgres;
pub(crate) mod settled;
mod sqlite;

use std::collections::HashMap;

use backstop_contract::{Cause, Decision, Effects, Question, Standing, Tier, Timestamp, Verdict};
use backstop_engine::{History, Moves};

use super::{
    AccountKey, Changes, Decided, DecisionKey, Entry, Loaded, Put, PutBalance, Records, RowKey,
    Store, Unit as _, Wanted,
};
use crate::error::CoreError;
use crate::fixture::{NOON, question};

pub(crate) use self::postgres::PostgresBooks;
pub(crate) use self::sqlite::SqliteBooks;

/// One set of books that can be opened again and again.
pub(crate) trait Books {
    type Store: Store + Send + 'static;
    type Records: Records;

    /// Empty ones.
    async fn new() -> Self;
    async fn open(&self) -> Self::Store;
    fn records(store: &Self::Store) -> Self::Records;
    /// Every line of the ledger, in the order in which they were written.
    async fn ledger(&self) -> Vec<Line>;
    /// Every row of the outbox: merchant, id, kind; in the order in which they were written.
    async fn outbox(&self) -> Vec<(String, String, String)>;
    /// How many rows a table has.
    async fn rows(&self, table: &str) -> usize;
}

/// A line of the ledger as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Line {
    pub merchant: String,
    pub id: String,
    pub debit: String,
    pub credit: String,
    pub unit: String,
    pub amount: i64,
    pub at: i64,
}

pub(crate) fn decided(id: &str) -> Decided {
    let answer = Decision {
        reasons: vec!["velocity".to_owned(), "it's \"odd\"".to_owned()],
        score: -3,
        cause: Some(Cause::Error),
        stack: "prod".to_owned(),
        policy_version: "0123456789ab".to_owned(),
        effects: Effects { stock: [("sku".to_owned(), 41)].into(), balance: [].into() },
        decided_at: Timestamp::from_millis(NOON + 5),
        ..Decision::by(Tier::Core, id.to_owned(), Verdict::Decline)
    };
    let asked = question(id);
    Decided {
        hash: asked.hash,
        policy: asked.request.policy,
        account: asked.request.account,
        money: asked.request.money,
        answer,
        standing: Standing::Decided,
        released_by: None,
        first: None,
        at: Timestamp::from_millis(NOON),
        history_keys: vec!["customer:1".to_owned(), "terminal:2".to_owned()],
        moves: Moves::default(),
        cancelled_by: None,
        fraud: None,
    }
}

pub(crate) fn key(id: &str) -> DecisionKey {
    DecisionKey { merchant: "demo".to_owned(), id: id.to_owned() }
}

pub(crate) fn row(key: &str) -> RowKey {
    RowKey { merchant: "demo".to_owned(), key: key.to_owned() }
}

pub(crate) fn account(account: &str) -> AccountKey {
    AccountKey { merchant: "demo".to_owned(), account: account.to_owned() }
}

pub(crate) fn history(events: i64) -> History {
    let mut history = History::default();
    for event in 0..events {
        history.record(Timestamp::from_millis(NOON + event), 100, Verdict::Approve, None);
    }
    history
}

pub(crate) fn put<T: ?Sized>(value: &T, was: i64) -> Put<'_, T> {
    Put { merchant: "demo", key: "a", value, was }
}

pub(crate) fn put_coins(balance: i64, was: i64) -> PutBalance<'static> {
    PutBalance { merchant: "demo", account: "ann", unit: "coins", balance, was }
}

fn entry(id: &str, amount: i64) -> Entry<'_> {
    let at = Timestamp::from_millis(NOON);
    Entry { merchant: "demo", id, debit: "@house", credit: "ann", unit: "coins", amount, at }
}

async fn commit(store: &mut impl Store, changes: &Changes<'_>) -> Result<(), CoreError> {
    store.begin().await.unwrap().commit(changes, &|| true).await
}

async fn load(store: &mut impl Store, wanted: Wanted) -> Loaded {
    store.begin().await.unwrap().load(wanted).await.unwrap()
}

fn asked(ids: &[&str]) -> Vec<(Question, Decided)> {
    ids.iter().map(|id| (question(id), decided(id))).collect()
}

fn pairs(rows: &[(Question, Decided)]) -> Vec<(&Question, &Decided)> {
    rows.iter().map(|(question, decided)| (question, decided)).collect()
}

/// Writes decisions under these ids, and commits them.
pub(crate) async fn decide(store: &mut impl Store, ids: &[&str]) {
    let rows = asked(ids);
    commit(store, &Changes { decided: pairs(&rows), ..Changes::default() }).await.unwrap();
}

pub(crate) async fn decisions(
    store: &mut impl Store,
    ids: &[&str],
) -> HashMap<DecisionKey, Decided> {
    let decisions = ids.iter().map(|id| key(id)).collect();
    load(store, Wanted { decisions, ..Wanted::default() }).await.decisions
}

/// The rows that [`put`] and [`put_coins`] put: what is left of `a`, the coins of ann.
async fn held(store: &mut impl Store) -> (Option<i64>, Option<i64>) {
    let (stock, accounts) = (vec![row("a")], vec![account("ann")]);
    let loaded = load(store, Wanted { stock, accounts, ..Wanted::default() }).await;
    let coins = loaded.balances.get(&account("ann")).and_then(|units| units.get("coins"));
    (loaded.stock.get(&row("a")).map(|row| row.value), coins.map(|row| row.value))
}

/// Every test of the suite, for one kind of books.
macro_rules! suite {
    ($books:ty) => {
        $crate::store::tests::suite!($books, decisions, crate::store::tests::decisions, [
            what_was_committed_is_there_when_opened_again,
            ids_differ_by_every_character_and_belong_to_a_merchant,
            history_is_replaced_and_found_by_its_key,
            labels_change_the_decisions_they_name_and_no_other,
            an_id_is_decided_once_whatever_the_writer_believes,
            an_amount_that_no_column_holds_is_refused_and_nothing_else_is_broken,
            more_rows_than_one_statement_carries_are_written_and_found,
            a_record_is_found_while_the_writer_is_busy_and_once_committed,
        ]);
        $crate::store::tests::suite!($books, effects, crate::store::tests::effects, [
            what_is_held_is_put_and_found_and_belongs_to_a_merchant,
            what_a_decision_moved_and_who_released_it_is_kept,
            a_decision_is_released_once,
            every_decision_has_its_row_in_the_outbox_and_every_move_its_line_in_the_ledger,
            nobody_is_told_of_a_probe,
            a_row_that_was_changed_since_is_a_conflict_and_nothing_is_written,
            what_no_row_may_hold_is_refused_and_nothing_is_written,
            a_unit_that_was_not_committed_leaves_nothing,
        ]);
        $crate::store::tests::suite!($books, settled, crate::store::tests::settled, [
            a_decision_that_stands_otherwise_is_found_so_with_what_it_was_before,
            a_decision_that_stands_no_longer_as_it_was_loaded_is_a_conflict,
            a_discrepancy_is_on_record_once_for_each_advice,
            arrivals_are_kept_by_node_and_epoch_and_put_where_nobody_else_did,
            many_decisions_are_found_at_once_and_those_of_others_are_not,
            a_statement_counts_every_decision_once_and_tells_what_was_not_agreed,
            a_statement_tells_so_many_lines_and_says_that_there_are_more,
        ]);
        $crate::store::tests::suite!($books, rehearsing, crate::writer::tests::rehearsing, [
            what_was_decided_is_rehearsed_as_if_it_had_not_been,
            what_was_settled_is_rehearsed_as_if_it_had_not_been,
            an_id_of_another_request_is_so_in_a_rehearsal_too,
            a_rehearsal_waits_for_a_place_but_not_until_nobody_listens,
        ]);
        $crate::store::tests::suite!($books, recalling, crate::writer::tests::rehearsing::recalling, [
            a_request_is_recalled_as_it_was_asked_with_what_became_of_it,
            a_decision_is_not_in_its_own_history_and_its_label_is_not_either,
            a_claim_of_the_last_unit_finds_it_and_a_cancel_what_it_gave_back,
        ]);
        $crate::store::tests::suite!($books, settling, crate::writer::tests::settling, [
            what_core_never_heard_of_is_applied_as_if_it_had_decided_so,
            the_same_answer_is_confirmed_and_moves_nothing_more,
            another_answer_is_corrected_to_what_the_client_was_told,
            two_nodes_that_told_two_things_are_a_conflict_and_the_first_stands,
            an_advice_for_another_request_or_of_an_unknown_policy_is_refused_and_on_record,
            every_advice_may_come_again_and_is_told_the_same,
            a_review_moves_nothing_and_undoes_what_was_moved,
            what_is_not_there_any_more_is_a_discrepancy_and_no_crash,
            a_policy_that_breaks_lets_the_answer_in_without_moves,
            an_advice_that_no_row_can_hold_is_refused_alone_and_never_comes_again,
            a_retry_in_the_set_of_its_advice_is_told_what_the_client_was_told,
            a_correction_reaches_the_approved_sum_of_every_history_that_counts_it,
            a_label_and_a_correction_in_one_set_are_both_kept,
        ]);
        $crate::store::tests::suite!($books, called_off, crate::writer::tests::settling::cancels, [
            a_cancel_that_a_client_was_granted_releases_late,
            a_cancel_that_core_had_declined_is_granted,
            a_cancel_that_core_had_granted_and_the_client_was_not_holds_again_what_is_there,
            a_decision_that_was_cancelled_meanwhile_is_corrected_and_moves_nothing_more,
            a_cancel_of_what_was_corrected_since_is_called_off_and_leaves_nothing,
            a_cancel_of_what_nobody_knows_stands_and_says_what_it_could_not_release,
        ]);
        $crate::store::tests::suite!($books, moves, crate::writer::tests::effects, [
            an_empty_chest_credits_nothing,
            sets_that_follow_at_once_see_each_others_effects,
            claims_of_a_set_take_in_order_and_never_more_than_there_is,
            a_debit_over_the_balance_is_declined_and_a_decline_may_cost,
            a_cancel_releases_what_was_moved_at_most_once,
            a_cancel_in_the_set_of_what_it_cancels_counts,
            a_cancel_of_coins_that_are_spent_leaves_a_debt,
            a_policy_that_breaks_moves_nothing,
            a_repeated_claim_tells_the_effects_of_the_first_and_takes_once,
        ]);
        $crate::store::tests::suite!($books, poison, crate::writer::tests::poison, [
            one_request_that_no_row_can_hold_fails_alone,
            one_request_that_a_constraint_refuses_fails_alone,
            one_request_whose_attributes_break_its_policy_gets_its_safe_answer_alone,
            a_set_that_meets_a_conflict_begins_again_with_what_is_there_now,
            a_set_that_meets_only_conflicts_is_halved_and_ends,
            an_unusable_database_fails_all_at_once_and_the_next_set_finds_it_again,
        ]);
        $crate::store::tests::suite!($books, lanes, crate::writer::tests::lanes, [
            lanes_never_give_away_more_than_there_is_and_give_each_id_one_answer,
        ]);
        $crate::store::tests::suite!($books, model, crate::writer::tests::model, [
            stock_balances_history_and_answers_are_those_of_a_model_whatever_breaks,
        ]);
    };
    ($books:ty, $module:ident, $($place:ident)::+, [$($test:ident),+ $(,)?]) => {
        mod $module {
            use $($place)::+ as tests;
            $(
                #[tokio::test]
                async fn $test() {
                    tests::$test::<$books>().await;
                }
            )+
        }
    };
}
pub(crate) use suite;
