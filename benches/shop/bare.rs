//! The shop and a bare actix-web handler in one process: what the gateway adds to a request's CPU time.

use std::net::TcpListener;
use std::path::Path;

use actix_web::{App, HttpResponse, HttpServer, web};
use souk::config::Config;

/// Sizes of the two constant answers, as the queries under measurement have them.
pub const SMALL: usize = 230;
pub const PAGE: usize = 3_600;

fn constant(size: usize) -> &'static str {
    let text = format!("{{\"data\":\"{}\"}}", "x".repeat(size - 11));
    Box::leak(text.into_boxed_str())
}

fn json(text: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(text)
}

/// Serves until its stdin closes; the addresses of the shop and of the bare handler are its first line.
pub fn serve(data_dir: &str) {
    let mut config = Config::for_testing(Path::new(data_dir));
    config.limits.enabled = false;
    actix_rt::System::new().block_on(async move {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let shop = souk::app::App::start(config).await.expect("the shop starts");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bare = listener.local_addr().unwrap();
        let (small, page) = (constant(SMALL), constant(PAGE));
        let server = HttpServer::new(move || {
            App::new()
                .route("/small", web::get().to(move || async move { json(small) }))
                .route("/page", web::get().to(move || async move { json(page) }))
        })
        .workers(workers)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
        actix_rt::spawn(server);
        println!("{} {bare}", shop.public_address().expect("a shop of every role is a gateway"));
        let closed = actix_rt::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
        shop.run_until(async { drop(closed.await) }).await;
    });
}
