//! Lays file, variables and flags over the defaults.
//!
//! Everything set anywhere goes into one TOML table, and beside it, for each setting, the place it came from. Names and
//! types are checked against the defaults as a table: it has every setting with a value of its type. Then serde makes the
//! typed value; where it refuses one, the settings are tried one by one to find whose fault it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{Config, ConfigError, Environment, Place, Problem};

const VARIABLE_PREFIX: &str = "SOUK__";

/// What the command line may set; both are also settings.
#[derive(Clone, Debug, Default)]
pub struct CliOverrides {
    pub data_dir: Option<PathBuf>,
    pub listen: Option<String>,
}

/// The process's own variables that are settings, for [`Config::load`].
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        // A value that is not UTF-8 keeps its replacement characters, by which `load` refuses it.
        name.starts_with(VARIABLE_PREFIX).then(|| (name, value.to_string_lossy().into_owned()))
    })
}

impl Config {
    /// Loads and validates. Variables that do not start with `SOUK__` are ignored.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        overrides: CliOverrides,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            layers.add_file(path, &text)?;
        }
        for (name, value) in env {
            layers.add_variable(&name, &value);
        }
        if let Some(data_dir) = overrides.data_dir {
            layers.set("data_dir", Value::String(data_dir.to_string_lossy().into_owned()), Place::Flag("--data-dir"));
        }
        if let Some(listen) = overrides.listen {
            layers.set("gateway.listen", Value::String(listen), Place::Flag("--listen"));
        }
        layers.into_config()
    }
}

struct Layers {
    /// Every setting with its default: the names and types there are.
    known: Table,
    values: Table,
    places: BTreeMap<String, Place>,
    problems: Vec<Problem>,
}

impl Layers {
    fn new() -> Self {
        let known = Table::try_from(Config::default()).expect("the defaults are representable as TOML: a test does it");
        Self { known, values: Table::new(), places: BTreeMap::new(), problems: Vec::new() }
    }

    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            message: error.message().to_owned(),
        };
        let spans = DeTable::parse(text).map_err(syntax)?;
        let values: Table = toml::from_str(text).map_err(syntax)?;
        let mut lines = BTreeMap::new();
        collect_lines(spans.get_ref(), "", text, &mut lines);
        for (key, value) in leaves(&values, "", &self.known) {
            let line = lines.get(&key).copied().unwrap_or(1);
            let place = Place::File { path: path.to_owned(), line };
            match lookup(&self.known, &key) {
                None => self.unknown(key.clone(), key, place),
                Some(model) if type_of(model) != type_of(&value) => {
                    let what = format!("this is {}, but {} is wanted", type_of(&value), type_of(model));
                    self.wrong(&key, place, what);
                }
                Some(_) => self.set(&key, value, place),
            }
        }
        Ok(())
    }

    fn add_variable(&mut self, name: &str, text: &str) {
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { return };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        let place = Place::Variable(name.to_owned());
        let model = lookup(&self.known, &key).filter(|model| !model.is_table() && variable_of(&key) == name);
        let value = match model {
            None => return self.unknown(name.to_owned(), key, place),
            Some(_) if text.contains(char::REPLACEMENT_CHARACTER) => Err("the value is not UTF-8".to_owned()),
            Some(Value::Boolean(_)) => {
                text.parse().map(Value::Boolean).map_err(|_| format!("`{text}` is neither true nor false"))
            }
            Some(Value::Integer(_)) => {
                text.parse().map(Value::Integer).map_err(|_| format!("`{text}` is not a whole number"))
            }
            Some(Value::Array(_)) if text.starts_with("[{") => toml::from_str::<Table>(&format!("list = {text}"))
                .map_err(|error| format!("it is no list of tables: {}", error.message()))
                .map(|mut table| table.remove("list").unwrap_or_else(|| Value::Array(Vec::new()))),
            Some(Value::Array(_)) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
            }
            Some(_) => Ok(Value::String(text.to_owned())),
        };
        match value {
            Ok(value) => self.set(&key, value, place),
            Err(what) => self.wrong(&key, place, what),
        }
    }

    fn set(&mut self, key: &str, value: Value, place: Place) {
        insert(&mut self.values, key, value);
        self.places.insert(key.to_owned(), place);
    }

    fn unknown(&mut self, name: String, key: String, place: Place) {
        let names = leaves(&self.known, "", &self.known).into_iter().map(|(known, _)| known);
        let remedy = match (nearest(&key, names), &place) {
            (Some(known), Place::Variable(_)) => format!("did you mean {}?", variable_of(&known)),
            (Some(known), _) => format!("did you mean {known}?"),
            (None, _) => "`souk config print` shows every setting".to_owned(),
        };
        self.problems.push(Problem { key: name, place, what: "there is no such setting".into(), remedy });
    }

    fn wrong(&mut self, key: &str, place: Place, what: String) {
        self.problems.push(Problem { key: key.to_owned(), place, what, remedy: explanation(key) });
    }

    fn into_config(mut self) -> Result<Config, ConfigError> {
        if !self.problems.is_empty() {
            return Err(ConfigError::Problems(self.problems));
        }
        let mut config: Config = match self.values.clone().try_into() {
            Ok(config) => config,
            Err(error) => return Err(ConfigError::Problems(self.blame(&error))),
        };
        if !self.places.contains_key("demo") {
            config.demo = config.environment == Environment::Development;
        }
        match config.validate() {
            Err(ConfigError::Problems(mut problems)) => {
                for problem in &mut problems {
                    problem.place = self.places.get(&problem.key).cloned().unwrap_or(Place::Default);
                }
                Err(ConfigError::Problems(problems))
            }
            other => other.map(|()| config),
        }
    }

    /// The settings that serde refuses when each is the only one set.
    fn blame(&mut self, error: &toml::de::Error) -> Vec<Problem> {
        for (key, place) in std::mem::take(&mut self.places) {
            let Some(value) = lookup(&self.values, &key).cloned() else { continue };
            let mut alone = Table::new();
            insert(&mut alone, &key, value);
            if let Err(error) = alone.try_into::<Config>() {
                self.wrong(&key, place, error.message().to_owned());
            }
        }
        if self.problems.is_empty() {
            self.wrong("configuration", Place::Unstated, error.message().to_owned());
        }
        std::mem::take(&mut self.problems)
    }
}

/// What `config.toml` says about a setting: the comment above it, as one sentence.
pub(super) fn explanation(key: &str) -> String {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let mut current = "";
    let mut comment: Vec<&str> = Vec::new();
    for line in include_str!("../../config.toml").lines() {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = header;
        }
        let setting = line.strip_prefix("#:").unwrap_or(line).trim_start();
        if current == section && setting.split_once('=').is_some_and(|(own, _)| own.trim_end() == name) {
            return comment.join(" ");
        }
        match line.strip_prefix("# ") {
            Some(text) => comment.push(text),
            None => comment.clear(),
        }
    }
    String::new()
}

pub(super) fn variable_of(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// Every `section.key` of a table with its value. A table where `known` has a plain value is itself such a value.
pub(super) fn leaves(table: &Table, prefix: &str, known: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            Value::Table(inner) if lookup(known, &key).is_some_and(Value::is_table) => {
                found.extend(leaves(inner, &format!("{key}."), known));
            }
            _ => found.push((key, value.clone())),
        }
    }
    found
}

fn lookup<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
    }
}

/// `key` is one that [`lookup`] finds in the defaults, so its sections are tables.
fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = section {
                insert(inner, rest, value);
            }
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text in quotes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list in square brackets",
        Value::Table(_) => "a section",
    }
}

fn collect_lines(table: &DeTable<'_>, prefix: &str, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (name, value) in table.iter() {
        let key = format!("{prefix}{}", name.get_ref());
        lines.insert(key.clone(), line_of(text, name.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            collect_lines(inner, &format!("{key}."), text, lines);
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The known name that `wanted` most probably means: a slip of a few letters, or the right name in the wrong section.
fn nearest(wanted: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |known: &String| {
        let whole = edit_distance(wanted, known);
        if last(wanted) == last(known) { whole.min(2) } else { whole }
    };
    let best = known.map(|known| (distance(&known), known)).min()?;
    (best.0 <= 2.max(wanted.len() / 4)).then_some(best.1)
}

fn edit_distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}
