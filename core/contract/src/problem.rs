//! What a merchant must change before it can get a decision, as RFC 9457 problem documents.
//!
//! This is the one table of them. Edge and api both answer from it, so that the same bad request
//! gets the same document whoever is alive.
//!
//! | type (after `urn:backstop:problem:`) | status | when | who acts |
//! |---|---|---|---|
//! | `malformed` | 400 | not HTTP or not JSON, or a field or parameter is missing, unknown, repeated, of a wrong type or out of range | the caller |
//! | `unauthorized` | 401 | no key, or one that is unknown or revoked | the caller |
//! | `unknown-id` | 404 | no decision has this id | the caller |
//! | `not-found` | 404 | no such route | the caller |
//! | `method-not-allowed` | 405 | the route has other methods; `Allow` names them | the caller |
//! | `stack-not-ready` | 409 | the stack that an operator wants is cold or ill | the operator |
//! | `nothing-to-undo` | 409 | no order came before | the operator |
//! | `too-large` | 413 | the body is over `body_bytes_max` | the caller |
//! | `unsupported-media-type` | 415 | the body is not of a type that the route reads | the caller |
//! | `unknown-policy` | 422 | no policy has this name | the caller, or the rule author |
//! | `id-reused` | 422 | this id was decided with another body | the caller |
//! | `card-number` | 422 | an id or account is a card number | the caller |
//! | `time-out-of-range` | 422 | `at` is over 24 h off | the caller |
//! | `unwritten` | 503 | an order could not be written down, or not in time, so it was not obeyed | the operator |
//! | `unavailable` | 503 | a record was asked for while the books are out of reach; never for a decision | nobody: retry |

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// One problem document: what is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable name for machines.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// The same for every problem of this type.
    pub title: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request. Never repeats a value, which could be a card number.
    pub detail: String,
    /// The field at fault, as a JSON pointer (RFC 6901) into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What would be right.
    pub remedy: Cow<'static, str>,
    /// The methods of the route, for the `Allow` header of a 405.
    #[serde(skip)]
    pub allow: Option<&'static str>,
}

/// A row of the table: type, title, status.
type Row = (&'static str, &'static str, u16);

const MALFORMED: Row = ("urn:backstop:problem:malformed", "The request is malformed", 400);
const UNAUTHORIZED: Row = ("urn:backstop:problem:unauthorized", "A valid key is needed", 401);
const UNKNOWN_ID: Row = ("urn:backstop:problem:unknown-id", "No decision has this id", 404);
const UNKNOWN_STOCK: Row = ("urn:backstop:problem:unknown-stock", "No stock has this key", 404);
const UNKNOWN_MERCHANT: Row =
    ("urn:backstop:problem:unknown-merchant", "No merchant has this name", 404);
const UNKNOWN_ACCOUNT: Row =
    ("urn:backstop:problem:unknown-account", "This account has no balance", 404);
const NOT_FOUND: Row = ("urn:backstop:problem:not-found", "There is nothing here", 404);
const METHOD: Row = ("urn:backstop:problem:method-not-allowed", "The route has other methods", 405);
const NOT_READY: Row = ("urn:backstop:problem:stack-not-ready", "The stack is not ready", 409);
const NO_UNDO: Row = ("urn:backstop:problem:nothing-to-undo", "There is nothing to undo", 409);
const TOO_LARGE: Row = ("urn:backstop:problem:too-large", "The body is too large", 413);
const MEDIA: Row =
    ("urn:backstop:problem:unsupported-media-type", "The body is of another type", 415);
const UNKNOWN_POLICY: Row = ("urn:backstop:problem:unknown-policy", "No policy has this name", 422);
const ID_REUSED: Row =
    ("urn:backstop:problem:id-reused", "This id was decided with another body", 422);
const CARD_NUMBER: Row =
    ("urn:backstop:problem:card-number", "A card number may not name things", 422);
const TIME: Row = ("urn:backstop:problem:time-out-of-range", "The event time is too far off", 422);
const UNWRITTEN: Row =
    ("urn:backstop:problem:unwritten", "The order could not be written down", 503);
const UNAVAILABLE: Row = ("urn:backstop:problem:unavailable", "The books are out of reach", 503);

impl Problem {
    fn new(row: Row, detail: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        let (kind, title, status) = row;
        Self {
            kind: kind.into(),
            title: title.into(),
            status,
            detail: detail.into(),
            pointer: None,
            remedy: remedy.into(),
            allow: None,
        }
    }

    fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// The head of the request is not HTTP, or larger than any server takes.
    pub fn bad_head() -> Self {
        let detail = "the head of the request is no HTTP/1.1, or is far too large";
        Self::new(MALFORMED, detail, "send a request line and headers as RFC 9112 has them")
    }

    /// The body is not JSON. `detail` says where it stops being so.
    pub fn not_json(detail: impl Into<String>) -> Self {
        Self::new(MALFORMED, detail, "send one JSON object, UTF-8, as application/json")
    }

    /// A field is missing, unknown, repeated, of a wrong type or out of range.
    pub fn field(
        pointer: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(MALFORMED, detail, remedy).at(pointer)
    }

    /// A parameter of the query, or a row of an upload, is not what it must be.
    pub fn malformed(detail: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self::new(MALFORMED, detail, remedy)
    }

    /// The budget header is not a number of milliseconds.
    pub fn bad_budget() -> Self {
        let detail = "the header Backstop-Budget-Ms is not a number of milliseconds";
        Self::new(MALFORMED, detail, "send decimal milliseconds, such as 250, or leave it out")
    }

    /// No key, or one that is unknown or revoked. Does not say which.
    pub fn unauthorized() -> Self {
        let detail = "the request carries no key that is known and in force";
        Self::new(UNAUTHORIZED, detail, "send the header Authorization: Bearer KEY")
    }

    /// No decision has this id.
    pub fn unknown_id() -> Self {
        let detail = "this merchant has no decision with this id";
        Self::new(UNKNOWN_ID, detail, "check the id; records are kept for the retention of core")
    }

    /// No stock has this key.
    pub fn unknown_stock() -> Self {
        let detail = "this merchant has no stock with this key";
        Self::new(UNKNOWN_STOCK, detail, "check the key, or set the stock with PUT")
    }

    /// No merchant has this name, or the key in the directory is nobody's.
    pub fn unknown_merchant() -> Self {
        let detail = "there is no such merchant";
        Self::new(
            UNKNOWN_MERCHANT,
            detail,
            "add ?merchant=NAME; `backstop merchant list` names them",
        )
    }

    /// This account never had a balance.
    pub fn unknown_account() -> Self {
        let detail = "nothing was ever credited to or debited from this account";
        Self::new(
            UNKNOWN_ACCOUNT,
            detail,
            "check the account; a policy's effects give it a balance",
        )
    }

    /// The edge keeps no account of this id.
    pub fn forgotten() -> Self {
        let detail = "the edge keeps no account of a decision with this id";
        let remedy = "ask sooner: the latest decisions are kept, and the degraded ones for longer; \
                      why_recent_max and why_degraded_max in backstop.toml say how many";
        Self::new(UNKNOWN_ID, detail, remedy)
    }

    /// No such route.
    pub fn not_found() -> Self {
        let remedy = "the routes are POST /v1/decisions, GET /v1/decisions/{id}, POST /v1/decisions/{id}/label, GET /v1/accounts/{account}/balance and GET and POST /v1/reconciliation";
        Self::new(NOT_FOUND, "there is no such route", remedy)
    }

    /// The route has other methods, which are `allow`.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let detail = "the route exists, but not with this method";
        let problem = Self::new(METHOD, detail, format!("use {allow}"));
        Self { allow: Some(allow), ..problem }
    }

    /// The stack that an operator wants is cold or ill; `detail` says which and how.
    pub fn stack_not_ready(detail: impl Into<String>) -> Self {
        let remedy =
            "wait until it is, which `backstop switch status` shows, or send \"force\": true";
        Self::new(NOT_READY, detail, remedy)
    }

    /// No order came before this one.
    pub fn nothing_to_undo() -> Self {
        let detail = "nothing was ever ordered of the switch here";
        Self::new(NO_UNDO, detail, "name the stack that you want instead")
    }

    /// An order could not be written down; `detail` says why.
    pub fn unwritten(detail: impl Into<String>) -> Self {
        let remedy = "free the disk under --dir; or send \"force\": true, and the order holds until the proxy restarts or the disk takes it";
        Self::new(UNWRITTEN, detail, remedy)
    }

    /// A step of a bundle could not be written down, or not in time; `detail` says why.
    pub fn step_unwritten(detail: impl Into<String>) -> Self {
        let remedy = "see in `backstop rules status` whether the disk has taken it since; if not, free the disk under --dir and order it again";
        Self::new(UNWRITTEN, detail, remedy)
    }

    /// The body is over `bytes_max`.
    pub fn too_large(bytes_max: usize) -> Self {
        let remedy = format!("send at most {bytes_max} bytes");
        Self::new(TOO_LARGE, format!("the body has over {bytes_max} bytes"), remedy)
    }

    /// The body is not declared as JSON.
    pub fn unsupported_media_type() -> Self {
        let detail = "the header Content-Type is not application/json";
        Self::new(MEDIA, detail, "send the header Content-Type: application/json")
    }

    /// The body is not declared as one of the types of an upload.
    pub fn unsupported_upload() -> Self {
        let detail = "the header Content-Type is neither text/csv nor application/x-ndjson";
        Self::new(MEDIA, detail, "send the header Content-Type: text/csv or application/x-ndjson")
    }

    /// No policy has this name.
    pub fn unknown_policy() -> Self {
        let detail = "there is no policy with the name in this request";
        let remedy = "name a policy of the rules in force, such as payment";
        Self::new(UNKNOWN_POLICY, detail, remedy).at("/policy")
    }

    /// This id was decided with another body.
    pub fn id_reused() -> Self {
        let detail = "this id was decided before, for a request with another body";
        let remedy = "send a new id for a new request, or the very same body for a retry";
        Self::new(ID_REUSED, detail, remedy).at("/id")
    }

    /// Whether this is [`Self::id_reused`].
    pub fn is_id_reused(&self) -> bool {
        self.kind == ID_REUSED.0
    }

    /// An `id` or `account` is a card number.
    pub fn card_number(pointer: impl Into<String>) -> Self {
        let remedy = "send a name of your own; a merchant whose ids are plain numbers can be \
                      declared so with numeric_ids = true in merchants.toml";
        Self::new(CARD_NUMBER, "this field holds what reads as a card number", remedy).at(pointer)
    }

    /// `at` is over 24 h off.
    pub fn time_out_of_range() -> Self {
        let detail = "the event time is over 24 hours from now";
        let remedy =
            "send the time of the event, or leave it out; only test keys may replay the past";
        Self::new(TIME, detail, remedy).at("/at")
    }

    /// The books are out of reach. Never for a decision.
    pub fn unavailable() -> Self {
        let detail = "the record is not at hand here, and the books are out of reach";
        Self::new(UNAVAILABLE, detail, "retry after the seconds in Retry-After")
    }

    /// The document as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|_strings_always_serialize| b"{}".to_vec())
    }
}
