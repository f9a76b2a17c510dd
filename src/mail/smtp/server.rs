//! The mail server of `mail.uri`: how a connection to it is opened, encrypted and signed in.

use std::io;
use std::path::Path;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Stage;
use crate::config::Uri;

/// For each of the host's addresses, so that one that does not answer leaves time for the next.
const CONNECT: Duration = Duration::from_secs(10);
/// What a certificate begins with in a PEM file.
const PEM_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// `mail.uri` names no server that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("mail.uri: {0}")]
    Uri(String),
    #[error("mail.uri: no TLS can be prepared for this host: {0}")]
    Tls(#[source] Error),
    #[error("mail.tls_ca_file: {0}")]
    CaFile(#[source] io::Error),
    #[error("mail.tls_ca_file: it holds no certificate that can be read")]
    NoCertificate,
}

pub(super) struct Server {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    /// What this machine calls itself.
    hello: ClientId,
}

enum Tls {
    None,
    /// Where the server offers it.
    Offered(TlsParameters),
    Required(TlsParameters),
    /// From the first byte.
    Implicit(TlsParameters),
}

impl Server {
    /// `smtp://[user:password@]host[:port][?tls=starttls|implicit|none]`, already checked by the configuration.
    /// Without a file (an empty path) only the system's authorities are trusted.
    pub fn new(text: &str, ca_file: &Path, production: bool) -> Result<Self, ServerError> {
        let uri = Uri::parse(text).map_err(ServerError::Uri)?;
        let [endpoint] = uri.endpoints.as_slice() else {
            return Err(ServerError::Uri("it names more than one host".into()));
        };
        let host = endpoint.host.clone();
        let own_authority = trusted(ca_file)?;
        let parameters = || {
            let mut parameters = TlsParameters::builder(host.clone());
            if let Some(authority) = own_authority.clone() {
                parameters = parameters.add_root_certificate(authority);
            }
            parameters.build().map_err(ServerError::Tls)
        };
        let (tls, usual_port) = match uri.option("tls") {
            Some("none") if !production => (Tls::None, 25),
            Some("implicit") => (Tls::Implicit(parameters()?), 465),
            None if !production => (Tls::Offered(parameters()?), 587),
            None | Some("starttls") => (Tls::Required(parameters()?), 587),
            Some(other) => return Err(ServerError::Uri(format!("tls={other} is refused"))),
        };
        let credentials = uri.user.clone().map(|user| Credentials::new(user, uri.password.clone().unwrap_or_default()));
        Ok(Self { port: endpoint.port.unwrap_or(usual_port), host, tls, credentials, hello: ClientId::default() })
    }

    /// A stream that sends each piece at once. lettre writes a mail and its end in two pieces; held back until the first
    /// is acknowledged, the second would cost each mail some 40 ms.
    async fn prompt_stream(&self) -> Option<TcpStream> {
        for address in lookup_host((self.host.as_str(), self.port)).await.ok()? {
            if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(address)).await {
                return stream.set_nodelay(true).is_ok().then_some(stream);
            }
        }
        None
    }

    /// A connection ready for its first mail. `stage` tells how far it came.
    pub async fn connect(&self, stage: &mut Stage) -> Result<AsyncSmtpConnection, Error> {
        *stage = Stage::Connection;
        let implicit = match &self.tls {
            Tls::Implicit(parameters) => Some(parameters.clone()),
            Tls::None | Tls::Offered(_) | Tls::Required(_) => None,
        };
        let prompt = if implicit.is_none() { self.prompt_stream().await } else { None };
        let mut connection = match prompt {
            Some(stream) => AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello).await?,
            // Without one, lettre tries for itself and says what is wrong.
            None => {
                let address = (self.host.as_str(), self.port);
                AsyncSmtpConnection::connect_tokio1(address, Some(CONNECT), &self.hello, implicit, None).await?
            }
        };
        let upgrade = match &self.tls {
            Tls::Required(parameters) => Some(parameters),
            Tls::Offered(parameters) => connection.can_starttls().then_some(parameters),
            Tls::None | Tls::Implicit(_) => None,
        };
        if let Some(parameters) = upgrade {
            *stage = Stage::Tls;
            connection.starttls(parameters.clone(), &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            *stage = Stage::SignIn;
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
        }
        Ok(connection)
    }
}

/// The certificates in this file, if a file is named.
fn trusted(ca_file: &Path) -> Result<Option<Certificate>, ServerError> {
    if ca_file.as_os_str().is_empty() {
        return Ok(None);
    }
    let pem = std::fs::read(ca_file).map_err(ServerError::CaFile)?;
    // lettre makes nothing of a file without any, and says nothing.
    if !pem.windows(PEM_CERTIFICATE.len()).any(|bytes| bytes == PEM_CERTIFICATE) {
        return Err(ServerError::NoCertificate);
    }
    Certificate::from_pem(&pem).map(Some).map_err(|_| ServerError::NoCertificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(uri: &str, production: bool) -> Server {
        Server::new(uri, Path::new(""), production).unwrap()
    }

    #[test]
    fn the_uri_says_host_port_tls_and_who_signs_in() {
        let full = server("smtp://shop:p%40ss@mail.example:2525?tls=starttls", true);
        assert_eq!((full.host.as_str(), full.port), ("mail.example", 2525));
        assert!(matches!(full.tls, Tls::Required(_)));
        assert_eq!(full.credentials, Some(Credentials::new("shop".into(), "p@ss".into())));
        let implicit = server("smtp://mail.example?tls=implicit", true);
        assert!(matches!((implicit.tls, implicit.port), (Tls::Implicit(_), 465)));
        let bare = server("smtp://127.0.0.1?tls=none", false);
        assert!(matches!((bare.tls, bare.port, bare.credentials), (Tls::None, 25, None)));
    }

    #[test]
    fn what_the_uri_leaves_open_is_tls_always_in_production_and_where_offered_elsewhere() {
        assert!(matches!(server("smtp://mail.example", true).tls, Tls::Required(_)));
        let elsewhere = server("smtp://mail.example", false);
        assert!(matches!((elsewhere.tls, elsewhere.port), (Tls::Offered(_), 587)));
        assert!(Server::new("smtp://mail.example?tls=none", Path::new(""), true).is_err());
    }

    #[test]
    fn a_file_of_trusted_certificates_must_be_there_and_hold_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authority.pem");
        let of_file = || Server::new("smtp://mail.example", &file, false).map(|_| ());
        assert!(matches!(of_file(), Err(ServerError::CaFile(_))));
        for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&file, text).unwrap();
            assert!(matches!(of_file(), Err(ServerError::NoCertificate)), "{text}");
        }
    }
}
