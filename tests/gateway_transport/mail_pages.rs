//! The pages behind the links of mails.

use reqwest::{Method, Response};
use souk::actors::errors::DomainError;

use crate::harness::Server;

const FORM: &str = "application/x-www-form-urlencoded";

async fn get(server: &Server, path: &str) -> Response {
    server.http.get(server.url(path)).send().await.unwrap()
}

async fn post(server: &Server, path: &str, content_type: &str, body: &str) -> Response {
    let request = server.http.post(server.url(path)).header("content-type", content_type);
    request.body(body.to_owned()).send().await.unwrap()
}

fn actions(server: &Server) -> Vec<String> {
    std::mem::take(&mut server.world.mail_actions.lock().unwrap())
}

#[actix_rt::test]
async fn opening_a_link_does_nothing_and_its_button_acts() {
    let server = Server::start().await;
    for (action, body, done) in [
        ("verify", "", "verify"),
        ("unsubscribe", "", "unsubscribe"),
        ("reset", "password=correct+horse+%C3%A9", "reset to correct horse é"),
    ] {
        let path = format!("/mail/{action}?token=good-1");
        for method in [Method::GET, Method::HEAD] {
            let opened = server.http.request(method, server.url(&path)).send().await.unwrap();
            assert_eq!(opened.status(), 200, "{action}");
        }
        assert_eq!(actions(&server), Vec::<String>::new(), "{action}");
        let acted = post(&server, &path, FORM, body).await;
        assert_eq!(acted.status(), 200, "{action}");
        assert!(!acted.text().await.unwrap().contains("<form"), "{action}");
        assert_eq!(actions(&server), [done]);
    }
}

#[actix_rt::test]
async fn one_click_ends_mails_whatever_form_the_body_has_and_again() {
    let server = Server::start().await;
    let path = "/mail/unsubscribe?token=good-1";
    let multipart = "--x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--x--\r\n";
    for (content_type, body) in [
        (FORM, "List-Unsubscribe=One-Click"),
        (FORM, "List-Unsubscribe=One-Click"),
        ("multipart/form-data; boundary=x", multipart),
    ] {
        assert_eq!(post(&server, path, content_type, body).await.status(), 200, "{content_type}");
    }
    assert_eq!(actions(&server).len(), 3);
    let bad = post(&server, "/mail/unsubscribe?token=bad", FORM, "List-Unsubscribe=One-Click").await;
    assert_eq!(bad.status(), 400);
    assert!(actions(&server).is_empty());
}

#[actix_rt::test]
async fn a_page_may_load_nothing_is_not_kept_and_tells_nobody_its_address() {
    let server = Server::start().await;
    let pages = [
        get(&server, "/mail/reset?token=good-1").await,
        get(&server, "/mail/verify").await,
        post(&server, "/mail/verify?token=bad", FORM, "").await,
        post(&server, "/mail/verify?token=good-1", FORM, "").await,
    ];
    for page in pages {
        let header = |name: &str| page.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
    }
}

#[actix_rt::test]
async fn nothing_of_a_request_comes_back_in_a_page_and_broken_links_do_nothing() {
    let server = Server::start().await;
    let hostile = [
        "",
        "?token=",
        "?token=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "?token=a%0D%0ASet-Cookie:x",
        "?token=a%00b",
        "?token=good-1&token=good-2",
        "?other=good-1",
        "?token=%FF%FE",
        "?token=good%20",
    ];
    let long = format!("?token={}", "a".repeat(5_000));
    for query in hostile.into_iter().chain([long.as_str()]) {
        for action in ["verify", "reset", "unsubscribe"] {
            let path = format!("/mail/{action}{query}");
            for page in [get(&server, &path).await, post(&server, &path, FORM, "password=correct+horse").await] {
                assert_eq!(page.status(), 400, "{path}");
                assert!(page.headers().get("set-cookie").is_none());
                let text = page.text().await.unwrap();
                assert!(!text.contains("script") && !text.contains("good") && !text.contains("aaaa"), "{text}");
            }
        }
    }
    assert!(actions(&server).is_empty());
    assert_eq!(get(&server, "/mail/other?token=good-1").await.status(), 404);
    let put = server.http.put(server.url("/mail/verify?token=good-1")).send().await.unwrap();
    assert_eq!((put.status().as_u16(), put.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD, POST"));
    assert!(actions(&server).is_empty());
}

#[actix_rt::test]
async fn a_password_is_taken_from_the_pages_own_form_only() {
    let server = Server::start().await;
    let path = "/mail/reset?token=good-1";
    let long = format!("password={}", "x".repeat(40_000));
    for (content_type, body, status) in [
        ("application/json", "{\"password\":\"correct horse\"}", 415),
        ("text/plain", "password=correct+horse", 415),
        (FORM, "", 400),
        (FORM, "other=correct+horse", 400),
        (FORM, "password=one&password=two", 400),
        (FORM, long.as_str(), 413),
    ] {
        let refused = post(&server, path, content_type, body).await;
        assert_eq!(refused.status(), status, "{content_type} {body:.40}");
        assert!(refused.text().await.unwrap().contains("<form"), "the form is there again: {body:.40}");
    }
    assert!(actions(&server).is_empty());
    assert_eq!(post(&server, path, FORM, "password=correct+horse").await.status(), 200);
}

#[actix_rt::test]
async fn a_refusal_is_said_in_words_and_a_fault_without_its_cause() {
    let server = Server::start().await;
    let fail = |failure| *server.world.mail_failure.lock().unwrap() = Some(failure);
    let path = "/mail/reset?token=good-1";
    fail(DomainError::WeakPassword("a password has at least 8 characters".into()));
    let weak = post(&server, path, FORM, "password=short").await;
    assert_eq!(weak.status(), 400);
    let text = weak.text().await.unwrap();
    assert!(text.contains("at least 8 characters") && text.contains("<form"), "{text}");
    for fault in [
        DomainError::Unavailable("disk /secret is full".into()),
        DomainError::Internal("secret".into()),
        DomainError::Timeout,
        DomainError::Busy { retry_after_ms: 250 },
    ] {
        fail(fault);
        let failed = post(&server, path, FORM, "password=correct+horse").await;
        assert_eq!((failed.status().as_u16(), failed.headers()["retry-after"].to_str().unwrap()), (503, "1"));
        assert!(!failed.text().await.unwrap().contains("secret"));
    }
    assert_eq!(post(&server, path, FORM, "password=correct+horse").await.status(), 200);
}
