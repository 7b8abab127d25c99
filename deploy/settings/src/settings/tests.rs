//! The template against the defaults, and each mistake with its line and remedy.

use super::*;

fn read(text: &str) -> Result<Settings, String> {
    Settings::read(&Document::new(Path::new("b.toml"), text)).map_err(|e| e.to_string())
}

#[test]
fn the_template_holds_every_setting_with_its_default() {
    assert_eq!(read(TEMPLATE), Ok(Settings::default()));
    // Debug names every field of the structs; each has to be in the template.
    let fields = format!("{:#?}", Settings::default());
    let template: toml::Table = TEMPLATE.parse().unwrap();
    let mut sections: Vec<&str> = Vec::new();
    for line in fields.lines().map(str::trim).skip(1) {
        match line.split_once(": ") {
            Some((name, value)) if value.ends_with('{') => sections.push(name),
            Some((name, _)) => {
                // A stack's name has a dash in the file.
                let mut table = &template;
                for section in &sections {
                    table = table[&section.replace("old_", "old-")].as_table().unwrap();
                }
                assert!(table.get(name).is_some(), "{sections:?} {name}");
            }
            None if line.starts_with('}') => drop(sections.pop()),
            None => {}
        }
    }
}

#[test]
fn the_range_behind_each_value_in_the_template_is_the_range_in_force() {
    let mut section = "";
    let mut checked = 0;
    for line in TEMPLATE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.split(']').next().unwrap();
        }
        let Some((setting, comment)) = line.split_once("# ") else { continue };
        let Some((key, _)) = setting.split_once(" = ") else { continue };
        let range = comment.split_once(':').map(|(range, _)| range);
        let Some(range) = range.filter(|range| range.starts_with(|c| char::is_ascii_digit(&c)))
        else {
            continue;
        };
        let Some((min, max)) = range.split_once(" to ") else { continue };
        let is_duration = max.ends_with(char::is_alphabetic);
        let quote = |text: &str| if is_duration { format!("\"{text}\"") } else { text.into() };
        for (value, is_fine) in [(min, true), (max, true), (&*format!("9999999{}", &max), false)] {
            let outcome = read(&format!("[{section}]\n{key} = {}\n", quote(value)));
            // Contradictions with another setting's default are another test's.
            let fine = outcome.as_ref().err().is_none_or(|error| error.contains("is over"));
            assert_eq!(fine, is_fine, "[{section}] {key} = {value}: {outcome:?}");
        }
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn what_is_left_out_has_its_default() {
    let settings = read("[edge]\nreserve = \"20ms\"\n").unwrap();
    assert_eq!(settings.edge.reserve, Duration::from_millis(20));
    assert_eq!(settings.up, Up::default());
    assert_eq!(read(""), Ok(Settings::default()));
}

#[test]
fn each_mistake_is_named_with_its_line_and_what_would_be_right() {
    for (text, expected) in [
        (
            "[edge]\n\nbody_byte_max = 1\n",
            "b.toml:3: [edge] unknown key `body_byte_max`; did you mean `body_bytes_max`?",
        ),
        ("[eges]\n", "b.toml:1: unknown section `eges`; did you mean `edge`?"),
        (
            "xyzzy = 1\n",
            "b.toml:1: unknown section `xyzzy`; the keys here are api, breaker, core, edge, fidelity, limits, rules, stacks, switch, up",
        ),
        (
            "[edge]\nreserve = 10\n",
            "b.toml:2: [edge] reserve: invalid type: integer `10`, expected a duration from \"1ms\" to \"1s\", such as \"300ms\", \"2s\" or \"15m\"",
        ),
        (
            "[edge]\nreserve = \"1h\"\n",
            "b.toml:2: [edge] reserve: invalid value: string \"1h\", expected a duration from \"1ms\" to \"1s\", such as \"300ms\", \"2s\" or \"15m\"",
        ),
        (
            "[core]\nbatch_max = 0\n",
            "b.toml:2: [core] batch_max: invalid value: integer `0`, expected a whole number from 1 to 1024",
        ),
        (
            "[core]\nbatch_max = \"64\"\n",
            "b.toml:2: [core] batch_max: invalid type: string \"64\", expected a whole number from 1 to 1024",
        ),
        (
            "[edge]\ncertificate = \"c.pem\"\n",
            "b.toml:1: [edge] certificate_key: is empty; set both certificate and certificate_key, or neither",
        ),
        (
            "[api]\ntimeout_max = \"100ms\"\ntimeout_min = \"101ms\"\n",
            "b.toml:3: [api] timeout_min: is over timeout_max",
        ),
        (
            "[edge]\nprod_apis = [\"api-2\"]\n",
            "b.toml:2: [edge] prod_apis: invalid value: string \"api-2\", expected an absolute path of at most 107 bytes, or host:port",
        ),
        (
            "[edge]\nold_prod_apis = [\"api:70\", \"api:70\"]\n",
            "b.toml:2: [edge] old_prod_apis: invalid value: string \"api:70\", expected each address once",
        ),
        ("[switch]\nwindow = \"6m\"\n", "b.toml:2: [switch] window: is over window_long"),
        (
            "[switch]\nburn_recent = \"1m\"\nwindow_long = \"11m\"\nburn_window = \"10m\"\n",
            "b.toml:3: [switch] window_long: is over burn_window",
        ),
        ("[switch]\nprobe_every = \"16s\"\n", "b.toml:2: [switch] probe_every: is over fresh_for"),
        (
            "[switch]\nprobe_time_max = \"16s\"\n",
            "b.toml:2: [switch] probe_time_max: is over fresh_for",
        ),
        (
            "[switch]\nmirror_rate_min = 101\n",
            "b.toml:2: [switch] mirror_rate_min: is over mirror_rate_max",
        ),
        (
            "[stacks.old-prod]\ncomand = \"/x\"\n",
            "b.toml:2: [stacks.old-prod] unknown key `comand`; did you mean `command`?",
        ),
        (
            "[up]\nrestart_delay_min = \"6s\"\n",
            "b.toml:2: [up] restart_delay_min: is over restart_delay_max",
        ),
        ("core = 3\n", "b.toml:1: core: invalid type: integer `3`, expected struct Core"),
    ] {
        assert_eq!(read(text).unwrap_err(), expected);
    }
    assert!(read("[edge\n").unwrap_err().starts_with("b.toml:1: "));
    assert!(read("[edge]\n[edge]\n").unwrap_err().starts_with("b.toml:2: "));
}

#[test]
fn a_broken_file_gives_way_to_the_last_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let write = |text: &str| std::fs::write(layout.settings(), text).unwrap();
    write("[edge\n");
    assert!(Settings::in_force(&layout).is_err(), "nothing good was kept yet");
    write("[core]\nbatch_max = 7\n");
    let (settings, broken) = Settings::in_force(&layout).unwrap();
    assert_eq!((settings.core.batch_max, broken.is_none()), (7, true));
    write("[edge\n");
    let (settings, broken) = Settings::in_force(&layout).unwrap();
    assert_eq!((settings.core.batch_max, broken.is_some()), (7, true));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Settings::load(Path::new("/no/such/backstop.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/no/such/backstop.toml: cannot be read"), "{error}");
}

#[test]
fn a_bundle_has_the_memory_of_the_tier_that_gives_the_least() {
    for section in ["edge", "api", "core"] {
        let settings =
            read(&format!("[{section}]\npolicy_memory_bytes_max = 5_000_000\n")).unwrap();
        assert_eq!(settings.policy_memory_bytes_min(), 5_000_000, "{section}");
    }
}
