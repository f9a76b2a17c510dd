//! Texts that are nowhere else, and every shape in which one could be seen.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

pub struct Marker {
    what: String,
    text: String,
    /// An address: case does not count, and it may lie in a database.
    is_address: bool,
}

#[derive(Default)]
pub struct Markers(Vec<Marker>);

impl Markers {
    /// A password or token.
    pub fn add_secret(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.0.push(Marker { what: what.into(), text: text.into(), is_address: false });
    }

    pub fn add_address(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.0.push(Marker { what: what.into(), text: text.into(), is_address: true });
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What of them is in the text, each with its shape.
    pub fn hits(&self, text: &str) -> Vec<String> {
        self.found(text, |_| true)
    }

    /// As [`Self::hits`], where addresses belong.
    pub fn secret_hits(&self, text: &str) -> Vec<String> {
        self.found(text, |marker| !marker.is_address)
    }

    fn found(&self, text: &str, counts: impl Fn(&Marker) -> bool) -> Vec<String> {
        let decoded = percent_decoded(text);
        let (lower, decoded_lower) = (text.to_lowercase(), decoded.to_lowercase());
        let mut found = Vec::new();
        for Marker { what, text: marked, is_address } in self.0.iter().filter(|marker| counts(marker)) {
            let plain = if *is_address {
                let wanted = marked.to_lowercase();
                seen(&lower, &wanted).or_else(|| seen(&decoded_lower, &wanted))
            } else {
                seen(text, marked).or_else(|| seen(&decoded, marked))
            };
            found.extend(plain.map(|seen| format!("{what}, as it is or URL-encoded: {seen}")));
            let coded = coded(marked.as_bytes()).into_iter();
            found.extend(coded.filter_map(|(shape, coded)| Some(format!("{what}, {shape}: {}", seen(text, &coded)?))));
        }
        found
    }
}

/// The first place of what is looked for, with what stands around it.
fn seen(text: &str, wanted: &str) -> Option<String> {
    const AROUND: usize = 80;
    let (before, after) = text.split_once(wanted)?;
    let start = before.char_indices().rev().take(AROUND).last().map_or(before.len(), |(at, _)| at);
    let end: String = after.chars().take(AROUND).collect();
    Some(format!("{}{wanted}{end}", &before[start..]))
}

/// `%40` is `@`; what is no such code stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Base64 of anything that has these bytes inside, hexadecimal, and bytes as Rust prints them.
fn coded(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let mut shapes: Vec<(&'static str, String)> = Vec::new();
    // A text inside another begins at one of three places of a group of four characters.
    for shift in 0..3 {
        let shifted = [&vec![0; shift], bytes].concat();
        for (name, engine) in [("in base64", &STANDARD_NO_PAD), ("in base64 for URLs", &URL_SAFE_NO_PAD)] {
            let text = engine.encode(&shifted);
            // The characters at both ends hold bits of what stands beside.
            let end = text.len() - usize::from(shifted.len() % 3 != 0);
            let inner = text[[0, 2, 3][shift]..end].to_owned();
            if !shapes.iter().any(|(_, known)| *known == inner) {
                shapes.push((name, inner));
            }
        }
    }
    shapes.push(("in hexadecimal", bytes.iter().map(|byte| format!("{byte:02x}")).collect()));
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    shapes.push(("byte by byte", numbers.join(", ")));
    shapes
}

#[test]
fn a_marker_is_found_in_every_shape_and_nowhere_else() {
    let mut markers = Markers::default();
    markers.add_secret("password", "Canary-7/+ö");
    markers.add_address("address", "Canary@Test.example");
    let base64 = |text: &str| STANDARD_NO_PAD.encode(text);
    let planted = [
        r#"{"message":"signed in with Canary-7/+ö"}"#.to_owned(),
        "GET /?p=Canary-7%2F%2b%C3%B6&x=%zz".to_owned(),
        base64("Canary-7/+ö"),
        base64("xCanary-7/+ö and more"),
        base64(r#"{"password":"Canary-7/+ö"}"#),
        URL_SAFE_NO_PAD.encode("yyCanary-7/+öy"),
        "43616e6172792d372f2bc3b6".to_owned(),
        format!("{:?}", "Canary-7/+ö".as_bytes()),
        "souk_users{name=\"canary@test.EXAMPLE\"} 1".to_owned(),
        "to=CANARY%40test.example".to_owned(),
        base64("<Canary@Test.example>"),
    ];
    for text in &planted {
        assert_eq!(markers.hits(text).len(), 1, "{text}");
    }
    for text in ["", "canary-7/+ö", "Canary-7", "50% of Canary", &base64("Canary-8/+ö")] {
        assert_eq!(markers.hits(text), Vec::<String>::new(), "{text}");
    }
    let secrets = markers.secret_hits(&planted.join("\n"));
    assert!(secrets.len() >= 5 && secrets.iter().all(|hit| hit.starts_with("password")), "{secrets:?}");
}
