//! The headers of content: what the client sends, and what it wants back.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};

use super::Refusal;

/// The two forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaType {
    /// `application/graphql-response+json`: the status tells of request errors.
    GraphqlResponse,
    /// `application/json`, the older form: a well-formed request is answered 200.
    Json,
}

impl MediaType {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }

    pub(super) fn request_error_status(self) -> StatusCode {
        match self {
            Self::GraphqlResponse => StatusCode::BAD_REQUEST,
            Self::Json => StatusCode::OK,
        }
    }

    fn subtype(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "graphql-response+json",
            Self::Json => "json",
        }
    }
}

/// One entry of `Accept`. Qualities are in thousandths.
struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    quality: u16,
}

/// The form that the client likes best; `None` when it takes neither. Without `Accept`, or when a wildcard is all that
/// matches, that is `application/json`, for clients that know nothing of the newer form.
pub(super) fn accepted(headers: &HeaderMap) -> Option<MediaType> {
    let ranges = ranges(headers);
    if ranges.is_empty() {
        let nothing_said = headers.get_all(header::ACCEPT).all(|line| line.as_bytes().trim_ascii().is_empty());
        return nothing_said.then_some(MediaType::Json);
    }
    let rank = |media_type: MediaType| {
        let matching = ranges.iter().filter_map(|range| Some((specificity(range, media_type)?, range.quality)));
        // The most specific range decides about a type, whatever the others say.
        let (specificity, quality) = matching.max_by_key(|&(specificity, quality)| (specificity, quality))?;
        (quality > 0).then_some((quality, specificity))
    };
    match (rank(MediaType::GraphqlResponse), rank(MediaType::Json)) {
        (None, None) => None,
        (Some(_), None) => Some(MediaType::GraphqlResponse),
        (None, Some(_)) => Some(MediaType::Json),
        (Some(newer), Some(older)) if newer == older && newer.1 < 2 => Some(MediaType::Json),
        (Some(newer), Some(older)) => Some(if newer >= older { MediaType::GraphqlResponse } else { MediaType::Json }),
    }
}

/// What the client thinks of `text/event-stream`. A wildcard does not mean it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventStream {
    Refused,
    /// Besides single answers: clients that can read everything list it with them, and mean it for subscriptions.
    Accepted,
    /// Rather than a single answer.
    Preferred,
}

impl EventStream {
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let is_stream = |range: &&Range<'_>| {
            range.main.eq_ignore_ascii_case("text")
                && range.sub.eq_ignore_ascii_case("event-stream")
                && range.quality > 0
        };
        let ranges = ranges(headers);
        let Some(stream) = ranges.iter().filter(is_stream).map(|range| range.quality).max() else {
            return Self::Refused;
        };
        let mut answers = ranges.iter().filter(|range| range.main.eq_ignore_ascii_case("application"));
        if answers.all(|range| range.quality < stream) { Self::Preferred } else { Self::Accepted }
    }
}

fn ranges(headers: &HeaderMap) -> Vec<Range<'_>> {
    let lines = headers.get_all(header::ACCEPT);
    lines.flat_map(|line| line.to_str().unwrap_or("").split(',').filter_map(parse_range)).collect()
}

fn specificity(range: &Range<'_>, media_type: MediaType) -> Option<u8> {
    if range.main == "*" && range.sub == "*" {
        Some(0)
    } else if !range.main.eq_ignore_ascii_case("application") {
        None
    } else if range.sub == "*" {
        Some(1)
    } else {
        range.sub.eq_ignore_ascii_case(media_type.subtype()).then_some(2)
    }
}

/// `None` for what is no range, or one of another encoding.
fn parse_range(text: &str) -> Option<Range<'_>> {
    let mut parts = text.split(';');
    let (main, sub) = parts.next()?.trim().split_once('/')?;
    let mut quality = 1_000;
    for parameter in parts {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = parse_quality(value)?,
            "charset" if !is_utf8(value) => return None,
            _ => {}
        }
    }
    Some(Range { main, sub, quality })
}

fn parse_quality(text: &str) -> Option<u16> {
    let quality: f32 = text.parse().ok()?;
    (0.0..=1.0).contains(&quality).then_some((quality * 1_000.0) as u16)
}

fn is_utf8(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

/// Whether the body is JSON in UTF-8, as it came. Everything else (forms, text, a compressed body) is refused, so that
/// no page of another origin can make a browser send something that is executed without asking first.
pub(super) fn check_content(headers: &HeaderMap) -> Result<(), Refusal> {
    let unsupported = |message: &str| Err(Refusal::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    for encoding in headers.get_all(header::CONTENT_ENCODING) {
        if !encoding.to_str().is_ok_and(|encoding| encoding.trim().eq_ignore_ascii_case("identity")) {
            return unsupported("send the body as it is: this server understands no Content-Encoding");
        }
    }
    let mut types = headers.get_all(header::CONTENT_TYPE);
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return unsupported("say one Content-Type: application/json");
    };
    let content_type = content_type.to_str().unwrap_or("");
    let mut parts = content_type.split(';');
    if !parts.next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json")) {
        return unsupported("the Content-Type must be application/json");
    }
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8(value.trim().trim_matches('"')) {
            return unsupported("the charset must be utf-8");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn headers(name: header::HeaderName, lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_static(line));
        }
        headers
    }

    #[test]
    fn accept_is_negotiated() {
        use MediaType::{GraphqlResponse, Json};
        let cases: &[(&[&'static str], Option<MediaType>)] = &[
            (&[], Some(Json)),
            (&[""], Some(Json)),
            (&["*/*"], Some(Json)),
            (&["application/*"], Some(Json)),
            (&["application/json"], Some(Json)),
            (&["Application/JSON"], Some(Json)),
            (&["application/graphql-response+json"], Some(GraphqlResponse)),
            (&["application/graphql-response+json, application/json"], Some(GraphqlResponse)),
            (&["application/json, application/graphql-response+json"], Some(GraphqlResponse)),
            (&["application/json", "application/graphql-response+json"], Some(GraphqlResponse)),
            (&["application/graphql-response+json;q=0.5, application/json"], Some(Json)),
            (&["application/graphql-response+json, application/json;q=0.9"], Some(GraphqlResponse)),
            (&["application/graphql-response+json, */*"], Some(GraphqlResponse)),
            (&["application/json, */*"], Some(Json)),
            (&["application/json;q=0, */*"], Some(GraphqlResponse)),
            (&["application/graphql-response+json;q=0, application/*"], Some(Json)),
            (&["text/html, */*;q=0.8"], Some(Json)),
            (&["application/json; charset=utf-8"], Some(Json)),
            (&["application/json; charset=\"UTF-8\""], Some(Json)),
            (&["application/json; charset=latin1"], None),
            (&["text/html"], None),
            (&["text/event-stream"], None),
            (&["application/json;q=0"], None),
            (&["nonsense"], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(accepted(&headers(header::ACCEPT, lines)), *expected, "{lines:?}");
        }
    }

    #[test]
    fn only_plain_json_is_taken() {
        let cases: &[(&[&'static str], bool)] = &[
            (&["application/json"], true),
            (&["Application/Json; Charset=UTF-8"], true),
            (&["application/json; charset=\"utf8\"; x=y"], true),
            (&[], false),
            (&[""], false),
            (&["application/json", "text/plain"], false),
            (&["application/json; charset=utf-16"], false),
            (&["application/graphql"], false),
            (&["application/graphql+json"], false),
            (&["text/plain"], false),
            (&["application/x-www-form-urlencoded"], false),
            (&["multipart/form-data; boundary=x"], false),
        ];
        for (lines, taken) in cases {
            assert_eq!(check_content(&headers(header::CONTENT_TYPE, lines)).is_ok(), *taken, "{lines:?}");
        }
    }

    #[test]
    fn an_event_stream_is_preferred_where_nothing_is_liked_as_much_and_accepted_where_it_is_named() {
        let wanted = |lines: &[&'static str]| EventStream::wanted(&headers(header::ACCEPT, lines));
        assert_eq!(wanted(&["text/event-stream"]), EventStream::Preferred);
        assert_eq!(wanted(&["application/json;q=0.5", "Text/Event-Stream;q=0.8"]), EventStream::Preferred);
        assert_eq!(wanted(&["application/json, text/event-stream"]), EventStream::Accepted);
        assert_eq!(wanted(&["application/json, text/event-stream;q=0.9"]), EventStream::Accepted);
        assert_eq!(wanted(&["text/event-stream;q=0"]), EventStream::Refused);
        assert_eq!(wanted(&["text/*", "*/*"]), EventStream::Refused);
        assert_eq!(wanted(&[]), EventStream::Refused);
    }
}
