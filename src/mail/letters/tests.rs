use mail_parser::{HeaderValue, Message, MessageParser};
use uuid::Uuid;

use super::*;
use crate::config::MailSender;
use crate::domain::ids::{CampaignId, MailRequestId, ProductId, TypedId};
use crate::domain::money::Money;
use crate::domain::notifications::content::OrderedItem;
use crate::mail::message;

const ORIGIN: &str = "https://shop.example";

fn eur(minor_units: i64) -> Money {
    Money::new(minor_units, "EUR".parse().unwrap())
}

fn order(status: OrderStatus, products: &[&str]) -> OrderNews {
    let line = |name: &&str| OrderedItem { name: (*name).to_owned(), quantity: 2, total: eur(9_980) };
    OrderNews {
        number: "261127-AAAA-BBBB".into(),
        status,
        lines: products.iter().map(line).collect(),
        total: eur(9_980),
        note: None,
        missing: Vec::new(),
    }
}

fn promotion(message: &str, products: &[&str]) -> Content {
    Content::Promotion {
        campaign_id: CampaignId::from_uuid(Uuid::from_u128(5)),
        subject: "Lamps".into(),
        message: message.into(),
        products: products.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn digest(name: &str, reason: &str) -> Content {
    let product_id = ProductId::from_uuid(Uuid::from_u128(3));
    Content::Digest { items: vec![RecommendedItem { product_id, name: name.into(), reason: reason.into() }] }
}

fn request_id() -> MailRequestId {
    MailRequestId::from_uuid(Uuid::from_u128(7))
}

const TOKEN: &str = "t0k-en_1";

fn notification_id() -> NotificationId {
    NotificationId::from_uuid(Uuid::from_u128(0x0192_3456_789a_7bcd_8ef0_1234_5678_9abc))
}

/// As it goes over the wire.
struct Written(Vec<u8>);

impl Written {
    fn of(letter: &Letter<'_>) -> Self {
        let mail = Letters::new(ORIGIN).write(letter).unwrap();
        let bytes = message::bytes(&mail, &MailSender::parse("Søren's Souk <souk@shop.example>").unwrap());
        assert!(bytes.is_ascii());
        let longest = bytes.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
        assert!(longest < Some(999), "a line of {longest:?} bytes");
        Self(bytes)
    }

    fn parsed(&self) -> Message<'_> {
        MessageParser::default().parse(&self.0).unwrap()
    }

    fn text(&self) -> String {
        self.parsed().body_text(0).unwrap().replace("\r\n", "\n")
    }

    fn html(&self) -> String {
        self.parsed().body_html(0).unwrap().into_owned()
    }
}

fn letter<'a>(to: &'a Email, name: &'a str, subject: &'a str, content: &'a Content) -> Letter<'a> {
    Letter {
        notification_id: notification_id(),
        to,
        name,
        subject,
        at: "2026-11-27T08:00:00Z".parse().unwrap(),
        content,
        link_token: content.request_id().map(|_| TOKEN),
        unsubscribe_token: None,
    }
}

fn ada() -> Email {
    Email::parse("Ada@example.com").unwrap()
}

fn written(content: &Content) -> Written {
    Written::of(&letter(&ada(), "Ada", "News", content))
}

fn every_content() -> Vec<Content> {
    let orders = OrderStatus::ALL.into_iter().filter(|status| *status != OrderStatus::Pending);
    let mut all: Vec<_> = orders.map(|status| Content::Order(order(status, &["Brass Lamp", "Opal Pendant"]))).collect();
    all.extend([
        Content::Welcome { request_id: Some(request_id()) },
        Content::Welcome { request_id: None },
        Content::Verification { request_id: request_id() },
        Content::PasswordReset { request_id: request_id() },
        Content::PasswordChanged,
        promotion("All lamps are cheaper.", &["Brass Lamp"]),
        digest("Brass Lamp", "Goes with shades"),
    ]);
    all
}

#[test]
fn every_mail_has_its_headers_once_and_both_parts() {
    let id = notification_id().to_string();
    for content in every_content() {
        let written = written(&content);
        let mail = written.parsed();
        for (name, wanted) in [
            ("X-Souk-Notification", id.clone()),
            ("Message-ID", format!("<{id}@shop.example>")),
            ("Auto-Submitted", "auto-generated".into()),
            ("MIME-Version", "1.0".into()),
            ("Date", "Fri, 27 Nov 2026 08:00:00 +0000".into()),
            ("Subject", "News".into()),
        ] {
            let found: Vec<_> = mail.headers_raw().filter(|(own, _)| own.eq_ignore_ascii_case(name)).collect();
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].1.trim(), wanted);
        }
        let from = mail.from().unwrap().first().unwrap();
        assert_eq!((from.name(), from.address()), (Some("Søren's Souk"), Some("souk@shop.example")));
        assert_eq!((mail.text_body.len(), mail.html_body.len()), (1, 1));
        assert!(written.text().starts_with("Hello Ada,\n\n"), "{}", written.text());
        assert!(mail.header_raw("List-Unsubscribe").is_none());
    }
}

#[test]
fn a_confirmation_names_number_and_products_in_both_parts() {
    let content = Content::Order(order(OrderStatus::Confirmed, &["Brass Lamp", "Opal Pendant"]));
    let written = written(&content);
    assert_eq!(
        written.text(),
        "Hello Ada,\n\nyour order 261127-AAAA-BBBB is confirmed. We are getting it ready.\n\n  2 x Brass Lamp: 99.80 EUR\n  \
         2 x Opal Pendant: 99.80 EUR\n\n  Total: 99.80 EUR"
    );
    for words in ["261127-AAAA-BBBB", "Brass Lamp", "Opal Pendant", "99.80 EUR"] {
        assert!(written.html().contains(words), "{words}");
    }
}

#[test]
fn each_news_of_an_order_reads_as_itself() {
    let texts: std::collections::BTreeSet<_> =
        every_content()[..5].iter().map(|content| written(content).text()).collect();
    assert_eq!(texts.len(), 5);
    let mut rejected = order(OrderStatus::Rejected, &["Brass Lamp", "Opal Pendant"]);
    rejected.missing = vec!["Opal Pendant".into()];
    rejected.note = Some("Sorry & thanks".into());
    let written = written(&Content::Order(rejected));
    assert!(written.text().contains("\nSorry & thanks\n"), "{}", written.text());
    assert!(written.text().ends_with("\n\nNot available:\n\n  * Opal Pendant"), "{}", written.text());
    assert!(written.html().contains("Sorry &#38; thanks"), "{}", written.html());
}

#[test]
fn a_link_stands_alone_on_a_line_and_other_mails_have_none() {
    for (content, page) in [
        (Content::Welcome { request_id: Some(request_id()) }, Some("verify")),
        (Content::Verification { request_id: request_id() }, Some("verify")),
        (Content::PasswordReset { request_id: request_id() }, Some("reset")),
        (Content::Welcome { request_id: None }, None),
        (Content::PasswordChanged, None),
    ] {
        let written = written(&content);
        let (text, html) = (written.text(), written.html());
        match page {
            Some(page) => {
                let link = format!("https://shop.example/mail/{page}?token={TOKEN}");
                assert!(text.lines().any(|line| line == link), "{text}");
                assert!(html.contains(&format!("href=\"{link}\"")), "{html}");
            }
            None => assert!(!text.contains("://") && !html.contains("href") && !text.contains("token"), "{text}"),
        }
    }
}

#[test]
fn standard_mail_can_be_ended_with_one_click_and_by_a_link_in_both_parts() {
    let (to, content) = (ada(), promotion("Lamps", &[]));
    let written = Written::of(&Letter { unsubscribe_token: Some("un-sub.1"), ..letter(&to, "Ada", "Lamps", &content) });
    let link = "https://shop.example/mail/unsubscribe?token=un-sub.1";
    let mail = written.parsed();
    assert_eq!(mail.header_raw("List-Unsubscribe").unwrap().trim(), format!("<{link}>"));
    assert_eq!(mail.header_raw("List-Unsubscribe-Post").unwrap().trim(), "List-Unsubscribe=One-Click");
    assert!(written.text().lines().any(|line| line == link), "{}", written.text());
    assert!(written.html().contains(&format!("href=\"{link}\"")), "{}", written.html());
}

#[test]
fn tokens_that_no_link_can_carry_are_refused() {
    for token in ["", "a b", "a\r\nb", "a&b", "a\"b", "é"] {
        let (to, content) = (ada(), Content::PasswordReset { request_id: request_id() });
        let letter = letter(&to, "Ada", "News", &content);
        for broken in
            [Letter { link_token: Some(token), ..letter }, Letter { unsubscribe_token: Some(token), ..letter }]
        {
            assert!(Letters::new(ORIGIN).write(&broken).is_err(), "{token:?}");
        }
        let tokenless = Letter { link_token: None, ..letter };
        assert!(Letters::new(ORIGIN).write(&tokenless).is_err(), "a reset without its link is no reset");
    }
}

// ---- Hostile input ----

/// Texts that have broken mails and pages.
const SEEDS: &[&str] = &[
    "Ada\r\nBcc: eve@evil.example",
    "Ada\nSubject: other",
    "Ada\r\n\r\n<script>alert(1)</script>",
    "Ada\rX",
    "tab\there",
    "nul\0",
    "next\u{85}line",
    "line\u{2028}separator\u{2029}",
    "<script>alert('x')</script>",
    "\"><img src=x onerror=alert(1)>",
    "</td></table><a href=\"https://evil.example\">click</a>",
    "{{ frame.name }}{% include \"/etc/passwd\" %}{# comment #}",
    "${7*7} #{7*7} <%= 7*7 %>",
    "=?utf-8?Q?=0D=0ABcc:_eve@evil.example?=",
    "=?utf-8?B?DQpCY2M6IGV2ZUBldmlsLmV4YW1wbGU=?=",
    "=?x",
    "a@evil.example, Ada",
    "Ada <eve@evil.example>",
    "Ada\" <eve@evil.example>, \"x",
    "back\\slash \\\" quote",
    "(comment) Ada; group: x;",
    "Grüße aus Köln",
    "שלום עולם",
    "\u{202e}drawkcab\u{202c}",
    "👩‍👩‍👧‍👦 family",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙a̴l̷g̸o̵",
    "\u{feff}bom",
    " leading and trailing ",
    "two  spaces   inside",
    ".",
    "..",
    "\u{a0}",
    "' OR 1=1; --",
    "&lt;already&gt; &amp;",
];

/// The seeds, joined in pairs, repeated until they are long: the same 1,000 in every run.
fn hostile_texts() -> Vec<String> {
    let mut texts: Vec<String> = SEEDS.iter().map(|seed| (*seed).to_owned()).collect();
    texts.extend(["x".repeat(4_000), "é".repeat(2_000), "word ".repeat(800), "<b>".repeat(1_000)]);
    for (at, first) in SEEDS.iter().cycle().enumerate() {
        if texts.len() >= 1_000 {
            break;
        }
        let second = SEEDS[(at * 7 + at / SEEDS.len()) % SEEDS.len()];
        texts.push(format!("{first} {}{second}", at % 100).repeat(1 + at % 3));
    }
    texts.truncate(1_000);
    texts
}

/// No tag and no attribute of it is alive: what it says is text.
fn assert_escaped(html: &str, text: &str) {
    for part in ["<script", "<img", "<b>", "</td></table><a", "<eve"] {
        assert!(!text.contains(part) || !html.contains(part), "{part} of {text:?} is alive in {html}");
    }
}

#[test]
fn of_1000_hostile_names_and_subjects_each_is_refused_or_comes_back_as_it_was() {
    let texts = hostile_texts();
    let to = ada();
    let mut refused = 0;
    for text in &texts {
        let content = promotion(text, &[text]);
        let wrote = Letters::new(ORIGIN).write(&letter(&to, text, text, &content));
        if text.chars().any(char::is_control) {
            assert!(wrote.is_err(), "{text:?}");
            refused += 1;
            continue;
        }
        let written = Written::of(&letter(&to, text, text, &content));
        let mail = written.parsed();
        let recipients: Vec<_> = mail.to().unwrap().iter().collect();
        assert_eq!(recipients.len(), 1, "{text:?}");
        assert_eq!(recipients[0].address(), Some("Ada@example.com"), "{text:?}");
        let trimmed = |value: &str| value.trim_matches([' ', '\u{a0}']).to_owned();
        assert_eq!(trimmed(recipients[0].name().unwrap_or_default()), trimmed(text), "the name");
        assert_eq!(trimmed(mail.subject().unwrap_or_default()), trimmed(text), "the subject");
        let names: Vec<_> = mail.headers_raw().map(|(name, _)| name).collect();
        let wanted = [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "MIME-Version",
            "Auto-Submitted",
            "X-Souk-Notification",
            "Content-Type",
        ];
        assert_eq!(names, wanted, "{text:?}");
        assert!(matches!(mail.header("Cc"), None | Some(HeaderValue::Empty)));
        assert!(written.text().contains(text.as_str()), "the message is in the text part: {text:?}");
        assert_escaped(&written.html(), text);
    }
    assert!(refused > 100 && refused < 500, "both sorts are there: {refused} refused");
}

#[test]
fn product_names_reasons_and_notes_are_escaped_too() {
    for text in hostile_texts() {
        let mut order = order(OrderStatus::Rejected, &[&text]);
        (order.note, order.missing) = (Some(text.clone()), vec![text.clone()]);
        for content in [Content::Order(order), digest(&text, &text)] {
            assert_escaped(&written(&content).html(), &text);
        }
    }
}

#[test]
fn an_address_with_every_character_that_one_may_have_is_the_only_recipient() {
    for text in [
        "o'neil+a=b@x-y.example",
        "!#$%&'*+-/=?^_`{|}~@example.com",
        "a.b.c@xn--bcher-kva.example",
        "{{x}}@example.com",
    ] {
        let to = Email::parse(text).unwrap();
        let written = Written::of(&letter(&to, "A, B \"C\" <d@e.fr>", "News", &Content::PasswordChanged));
        let mail = written.parsed();
        let recipients: Vec<_> = mail.to().unwrap().iter().map(|one| one.address().unwrap().to_owned()).collect();
        assert_eq!(recipients, [text]);
    }
}
