//! The configuration as a document: every setting of the type with its default, its variable and its explanation.

use toml::{Table, Value};

use super::Config;
use super::load::{explanation, leaves, variable_of};

const HEAD: &str = "# Configuration

Every setting with its default. Written by `souk config reference` from the configuration's type and from the comments of
`config.toml`; a test keeps it current. A setting is taken from `config.toml` (or the file of `--config`), over that from its
variable, over that from `--data-dir` and `--listen`. `souk config print` shows what applies.
";

impl Config {
    /// `docs/configuration.md`.
    pub fn reference() -> Result<String, toml::ser::Error> {
        let defaults = Table::try_from(Self::default())?;
        let mut settings = leaves(&defaults, "", &defaults);
        // The settings of the top level come first, as they have to in the file.
        settings.sort_by_key(|(key, _)| section_of(key).len().min(1));
        let mut text = HEAD.to_owned();
        let mut section = None;
        for (key, default) in settings {
            let own = section_of(&key).to_owned();
            if section.as_ref() != Some(&own) {
                let title = if own.is_empty() { "Process".to_owned() } else { format!("`[{own}]`") };
                text +=
                    &format!("\n## {title}\n\n| setting | default | variable | meaning |\n| --- | --- | --- | --- |\n");
                section = Some(own);
            }
            let name = key.rsplit_once('.').map_or(key.as_str(), |(_, name)| name);
            let (default, variable) = (shown(&default), variable_of(&key));
            let meaning = explanation(&key).replace('|', "\\|");
            text += &format!("| `{name}` | {default} | `{variable}` | {meaning} |\n");
        }
        Ok(text)
    }
}

fn section_of(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(section, _)| section)
}

fn shown(default: &Value) -> String {
    match default {
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        other => format!("`{other}`"),
    }
}
