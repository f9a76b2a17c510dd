//! The SMTP adapter and a real server of its kind, with TLS and sign-in: `scripts/servers up smtp`.

use std::path::PathBuf;
use std::sync::LazyLock;

use mail_parser::MessageParser;
use souk::config::{MailConfig, SecretUri};
use souk::mail::smtp::SmtpMailer;
use souk::mail::{DeliveryFailure, FailureClass};

use super::*;

/// The server that `scripts/servers` tells of.
struct RealServer {
    /// With a user and a password that it knows, and `tls=starttls`.
    uri: String,
    /// Of a certificate that nobody else has signed.
    certificate: PathBuf,
    /// Where it keeps what it took.
    mails: PathBuf,
}

static SERVER: LazyLock<RealServer> = LazyLock::new(|| {
    let given = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| panic!("a test on a real server needs {name}; scripts/test gives it"))
    };
    RealServer {
        uri: given("SOUK_TEST_SMTP_URI"),
        certificate: given("SOUK_TEST_SMTP_CERTIFICATE").into(),
        mails: given("SOUK_TEST_SMTP_MAILS").into(),
    }
});

/// A production's mailer: it must have TLS.
fn mailer(uri: &str, trusted: PathBuf) -> SmtpMailer {
    let config = MailConfig { uri: SecretUri::new(uri), tls_ca_file: trusted, ..MailConfig::default() };
    SmtpMailer::new(&config, sender(), true).unwrap()
}

/// The mails of this id that the server has kept, as bytes.
fn kept(id: NotificationId) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(&SERVER.mails).unwrap().map(|file| file.unwrap().path());
    let mails = files.filter(|file| file.extension().is_some_and(|own| own == "eml"));
    let mails = mails.map(|file| std::fs::read(file).unwrap());
    mails.filter(|bytes| header(bytes, "X-Souk-Notification") == id.to_string()).collect()
}

fn header(bytes: &[u8], name: &str) -> String {
    let mail = MessageParser::default().parse(bytes).unwrap();
    mail.header_raw(name).unwrap_or_default().trim().to_owned()
}

async fn refused(mailer: &SmtpMailer) -> DeliveryFailure {
    let id = new_id();
    assert!(!mailer.is_there().await);
    let failure = mailer.deliver(&mail(id, "ada@example.com")).await.unwrap_err();
    assert!(kept(id).is_empty(), "nothing arrives that was refused");
    failure
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_SMTP_URI; scripts/test gives it"]
async fn a_mail_goes_signed_in_and_encrypted_to_a_server_whose_certificate_is_trusted() {
    let mailer = mailer(&SERVER.uri, SERVER.certificate.clone());
    assert!(mailer.is_there().await);
    // The second one goes over the connection of the first.
    for to in ["ada@example.com", "grace@example.com"] {
        let id = new_id();
        mailer.deliver(&mail(id, to)).await.unwrap();
        let mails = kept(id);
        let [bytes] = mails.as_slice() else { panic!("{} mails", mails.len()) };
        let came = header(bytes, "X-Sink");
        assert!(came.starts_with("TLSv1.") && came.ends_with(" souk"), "it came {came}");
        assert_eq!(header(bytes, "Message-ID"), format!("<{id}@shop.example>"));
    }
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_SMTP_URI; scripts/test gives it"]
async fn a_wrong_password_is_not_reached_and_says_that_the_sign_in_was_refused() {
    let (_, host) = SERVER.uri.split_once('@').unwrap();
    for who in ["souk:wrong", "nobody:souk"] {
        let failure = refused(&mailer(&format!("smtp://{who}@{host}"), SERVER.certificate.clone())).await;
        assert_eq!(failure.class, FailureClass::NotReached);
        assert_eq!(failure.reason, "sign-in: the server answered 535 5.7.8");
    }
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_SMTP_URI; scripts/test gives it"]
async fn a_certificate_that_nobody_trusts_is_not_reached_and_no_password_is_told() {
    let failure = refused(&mailer(&SERVER.uri, PathBuf::new())).await;
    assert_eq!(failure.class, FailureClass::NotReached);
    assert!(failure.reason.starts_with("TLS: invalid peer certificate"), "{failure}");
}
