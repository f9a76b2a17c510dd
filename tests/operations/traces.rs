//! One trace from a request to its mail, as a collector gets it over OTLP.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;

use crate::support::process::{ShopProcess, run};
use crate::support::{PASSWORD, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// What a collector was sent.
pub type Spans = Arc<Mutex<Vec<Span>>>;

/// A collector on a free port: its address.
pub fn collector(spans: &Spans) -> String {
    let taken = Arc::clone(spans);
    let server = HttpServer::new(move || {
        let taken = Arc::clone(&taken);
        let take = web::post().to(move |body: web::Bytes| {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            let of_scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            taken.lock().unwrap().extend(of_scopes.flat_map(|scope| scope.spans));
            async { HttpResponse::Ok().content_type("application/x-protobuf").finish() }
        });
        App::new().app_data(web::PayloadConfig::new(16 * 1024 * 1024)).route("/v1/traces", take)
    });
    let server = server.workers(1).bind("127.0.0.1:0").unwrap();
    let address = server.addrs()[0];
    actix_rt::spawn(server.run());
    format!("http://{address}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute<'a>(span: &'a Span, key: &str) -> &'a str {
    use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
    let value = span.attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.as_ref());
    match value.and_then(|value| value.value.as_ref()) {
        Some(StringValue(text)) => text,
        _ => "",
    }
}

/// The names of a span and of all above it, from itself on; the last is above what this shop has sent.
fn way_up(span: &Span, by_id: &HashMap<Vec<u8>, Span>) -> Vec<String> {
    let mut names = vec![span.name.clone()];
    let mut parent = &span.parent_span_id;
    while let Some(above) = by_id.get(parent) {
        names.push(above.name.clone());
        parent = &above.parent_span_id;
    }
    names.push(hex(parent));
    names
}

#[actix_rt::test]
async fn an_order_is_one_trace_from_its_request_to_its_mail_and_every_span_joins() {
    let spans = Spans::default();
    let endpoint = collector(&spans);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let created = ["admin", "create", "--email", "a@test.example", "--name", "A", "--password-stdin"];
    let (code, _, stderr) = run(&data, &created, &[("SOUK__AUTH__BCRYPT_COST", "4")], PASSWORD);
    assert_eq!(code, 0, "{stderr}");
    let shop = ShopProcess::start(&data, &[("SOUK__TRACES__OTLP_ENDPOINT", &endpoint)]);
    let client = shop.client();
    let (customer, staff) = (client.sign_up().await, client.sign_in("a@test.example", PASSWORD).await);
    let product = client.create_product(&staff, 10).await;

    let place = "mutation($input: OrderPlaceInput!) { orderPlace(input: $input) { order { id status } } }";
    let input = json!({ "idempotencyKey": "traced", "lines": [{ "productId": product, "quantity": 1 }] });
    let asked = client.http.post(client.url("/graphql")).bearer_auth(&customer.token);
    let asked = asked.header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    let answer = asked.json(&json!({ "query": place, "variables": { "input": input } })).send().await.unwrap();
    assert!(answer.status().is_success());

    // Spans are sent in batches, every few seconds.
    let found = eventually("the order's mail is traced", async || {
        let all = spans.lock().unwrap().clone();
        let traced: Vec<Span> = all.into_iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
        traced.iter().any(|span| span.name == "mail").then_some(traced)
    })
    .await;
    let by_id: HashMap<Vec<u8>, Span> = found.iter().map(|span| (span.span_id.clone(), span.clone())).collect();
    assert_eq!(by_id.len(), found.len(), "two spans have one id");
    for span in &found {
        assert_eq!(
            way_up(span, &by_id).last().unwrap(),
            CALLER,
            "{} does not join: {:?}",
            span.name,
            way_up(span, &by_id)
        );
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{}", span.name);
    }
    let names: BTreeSet<&str> = found.iter().map(|span| span.name.as_str()).collect();
    for name in ["request", "mutation orderPlace", "ask", "publish", "consume", "mail"] {
        assert!(names.contains(name), "no span is called {name}: {names:?}");
    }
    let consumed: BTreeSet<(&str, &str)> = found
        .iter()
        .filter(|span| span.name == "consume")
        .map(|span| (attribute(span, "group"), attribute(span, "event")))
        .collect();
    for pair in [
        ("inventory", "souk.order.placed.v1"),
        ("orders", "souk.inventory.reserved.v1"),
        ("notifications", "souk.order.confirmed.v1"),
    ] {
        assert!(consumed.contains(&pair), "{pair:?}: {consumed:?}");
    }
    let mail = found.iter().find(|span| span.name == "mail").unwrap();
    let way = way_up(mail, &by_id);
    let steps = way.iter().filter(|name| *name == "consume").count();
    assert!(steps == 3 && way[way.len() - 2] == "request", "{way:?}");
}
