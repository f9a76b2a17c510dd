//! Answers that anybody may keep and ask about again: an `ETag` of what is answered, and 304 for a client that shows it.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, ETag, EntityTag, HeaderValue, IfNoneMatch};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Kept by whoever likes to, and asked about before it is used again: what the shop shows follows a change at once.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// How much of the hash stands in a tag: 128 bits.
const TAG_BYTES: usize = 16;

/// The answer, or 304 without a body where the client shows its tag. `vary` names the headers that it depends on.
pub(super) fn tagged(
    request: &HttpRequest,
    content_type: &'static str,
    vary: &'static str,
    body: Vec<u8>,
) -> HttpResponse {
    let tag = tag_of(content_type, &body);
    let is_known = match request.headers().contains_key(header::IF_NONE_MATCH).then(|| request.get_header()) {
        Some(Some(IfNoneMatch::Any)) => true,
        Some(Some(IfNoneMatch::Items(known))) => known.iter().any(|known| known.weak_eq(&tag)),
        _ => false,
    };
    let mut builder = HttpResponse::build(if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    builder
        .insert_header(ETag(tag))
        .insert_header((header::CACHE_CONTROL, ASK_AGAIN))
        .insert_header((header::VARY, HeaderValue::from_static(vary)));
    if is_known {
        builder.finish()
    } else {
        builder.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(content_type))).body(body)
    }
}

/// Of these bytes as this type: the two media types of an answer are two representations.
fn tag_of(content_type: &str, body: &[u8]) -> EntityTag {
    let hash = Sha256::new().chain_update(content_type).chain_update([0]).chain_update(body).finalize();
    EntityTag::new_strong(URL_SAFE_NO_PAD.encode(&hash[..TAG_BYTES]))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn answer(known: Option<&str>) -> HttpResponse {
        let mut request = TestRequest::get();
        if let Some(known) = known {
            request = request.insert_header((header::IF_NONE_MATCH, known));
        }
        tagged(&request.to_http_request(), "text/plain", "Accept", b"hello".to_vec())
    }

    fn header_of(response: &HttpResponse, name: header::HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn a_client_that_shows_the_tag_gets_no_body() {
        let first = answer(None);
        let tag = header_of(&first, header::ETAG).to_owned();
        assert_eq!((first.status().as_u16(), tag.starts_with('"')), (200, true));
        let weak = format!("W/{tag}");
        let several = format!("\"x\", {tag}");
        for known in [&*tag, &weak, &several, "*"] {
            let again = answer(Some(known));
            assert_eq!((again.status().as_u16(), header_of(&again, header::ETAG)), (304, &*tag), "{known}");
            assert_eq!(header_of(&again, header::CACHE_CONTROL), "no-cache");
            assert_eq!(header_of(&again, header::VARY), "Accept");
            assert_eq!(header_of(&again, header::CONTENT_TYPE), "");
        }
        for other in ["\"x\"", "", "nonsense", tag.trim_matches('"')] {
            assert_eq!(answer(Some(other)).status().as_u16(), 200, "{other}");
        }
    }

    #[test]
    fn a_tag_is_of_the_bytes_and_their_type() {
        let tags = [("a", "x"), ("b", "x"), ("a", "y"), ("ab", ""), ("", "ab")];
        let tags: Vec<_> = tags.iter().map(|(of, body)| tag_of(of, body.as_bytes())).collect();
        for (place, tag) in tags.iter().enumerate() {
            assert!(tags[..place].iter().all(|other| !other.strong_eq(tag)));
        }
    }
}
