//! GraphQL over HTTP, as a table and by topic.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, eventually, session};

const JSON: &str = "application/json";
const NEWER: &str = "application/graphql-response+json";

/// A request and the status that refuses it.
type Refused<'a> = (Method, &'a [(&'a str, &'a str)], &'a [u8], u16);

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        Self { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null) }
    }

    fn code(&self) -> &str {
        self.body["errors"][0]["extensions"]["code"].as_str().unwrap_or("")
    }

    fn data(&self) -> &Value {
        assert!(self.body.get("errors").is_none(), "{}", self.body);
        &self.body["data"]
    }
}

impl Server {
    async fn post(&self, accept: &str, body: &Value) -> Answer {
        self.post_with(accept, body, &[]).await
    }

    async fn post_with(&self, accept: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.http.post(self.url("/graphql")).header(ACCEPT, accept).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    async fn query(&self, query: &str) -> Answer {
        self.post(NEWER, &json!({ "query": query })).await
    }

    async fn get(&self, accept: &str, parameters: &[(&str, &str)]) -> Answer {
        let request = self.http.get(self.url("/graphql")).header(ACCEPT, accept).query(parameters);
        Answer::of(request.send().await.unwrap()).await
    }
}

#[actix_web::test]
async fn requests_are_answered_by_the_specification() {
    let server = Server::start().await;
    // Body, then the status as the newer and as the older media type, and the code of the error.
    let cases = [
        (json!({ "query": "{ hello }" }), 200, 200, ""),
        (json!({ "query": "{ hello }", "variables": null, "operationName": null, "extensions": null }), 200, 200, ""),
        (json!({ "query": "query A { hello } query B { who }", "operationName": "B" }), 200, 200, ""),
        (json!({ "query": "query($n: String) { hello(name: $n) }", "variables": { "n": "é" } }), 200, 200, ""),
        (json!({ "query": "mutation { bump }" }), 200, 200, ""),
        (json!({ "query": "{ fails }" }), 200, 200, "UNAVAILABLE"),
        (json!({ "query": "{ failsHard }" }), 200, 200, "INTERNAL_SERVER_ERROR"),
        (json!({ "query": "{" }), 400, 200, "GRAPHQL_PARSE_FAILED"),
        (json!({ "query": "" }), 400, 200, "GRAPHQL_PARSE_FAILED"),
        (json!({ "query": "{ nothing }" }), 400, 200, "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "{ double(number: \"x\") }" }), 400, 200, "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "{ double }" }), 400, 200, "GRAPHQL_VALIDATION_FAILED"),
        (
            json!({ "query": "query($n: Int!) { double(number: $n) }", "variables": { "n": "x" } }),
            400,
            200,
            "BAD_USER_INPUT",
        ),
        (
            json!({ "query": "query($n: Int!) { double(number: $n) }", "variables": { "n": null } }),
            400,
            200,
            "BAD_USER_INPUT",
        ),
        (json!({ "query": "query($n: String! = \"x\") { hello(name: $n) }" }), 200, 200, ""),
        (
            json!({ "query": "query($n: String! = \"x\") { hello(name: $n) }", "variables": { "n": null } }),
            400,
            200,
            "BAD_USER_INPUT",
        ),
        (json!({ "query": "query($n: Int!) { double(number: $n) }" }), 400, 200, "BAD_USER_INPUT"),
        (json!({ "query": "query A { hello } query B { who }" }), 400, 200, "BAD_USER_INPUT"),
        (json!({ "query": "query A { hello }", "operationName": "B" }), 400, 200, "BAD_USER_INPUT"),
        (json!({ "query": "subscription { count(to: 1) }" }), 400, 200, "BAD_USER_INPUT"),
        (json!({}), 400, 400, "BAD_USER_INPUT"),
        (json!({ "query": null }), 400, 400, "BAD_USER_INPUT"),
        (json!({ "query": 1 }), 400, 400, "BAD_USER_INPUT"),
        (json!({ "query": ["{ hello }"] }), 400, 400, "BAD_USER_INPUT"),
        (json!({ "query": "{ hello }", "variables": [] }), 400, 400, "BAD_USER_INPUT"),
        (json!({ "query": "{ hello }", "variables": "{}" }), 400, 400, "BAD_USER_INPUT"),
        (json!({ "query": "{ hello }", "operationName": 1 }), 400, 400, "BAD_USER_INPUT"),
        (json!({ "query": "{ hello }", "extensions": [] }), 400, 400, "BAD_USER_INPUT"),
        (json!([{ "query": "{ hello }" }]), 400, 400, "BAD_USER_INPUT"),
        (json!([]), 400, 400, "BAD_USER_INPUT"),
        (json!("text"), 400, 400, "BAD_USER_INPUT"),
        (json!(null), 400, 400, "BAD_USER_INPUT"),
    ];
    for (body, newer, older, code) in cases {
        for (accept, status) in [(NEWER, newer), (JSON, older)] {
            let answer = server.post(accept, &body).await;
            assert_eq!((answer.status, answer.code()), (status, code), "{accept} {body} {}", answer.body);
            assert_eq!(answer.headers[CONTENT_TYPE], format!("{accept}; charset=utf-8"), "{body}");
            let id = answer.headers["x-request-id"].to_str().unwrap();
            let is_executed = matches!(code, "" | "UNAVAILABLE" | "INTERNAL_SERVER_ERROR");
            assert_eq!(answer.body.get("data").is_some(), is_executed, "{body} {}", answer.body);
            if !code.is_empty() {
                assert_eq!(answer.body["errors"][0]["extensions"]["requestId"], id, "{body}");
            }
        }
    }
    assert_eq!(server.query("{ failsHard }").await.body["data"], Value::Null);
    let parse_error = server.query("{ hello").await;
    assert!(parse_error.body["errors"][0]["locations"][0]["line"].is_number(), "{}", parse_error.body);
}

#[actix_web::test]
async fn what_is_no_graphql_request_is_never_executed() {
    let server = Server::start_with(|settings| settings.max_body_bytes = 1_000).await;
    let bump = r#"{"query":"mutation { bump }"}"#;
    let form = "application/x-www-form-urlencoded";
    let large = format!(r#"{{"query":"mutation {{ bump }} # {}"}}"#, "x".repeat(1_000));
    let deep = format!(r#"{{"query":"mutation {{ bump }}","variables":{{"x":{}}}}}"#, "[".repeat(300));
    let cases: &[Refused] = &[
        (Method::POST, &[], bump.as_bytes(), 415),
        (Method::POST, &[("content-type", "text/plain")], bump.as_bytes(), 415),
        (Method::POST, &[("content-type", "application/graphql")], b"mutation { bump }", 415),
        (Method::POST, &[("content-type", form)], b"query=mutation+%7B+bump+%7D", 415),
        (Method::POST, &[("content-type", "multipart/form-data; boundary=x")], b"--x\r\n", 415),
        (Method::POST, &[("content-type", "application/json; charset=utf-16")], bump.as_bytes(), 415),
        (Method::POST, &[("content-type", JSON), ("content-encoding", "gzip")], bump.as_bytes(), 415),
        (Method::POST, &[("content-type", JSON), ("content-encoding", "br")], bump.as_bytes(), 415),
        (Method::POST, &[("content-type", JSON), ("accept", "text/html")], bump.as_bytes(), 406),
        (Method::POST, &[("content-type", JSON), ("accept", "text/html")], bump.as_bytes(), 406),
        (Method::POST, &[("content-type", JSON)], b"", 400),
        (Method::POST, &[("content-type", JSON)], b"{\"query\":\"mutation { bump }\"", 400),
        (Method::POST, &[("content-type", JSON)], b"{\"query\":\"mutation { bump }\"} x", 400),
        (Method::POST, &[("content-type", JSON)], b"{\"query\":\"mutation { bump }\",\"query\":\"{ hello }\"}", 400),
        (Method::POST, &[("content-type", JSON)], b"{\"query\":\"mutation { bump } # \xff\"}", 400),
        (Method::POST, &[("content-type", JSON)], deep.as_bytes(), 400),
        (Method::POST, &[("content-type", JSON)], large.as_bytes(), 413),
        (Method::PUT, &[("content-type", JSON)], bump.as_bytes(), 405),
        (Method::DELETE, &[("content-type", JSON)], bump.as_bytes(), 405),
        (Method::PATCH, &[("content-type", JSON)], bump.as_bytes(), 405),
        (Method::OPTIONS, &[("content-type", JSON)], bump.as_bytes(), 204),
    ];
    for (method, headers, body, status) in cases {
        let mut request = server.http.request(method.clone(), server.url("/graphql"));
        for (name, value) in *headers {
            request = request.header(*name, *value);
        }
        let answer = Answer::of(request.body(body.to_vec()).send().await.unwrap()).await;
        let what = format!("{method} {headers:?} {}", String::from_utf8_lossy(body));
        assert_eq!(answer.status, *status, "{what}");
        assert!(answer.headers.contains_key("x-request-id"), "{what}");
        assert_eq!(answer.headers.contains_key(ALLOW), matches!(status, 405 | 204), "{what}");
        if *status >= 400 {
            assert_eq!(answer.code(), "BAD_USER_INPUT", "{what}");
        }
    }
    let identity = [("content-encoding", "identity")];
    let answer = server.post_with(JSON, &json!({ "query": "{ hello }" }), &identity).await;
    assert_eq!(answer.status, 200);
    assert_eq!(server.world.mutations.load(Ordering::SeqCst), 0);
}

#[actix_web::test]
async fn a_body_in_chunks_is_limited_too() {
    let server = Server::start_with(|settings| settings.max_body_bytes = 1_000).await;
    for (count, status) in [(100, "200"), (2_000, "413")] {
        let body = format!(r#"{{"query":"{{ hello }}", "x":"{}"}}"#, "y".repeat(count)).into_bytes();
        let mut request = format!(
            "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        .into_bytes();
        for piece in body.chunks(50) {
            request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            request.extend_from_slice(piece);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        let answer = raw(&server, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

async fn raw(server: &Server, request: &[u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.public.address()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A refusal may reset the connection after its answer.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[actix_web::test]
async fn get_serves_queries_only() {
    let server = Server::start().await;
    let with_variables = [("query", "query Q($n: String) { hello(name: $n) }"), ("variables", r#"{"n":"a b&c"}"#)];
    let answer = server.get(NEWER, &with_variables).await;
    assert_eq!((answer.status, answer.data()["hello"].as_str()), (200, Some("hello a b&c")));
    assert_eq!(server.get(JSON, &[("query", "{ hello }"), ("operationName", "")]).await.status, 200);
    assert_eq!(server.get(JSON, &[("query", "{ hello }"), ("variables", "null"), ("other", "x")]).await.status, 200);
    let named = [("query", "query A { hello } query B { who }"), ("operationName", "B")];
    assert_eq!(server.get(JSON, &named).await.data()["who"], "nobody");

    let refused: &[(&[(&str, &str)], u16)] = &[
        (&[], 400),
        (&[("query", "")], 400),
        (&[("query", "{ hello }"), ("query", "{ hello }")], 400),
        (&[("query", "{ hello }"), ("variables", "[]")], 400),
        (&[("query", "{ hello }"), ("variables", "{")], 400),
        (&[("query", "{ hello }"), ("extensions", "1")], 400),
        (&[("query", "mutation { bump }")], 405),
        (&[("query", "query A { hello } mutation B { bump }"), ("operationName", "B")], 405),
        (&[("query", "subscription { count(to: 1) }")], 400),
    ];
    for (parameters, status) in refused {
        let answer = server.get(NEWER, parameters).await;
        assert_eq!((answer.status, answer.code()), (*status, "BAD_USER_INPUT"), "{parameters:?}");
        if *status == 405 {
            assert_eq!(answer.headers[ALLOW], "POST");
        }
    }
    assert_eq!(server.world.mutations.load(Ordering::SeqCst), 0);
}

#[actix_web::test]
async fn documents_beyond_the_limits_are_refused() {
    let server = Server::start().await;
    let repeat = |text: &str, count: usize| text.repeat(count);
    let aliases: String = (0..1_000).map(|n| format!("a{n}: signIn ")).collect();
    let documents = [
        format!("mutation {{ {aliases} }}"),
        format!("{}hello{}", repeat("{ me ", 50), repeat("}", 50)),
        format!("{{ {} }}", repeat("hello ", 51)),
        format!("{{ me {{ {} }} }}", repeat("hello ", 5_000)),
        format!("{{ hello {} }}", repeat("@skip(if: false) ", 51)),
        format!("{{ {} }} fragment F on Query {{ {} }}", repeat("...F ", 10), repeat("hello ", 10)),
    ];
    for document in documents {
        let answer = server.query(&document).await;
        assert_eq!((answer.status, answer.code()), (400, "QUERY_TOO_COMPLEX"), "{document:.80}");
    }
    assert_eq!(server.query("{ me { me { me { hello } } } }").await.status, 200);
}

#[actix_web::test]
async fn tokens_are_checked_and_a_bad_one_is_never_anonymous() {
    let server = Server::start().await;
    let who = json!({ "query": "{ who }" });
    let good = format!("Bearer {}", server.token(7));
    for _ in 0..3 {
        let answer = server.post_with(NEWER, &who, &[("authorization", &good)]).await;
        assert_eq!(answer.data()["who"], "STAFF");
    }
    assert_eq!(server.post_with(NEWER, &who, &[("authorization", "")]).await.data()["who"], "nobody");

    let expired = format!("Bearer {}", server.token_at(7, -1_000_000));
    let unknown_session = format!("Bearer {}", server.token_at(8, 0));
    let tampered = format!("{good}x");
    for bad in [&*expired, &unknown_session, &tampered, "Bearer x", "Bearer", "Basic eDp4", "nonsense"] {
        for accept in [NEWER, JSON] {
            let answer = server.post_with(accept, &who, &[("authorization", bad)]).await;
            assert_eq!((answer.status, answer.code()), (401, "UNAUTHENTICATED"), "{bad}");
            assert!(answer.headers.contains_key("www-authenticate"));
        }
    }
    let twice = server.post_with(NEWER, &who, &[("authorization", &good), ("authorization", &good)]).await;
    assert_eq!(twice.status, 401);

    for (query, status) in [
        ("mutation { signIn }", 200),
        ("mutation { a: signIn b: signIn __typename }", 200),
        ("mutation { ...F } fragment F on Mutation { signIn }", 200),
        ("mutation { signIn bump }", 401),
        ("mutation { signIn: bump }", 401),
        ("{ who }", 401),
    ] {
        let answer = server.post_with(NEWER, &json!({ "query": query }), &[("authorization", "Bearer x")]).await;
        assert_eq!(answer.status, status, "{query}");
        if status == 200 {
            assert!(!answer.data().to_string().contains("SignedIn"), "{query}");
        }
    }
    assert_eq!(server.world.mutations.load(Ordering::SeqCst), 0);
}

#[actix_web::test]
async fn the_end_of_a_session_takes_effect() {
    let server = Server::start().await;
    let good = format!("Bearer {}", server.token(7));
    let ask = async || {
        let answer = server.post_with(NEWER, &json!({ "query": "{ who }" }), &[("authorization", &good)]).await;
        (answer.status, answer.code().to_owned())
    };
    assert_eq!(ask().await.0, 200);
    // A fresh copy serves while the source is away.
    server.world.sessions_down.store(true, Ordering::SeqCst);
    assert_eq!(ask().await.0, 200);
    server.sessions.forget_all();
    assert_eq!(ask().await, (503, "UNAVAILABLE".into()));
    server.world.sessions_down.store(false, Ordering::SeqCst);
    eventually("the session is read again", async || ask().await.0 == 200).await;

    server.set_session(7, |state| state.token_epoch = 2);
    server.sessions.forget(session(7));
    assert_eq!(ask().await, (401, "UNAUTHENTICATED".into()));
    server.set_session(7, |state| (state.token_epoch, state.ended) = (1, true));
    server.sessions.forget(session(7));
    assert_eq!(ask().await.0, 401);
    server.set_session(7, |state| (state.ended, state.role) = (false, souk::domain::users::Role::Customer));
    server.sessions.forget(session(7));
    let answer = server.post_with(NEWER, &json!({ "query": "{ who }" }), &[("authorization", &good)]).await;
    assert_eq!(answer.data()["who"], "CUSTOMER");
}

#[actix_web::test]
async fn the_client_address_comes_from_trusted_proxies_only() {
    let forwarded = [("x-forwarded-for", "6.6.6.6, 9.9.9.9")];
    for (trusts, expected) in [(false, "127.0.0.1"), (true, "9.9.9.9")] {
        let server = Server::start_with(|settings| {
            settings.trusts_proxy = Arc::new(move |ip| trusts && ip.is_loopback());
        })
        .await;
        let answer = server.post_with(NEWER, &json!({ "query": "{ address }" }), &forwarded).await;
        assert_eq!(answer.data()["address"], expected);
    }
}

#[actix_web::test]
async fn every_answer_has_a_request_id_and_the_security_headers() {
    let server = Server::start().await;
    let hello = json!({ "query": "{ hello }" });
    let answer = server.post_with(NEWER, &hello, &[("x-request-id", "my-id_1.2")]).await;
    assert_eq!(answer.headers["x-request-id"], "my-id_1.2");
    let long = "x".repeat(65);
    for bad in ["", "a b", "a/b", &long, "é"] {
        let answer = server.post_with(NEWER, &hello, &[("x-request-id", bad)]).await;
        let id = answer.headers["x-request-id"].to_str().unwrap();
        assert!(id.len() == 32 && id != bad, "{bad}");
    }
    for (path, status) in
        [("/", 200), ("/graphiql", 200), ("/graphiql/graphiql.min.js", 200), ("/graphiql/none", 404), ("/none", 404)]
    {
        let answer = server.http.get(server.url(path)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        for name in ["x-request-id", "x-content-type-options", "referrer-policy", "content-security-policy"] {
            assert!(answer.headers().contains_key(name), "{path} {name}");
        }
        assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
    }
    assert_eq!(
        server.http.post(server.url("/graphiql")).send().await.unwrap().status(),
        StatusCode::METHOD_NOT_ALLOWED
    );

    let without = Server::start_with(|settings| settings.graphiql = false).await;
    for path in ["/graphiql", "/graphiql/graphiql.min.js", "/"] {
        assert_eq!(without.http.get(without.url(path)).send().await.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[actix_web::test]
async fn pages_of_listed_origins_may_read_answers() {
    let server =
        Server::start_with(|settings| settings.allows_origin = Arc::new(|origin| origin == "https://shop.test")).await;
    let hello = json!({ "query": "{ hello }" });
    let allow = "access-control-allow-origin";
    let answer = server.post_with(JSON, &hello, &[("origin", "https://shop.test")]).await;
    assert_eq!(answer.headers[allow], "https://shop.test");
    assert!(!server.post_with(JSON, &hello, &[("origin", "https://evil.test")]).await.headers.contains_key(allow));
    for (origin, allowed) in [("https://shop.test", true), ("https://evil.test", false)] {
        let preflight = server.http.request(Method::OPTIONS, server.url("/graphql")).header("origin", origin);
        let answer = preflight.header("access-control-request-method", "POST").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(answer.headers().contains_key(allow), allowed, "{origin}");
        assert_eq!(answer.headers().contains_key("access-control-allow-headers"), allowed, "{origin}");
    }
}

#[actix_web::test]
async fn a_request_that_takes_too_long_is_a_timeout() {
    let server = Server::start_with(|settings| settings.request_timeout = Duration::from_millis(50)).await;
    let answer = server.query("{ slow }").await;
    assert_eq!((answer.status, answer.code()), (504, "TIMEOUT"));
    assert!(answer.body.get("data").is_none());
}

#[actix_web::test]
async fn stopping_finishes_what_was_accepted_and_refuses_the_rest() {
    let server = Server::start().await;
    let slow = server.query("{ slow }");
    let stop = async {
        server.world.slow_begun.notified().await;
        let drained = server.public.drain(Duration::from_secs(10));
        let meanwhile = async {
            eventually("new work is refused", async || {
                let page = server.http.get(server.url("/nowhere")).send().await.unwrap();
                let answer = server.query("{ hello }").await;
                page.status() == 503
                    && answer.status == 503
                    && answer.code() == "UNAVAILABLE"
                    && answer.headers.contains_key(RETRY_AFTER)
            })
            .await;
            server.world.go.notify_one();
        };
        tokio::join!(drained, meanwhile).0
    };
    let (answer, drained) = tokio::join!(slow, stop);
    assert_eq!(answer.data()["slow"], "done");
    assert!(drained);
    let metrics = prometheus::TextEncoder::new().encode_to_string(&server.registry.gather()).unwrap();
    for endpoint in ["/graphql", "unknown"] {
        let refused = format!(r#"souk_http_requests_total{{endpoint="{endpoint}",method="#);
        let refused = metrics.lines().find(|line| line.starts_with(&refused) && line.contains(r#"status="503""#));
        assert!(refused.is_some(), "{endpoint} in {metrics}");
    }
    server.public.stop().await;
    assert!(server.http.get(server.url("/")).send().await.is_err());
}

#[actix_web::test]
async fn a_request_for_no_path_is_answered_like_any_other() {
    let server = Server::start().await;
    let mut connection = TcpStream::connect(server.public.address()).await.unwrap();
    connection.write_all(b"OPTIONS * HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let answer = answer.to_lowercase();
    assert!(answer.starts_with("http/1.1 404 "), "{answer}");
    assert!(answer.contains("x-request-id: ") && answer.contains("x-frame-options: deny"), "{answer}");
    let metrics = prometheus::TextEncoder::new().encode_to_string(&server.registry.gather()).unwrap();
    let counted = r#"souk_http_requests_total{endpoint="unknown",method="OPTIONS",status="404"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[actix_web::test]
async fn metrics_have_a_bounded_set_of_labels() {
    let server = Server::start().await;
    server.query("{ hello }").await;
    for path in ["/a", "/b", "/graphiql/x", "/graphiql/y"] {
        server.http.get(server.url(path)).send().await.unwrap();
    }
    let text = prometheus::TextEncoder::new().encode_to_string(&server.registry.gather()).unwrap();
    assert!(text.contains(r#"souk_http_requests_total{endpoint="/graphql",method="POST",status="200"} 1"#), "{text}");
    assert!(text.contains(r#"souk_http_requests_total{endpoint="unknown",method="GET",status="404"} 2"#), "{text}");
    assert!(text.contains(r#"endpoint="/graphiql/{file}""#), "{text}");

    let series =
        |server: &Server| -> usize { server.registry.gather().iter().map(|family| family.get_metric().len()).sum() };
    let before = series(&server);
    for n in 0..50 {
        let method = Method::from_bytes(format!("INVENTED{n}").as_bytes()).unwrap();
        for path in ["/graphql", "/nowhere"] {
            let answer = Answer::of(server.http.request(method.clone(), server.url(path)).send().await.unwrap()).await;
            assert_eq!((answer.status, answer.code()), (501, "BAD_USER_INPUT"));
            assert!(answer.headers.contains_key("x-request-id") && answer.headers.contains_key("x-frame-options"));
        }
    }
    assert_eq!(series(&server), before, "a method that a client makes up leaves no series behind");
}
