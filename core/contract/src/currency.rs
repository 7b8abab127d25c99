//! How many decimals the currencies of ISO 4217 have, and so what a minor unit is.

/// Currencies whose minor unit is not a hundredth, by how many decimals they have.
const DECIMALS: [(u32, &[&str]); 3] = [
    (
        0,
        &[
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI",
            "VND", "VUV", "XAF", "XOF", "XPF",
        ],
    ),
    (3, &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]),
    (4, &["CLF", "UYW"]),
];
const DECIMALS_USUAL: u32 = 2;

/// The decimals of a currency; `None` where that is no currency: not three capital letters.
pub fn decimals(currency: &[u8]) -> Option<u32> {
    if currency.len() != 3 || !currency.iter().all(u8::is_ascii_uppercase) {
        return None;
    }
    let has = |names: &[&str]| names.iter().any(|name| name.as_bytes() == currency);
    let unusual = DECIMALS.iter().find(|(_, names)| has(names));
    Some(unusual.map_or(DECIMALS_USUAL, |(decimals, _)| *decimals))
}

/// An amount in minor units, as people write it; `None` where that is no currency.
pub fn money_text(amount: u64, currency: &str) -> Option<String> {
    decimals(currency.as_bytes()).map(|decimals| written(amount, decimals))
}

/// An amount in minor units, with its decimal point.
pub fn written(amount: u64, decimals: u32) -> String {
    let (unit, width) = (10_u64.pow(decimals), decimals as usize);
    match decimals {
        0 => amount.to_string(),
        _ => format!("{}.{:0width$}", amount / unit, amount % unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_written_with_the_decimals_of_its_currency() {
        for (amount, currency, expected) in [
            (5_716, "GBP", Some("57.16")),
            (5, "EUR", Some("0.05")),
            (5_716, "JPY", Some("5716")),
            (5_716, "KWD", Some("5.716")),
            (5_716, "CLF", Some("0.5716")),
            (5_716, "gbp", None),
            (5_716, "GBPS", None),
        ] {
            assert_eq!(money_text(amount, currency).as_deref(), expected, "{currency}");
        }
    }
}
