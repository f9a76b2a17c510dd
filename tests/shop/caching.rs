//! What clients may keep: answers about the catalogue, and the schema's text.

use reqwest::header::{AUTHORIZATION, CACHE_CONTROL, ETAG, HeaderMap, IF_NONE_MATCH, VARY};
use serde_json::json;

use crate::support::{TestApp, eventually, spawn_app, spawn_app_with};

const NEWER: &str = "application/graphql-response+json";

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    fn tag(&self) -> &str {
        self.headers[ETAG].to_str().unwrap()
    }

    fn is_kept_by_nobody(&self) -> bool {
        self.headers[CACHE_CONTROL] == "no-store" && !self.headers.contains_key(ETAG)
    }
}

fn get(app: &TestApp, query: &str) -> reqwest::RequestBuilder {
    app.http.get(app.url("/graphql")).query(&[("query", query)]).header("accept", NEWER)
}

#[actix_rt::test]
async fn an_anonymous_query_of_the_catalogue_by_get_is_answered_304_until_it_changes() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let id = app.create_product(&staff, 7).await;
    let query = format!("{{ product(id: \"{id}\") {{ id available }} }}");
    let first = Answer::of(get(&app, &query)).await;
    assert_eq!((first.status, &first.headers[CACHE_CONTROL]), (200, &"no-cache".parse().unwrap()));
    assert!(first.text.contains("\"available\":7"), "{}", first.text);
    for name in ["Accept", "Authorization", "Origin"] {
        assert!(first.headers[VARY].to_str().unwrap().contains(name));
    }
    let known = Answer::of(get(&app, &query).header(IF_NONE_MATCH, first.tag())).await;
    assert_eq!((known.status, &*known.text, known.tag()), (304, "", first.tag()));
    assert_eq!(known.headers[VARY], first.headers[VARY]);
    let older = Answer::of(get(&app, &query).header("accept", "application/json")).await;
    assert_eq!((older.status, &older.text), (200, &first.text));

    let adjust =
        "mutation($id: ID!) { stockAdjust(productId: $id, delta: 1, reason: \"test\") { userErrors { code } } }";
    app.query(Some(&staff.token), adjust, json!({ "id": id })).await;
    let changed = eventually("the change is told", async || {
        let answer = Answer::of(get(&app, &query).header(IF_NONE_MATCH, first.tag())).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(changed.text.contains("\"available\":8") && changed.tag() != first.tag(), "{}", changed.text);
}

#[actix_rt::test]
async fn nothing_else_may_be_kept() {
    let app = spawn_app().await;
    let customer = app.sign_up().await;
    let catalogue = "{ categories { name } }";
    let bearer = format!("Bearer {}", customer.token);
    let missing = "{ product(id: \"prd_00000000000000000000000001\") { id } }";
    assert!(!Answer::of(get(&app, missing)).await.is_kept_by_nobody(), "null is an answer");
    let post = app.http.post(app.url("/graphql")).json(&json!({ "query": catalogue }));
    let cases = [
        ("with a token", get(&app, catalogue).header(AUTHORIZATION, bearer)),
        ("with an empty token", get(&app, catalogue).header(AUTHORIZATION, "")),
        ("with a bad token", get(&app, catalogue).header(AUTHORIZATION, "Bearer x")),
        ("by POST", post),
        ("about who asks", get(&app, "{ me { id } categories { name } }")),
        ("about anything", get(&app, "{ node(id: \"prd_00000000000000000000000001\") { id } }")),
        ("with an error", get(&app, "{ products(first: 1000) { totalCount } }")),
        ("invalid", get(&app, "{ nonsense }")),
        ("a mutation", get(&app, "mutation { __typename }")),
    ];
    for (name, request) in cases {
        let answer = Answer::of(request.header(IF_NONE_MATCH, "*")).await;
        assert!(answer.is_kept_by_nobody() && answer.status != 304, "{name}: {} {:?}", answer.status, answer.headers);
    }
}

#[actix_rt::test]
async fn the_schemas_text_is_served_where_introspection_is_on() {
    let app = spawn_app().await;
    let schema = Answer::of(app.http.get(app.url("/schema.graphql"))).await;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
    assert_eq!((schema.status, schema.text.as_str()), (200, &*std::fs::read_to_string(path).unwrap()));
    let known = Answer::of(app.http.get(app.url("/schema.graphql")).header(IF_NONE_MATCH, schema.tag())).await;
    assert_eq!((known.status, &*known.text), (304, ""));
    assert_eq!(Answer::of(app.http.post(app.url("/schema.graphql"))).await.status, 405);
    drop(app);

    for hardened in [false, true] {
        let app = spawn_app_with(|config| {
            config.gateway.hardened = hardened;
            config.gateway.introspection = hardened;
        })
        .await;
        let hidden = Answer::of(app.http.get(app.url("/schema.graphql"))).await;
        assert_eq!(hidden.status, 404, "{}", hidden.text);
    }
}
