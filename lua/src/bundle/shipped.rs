//! The rules that are compiled in: there is a bundle even where there is no file system.

/// Name and text of each policy.
pub(super) const POLICIES: &[(&str, &str)] = &[
    ("booking", include_str!("../../policies/booking.lua")),
    ("claim", include_str!("../../policies/claim.lua")),
    ("payment", include_str!("../../policies/payment.lua")),
];

/// Name and text of each default.
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    ("booking", include_str!("../../defaults/booking.lua")),
    ("claim", include_str!("../../defaults/claim.lua")),
    ("payment", include_str!("../../defaults/payment.lua")),
];
