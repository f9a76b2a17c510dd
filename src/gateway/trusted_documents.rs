//! Trusted documents: where the configuration names them, nothing else is executed.
//!
//! A request is looked up by its hash (`extensions.persistedQuery`) or by the hash of its text before anything of it is
//! parsed. So what clients may ask is what was written for them, and a text of somebody else's costs one hash.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_graphql::Value;

use super::document_limits::DocumentLimits;
use super::documents::Document;
use super::field_names::FieldNames;
use super::persisted_queries::{
    RequestText, TextHash, hash_digits, hash_of, missing_query, named_hash, parse_hash, wrong_hash,
};
use super::request_errors::RequestError;
use super::top_level_errors::Code;

/// Why documents cannot be trusted. What is wrong is said without where: the caller knows the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    #[error("a manifest is a JSON object of texts by their hash: {0}")]
    NoManifest(String),
    #[error("`{0}` is not the SHA-256 of its text")]
    WrongHash(String),
    #[error("the document cannot be executed: {0}")]
    BadDocument(String),
}

/// Texts by their hash.
#[derive(Debug, Default)]
pub struct TrustedDocuments(HashMap<TextHash, Arc<str>>);

impl TrustedDocuments {
    /// Adds one document, known as it stands in its file and without the white space around it.
    pub fn add(&mut self, text: &str, limits: &DocumentLimits) -> Result<(), NotTrusted> {
        Document::parse(text, limits, &FieldNames::default())
            .map_err(|error| NotTrusted::BadDocument(error.message))?;
        for text in [text, text.trim()] {
            self.0.insert(hash_of(text), text.into());
        }
        Ok(())
    }

    /// Adds those of a manifest: a JSON object of texts by the 64 hexadecimal digits of their SHA-256.
    pub fn add_manifest(&mut self, json: &str, limits: &DocumentLimits) -> Result<(), NotTrusted> {
        let texts: BTreeMap<String, String> =
            serde_json::from_str(json).map_err(|error| NotTrusted::NoManifest(error.to_string()))?;
        for (digits, text) in texts {
            if parse_hash(&digits) != Some(hash_of(&text)) {
                return Err(NotTrusted::WrongHash(digits));
            }
            self.add(&text, limits)?;
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The manifest of all of them, sorted; each text once, without the white space around it.
    pub fn manifest(&self) -> String {
        let texts = self.0.values().filter(|text| text.trim() == text.as_ref());
        let texts: BTreeMap<String, &str> = texts.map(|text| (hash_digits(&hash_of(text)), text.as_ref())).collect();
        serde_json::to_string_pretty(&texts).expect("texts by texts are JSON")
    }

    /// The text that a request means, if it is one of these.
    pub fn text_of(
        &self,
        query: Option<String>,
        extensions: &HashMap<String, Value>,
    ) -> Result<RequestText, RequestError> {
        let named = named_hash(extensions)?;
        let sent = query.as_deref().map(hash_of);
        let hash = match (named, sent) {
            (Some(named), Some(sent)) if named != sent => return Err(wrong_hash()),
            (named, sent) => named.or(sent).ok_or_else(missing_query)?,
        };
        let text = self.0.get(&hash).ok_or_else(|| {
            let message = "this shop executes trusted documents only, and this is none of them";
            RequestError::new(Code::DocumentNotTrusted, message)
        })?;
        Ok(RequestText { text: text.as_ref().to_owned(), keep_as: None })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "query Me { me { id } }";

    fn trusted(texts: &[&str]) -> TrustedDocuments {
        let mut documents = TrustedDocuments::default();
        for text in texts {
            documents.add(text, &DocumentLimits::default()).unwrap();
        }
        documents
    }

    fn named(text: &str) -> HashMap<String, Value> {
        let extension = json!({ "version": 1, "sha256Hash": hash_digits(&hash_of(text)) });
        HashMap::from([("persistedQuery".to_owned(), Value::from_json(extension).unwrap())])
    }

    #[test]
    fn a_document_is_known_by_its_text_and_by_its_hash_and_nothing_else_is() {
        let documents = trusted(&[&format!("\n{TEXT}\n")]);
        for text in [TEXT, &format!("\n{TEXT}\n")] {
            for (query, extensions) in [(Some(text), HashMap::new()), (None, named(text)), (Some(text), named(text))] {
                assert_eq!(documents.text_of(query.map(str::to_owned), &extensions).unwrap().text, text);
            }
        }
        let code = |query: Option<&str>, extensions| {
            documents.text_of(query.map(str::to_owned), &extensions).unwrap_err().code.as_str()
        };
        for other in ["", "{", "{ me { id } }", "query Me { me { id  } }", &format!("{TEXT} ")] {
            assert_eq!(code(Some(other), HashMap::new()), "DOCUMENT_NOT_TRUSTED", "{other}");
            assert_eq!(code(None, named(other)), "DOCUMENT_NOT_TRUSTED", "{other}");
            assert_eq!(code(Some(other), named(TEXT)), "BAD_USER_INPUT", "{other}");
        }
        assert_eq!(code(None, HashMap::new()), "BAD_USER_INPUT");
    }

    #[test]
    fn a_manifest_is_read_as_it_is_written() {
        let documents = trusted(&[TEXT, "{ categories { name } }\n"]);
        let manifest = documents.manifest();
        let mut read = TrustedDocuments::default();
        read.add_manifest(&manifest, &DocumentLimits::default()).unwrap();
        assert_eq!(read.manifest(), manifest);
        assert_eq!(manifest.matches("categories").count(), 1, "{manifest}");
        assert!(TrustedDocuments::default().is_empty() && !read.is_empty());
    }

    #[test]
    fn what_cannot_be_trusted_is_named() {
        let refusal = |json: serde_json::Value| {
            let read = TrustedDocuments::default().add_manifest(&json.to_string(), &DocumentLimits::default());
            read.unwrap_err().to_string()
        };
        let digits = hash_digits(&hash_of(TEXT));
        assert!(refusal(json!([])).starts_with("a manifest is a JSON object"));
        assert!(refusal(json!({ "x": 1 })).starts_with("a manifest is a JSON object"));
        assert_eq!(refusal(json!({ "me": TEXT })), "`me` is not the SHA-256 of its text");
        assert!(refusal(json!({ digits: "{ other }" })).ends_with("is not the SHA-256 of its text"));
        let broken = refusal(json!({ hash_digits(&hash_of("{")): "{" }));
        assert!(broken.starts_with("the document cannot be executed"), "{broken}");
    }
}
