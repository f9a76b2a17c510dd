//! `GET /schema.graphql`: the schema's text for tools that generate code of it. Where introspection is off, it is not there.

use actix_web::{HttpRequest, HttpResponse, web};

use super::entity_tags::tagged;
use super::http::Transport;

/// No media type is registered for it, and a browser shows this one.
const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// As `souk schema print` prints it.
pub async fn schema_file(request: HttpRequest, transport: web::Data<Transport>) -> HttpResponse {
    tagged(&request, CONTENT_TYPE, "Origin", transport.service.sdl().as_bytes().to_vec())
}
