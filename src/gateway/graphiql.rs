//! The GraphiQL page, served from the binary: nothing is loaded from elsewhere.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

/// The page has no inline script and evaluates none; its editor makes styles at run time.
pub const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                               img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; \
                               form-action 'none'; frame-ancestors 'none'";

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $content_type:literal) => {
        Asset {
            name: $name,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../assets/graphiql/", $name)),
        }
    };
}

const PAGE: &str = "index.html";

/// Everything that is served; `assets/graphiql/README.md` tells where each comes from.
const ASSETS: &[Asset] = &[
    asset!("index.html", "text/html; charset=utf-8"),
    asset!("souk-graphiql.js", "text/javascript; charset=utf-8"),
    asset!("souk-graphiql.css", "text/css; charset=utf-8"),
    asset!("graphiql.min.js", "text/javascript; charset=utf-8"),
    asset!("graphiql.min.css", "text/css; charset=utf-8"),
    asset!("react.min.js", "text/javascript; charset=utf-8"),
    asset!("react-dom.min.js", "text/javascript; charset=utf-8"),
    asset!("LICENSES.txt", "text/plain; charset=utf-8"),
];

/// `GET /graphiql`
pub async fn page() -> HttpResponse {
    serve(PAGE)
}

/// `GET /graphiql/{file}`
pub async fn asset(file: web::Path<String>) -> HttpResponse {
    serve(&file)
}

fn serve(name: &str) -> HttpResponse {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, asset.content_type))
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::CONTENT_SECURITY_POLICY, PAGE_POLICY))
            .body(asset.bytes),
        None => HttpResponse::NotFound().finish(),
    }
}
