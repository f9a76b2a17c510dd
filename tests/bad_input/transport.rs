//! What is no GraphQL request, or none that may be made.

use reqwest::Method;
use serde_json::json;

use crate::accounts::SIGN_UP;
use crate::row::{Row, refused};
use crate::support::PASSWORD;
use crate::world::World;

const JSON: (&str, &str) = ("content-type", "application/json");

#[actix_rt::test]
async fn what_is_no_graphql_request_is_never_executed() {
    let world = World::new().await;
    let bad = || refused(400, "BAD_USER_INPUT");
    let unsupported = || refused(415, "BAD_USER_INPUT");
    let input = json!({ "email": "smuggled@test.example", "name": "A", "password": PASSWORD });
    let sign_up = json!({ "query": SIGN_UP, "variables": { "input": input } });
    let good = sign_up.to_string();
    let good = good.as_bytes();
    let encoded = "mutation%7BsignUp(input%3A%7Bemail%3A%22s%40test.example%22%2Cname%3A%22A%22%2Cpassword%3A%22correct%20horse%22%7D)%7Bsession%7BaccessToken%7D%7D%7D";
    let form = format!("query={encoded}");
    let multipart =
        format!("--x\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n{}\r\n--x--\r\n", sign_up);
    let batch = json!([sign_up, sign_up]).to_string();
    let nested = format!(
        "{{\"query\":\"{{me{{id}}}}\",\"variables\":{{\"a\":{}{}}}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let huge = json!({ "query": SIGN_UP, "variables": { "input": input, "pad": "x".repeat(1 << 20) } }).to_string();
    let long_document = json!({ "query": format!("{{ me {{ id }} }} #{}", "x".repeat(1 << 20)) }).to_string();
    let mut rows = vec![
        Row::raw("malformed JSON", &[JSON], b"{\"query\": ", bad()),
        Row::raw("no JSON", &[JSON], b"query", bad()),
        Row::raw("an empty body", &[JSON], b"", bad()),
        Row::raw("a JSON text", &[JSON], b"\"{ me { id } }\"", bad()),
        Row::raw("a JSON null", &[JSON], b"null", bad()),
        Row::raw("something behind the JSON", &[JSON], b"{\"query\":\"{me{id}}\"} {}", bad()),
        Row::raw("query twice", &[JSON], b"{\"query\":\"{me{id}}\",\"query\":\"{me{id}}\"}", bad()),
        Row::raw("invalid UTF-8", &[JSON], b"{\"query\":\"{me{id}}\",\"x\":\"\xff\xfe\"}", bad()),
        Row::raw("half a surrogate pair", &[JSON], b"{\"query\":\"{ product(id: \\\"\\ud800\\\") { id } }\"}", bad()),
        Row::raw("UTF-16", &[JSON], b"\xff\xfe{\0}\0", bad()),
        Row::raw("100,000 nested lists", &[JSON], nested.as_bytes(), refused(400, "QUERY_TOO_COMPLEX")),
        Row::raw("a batch", &[JSON], batch.as_bytes(), bad()),
        Row::raw("an empty batch", &[JSON], b"[]", bad()),
        Row::raw("a body over 1 MiB", &[JSON], huge.as_bytes(), refused(413, "BAD_USER_INPUT")),
        Row::raw("a document over 1 MiB", &[JSON], long_document.as_bytes(), refused(413, "BAD_USER_INPUT")),
        Row::raw("no content type", &[], good, unsupported()),
        Row::raw("an empty content type", &[("content-type", "")], good, unsupported()),
        Row::raw("two content types", &[JSON, ("content-type", "text/plain")], good, unsupported()),
        Row::raw("text/plain", &[("content-type", "text/plain")], good, unsupported()),
        Row::raw("application/graphql", &[("content-type", "application/graphql")], b"{ me { id } }", unsupported()),
        Row::raw("UTF-16 by name", &[("content-type", "application/json; charset=utf-16")], good, unsupported()),
        Row::raw("a form", &[("content-type", "application/x-www-form-urlencoded")], form.as_bytes(), unsupported()),
        Row::raw(
            "multipart",
            &[("content-type", "multipart/form-data; boundary=x")],
            multipart.as_bytes(),
            unsupported(),
        ),
        Row::bare("a mutation by GET", Method::GET, &format!("?query={encoded}"), refused(405, "BAD_USER_INPUT")),
        Row::bare("GET without a query", Method::GET, "", bad()),
        Row::bare("GET with an empty query", Method::GET, "?query=", bad()),
        Row::bare("GET with two queries", Method::GET, "?query=%7Ba%7D&query=%7Bb%7D", bad()),
        Row::bare("GET with broken variables", Method::GET, "?query=%7Bme%7Bid%7D%7D&variables=%7B", bad()),
        Row::bare("GET with a list of variables", Method::GET, "?query=%7Bme%7Bid%7D%7D&variables=%5B%5D", bad()),
    ];
    for encoding in ["gzip", "br", "deflate", "nonsense", "identity, gzip"] {
        rows.push(Row::raw(
            &format!("Content-Encoding {encoding}"),
            &[JSON, ("content-encoding", encoding)],
            good,
            unsupported(),
        ));
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let mut row = Row::raw(method.as_str(), &[JSON], good, refused(405, "BAD_USER_INPUT"));
        row.method = method;
        rows.push(row);
    }
    world.judge(&rows).await;

    let before = world.stored().await;
    for accept in ["text/html", "application/json; charset=latin1", "application/json;q=0", "nonsense"] {
        let request = world.app.http.post(world.app.url("/graphql")).header(JSON.0, JSON.1).header("accept", accept);
        let answer = request.body(good.to_vec()).send().await.unwrap();
        assert_eq!(answer.status(), 406, "{accept}");
        assert!(answer.headers().contains_key("x-request-id"));
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{accept}");
    }
    world.check_unchanged(&before).await;
}
