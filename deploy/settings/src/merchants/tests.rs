//! What is kept of a merchant, who gets in, and what an edit leaves alone.

use super::*;
use crate::merchants::edit;

const BUDGET: Duration = Duration::from_millis(250);

fn fresh() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("merchants.toml");
    (dir, file)
}

#[test]
fn a_merchant_gets_in_with_its_key_and_with_nothing_near_it() {
    let (_dir, file) = fresh();
    let key = edit::add(&file, "shop", BUDGET, true).unwrap();
    let merchants = Merchants::load(&file).unwrap();
    let shop = Merchant {
        name: "shop".into(),
        budget: BUDGET,
        test: true,
        numeric_ids: false,
        stand_in_approvals_max: None,
        stand_in_amount_max: None,
    };
    assert_eq!(merchants.authenticate(key.plain()), Some(&shop));
    let last = if key.plain().ends_with('a') { 'b' } else { 'a' };
    let (all_but_last, _) = key.plain().split_at(key.plain().len() - 1);
    for wrong in [
        "",
        "bsk_",
        "bsk__",
        "bsk_aaaaaaaa_bbbb",
        key.id(),
        all_but_last,
        &format!("{all_but_last}{last}"),
        &format!("{} ", key.plain()),
        &key.plain().to_uppercase(),
        &"x".repeat(100_000),
        &format!("bsk_{}_", key.id()),
    ] {
        assert_eq!(merchants.authenticate(wrong), None, "{wrong:.60}");
    }
}

#[test]
fn after_a_rotation_both_keys_hold_until_one_is_revoked() {
    let (_dir, file) = fresh();
    let old = edit::add(&file, "shop", BUDGET, false).unwrap();
    let new = edit::rotate(&file, "shop").unwrap();
    let holds = |key: &Key| Merchants::load(&file).unwrap().authenticate(key.plain()).is_some();
    assert!(holds(&old) && holds(&new));
    assert_eq!(edit::revoke(&file, "shop", Some(old.id())).unwrap(), [old.id()]);
    assert!(!holds(&old) && holds(&new));
    assert_eq!(edit::revoke(&file, "shop", None).unwrap(), [new.id()]);
    assert!(!holds(&new));
    assert!(holds(&edit::rotate(&file, "shop").unwrap()));
}

#[test]
fn an_edit_keeps_what_an_operator_wrote_by_hand() {
    let (_dir, file) = fresh();
    edit::add(&file, "one", BUDGET, false).unwrap();
    let by_hand = std::fs::read_to_string(&file).unwrap().replace(
        "numeric_ids = false",
        "numeric_ids = true # till numbers, agreed in March\nstand_in_amount_max = 50_000",
    );
    std::fs::write(&file, &by_hand).unwrap();
    edit::add(&file, "two", BUDGET, true).unwrap();
    edit::rotate(&file, "two").unwrap();
    let after = std::fs::read_to_string(&file).unwrap();
    assert!(after.starts_with(&by_hand), "{after}");
    assert!(by_hand.starts_with("# Who may ask"), "{by_hand}");
    let own = |merchant: &Merchant| {
        (merchant.numeric_ids, merchant.stand_in_approvals_max, merchant.stand_in_amount_max)
    };
    let merchants = Merchants::load(&file).unwrap();
    let own: Vec<_> = merchants.iter().map(|(merchant, _)| own(merchant)).collect();
    assert_eq!(own, [(true, None, Some(50_000)), (false, None, None)]);
}

#[test]
fn a_merchant_that_is_removed_leaves_the_others_and_the_head_of_the_file() {
    let (_dir, file) = fresh();
    let keys = ["one", "two"].map(|name| edit::add(&file, name, BUDGET, false).unwrap());
    let text = || std::fs::read_to_string(&file).unwrap();
    let holds = |key: &Key| Merchants::load(&file).unwrap().authenticate(key.plain()).is_some();
    edit::remove(&file, "one").unwrap();
    assert_eq!(keys.each_ref().map(&holds), [false, true]);
    assert!(text().starts_with("# Who may ask"), "{}", text());
    let refused = edit::remove(&file, "one").unwrap_err().to_string();
    assert!(refused.contains("merchant list"), "{refused}");
    edit::remove(&file, "two").unwrap();
    assert!(text().starts_with("# Who may ask") && !text().contains("two"), "{}", text());
    let key = edit::add(&file, "three", BUDGET, false).unwrap();
    assert!(holds(&key) && text().starts_with("# Who may ask"), "{}", text());
    assert_eq!(text().matches("# Who may ask").count(), 1, "{}", text());
}

#[test]
fn the_file_holds_no_key_and_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, file) = fresh();
    let key = edit::add(&file, "shop", BUDGET, false).unwrap();
    let secret = key.plain().rsplit('_').next().unwrap();
    assert!(!std::fs::read_to_string(&file).unwrap().contains(secret));
    assert!(!format!("{key:?}").contains(secret));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_edit_that_may_not_be_leaves_the_file_as_it_was() {
    let (_dir, file) = fresh();
    edit::add(&file, "shop", BUDGET, false).unwrap();
    let before = std::fs::read_to_string(&file).unwrap();
    let long = "a".repeat(NAME_CHARS_MAX + 1);
    for (outcome, expected) in [
        (edit::add(&file, "shop", BUDGET, false).err(), "already"),
        (edit::add(&file, "backstop-probe", BUDGET, false).err(), "Backstop's own"),
        (edit::add(&file, "Shop", BUDGET, false).err(), "no merchant's name"),
        (edit::add(&file, "", BUDGET, false).err(), "no merchant's name"),
        (edit::add(&file, &long, BUDGET, false).err(), "no merchant's name"),
        (edit::add(&file, "b", Duration::from_millis(19), false).err(), "from 20ms to 10s"),
        (edit::add(&file, "b", Duration::from_secs(11), false).err(), "from 20ms to 10s"),
        (edit::rotate(&file, "nobody").err(), "no merchant `nobody`"),
        (edit::revoke(&file, "shop", Some("zzz")).err(), "no key `zzz`"),
    ] {
        let error = outcome.unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn edits_at_a_time_are_all_kept() {
    let (_dir, file) = fresh();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let file = &file;
            scope.spawn(move || edit::add(file, &format!("shop-{number}"), BUDGET, false).unwrap());
        }
    });
    assert_eq!(Merchants::load(&file).unwrap().iter().count(), 8);
}

#[test]
fn each_mistake_in_the_file_is_named_with_its_line() {
    let merchant = |rest: &str| format!("[[merchant]]\nname = \"a\"\nbudget = \"300ms\"\n{rest}\n");
    let key = |id: &str, sha: &str| {
        format!("{{ id = \"{id}\", sha256 = \"{sha}\", created = \"2026-11-22T00:00:00Z\" }}")
    };
    let sha = "0".repeat(64);
    for (text, line, expected) in [
        (
            "[[merchant]]\nname = \"A\"\nbudget = \"1s\"\nkeys = []\n".into(),
            2,
            "no merchant's name",
        ),
        ("[[merchant]]\nname = \"backstop-x\"\nbudget = \"1s\"\nkeys = []\n".into(), 2, "own"),
        (
            "[[merchant]]\nname = \"a\"\nbudget = \"1ms\"\nkeys = []\n".into(),
            3,
            "budget: invalid value",
        ),
        (merchant("kesy = []"), 4, "unknown field `kesy`"),
        (merchant("stand_in_amount_max = -1"), 4, "a whole number from 0 to 9007199254740991"),
        (merchant("stand_in_approvals_max = \"9\""), 4, "a whole number from 0 to 1000000000"),
        (merchant("stand_in_approvals_max = 1000000001"), 4, "stand_in_approvals_max: invalid"),
        (merchant(""), 1, "missing field `keys`"),
        (merchant("keys = []") + &merchant("keys = []"), 6, "two merchants `a`"),
        (merchant(&format!("keys = [{}]", key("x_y", &sha))), 4, "no key id"),
        (merchant(&format!("keys = [{}]", key("x", "abc"))), 4, "64 hexadecimal digits"),
        (merchant(&format!("keys = [{},\n {}]", key("x", &sha), key("x", &sha))), 5, "used twice"),
    ] as [(String, usize, &str); 12]
    {
        let error = Merchants::read(&Document::new(Path::new("m.toml"), text.as_str()));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("m.toml:{line}: ")), "{text}\n{error}");
        assert!(error.contains(expected), "{text}\n{error}");
    }
}
