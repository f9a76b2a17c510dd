//! The steps of the walk as `assets/walk/` has them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

const SOURCES: &[&str] = &[
    include_str!("../../../assets/walk/1-accounts.toml"),
    include_str!("../../../assets/walk/2-catalogue.toml"),
    include_str!("../../../assets/walk/3-orders.toml"),
    include_str!("../../../assets/walk/4-notifications.toml"),
    include_str!("../../../assets/walk/5-recommendations.toml"),
    include_str!("../../../assets/walk/6-campaigns.toml"),
    include_str!("../../../assets/walk/7-operations.toml"),
    include_str!("../../../assets/walk/8-farewell.toml"),
];

/// A part of the walk, in its order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chapter {
    pub title: String,
    pub about: String,
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// One request, and what its answer must say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique in the walk.
    pub name: String,
    /// Who asks: the variable of this name and `Token` is the access token.
    #[serde(rename = "as")]
    pub asker: Option<String>,
    pub query: String,
    #[serde(default)]
    pub variables: Map<String, Value>,
    /// Texts of the answer to go on with: name of the variable, path below `data`.
    #[serde(default)]
    pub save: BTreeMap<String, String>,
    /// The code of the first of `userErrors`; without it there must be none.
    pub refused: Option<String>,
    /// The code of the first top-level error; without it there must be none.
    pub error: Option<String>,
    /// By path below `data`.
    #[serde(default)]
    pub expect: BTreeMap<String, Check>,
    /// Asked again until it is as expected, for what follows by an event.
    pub within_ms: Option<u64>,
}

/// What stands at a path.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Check {
    Rule(Rule),
    Equals(Value),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// False: nothing or null.
    Present(bool),
    AtLeast(i64),
    /// Of a list.
    Length(usize),
    /// An entry of a list, or a part of a text.
    Contains(Value),
    Lacks(Value),
}

impl Step {
    /// The variable that holds the asker's token.
    pub fn token_variable(&self) -> Option<String> {
        self.asker.as_ref().map(|asker| format!("{asker}Token"))
    }
}

/// The whole walk.
pub fn chapters() -> Vec<Chapter> {
    SOURCES.iter().map(|source| toml::from_str(source).expect("tests read every chapter")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::walk::{Walker, placeholders};

    #[test]
    fn every_chapter_of_the_folder_is_part_of_the_walk_in_its_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/walk");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("it can be read").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        files.sort();
        let texts: Vec<_> = files.iter().map(|path| std::fs::read_to_string(path).expect("a text")).collect();
        assert!(texts.iter().eq(SOURCES.iter()), "steps.rs names another list of chapters than {files:?}");
        assert_eq!(chapters().len(), SOURCES.len());
    }

    #[test]
    fn no_two_steps_have_one_name() {
        let mut names = std::collections::BTreeSet::new();
        for step in chapters().iter().flat_map(|chapter| &chapter.steps) {
            assert!(names.insert(step.name.clone()), "two steps are called {}", step.name);
        }
    }

    #[test]
    fn what_a_step_names_was_saved_before() {
        let mut known = Walker::variables("admin@walk.example", "a password");
        for step in chapters().iter().flat_map(|chapter| &chapter.steps) {
            let mut named = placeholders(&Value::Object(step.variables.clone()));
            named.extend(step.token_variable());
            for check in step.expect.values() {
                if let Check::Equals(value) | Check::Rule(Rule::Contains(value) | Rule::Lacks(value)) = check {
                    named.extend(placeholders(value));
                }
            }
            for name in named {
                assert!(known.contains_key(&name), "{}: nothing has saved {name}", step.name);
            }
            known.extend(step.save.keys().map(|name| (name.clone(), String::new())));
        }
    }
}
