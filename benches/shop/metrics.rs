//! What an operator's Prometheus has to hold and what a scrape costs, after many distinct users, products and operations; and what
//! a request costs with metrics and log against without.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use serde_json::json;

use crate::pairs::{self, graphql};
use crate::process::{Process, Settings};
use crate::shop::{Caller, furnish};
use crate::table::Table;

const DISTINCT: usize = 10_000;
const SCRAPES: usize = 200;

/// For an admin listener that can be asked.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn measure(folder: &Path, table: &mut Table) {
    let data_dir = folder.join("metrics");
    let admin = free_address();
    let settings: Settings = vec![("SOUK__ADMIN__LISTEN", admin.to_string())];
    let shop = Process::shop_with(&data_dir, &settings);
    let (_, staff) = furnish(&shop, &data_dir, &settings);
    let mut caller = Caller::new(shop.address);
    for number in 0..DISTINCT {
        let user = json!({ "email": format!("u{number}@metrics.example"), "name": "User", "password": "correct horse battery" });
        let sign_up = "mutation($input: SignUpInput!) { signUp(input: $input) { userErrors { code } } }";
        caller.query(None, sign_up, json!({ "input": user }));
        let product = json!({
            "sku": format!("M-{number}"), "name": format!("Product {number}"), "category": format!("Category {}", number % 500),
            "price": { "minorUnits": 100, "currency": "EUR" }, "available": 1,
        });
        let create = format!(
            "mutation Create{number}($input: ProductCreateInput!) {{ productCreate(input: $input) {{ product {{ id }} }} }}"
        );
        let made = caller.query(Some(&staff), &create, json!({ "input": product }));
        let id = &made["productCreate"]["product"]["id"];
        let read = format!("query Read{number}($id: ID!) {{ a{number}: product(id: $id) {{ name }} }}");
        caller.query(None, &read, json!({ "id": id }));
    }
    let text = scrape(admin);
    let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    let what = "series of /metrics after 10,000 users, products and operations";
    table.row(what, format!("{series}"), "< 2000", Some(series < 2_000));
    let cpu = shop.cpu();
    for _ in 0..SCRAPES {
        scrape(admin);
    }
    let cost = (shop.cpu() - cpu) / SCRAPES as f64 * 1e3;
    table.row("CPU of a scrape", format!("{cost:.2} ms"), "< 5 ms", Some(cost < 5.0));
    shop.stop();
    against_without(folder, table);
}

/// A shop that counts and logs as it does unless told otherwise, against one that does neither.
fn against_without(folder: &Path, table: &mut Table) {
    let without: Settings = vec![("SOUK__ADMIN__METRICS", "false".to_owned()), ("SOUK__LOG__LEVEL", "off".to_owned())];
    let shops = [("counted", Settings::new()), ("uncounted", without)].map(|(name, settings)| {
        let data_dir = folder.join(name);
        let shop = Process::shop_with(&data_dir, &settings);
        furnish(&shop, &data_dir, &settings);
        shop
    });
    for (what, request) in [("page of 20", pairs::PAGE), ("{__typename}", "{__typename}")] {
        let requests = [graphql(None, request, json!({})), graphql(None, request, json!({}))];
        table.compare(&format!("CPU a request, {what}: metrics and log on / off"), pairs::measure(&shops, &requests));
    }
    shops.into_iter().for_each(Process::stop);
}

/// The body of `/metrics`.
pub fn scrape(admin: SocketAddr) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nhost: souk\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains(" 200 "), "{head}");
    body.to_owned()
}
