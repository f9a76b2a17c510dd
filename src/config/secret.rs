//! Values that must not be seen: they print `***` wherever they are formatted or serialised, and give themselves up only
//! to a caller that says `expose`.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

const MASK: &str = "***";

/// A secret text. Empty means "not set" and prints as empty, so that an operator sees which of the two it is.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn masked(&self) -> &'static str {
        if self.0.is_empty() { "" } else { MASK }
    }
}

/// A URI of a server that may carry a password: prints with its secret parts masked and the rest readable, because the
/// host is what an operator looks for.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUri(String);

impl SecretUri {
    pub fn new(uri: impl Into<String>) -> Self {
        Self(uri.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn masked(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let Some((scheme, rest)) = self.0.split_once("://") else { return MASK.into() };
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A password with an unescaped slash ends the authority early; then nothing after the scheme is safe to show.
        if tail.contains('@') {
            return format!("{scheme}://{MASK}");
        }
        let authority = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => match user_info.split_once(':') {
                Some((user, _password)) => format!("{user}:{MASK}@{hosts}"),
                None => format!("{user_info}@{hosts}"),
            },
            None => authority.into(),
        };
        let tail = match tail.split_once('?') {
            Some((path, query)) => {
                let parts: Vec<String> = query.split('&').map(masked_option).collect();
                format!("{path}?{}", parts.join("&"))
            }
            None => tail.into(),
        };
        format!("{scheme}://{authority}{tail}")
    }
}

/// One `name=value` of a query: drivers take passwords and tokens there too.
fn masked_option(option: &str) -> String {
    const SECRET_WORDS: [&str; 4] = ["password", "secret", "token", "properties"];
    match option.split_once('=') {
        Some((name, _)) if SECRET_WORDS.iter().any(|word| name.to_ascii_lowercase().contains(word)) => {
            format!("{name}={MASK}")
        }
        _ => option.into(),
    }
}

macro_rules! prints_masked {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.masked().as_ref())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.to_string())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

prints_masked!(Secret);
prints_masked!(SecretUri);
