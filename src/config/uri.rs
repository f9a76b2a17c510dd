//! The URIs of servers, as far as the configuration checks them: `scheme://[user[:password]@]host[:port][,...][/path][?query]`.
//!
//! Problems are described without the URI itself, which may hold a password.

/// One server of a URI or of a list of brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: Option<u16>,
}

/// The parts of a URI. User and password are percent-decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    pub scheme: String,
    pub user: Option<String>,
    pub password: Option<String>,
    /// At least one; several only where a driver takes a list (MongoDB).
    pub endpoints: Vec<Endpoint>,
    /// Without its leading slash.
    pub path: String,
    pub query: Vec<(String, String)>,
}

impl Uri {
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("it contains white space".into());
        }
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme such as `mongodb://`")?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (Some(user_info), hosts),
            None => (None, authority),
        };
        let (user, password) =
            match user_info.map(|info| info.split_once(':').map_or((info, None), |(u, p)| (u, Some(p)))) {
                Some((user, password)) => (Some(percent_decode(user)?), password.map(percent_decode).transpose()?),
                None => (None, None),
            };
        let endpoints = hosts.split(',').map(Endpoint::parse).collect::<Result<Vec<_>, _>>()?;
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let query = query.split('&').filter(|option| !option.is_empty()).map(query_option).collect();
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user,
            password,
            endpoints,
            path: path.trim_start_matches('/').to_owned(),
            query,
        })
    }

    /// The last value of an option, if it is there.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl Endpoint {
    /// `host`, `host:port` or `[ipv6]:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => {
                (host, Some(port.strip_prefix(':').ok_or("there is something after `]` that is no port")?))
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%".contains(c)) {
            return Err(
                "it has no host, or one with characters that no host has (beyond ASCII it is written as xn--...)"
                    .into(),
            );
        }
        let port = match port {
            Some(port) => {
                Some(port.parse().ok().filter(|port| *port != 0).ok_or("its port is not a number from 1 to 65535")?)
            }
            None => None,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

fn query_option(option: &str) -> (String, String) {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    (name.to_owned(), value.to_owned())
}

fn percent_decode(text: &str) -> Result<String, String> {
    let wrong = || "its user or password has a `%` that does not start a code such as %40".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().ok_or_else(wrong)?, rest.next().ok_or_else(wrong)?];
        let digits = std::str::from_utf8(&digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}
