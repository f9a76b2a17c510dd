//! Mail under a long queue: how soon a critical one arrives, and how exactly standard mail keeps its pace.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::process::Process;
use crate::queue;
use crate::shop::Caller;
use crate::sink::Sink;
use crate::table::Table;

const QUEUED: usize = 50_000;
const READERS: usize = 1_000;
/// Of standard mails, a second: the shop's default.
const PACE: f64 = 50.0;
const SECONDS: u32 = 20;
/// New accounts a second, each with its welcome mail.
const SIGN_UPS: u32 = 10;

pub fn measure(folder: &Path, table: &mut Table) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let data_dir = folder.join("mails");
    let readers: Vec<_> = (0..READERS).map(|number| (format!("reader{number}@bench.example"), true)).collect();
    let sink = runtime.block_on(async {
        let readers = queue::people(&data_dir, &readers).await;
        queue::promotions(&data_dir, &readers, QUEUED).await;
        Sink::start().await
    });
    let shop = Process::shop_with(
        &data_dir,
        &vec![
            ("SOUK__MAIL__KIND", "smtp".to_owned()),
            ("SOUK__MAIL__URI", sink.uri()),
            ("SOUK__NOTIFICATIONS__STANDARD_PER_RECIPIENT_PER_DAY", "10000".to_owned()),
        ],
    );
    // The events of what was queued are published first, and the first burst is no pace.
    runtime.block_on(sink.wait_for(100));

    let mut caller = Caller::new(shop.address);
    let (began, first) = (Instant::now(), sink.count());
    let mut asked = HashMap::new();
    for number in 0..SECONDS * SIGN_UPS {
        let due = began + Duration::from_secs(1) * number / SIGN_UPS;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let email = format!("new{number}@bench.example");
        let input = json!({ "email": email, "name": "New", "password": "correct horse battery" });
        asked.insert(email, due);
        let mutation = "mutation($input: SignUpInput!) { signUp(input: $input) { userErrors { message } } }";
        let made = caller.query(None, mutation, json!({ "input": input }));
        assert_eq!(made["signUp"]["userErrors"], json!([]), "an account is made");
    }
    std::thread::sleep((began + Duration::from_secs(SECONDS.into())).saturating_duration_since(Instant::now()));
    let standard = |taken: &[crate::sink::Taken]| taken.iter().filter(|mail| mail.to.starts_with("reader")).count();
    let sent = standard(&sink.taken()[first..]) as f64 / began.elapsed().as_secs_f64();

    runtime.block_on(async {
        let all = asked.len();
        while sink.count() - standard(&sink.taken()) < all {
            sink.wait_for(sink.count() + 1).await;
        }
    });
    let mut waits: Vec<f64> = sink
        .taken()
        .iter()
        .filter_map(|mail| Some(mail.at.duration_since(*asked.get(&mail.to)?).as_secs_f64() * 1e3))
        .collect();
    waits.sort_by(f64::total_cmp);
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
    let what = "signUp to its mail at the SMTP server, 50,000 others queued";
    table.row(&format!("{what}, p50"), format!("{:.0} ms", at(0.5)), "", None);
    table.row(&format!("{what}, p99"), format!("{:.0} ms", at(0.99)), "< 1000 ms", Some(at(0.99) < 1_000.0));
    let off = (sent / PACE - 1.0) * 100.0;
    let figure = format!("{sent:.2}/s ({off:+.1} %)");
    table.row("standard mail over 20 s, wanted 50/s", figure, "within 5 %", Some(off.abs() <= 5.0));
    shop.stop();
}
