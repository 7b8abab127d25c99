//! `[switch]` of `backstop.toml`: when the edge goes to the other stack by itself, and what is kept of
//! every switch.

use std::time::Duration;

use serde::Deserialize;

use super::{DAY, GIB, HOUR, MINUTE, SECOND};
use crate::value::{duration, number};

const MILLION: u64 = 1_000_000;

/// `[switch]`: which stack serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switch {
    /// What the edge does by itself.
    pub mode: Mode,
    /// With fewer decisions in a window, it says nothing of a stack.
    #[serde(deserialize_with = "number::<50, 1_000_000, _, _>")]
    pub sample_min: u64,
    /// How far back stand-ins and errors count.
    #[serde(deserialize_with = "duration::<{ 5 * SECOND }, { 10 * MINUTE }, _>")]
    pub window: Duration,
    /// How far back they count where that is too short to be sure; never over `burn_window`.
    #[serde(deserialize_with = "duration::<MINUTE, HOUR, _>")]
    pub window_long: Duration,
    /// Of a million decisions: more stand-ins by error or unavailability are bad.
    #[serde(deserialize_with = "number::<1, MILLION, _, _>")]
    pub errors_ppm: u64,
    /// Of a million decisions: more stand-ins of any cause are bad.
    #[serde(deserialize_with = "number::<1, MILLION, _, _>")]
    pub stand_ins_ppm: u64,
    /// Of a million decisions: more missed deadlines are bad.
    #[serde(deserialize_with = "number::<1, MILLION, _, _>")]
    pub misses_ppm: u64,
    /// The objective: of a million decisions, so many may be stand-ins or late.
    #[serde(deserialize_with = "number::<1, MILLION, _, _>")]
    pub objective_ppm: u64,
    /// Of the objective: spending it faster is bad.
    #[serde(deserialize_with = "number::<100, 100_000, _, _>")]
    pub burn_percent: u64,
    /// The long window of the burn rate.
    #[serde(deserialize_with = "duration::<{ 10 * MINUTE }, DAY, _>")]
    pub burn_window: Duration,
    /// The short one, which must show the same.
    #[serde(deserialize_with = "duration::<MINUTE, HOUR, _>")]
    pub burn_recent: Duration,
    /// The one that speaks alone.
    #[serde(deserialize_with = "duration::<MINUTE, HOUR, _>")]
    pub burn_single: Duration,
    /// Of a million: what is as likely by chance alone is no evidence.
    #[serde(deserialize_with = "number::<1, 100_000, _, _>")]
    pub doubt_ppm: u64,
    /// Of the sixty slots of a window: so many, the worst, are left out. One cause may explain them all.
    #[serde(deserialize_with = "number::<0, 50, _, _>")]
    pub moments_forgiven: usize,
    /// Of each limit: a stack that was bad is good again below this share of it.
    #[serde(deserialize_with = "number::<1, 100, _, _>")]
    pub clear_percent: u64,
    /// Of the decisions on mirrored requests: stacks that differ by less are taken for alike.
    #[serde(deserialize_with = "number::<1, 100, _, _>")]
    pub mix_percent: u64,
    /// With fewer mirrored requests, decisions are not compared.
    #[serde(deserialize_with = "number::<20, 1_000_000, _, _>")]
    pub mix_pairs_min: u64,
    /// In hundredths of a standard deviation: two shares that differ by less may be the same.
    #[serde(deserialize_with = "number::<200, 1_000, _, _>")]
    pub mix_deviations_percent: u64,
    /// With fewer mirrored answers a stack is not proven better.
    #[serde(deserialize_with = "number::<50, 1_000_000, _, _>")]
    pub proof_answers_min: u64,
    /// Of a million: the doubt that may be left whether the other stack is better.
    #[serde(deserialize_with = "number::<1, 100_000, _, _>")]
    pub proof_doubt_ppm: u64,
    /// So many probes in a row its core must have written while clients were being stood in for, each in
    /// the time that those had.
    #[serde(deserialize_with = "number::<0, 100, _, _>")]
    pub proof_writes_min: u64,
    /// A stack is warm when its probes have been good for this long.
    #[serde(deserialize_with = "duration::<0, HOUR, _>")]
    pub warm_after: Duration,
    /// Probes and mirrored answers that are older prove nothing.
    #[serde(deserialize_with = "duration::<SECOND, HOUR, _>")]
    pub fresh_for: Duration,
    /// No automatic switch this soon after any other.
    #[serde(deserialize_with = "duration::<SECOND, HOUR, _>")]
    pub cool_down: Duration,
    /// At most one automatic switch in this time.
    #[serde(deserialize_with = "duration::<MINUTE, { 7 * DAY }, _>")]
    pub flip_period: Duration,
    /// No automatic switch this soon after one by an operator.
    #[serde(deserialize_with = "duration::<0, { 7 * DAY }, _>")]
    pub lockout: Duration,
    /// Of its merchant's budget: a request that was given less says nothing of a stack.
    #[serde(deserialize_with = "number::<0, 100, _, _>")]
    pub fair_percent: u64,
    /// How often the edge looks at the evidence.
    #[serde(deserialize_with = "duration::<50, { 10 * SECOND }, _>")]
    pub look_every: Duration,
    /// How often each stack is probed; never over `fresh_for`.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub probe_every: Duration,
    /// How often such a probe is a decision that core writes.
    #[serde(deserialize_with = "duration::<100, HOUR, _>")]
    pub probe_write_every: Duration,
    /// A probe that core has not decided by then is a bad one; never over `fresh_for`.
    #[serde(deserialize_with = "duration::<50, MINUTE, _>")]
    pub probe_time_max: Duration,
    /// So many of a hundred requests the other stack rehearses while all is well; with none of them, and a
    /// `mirror_rate_min` of 0, none ever.
    #[serde(deserialize_with = "number::<0, 100, _, _>")]
    pub mirror_percent: u64,
    /// So many while the stack that serves is in doubt and the edge may leave it within `window_long`; never
    /// fewer than `mirror_percent`.
    #[serde(deserialize_with = "number::<0, 100, _, _>")]
    pub mirror_percent_in_doubt: u64,
    /// At least so many a second, where there are as many and whatever the share.
    #[serde(deserialize_with = "number::<0, 1_000, _, _>")]
    pub mirror_rate_min: u64,
    /// At most so many a second.
    #[serde(deserialize_with = "number::<1, 100_000, _, _>")]
    pub mirror_rate_max: u64,
    /// Requests that wait to be rehearsed; further ones are not.
    #[serde(deserialize_with = "number::<1, 65_536, _, _>")]
    pub mirror_waiting_max: usize,
    /// Requests that are being rehearsed.
    #[serde(deserialize_with = "number::<1, 1_024, _, _>")]
    pub mirror_in_flight_max: usize,
    /// The longest wait for a disk that an order is written to.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub write_time_max: Duration,
    /// Merchants that are pinned to a stack.
    #[serde(deserialize_with = "number::<1, 100_000, _, _>")]
    pub pins_max: usize,
    /// Lines of the audit log that the admin listener shows.
    #[serde(deserialize_with = "number::<1, 10_000, _, _>")]
    pub history_max: usize,
    /// Of one file of the audit log.
    #[serde(deserialize_with = "number::<65_536, GIB, _, _>")]
    pub audit_bytes_max: u64,
    /// Full files of the audit log that are kept.
    #[serde(deserialize_with = "number::<1, 10_000, _, _>")]
    pub audit_files_max: usize,
}

/// What the edge does by itself when a stack is bad and the other is proven better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing.
    Off,
    /// It says so in the audit log.
    Recommend,
    /// It switches.
    #[default]
    Auto,
}

impl Mode {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Recommend => "recommend",
            Self::Auto => "auto",
        }
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            sample_min: 500,
            window: Duration::from_secs(30),
            window_long: Duration::from_mins(5),
            errors_ppm: 3_000,
            stand_ins_ppm: 50_000,
            misses_ppm: 30_000,
            objective_ppm: 1_000,
            burn_percent: 1_440,
            burn_window: Duration::from_hours(1),
            burn_recent: Duration::from_mins(5),
            burn_single: Duration::from_mins(10),
            doubt_ppm: 10,
            moments_forgiven: 4,
            clear_percent: 80,
            mix_percent: 20,
            mix_pairs_min: 100,
            mix_deviations_percent: 500,
            proof_answers_min: 300,
            proof_doubt_ppm: 10_000,
            proof_writes_min: 3,
            warm_after: Duration::from_secs(5),
            fresh_for: Duration::from_secs(15),
            cool_down: Duration::from_mins(1),
            flip_period: Duration::from_hours(1),
            lockout: Duration::from_mins(15),
            fair_percent: 50,
            look_every: Duration::from_millis(250),
            probe_every: Duration::from_secs(1),
            probe_write_every: Duration::from_secs(10),
            probe_time_max: Duration::from_secs(1),
            mirror_percent: 1,
            mirror_percent_in_doubt: 10,
            mirror_rate_min: 2,
            mirror_rate_max: 100,
            mirror_waiting_max: 64,
            mirror_in_flight_max: 8,
            write_time_max: Duration::from_secs(2),
            pins_max: 1_000,
            history_max: 100,
            audit_bytes_max: 16_777_216,
            audit_files_max: 16,
        }
    }
}
