//! Which rules a tier starts with: what authors wrote, or the last that was good when that is broken.

use std::path::Path;

use crate::bundle::{Bundle, BundleError};
use crate::rules::Rules;

impl Rules {
    /// The rules in `written`, which are then kept in `good`; when they are broken, those in `good`,
    /// and the log says so. Fails only where neither can serve, with what is wrong in `written`.
    pub fn in_force(
        written: &Path,
        good: &Path,
        memory_bytes_max: usize,
    ) -> Result<Self, BundleError> {
        let serve = |bundle: Bundle| Self::new(bundle, memory_bytes_max);
        let broken = match Bundle::load(written).and_then(serve) {
            Ok(rules) => {
                rules.keep(good);
                return Ok(rules);
            }
            Err(broken) => broken,
        };
        let Ok(rules) = Bundle::load(good).and_then(serve) else {
            return Err(broken);
        };
        let version = rules.version();
        tracing::error!(%broken, version, "the rules are broken: the last good ones are in force");
        Ok(rules)
    }

    fn keep(&self, good: &Path) {
        if Bundle::load(good).is_ok_and(|kept| kept.version() == self.version()) {
            return;
        }
        if let Err(error) = self.bundle().write_to(good) {
            tracing::warn!(%error, "the good rules could not be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_rules_give_way_to_the_last_good_ones_and_mended_ones_return() {
        let dir = tempfile::tempdir().unwrap();
        let (written, good) = (dir.path().join("rules"), dir.path().join("good"));
        let serve = || Rules::in_force(&written, &good, 8 << 20);
        Bundle::shipped().write_to(&written).unwrap();
        let file = written.join("defaults/payment.lua");
        let sound = std::fs::read_to_string(&file).unwrap();

        std::fs::write(&file, "return {").unwrap();
        let error = serve().unwrap_err().to_string();
        assert!(error.contains("payment.lua:1"), "{error}");

        std::fs::write(&file, &sound).unwrap();
        let version = serve().unwrap().version().to_owned();
        std::fs::write(&file, "return {").unwrap();
        assert_eq!(serve().unwrap().version(), version);

        std::fs::write(&file, format!("{sound}\n-- mended\n")).unwrap();
        assert_ne!(serve().unwrap().version(), version);
    }
}
