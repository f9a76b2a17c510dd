//! Queries that clients name by their hash: the protocol of automatic persisted queries, as Apollo's clients speak it.
//!
//! `extensions.persistedQuery` is `{"version": 1, "sha256Hash": "<64 hex digits>"}`. A request with the hash alone means
//! the text that is kept under it; a client that is told `PersistedQueryNotFound` sends hash and text together once. A
//! text is kept when the schema had an answer for it, so what is refused takes nobody's place, and all of them together
//! take a bounded number of bytes: what is used least goes first.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::Value;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use super::request_errors::RequestError;
use super::top_level_errors::Code;
use crate::telemetry::CacheMeter;

/// The name of the extension.
const PERSISTED_QUERY: &str = "persistedQuery";

/// What a text costs besides its bytes.
const ENTRY_BYTES: u64 = 128;

/// The SHA-256 of a text.
pub type TextHash = [u8; 32];

/// The text of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestText {
    pub text: String,
    /// The client named it by this hash, under which it is not kept yet.
    pub keep_as: Option<TextHash>,
}

#[derive(Clone)]
struct TextBytes;

impl Weighter<TextHash, Arc<str>> for TextBytes {
    fn weight(&self, _: &TextHash, text: &Arc<str>) -> u64 {
        text.len() as u64 + ENTRY_BYTES
    }
}

/// Texts by their hash.
pub struct PersistedQueries {
    /// `None`: switched off.
    texts: Option<Cache<TextHash, Arc<str>, TextBytes>>,
    meter: Option<CacheMeter>,
}

impl PersistedQueries {
    /// Of at most so many bytes; none at all switches them off.
    pub fn new(max_bytes: usize) -> Self {
        let cache = || Cache::with_weighter(max_bytes / 1_024, max_bytes as u64, TextBytes);
        Self { texts: (max_bytes > 0).then(cache), meter: None }
    }

    pub fn metered_by(&mut self, meter: CacheMeter) {
        self.meter = Some(meter);
    }

    /// The text that a request means.
    pub fn text_of(
        &self,
        query: Option<String>,
        extensions: &HashMap<String, Value>,
    ) -> Result<RequestText, RequestError> {
        if !is_named(extensions) {
            let text = query.ok_or_else(missing_query)?;
            return Ok(RequestText { text, keep_as: None });
        }
        let Some(texts) = &self.texts else {
            return Err(RequestError::new(Code::PersistedQueryNotSupported, "PersistedQueryNotSupported"));
        };
        let hash = named_hash(extensions)?.ok_or_else(missing_query)?;
        let Some(text) = query else {
            let kept = texts.get(&hash);
            if let Some(meter) = &self.meter {
                meter.note(usize::from(kept.is_some()), usize::from(kept.is_none()));
            }
            let text = kept.ok_or_else(|| RequestError::new(Code::PersistedQueryNotFound, "PersistedQueryNotFound"))?;
            return Ok(RequestText { text: text.as_ref().to_owned(), keep_as: None });
        };
        if hash_of(&text) != hash {
            return Err(wrong_hash());
        }
        let keep_as = (!texts.contains_key(&hash)).then_some(hash);
        Ok(RequestText { text, keep_as })
    }

    /// Keeps a text that proved good.
    pub fn keep(&self, hash: TextHash, text: &str) {
        if let Some(texts) = &self.texts {
            texts.insert(hash, text.into());
        }
    }
}

pub fn hash_of(text: &str) -> TextHash {
    Sha256::digest(text.as_bytes()).into()
}

/// Whether the extension is there.
pub fn is_named(extensions: &HashMap<String, Value>) -> bool {
    extensions.get(PERSISTED_QUERY).is_some_and(|extension| *extension != Value::Null)
}

/// The hash that the extension names, where it is there.
pub(super) fn named_hash(extensions: &HashMap<String, Value>) -> Result<Option<TextHash>, RequestError> {
    let members = match extensions.get(PERSISTED_QUERY) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(RequestError::bad_input("persistedQuery must be an object")),
    };
    if members.get("version") != Some(&Value::from(1)) {
        return Err(RequestError::bad_input("persistedQuery.version must be 1"));
    }
    let hash = match members.get("sha256Hash") {
        Some(Value::String(digits)) => parse_hash(digits),
        _ => None,
    };
    hash.map(Some).ok_or_else(|| RequestError::bad_input("persistedQuery.sha256Hash must be 64 hexadecimal digits"))
}

pub(super) fn missing_query() -> RequestError {
    RequestError::bad_input("query is missing")
}

pub(super) fn wrong_hash() -> RequestError {
    RequestError::bad_input("persistedQuery.sha256Hash is not the SHA-256 of query")
}

/// From 64 hexadecimal digits.
pub fn parse_hash(digits: &str) -> Option<TextHash> {
    let mut hash = TextHash::default();
    if digits.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(hash)
}

/// As 64 hexadecimal digits.
pub fn hash_digits(hash: &TextHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As `printf '{ me { id } }' | sha256sum` prints it.
    const TEXT: &str = "{ me { id } }";

    fn extensions(value: serde_json::Value) -> HashMap<String, Value> {
        HashMap::from([(PERSISTED_QUERY.to_owned(), Value::from_json(value).unwrap())])
    }

    fn named(text: &str) -> HashMap<String, Value> {
        extensions(json!({ "version": 1, "sha256Hash": hash_digits(&hash_of(text)) }))
    }

    fn code(result: Result<RequestText, RequestError>) -> &'static str {
        result.unwrap_err().code.as_str()
    }

    #[test]
    fn a_hash_is_written_and_read_as_sha256sum_does() {
        let digits = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash_digits(&hash_of("")), digits);
        for spelling in [digits.to_owned(), digits.to_uppercase()] {
            assert_eq!(parse_hash(&spelling), Some(hash_of("")));
        }
        for wrong in ["", &digits[1..], &format!("{digits}0"), &digits.replace('e', "g"), &"é".repeat(32)] {
            assert_eq!(parse_hash(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_text_is_known_by_its_hash_once_it_is_kept() {
        let queries = PersistedQueries::new(100_000);
        assert_eq!(code(queries.text_of(None, &named(TEXT))), "PERSISTED_QUERY_NOT_FOUND");
        let sent = queries.text_of(Some(TEXT.into()), &named(TEXT)).unwrap();
        assert_eq!(sent, RequestText { text: TEXT.into(), keep_as: Some(hash_of(TEXT)) });
        // It is the caller who knows whether the text was any good.
        assert_eq!(code(queries.text_of(None, &named(TEXT))), "PERSISTED_QUERY_NOT_FOUND");
        queries.keep(hash_of(TEXT), TEXT);
        for query in [None, Some(TEXT.to_owned())] {
            let known = RequestText { text: TEXT.into(), keep_as: None };
            assert_eq!(queries.text_of(query, &named(TEXT)), Ok(known));
        }
    }

    #[test]
    fn what_is_no_hash_of_the_text_is_refused() {
        let queries = PersistedQueries::new(100_000);
        let digits = hash_digits(&hash_of(TEXT));
        for extension in [
            json!(1),
            json!("x"),
            json!([]),
            json!({}),
            json!({ "sha256Hash": digits }),
            json!({ "version": 2, "sha256Hash": digits }),
            json!({ "version": "1", "sha256Hash": digits }),
            json!({ "version": 1 }),
            json!({ "version": 1, "sha256Hash": 1 }),
            json!({ "version": 1, "sha256Hash": "x" }),
            json!({ "version": 1, "sha256Hash": hash_digits(&hash_of("{ other }")) }),
        ] {
            let found = queries.text_of(Some(TEXT.into()), &extensions(extension.clone()));
            assert_eq!(code(found), "BAD_USER_INPUT", "{extension}");
        }
        assert_eq!(code(queries.text_of(None, &HashMap::new())), "BAD_USER_INPUT");
        let without = queries.text_of(Some(TEXT.into()), &extensions(json!(null))).unwrap();
        assert_eq!(without.keep_as, None);
    }

    #[test]
    fn switched_off_they_are_not_supported_and_plain_texts_are() {
        let off = PersistedQueries::new(0);
        for query in [None, Some(TEXT.to_owned())] {
            assert_eq!(code(off.text_of(query, &named(TEXT))), "PERSISTED_QUERY_NOT_SUPPORTED");
        }
        assert_eq!(off.text_of(Some(TEXT.into()), &HashMap::new()).unwrap().text, TEXT);
    }

    #[test]
    fn all_texts_together_are_bounded_by_their_bytes() {
        const MAX_BYTES: usize = 64 * 1_024;
        let queries = PersistedQueries::new(MAX_BYTES);
        let text = |number: usize| format!("{{ a{number} {} }}", "b ".repeat(500));
        let is_kept = |text: &str| queries.text_of(None, &named(text)).is_ok();
        for number in 0..1_000 {
            queries.keep(hash_of(&text(number)), &text(number));
        }
        let kept: usize = (0..1_000).map(text).filter(|text| is_kept(text)).map(|text| text.len()).sum();
        assert!(kept > 0 && kept <= MAX_BYTES, "{kept}");
        let larger = "x".repeat(MAX_BYTES + 1);
        queries.keep(hash_of(&larger), &larger);
        assert!(!is_kept(&larger));
    }
}
