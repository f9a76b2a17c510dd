//! The sender of every mail: `mail.from`.

/// Parsed from `name@host` or `Name <name@host>`; holds nothing that could break a header or a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSender {
    /// Empty: the address alone.
    pub name: String,
    pub local: String,
    pub host: String,
}

impl MailSender {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, address) = match text.split_once('<') {
            Some((name, rest)) => (name, rest.strip_suffix('>').ok_or("its `<` is not closed at the end")?),
            None => ("", text),
        };
        let name = name.trim().trim_matches('"');
        let is_atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
        let atoms = |part: &str| part.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom));
        let is_host = |host: &str| atoms(host) && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
        match address.split_once('@') {
            Some((local, host)) if atoms(local) && is_host(host) && !name.chars().any(char::is_control) => {
                Ok(Self { name: name.to_owned(), local: local.to_owned(), host: host.to_owned() })
            }
            _ => Err(format!("`{text}` is no mail address")),
        }
    }

    pub fn address(&self) -> String {
        format!("{}@{}", self.local, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_an_address_with_or_without_a_name() {
        let plain = MailSender::parse("shop@localhost").unwrap();
        assert_eq!((plain.name.as_str(), plain.address().as_str()), ("", "shop@localhost"));
        for text in ["Søren's Shop <mail.shop@shop.example>", "\"Søren's Shop\" <mail.shop@shop.example>"] {
            let named = MailSender::parse(text).unwrap();
            assert_eq!((named.name.as_str(), named.host.as_str()), ("Søren's Shop", "shop.example"));
        }
    }

    #[test]
    fn what_could_break_a_header_or_a_command_is_no_sender() {
        for text in [
            "",
            "nobody",
            "A <a@b",
            "a@",
            "@b",
            "a b@c",
            "a@b, c@d",
            "a@b@c",
            "a..b@c",
            "a@b c",
            "A\r\nBcc: x@y <a@b>",
            "A <a@b>\n",
            "a@[127.0.0.1]",
        ] {
            assert!(MailSender::parse(text).is_err(), "{text:?}");
        }
    }
}
