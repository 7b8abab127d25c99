//! The names of headers, as the tiers and their callers write them.

/// The caller's budget, in decimal milliseconds. The one `Backstop-*` header a merchant may send.
pub const BUDGET: &str = "backstop-budget-ms";
/// Who decided, on every answer.
pub const DECIDED_BY: &str = "backstop-decided-by";
/// Set to `true` when the answer is an earlier one.
pub const REPLAYED: &str = "idempotency-replayed";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// One entry a tier, in milliseconds.
pub const SERVER_TIMING: &str = "server-timing";

/// The merchant that the edge authenticated.
pub const MERCHANT: &str = "backstop-merchant";
/// `true` when the key is a test key.
pub const TEST: &str = "backstop-test";
/// When the edge had the whole request, in milliseconds since 1970.
pub const RECEIVED_AT: &str = "backstop-received-at";
/// The [`RequestHash`](crate::RequestHash), in hexadecimal.
pub const REQUEST_HASH: &str = "backstop-request-hash";
/// `true` when the merchant declared its ids harmless: they may look like card numbers.
pub const NUMERIC_IDS: &str = "backstop-numeric-ids";
/// The [ledger](crate::ledger) of the tiers behind, one call an entry, from api to edge.
pub const CALLS: &str = "backstop-calls";
