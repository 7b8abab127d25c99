//! What the tiers decide by: the shipped rules, and two that the shipped ones have no need of: stand-ins
//! that move stock and money, so that settlement has to.

use std::sync::LazyLock;
use std::time::Duration;

use backstop_lua::{Bundle, Rules};

/// A rule may take this long, by the clock of the machine: a slow one must not change what a seed does.
pub const RULE_TIME_MAX: Duration = Duration::from_mins(1);
const MEMORY_BYTES_MAX: usize = 8 << 20;

const GIFT: &str = r#"return {
    fields = { "sku", "qty" }, safe = "review", strict = false,
    keys = function(tx)
        return { history = { customer = "customer:" .. tx.account }, stock = { "sku:" .. tx.sku } }
    end,
    decide = function(tx, history, stock)
        local left = stock["sku:" .. tx.sku]
        if left and left < tx.qty then return "decline", { "out_of_stock" } end
        return "approve"
    end,
    effects = function(tx, decision)
        if decision ~= "approve" then return {} end
        return { take = { ["sku:" .. tx.sku] = tx.qty }, credit = { coins = tx.qty } }
    end,
}"#;
const SPEND: &str = r#"return {
    fields = { "qty" }, safe = "decline", strict = false,
    keys = function(tx) return { history = { customer = "customer:" .. tx.account } } end,
    decide = function(tx, history)
        if history.customer:count("1h") > 6 then return "decline", { "too_many" } end
        return "approve"
    end,
    effects = function(tx, decision)
        if decision ~= "approve" then return {} end
        return { debit = { coins = tx.qty } }
    end,
}"#;
const YES: &str =
    r#"return { fields = {}, safe = "review", decide = function(tx) return "approve" end }"#;

/// The limit of the shipped default for payments, and that of an edge that is behind or ahead.
const LIMIT: [&str; 2] = ["AMOUNT_MAX = 22000", "AMOUNT_MAX = 9000"];

/// The rules of core, of both apis and of the first edge.
pub static RULES: LazyLock<Rules> = LazyLock::new(|| rules(LIMIT[0]));
/// Those of the second edge, whose default says otherwise of many payments.
pub static OTHER_RULES: LazyLock<Rules> = LazyLock::new(|| rules(LIMIT[1]));

fn rules(limit: &str) -> Rules {
    let payment = include_str!("../../lua/defaults/payment.lua");
    assert!(payment.contains(LIMIT[0]), "the second edge would say what the first does");
    let payment = payment.replace(LIMIT[0], limit);
    let texts = [
        ("policies/payment.lua", include_str!("../../lua/policies/payment.lua")),
        ("policies/claim.lua", include_str!("../../lua/policies/claim.lua")),
        ("policies/booking.lua", include_str!("../../lua/policies/booking.lua")),
        ("policies/gift.lua", GIFT),
        ("policies/spend.lua", SPEND),
        ("defaults/payment.lua", payment.as_str()),
        ("defaults/claim.lua", include_str!("../../lua/defaults/claim.lua")),
        ("defaults/booking.lua", include_str!("../../lua/defaults/booking.lua")),
        ("defaults/gift.lua", YES),
        ("defaults/spend.lua", YES),
    ];
    Rules::new(Bundle::from_texts(texts).unwrap(), MEMORY_BYTES_MAX).unwrap()
}
