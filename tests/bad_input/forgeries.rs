//! Access tokens that somebody makes, each with one thing wrong about it (RFC 8725, and the RFCs of JOSE that it is about).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::pkcs8::spki::EncodePublicKey;
use ed25519_dalek::pkcs8::{DecodePrivateKey, spki::der::pem::LineEnding};
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};

use crate::row::{Row, refused};
use crate::world::World;

/// The order of the group, by which a signature's second half counts; little-endian.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Makes tokens like the shop's, with its own key or another.
struct Forger {
    shop: SigningKey,
    /// Of nobody the shop knows.
    own: SigningKey,
    header: Value,
    claims: Value,
}

impl Forger {
    async fn new(world: &World) -> Self {
        let stored = world.app.stores.users.signing_keys().await.unwrap();
        let parts: Vec<&str> = world.customer.token.split('.').collect();
        Self {
            shop: SigningKey::from_pkcs8_der(&stored[0].private_key).unwrap(),
            own: SigningKey::from_bytes(&[7; 32]),
            header: decoded(parts[0]),
            claims: decoded(parts[1]),
        }
    }

    fn sign(key: &SigningKey, header: &str, claims: &str) -> String {
        let content = format!("{}.{}", encode(header), encode(claims));
        let signature = encode(key.sign(content.as_bytes()).to_bytes());
        format!("{content}.{signature}")
    }

    /// The shop's own header with these entries over it; `null` takes one away.
    fn header_with(&self, changes: &Value) -> String {
        with(&self.header, changes).to_string()
    }

    fn with_header(&self, changes: &Value) -> String {
        Self::sign(&self.shop, &self.header_with(changes), &self.claims.to_string())
    }

    fn with_claims(&self, changes: &Value) -> String {
        Self::sign(&self.shop, &self.header.to_string(), &with(&self.claims, changes).to_string())
    }

    fn with_own_key(&self, changes: &Value) -> String {
        Self::sign(&self.own, &self.header_with(changes), &self.claims.to_string())
    }

    /// A token signed with a shared secret.
    fn keyed(&self, algorithm: &str, secret: &[u8]) -> String {
        let content =
            format!("{}.{}", encode(self.header_with(&json!({ "alg": algorithm }))), encode(self.claims.to_string()));
        let tag = match algorithm {
            "HS256" => {
                Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(&content).finalize().into_bytes().to_vec()
            }
            _ => {
                Hmac::<Sha512>::new_from_slice(secret).unwrap().chain_update(&content).finalize().into_bytes().to_vec()
            }
        };
        format!("{content}.{}", encode(tag))
    }

    fn unsigned(&self, algorithm: &str) -> String {
        let header = self.header_with(&json!({ "alg": algorithm }));
        format!("{}.{}.", encode(header), encode(self.claims.to_string()))
    }

    /// As JWK, which a token may carry to be checked by.
    fn own_jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(self.own.verifying_key().as_bytes()) })
    }

    fn own_kid(&self) -> String {
        self.own.verifying_key().as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn with(base: &Value, changes: &Value) -> Value {
    let mut changed = base.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(changed.as_object_mut().unwrap().remove(name)),
            value => changed[name] = value.clone(),
        }
    }
    changed
}

fn algorithms(forger: &Forger) -> Vec<(&'static str, String)> {
    let public = forger.shop.verifying_key();
    let pem = public.to_public_key_pem(LineEnding::LF).unwrap();
    let der = public.to_public_key_der().unwrap();
    vec![
        ("alg none", forger.unsigned("none")),
        ("alg None", forger.unsigned("None")),
        ("alg nOnE", forger.unsigned("nOnE")),
        ("alg empty", forger.unsigned("")),
        ("alg EdDSA without a signature", forger.unsigned("EdDSA")),
        ("alg none, signed all the same", forger.with_header(&json!({ "alg": "none" }))),
        ("HS256 with the public key", forger.keyed("HS256", public.as_bytes())),
        ("HS256 with the public key as text", forger.keyed("HS256", encode(public.as_bytes()).as_bytes())),
        ("HS256 with the public key as PEM", forger.keyed("HS256", pem.as_bytes())),
        ("HS256 with the public key as DER", forger.keyed("HS256", der.as_bytes())),
        ("HS512 with the public key", forger.keyed("HS512", public.as_bytes())),
        ("HS256 with an empty secret", forger.keyed("HS256", b"")),
        ("HS256 with the key's id", forger.keyed("HS256", forger.header["kid"].as_str().unwrap().as_bytes())),
        ("alg RS256", forger.with_header(&json!({ "alg": "RS256" }))),
        ("alg ES256", forger.with_header(&json!({ "alg": "ES256" }))),
        ("alg in lower case", forger.with_header(&json!({ "alg": "eddsa" }))),
        ("alg of an encryption", forger.with_header(&json!({ "alg": "dir", "enc": "A256GCM" }))),
        ("no alg", forger.with_header(&json!({ "alg": null }))),
        ("a list of algs", forger.with_header(&json!({ "alg": ["EdDSA"] }))),
    ]
}

fn keys(forger: &Forger) -> Vec<(&'static str, String)> {
    let jwk = forger.own_jwk();
    let address = "https://attacker.example/keys.json";
    vec![
        ("another key under the shop's kid", forger.with_own_key(&json!({}))),
        ("another key under its own kid", forger.with_own_key(&json!({ "kid": forger.own_kid() }))),
        ("no kid", forger.with_header(&json!({ "kid": null }))),
        ("kid empty", forger.with_header(&json!({ "kid": "" }))),
        ("kid a number", forger.with_header(&json!({ "kid": 1 }))),
        ("kid a list", forger.with_header(&json!({ "kid": [forger.header["kid"]] }))),
        ("kid a path", forger.with_header(&json!({ "kid": "../../../../dev/null" }))),
        ("kid a query", forger.with_header(&json!({ "kid": "' OR 1=1 --" }))),
        ("kid an operator", forger.with_header(&json!({ "kid": { "$ne": "" } }))),
        (
            "kid with a blank",
            forger.with_header(&json!({ "kid": format!("{} ", forger.header["kid"].as_str().unwrap()) })),
        ),
        (
            "kid with a prefix",
            forger.with_header(&json!({ "kid": format!("0x{}", forger.header["kid"].as_str().unwrap()) })),
        ),
        ("jwk of another key", forger.with_own_key(&json!({ "jwk": jwk }))),
        ("jwk of another key, its kid", forger.with_own_key(&json!({ "jwk": jwk, "kid": forger.own_kid() }))),
        ("jwk of another key, no kid", forger.with_own_key(&json!({ "jwk": jwk, "kid": null }))),
        ("jku", forger.with_own_key(&json!({ "jku": address }))),
        ("x5u", forger.with_own_key(&json!({ "x5u": address }))),
        ("x5c", forger.with_own_key(&json!({ "x5c": [STANDARD.encode(forger.own.verifying_key().as_bytes())] }))),
        ("jku over the shop's own signature", forger.with_header(&json!({ "jku": address }))),
        ("crit that nobody knows", forger.with_header(&json!({ "crit": ["x"], "x": true }))),
        ("crit of a claim", forger.with_header(&json!({ "crit": ["exp"] }))),
        ("b64 false", forger.with_header(&json!({ "crit": ["b64"], "b64": false }))),
        ("compressed", forger.with_header(&json!({ "zip": "DEF" }))),
        ("nested", forger.with_header(&json!({ "cty": "JWT" }))),
        ("no typ", forger.with_header(&json!({ "typ": null }))),
        ("typ JWT", forger.with_header(&json!({ "typ": "JWT" }))),
        ("typ of another token", forger.with_header(&json!({ "typ": "logout+jwt" }))),
        ("typ a list", forger.with_header(&json!({ "typ": ["at+jwt"] }))),
    ]
}

fn claims(forger: &Forger) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    for name in forger.claims.as_object().unwrap().keys() {
        rows.push((format!("no {name}"), forger.with_claims(&json!({ name: null }))));
        rows.push((format!("{name} a list"), forger.with_claims(&json!({ name: [forger.claims[name]] }))));
        rows.push((format!("{name} an object"), forger.with_claims(&json!({ name: {} }))));
    }
    let exp = forger.claims["exp"].as_i64().unwrap();
    for (name, changes) in [
        ("exp a text", json!({ "exp": exp.to_string() })),
        ("exp a fraction", json!({ "exp": 4_000_000_000.5 })),
        ("exp past all numbers", json!({ "exp": 1e300 })),
        ("exp true", json!({ "exp": true })),
        ("exp negative", json!({ "exp": -1 })),
        ("exp over", json!({ "exp": exp - 10_000 })),
        ("exp 0", json!({ "exp": 0 })),
        ("nbf a text", json!({ "nbf": "0" })),
        ("nbf to come", json!({ "nbf": exp })),
        ("iat a text", json!({ "iat": "0" })),
        ("iss another", json!({ "iss": "elsewhere" })),
        ("iss empty", json!({ "iss": "" })),
        ("aud another", json!({ "aud": "elsewhere" })),
        ("aud this and another", json!({ "aud": [forger.claims["aud"], "elsewhere"] })),
        ("sub of another kind", json!({ "sub": "ord_00000000000000000000000001" })),
        ("sub nobody's", json!({ "sub": "usr_00000000000000000000000001" })),
        ("sid nobody's", json!({ "sid": "ses_00000000000000000000000001" })),
        ("role of no name", json!({ "role": "ROOT" })),
        ("epoch a text", json!({ "epoch": "0" })),
        ("epoch to come", json!({ "epoch": 1_000 })),
        ("jti a number", json!({ "jti": 1 })),
    ] {
        rows.push((name.to_owned(), forger.with_claims(&changes)));
    }
    let text = forger.claims.to_string();
    let twice = format!("{{\"exp\":{},{}", exp - 10_000, &text[1..]);
    for (name, claims) in [
        ("exp twice", twice.as_str()),
        ("claims a list", "[]"),
        ("claims null", "null"),
        ("claims no JSON", "exp"),
        ("claims empty", ""),
    ] {
        rows.push((name.to_owned(), Forger::sign(&forger.shop, &forger.header.to_string(), claims)));
    }
    rows
}

fn encodings(forger: &Forger) -> Vec<(&'static str, String)> {
    let good = forger.with_claims(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut flipped = bytes.clone();
    flipped[10] ^= 1;
    // The same point and a number that means the same: a checker that takes it lets tokens be written anew.
    let mut shifted = bytes.clone();
    let mut carry = 0;
    for (byte, order) in shifted[32..].iter_mut().zip(GROUP_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    // 64 bytes leave four bits of the last character unused.
    let (rest, last) = signature.split_at(signature.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.find(last).and_then(|at| alphabet.get(at + 1..at + 2)).unwrap();
    let head = forger.header.to_string();
    let twice = format!("{{\"alg\":\"none\",{}", &head[1..]);
    let signed = |header: &str| Forger::sign(&forger.shop, header, &forger.claims.to_string());
    let flattened = json!({ "protected": header, "payload": claims, "signature": signature });
    vec![
        ("signature cut", format!("{header}.{claims}.{}", encode(&bytes[..63]))),
        ("signature of zeros", format!("{header}.{claims}.{}", encode([0; 64]))),
        ("signature of another bit", format!("{header}.{claims}.{}", encode(flipped))),
        ("signature past the group's order", format!("{header}.{claims}.{}", encode(shifted))),
        ("signature twice", format!("{header}.{claims}.{signature}{signature}")),
        ("signature with other unused bits", format!("{header}.{claims}.{rest}{next}")),
        ("signature with padding", format!("{good}==")),
        ("claims with padding", format!("{header}.{claims}=.{signature}")),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{good}.{signature}")),
        ("five parts", format!("{good}..")),
        ("parts changed about", format!("{claims}.{header}.{signature}")),
        ("no header", format!(".{claims}.{signature}")),
        ("alg twice", signed(&twice)),
        ("header a list", signed("[\"EdDSA\",\"at+jwt\",\"x\"]")),
        ("header no JSON", signed("EdDSA")),
        ("JSON instead of three parts", encode(flattened.to_string())),
    ]
}

#[actix_rt::test]
async fn a_token_with_one_thing_wrong_about_it_is_no_token() {
    let world = World::new().await;
    let forger = Forger::new(&world).await;
    // That each row is refused for what it names: without a change the forger's token is as good as the shop's own.
    let me = "{ me { email } }";
    let good = world.app.query(Some(&forger.with_claims(&json!({}))), me, json!({})).await;
    assert_eq!(good["me"]["email"], json!(world.customer.email));
    let of_another_time = forger.with_claims(&json!({ "exp": forger.claims["exp"].as_i64().unwrap() + 5 }));
    assert_eq!(world.app.query(Some(&of_another_time), me, json!({})).await, good);

    let named = |(name, token): (&str, String)| (name.to_owned(), token);
    let mut tokens: Vec<(String, String)> = algorithms(&forger).into_iter().map(named).collect();
    tokens.extend(keys(&forger).into_iter().map(named));
    tokens.extend(claims(&forger));
    tokens.extend(encodings(&forger).into_iter().map(named));
    tokens.push(("a refresh token".to_owned(), world.customer.refresh_token.clone()));
    tokens.push(("a cursor".to_owned(), world.user_cursor.clone()));
    let mut sorted: Vec<&String> = tokens.iter().map(|(_, token)| token).collect();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((sorted.len(), sorted.len() >= 30), (tokens.len(), true), "each row is another token");
    let rows: Vec<Row> = tokens
        .iter()
        .map(|(name, token)| {
            let expected = refused(401, "UNAUTHENTICATED");
            Row::post(&format!("forged token: {name}"), Some(token), me, json!({}), expected)
        })
        .collect();
    world.judge(&rows).await;
}
