//! Rules that can be told from each other in every part of an answer.

use std::collections::BTreeMap;
use std::path::Path;

use super::load::Sample;

/// The unit that the rules of this mark credit. An account holds only so many.
fn unit_of(mark: usize) -> String {
    format!("u{}", mark % 32)
}

/// Rules that say in every part of an answer which of them it is.
pub fn marked(folder: &Path, mark: usize) {
    let unit = unit_of(mark);
    let policy = format!(
        r#"return {{
  fields = {{}},
  safe = "review",
  strict = false,
  keys = function(tx)
    return {{ history = {{ m{mark} = "customer:" .. tx.account }} }}
  end,
  decide = function(tx, history)
    if not history.m{mark} then
      return "review", {{ "mixed" }}, 0
    end
    return "approve", {{ "m{mark}" }}, {mark}
  end,
  effects = function(tx, decision)
    if decision ~= "approve" then
      return {{}}
    end
    return {{ credit = {{ {unit} = 1 }} }}
  end,
}}
"#
    );
    let default = format!(
        "return {{\n  fields = {{}},\n  safe = \"review\",\n  decide = function(tx)\n    \
         return \"review\", {{ \"m{mark}\" }}, {mark}\n  end,\n}}\n"
    );
    for (part, text) in [("policies", policy), ("defaults", default)] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
        std::fs::write(folder.join(part).join("mark.lua"), text).unwrap();
    }
}

/// What is wrong with an answer: every part of it must be of the one bundle that it names.
pub fn mixed(sample: &Sample, marks: &BTreeMap<String, usize>) -> Option<String> {
    let Sample { status, answer, .. } = sample;
    let Some(mark) = answer["policy_version"].as_str().and_then(|it| marks.get(it)) else {
        return Some(format!("{status} {answer}"));
    };
    let (unit, mark) = (unit_of(*mark), format!("m{mark}"));
    let is_of_core = answer["decided_by"] == "core";
    let units = answer["effects"]["balance"].as_object().map(|it| it.keys().collect::<Vec<_>>());
    let is_whole = *status == 200
        && answer["reasons"][0] == mark.as_str()
        && format!("m{}", answer["score"]) == mark
        && (!is_of_core || units == Some(vec![&unit]));
    (!is_whole).then(|| answer.to_string())
}
