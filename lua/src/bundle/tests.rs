//! Bundles in memory and on disk.

use std::fs;

use super::*;

const TEXT: &str = "return {}";

#[test]
fn the_version_names_the_content() {
    let version = |texts: &[(&str, &str)]| {
        Bundle::from_texts(texts.iter().copied()).unwrap().version().to_owned()
    };
    let one = version(&[("policies/a.lua", TEXT)]);
    assert_eq!(one.len(), 12);
    assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(one, version(&[("policies/a.lua", TEXT)]));
    for other in [
        version(&[("policies/b.lua", TEXT)]),
        version(&[("policies/a.lua", "return { }")]),
        version(&[("policies/a.lua", TEXT), ("policies/b.lua", TEXT)]),
        version(&[("policies/a.lua", TEXT), ("defaults/a.lua", TEXT)]),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn what_was_written_is_read_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules");
    let shipped = Bundle::shipped();
    shipped.write_to(&path).unwrap();
    let read = Bundle::load(&path).unwrap();
    assert_eq!(read.version(), shipped.version());
    assert_eq!(read.policies().collect::<Vec<_>>(), shipped.policies().collect::<Vec<_>>());
}

#[test]
fn writing_leaves_no_rule_of_another_bundle_and_nothing_else_harmed() {
    let dir = tempfile::tempdir().unwrap();
    Bundle::from_texts([("policies/old.lua", TEXT)]).unwrap().write_to(dir.path()).unwrap();
    fs::write(dir.path().join("policies/notes.txt"), "mine").unwrap();
    let new = Bundle::from_texts([("policies/new.lua", TEXT)]).unwrap();
    new.write_to(dir.path()).unwrap();
    assert_eq!(Bundle::load(dir.path()).unwrap().version(), new.version());
    assert!(dir.path().join("policies/notes.txt").exists());
}

#[test]
fn a_wrong_folder_is_refused_with_the_path_that_is_wrong() {
    type Spoil = fn(&Path);
    let cases: [(Spoil, &str); 8] = [
        (|dir| fs::remove_dir_all(dir).unwrap(), "rules: cannot be read"),
        (
            |dir| fs::remove_dir_all(dir.join("policies")).unwrap(),
            "rules/policies: holds no policy",
        ),
        (
            |dir| fs::write(dir.join("policies/A.lua"), TEXT).unwrap(),
            "rules/policies/A.lua: is no name",
        ),
        (
            |dir| fs::write(dir.join("policies/b.lua"), "x = = 1").unwrap(),
            "rules/policies/b.lua:1: ",
        ),
        (
            |dir| fs::write(dir.join("policies/b.lua"), [0xff]).unwrap(),
            "rules/policies/b.lua: is not UTF-8",
        ),
        (
            |dir| fs::create_dir(dir.join("defaults/b.lua")).unwrap(),
            "rules/defaults/b.lua: is not a file",
        ),
        (
            |dir| fs::write(dir.join("defaults/b.lua"), "-".repeat(FILE_BYTES_MAX + 1)).unwrap(),
            "rules/defaults/b.lua: is over 262144 bytes",
        ),
        (
            |dir| {
                for n in 0..FILES_MAX {
                    fs::write(dir.join(format!("defaults/d{n}.lua")), TEXT).unwrap();
                }
            },
            "rules/defaults: a bundle has at most 256 files",
        ),
    ];
    for (spoil, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules");
        Bundle::from_texts([("policies/a.lua", TEXT), ("defaults/a.lua", TEXT)])
            .unwrap()
            .write_to(&path)
            .unwrap();
        spoil(&path);
        let message = Bundle::load(&path).unwrap_err().to_string();
        let expected = format!("{}/{expected}", dir.path().display());
        assert!(message.starts_with(&expected), "{message}, not {expected}");
    }
}

#[test]
fn a_text_that_is_neither_policy_nor_default_is_refused() {
    for file in ["payment.lua", "policies/payment", "rules/payment.lua", "policies/../x.lua"] {
        let error = Bundle::from_texts([(file, TEXT)]).unwrap_err();
        assert_eq!(error.place().map(|place| place.file.as_str()), Some(file), "{error}");
    }
}
