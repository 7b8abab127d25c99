//! Everything that a set wants to see, in one statement that only reads: decisions, history, stock and
//! balances, a part for each kind that is wanted. Without a transaction there is none to be left open.

use backstop_engine::History;
use sqlx::postgres::PgRow;
use sqlx::{FromRow as _, Row as _};

use super::statement::{Statement, escaped, unescaped};
use crate::error::CoreError;
use crate::store::rows::{DecisionRow, arrivals};
use crate::store::settled::SequenceKey;
use crate::store::{AccountKey, Decided, DecisionKey, Loaded, RowKey, Versioned, Wanted};

const DECISION: i16 = 0;
const HISTORY: i16 = 1;
const STOCK: i16 = 2;
const BALANCE: i16 = 3;

/// What all kinds of rows have, and then what only a decision has.
const COLUMNS: &str = "kind, version, number, row, merchant, id, account, request_hash, policy, \
    amount, currency, event_at, decision, reasons, score, decided_by, cause, stack, policy_version, \
    effects, decided_at, history_keys, fraud, moves, cancelled_by, standing, released_by, \
    first_answer";

/// A part of the statement begins with its columns, and ends with how its rows are found.
const DECISIONS: (&str, &str) = (
    "SELECT 0::smallint, NULL::bigint, NULL::bigint, NULL::bytea, t.merchant, t.id, t.account, \
     t.request_hash, t.policy, t.amount, t.currency, t.event_at, t.decision, t.reasons, t.score, \
     t.decided_by, t.cause, t.stack, t.policy_version, t.effects, t.decided_at, t.history_keys, \
     t.fraud, t.moves, t.cancelled_by, t.standing, t.released_by, t.first_answer",
    "decisions t ON t.merchant = w.merchant AND t.id = w.name",
);
const HISTORIES: (&str, &str) = (
    "SELECT 1::smallint, t.version, NULL::bigint, t.row, t.merchant, t.key, NULL",
    "history t ON t.merchant = w.merchant AND t.key = w.name",
);
const STOCKS: (&str, &str) = (
    "SELECT 2::smallint, t.version, t.remaining, NULL::bytea, t.merchant, t.key, NULL",
    "stock t ON t.merchant = w.merchant AND t.key = w.name",
);
const BALANCES: (&str, &str) = (
    "SELECT 3::smallint, t.version, t.balance, NULL::bytea, t.merchant, t.unit, t.account",
    "balances t ON t.merchant = w.merchant AND t.account = w.name",
);
/// An epoch is named as a text, as all else is.
const ARRIVED: (&str, &str) = (
    "SELECT 4::smallint, t.version, t.upto, NULL::bytea, t.node, t.epoch::text, t.above",
    "advice_sequences t ON t.node = w.merchant AND t.epoch = w.name::bigint",
);
/// What a decision has and other rows do not.
const NO_DECISION: &str = ", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";

/// The statement that finds what is wanted, what is asked apart; `None` when nothing is.
pub fn statement(wanted: &Wanted) -> Result<Option<Statement>, CoreError> {
    let Wanted { decisions, history, stock, accounts, arrivals, asked: _ } = wanted;
    let mut found = Part { statement: Statement::default(), is_first: true };
    found.add(DECISIONS, "", decisions.iter().map(DecisionKey::words))?;
    found.add(HISTORIES, NO_DECISION, history.iter().map(RowKey::words))?;
    found.add(STOCKS, NO_DECISION, stock.iter().map(RowKey::words))?;
    found.add(BALANCES, NO_DECISION, accounts.iter().map(AccountKey::words))?;
    let epochs: Vec<_> = arrivals.iter().map(|of| of.epoch.cast_signed().to_string()).collect();
    let arrivals = arrivals.iter().zip(&epochs);
    found.add(
        ARRIVED,
        NO_DECISION,
        arrivals.map(|(of, epoch)| (of.node.as_str(), epoch.as_str())),
    )?;
    let Part { mut statement, is_first } = found;
    statement.push(") AS found (");
    statement.push(COLUMNS);
    statement.push(")");
    Ok((!is_first).then_some(statement))
}

/// The statement as far as it is written.
struct Part {
    statement: Statement,
    is_first: bool,
}

impl Part {
    fn add<'a>(
        &mut self,
        (columns, join): (&str, &str),
        more_columns: &str,
        words: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), CoreError> {
        if words.len() == 0 {
            return Ok(());
        }
        let (merchants, names): (Vec<_>, Vec<_>) =
            words.map(|(merchant, name)| (escaped(merchant), escaped(name))).unzip();
        self.statement.push(if self.is_first { "SELECT * FROM (" } else { " UNION ALL " });
        self.is_first = false;
        self.statement.push(columns);
        self.statement.push(more_columns);
        self.statement.push(" FROM (SELECT ");
        self.statement.column("text[]", merchants)?;
        self.statement.push(" AS merchant, ");
        self.statement.column("text[]", names)?;
        self.statement.push(" AS name) AS w JOIN ");
        self.statement.push(join);
        Ok(())
    }
}

/// Puts a row where it belongs.
pub fn take(row: &PgRow, loaded: &mut Loaded) -> Result<(), CoreError> {
    let kind: i16 = row.try_get("kind").map_err(CoreError::Read)?;
    if kind == DECISION {
        let (key, decided) = decision(row)?;
        loaded.decisions.insert(key, decided);
        return Ok(());
    }
    let merchant = unescaped(row.try_get("merchant").map_err(CoreError::Read)?);
    let key = unescaped(row.try_get("id").map_err(CoreError::Read)?);
    let version = row.try_get("version").map_err(CoreError::Read)?;
    if kind == HISTORY {
        let bytes: &[u8] = row.try_get("row").map_err(CoreError::Read)?;
        let value = History::decode(bytes).map_err(CoreError::History)?;
        loaded.history.insert(RowKey { merchant, key }, Versioned { value, version });
        return Ok(());
    }
    let value = row.try_get("number").map_err(CoreError::Read)?;
    if kind == STOCK {
        loaded.stock.insert(RowKey { merchant, key }, Versioned { value, version });
        return Ok(());
    }
    let account: String = row.try_get("account").map_err(CoreError::Read)?;
    if kind == BALANCE {
        let account = AccountKey { merchant, account: unescaped(account) };
        loaded.balances.entry(account).or_default().insert(key, Versioned { value, version });
    } else {
        let epoch: i64 = key.parse().map_err(|_wrong| CoreError::Decision("epoch"))?;
        let key = SequenceKey { node: merchant, epoch: epoch.cast_unsigned() };
        let value = arrivals(value, &account)?;
        loaded.arrivals.insert(key, Versioned { value, version });
    }
    Ok(())
}

fn decision(row: &PgRow) -> Result<(DecisionKey, Decided), CoreError> {
    let mut row = DecisionRow::from_row(row).map_err(CoreError::Read)?;
    for text in
        [&mut row.merchant, &mut row.id, &mut row.account].into_iter().chain(&mut row.cancelled_by)
    {
        *text = unescaped(std::mem::take(text));
    }
    row.parse()
}
