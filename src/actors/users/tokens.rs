//! Access tokens: JWTs signed with Ed25519, checked without asking anybody.
//!
//! A token names its user, session, role and epoch; `kid` picks the key. What cannot be seen in a token (its session
//! ended, its epoch passed) is checked against [`super::messages::CheckSession`].

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::{SigningKey, VerifyingKey};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::domain::ids::{SessionId, UserId};
use crate::domain::time::Timestamp;
use crate::domain::users::Role;

/// Clocks may differ by this much. Seconds.
const LEEWAY_SECONDS: u64 = 5;

/// What an access token says. Times are seconds since the epoch (RFC 7519).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    pub iss: String,
    pub aud: String,
    pub sub: UserId,
    /// The session.
    pub sid: SessionId,
    pub role: Role,
    /// The user's token epoch when it was signed.
    pub epoch: i64,
    pub iat: i64,
    pub nbf: i64,
    pub exp: i64,
    /// Tells two tokens of one second apart.
    pub jti: String,
}

/// The token is malformed, of another issuer or audience, out of its time, or not signed by one of the shop's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the access token is not valid")]
pub struct InvalidAccessToken;

/// An Ed25519 key: one that signs, or one whose tokens are only accepted.
#[derive(Clone)]
pub struct KeyMaterial {
    kid: String,
    signing: Option<SigningKey>,
    verifying: VerifyingKey,
}

/// The id of a key: its first eight public bytes.
pub fn kid_of(key: &VerifyingKey) -> String {
    key.as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl KeyMaterial {
    pub fn signing(kid: String, key: SigningKey) -> Self {
        Self { kid, verifying: key.verifying_key(), signing: Some(key) }
    }

    /// A new key that signs.
    pub fn generate() -> Self {
        let key = SigningKey::from_bytes(&rand::random());
        Self::signing(kid_of(&key.verifying_key()), key)
    }

    pub fn verifying(kid: String, key: VerifyingKey) -> Self {
        Self { kid, signing: None, verifying: key }
    }
}

/// There is no key that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no signing key")]
pub struct NoSigningKey;

struct Keys {
    current_kid: String,
    signing: EncodingKey,
    verifying: HashMap<String, DecodingKey>,
}

/// Signs and checks access tokens; cheap to clone.
#[derive(Clone)]
pub struct AccessTokens {
    keys: Arc<RwLock<Keys>>,
    validation: Arc<Validation>,
    issuer: Arc<str>,
    audience: Arc<str>,
    lifetime_seconds: i64,
}

impl AccessTokens {
    /// Signs with the first key that can and accepts all of them.
    pub fn new(
        keys: &[KeyMaterial],
        issuer: &str,
        audience: &str,
        lifetime_seconds: i64,
    ) -> Result<Self, NoSigningKey> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        Ok(Self {
            keys: Arc::new(RwLock::new(read_keys(keys)?)),
            validation: Arc::new(validation),
            issuer: issuer.into(),
            audience: audience.into(),
            lifetime_seconds,
        })
    }

    /// A token for this session, with the time at which it expires.
    pub fn sign(&self, sub: UserId, sid: SessionId, role: Role, epoch: i64, now: Timestamp) -> (String, Timestamp) {
        let seconds = now.0.div_euclid(1000);
        let exp = seconds + self.lifetime_seconds;
        let jti = format!("{:016x}", rand::random::<u64>());
        let claims = AccessClaims {
            iss: self.issuer.to_string(),
            aud: self.audience.to_string(),
            sub,
            sid,
            role,
            epoch,
            iat: seconds,
            nbf: seconds,
            exp,
            jti,
        };
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("at+jwt".into());
        header.kid = Some(keys.current_kid.clone());
        let token = jsonwebtoken::encode(&header, &claims, &keys.signing)
            .expect("plain claims under a key that was checked at start always sign");
        (token, Timestamp(exp * 1000))
    }

    /// What a token says, if it is one of ours and in its time.
    pub fn verify(&self, token: &str) -> Result<AccessClaims, InvalidAccessToken> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidAccessToken)?;
        if header.typ.as_deref() != Some("at+jwt") {
            return Err(InvalidAccessToken);
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = header.kid.as_deref().and_then(|kid| keys.verifying.get(kid)).ok_or(InvalidAccessToken)?;
        let token =
            jsonwebtoken::decode::<AccessClaims>(token, key, &self.validation).map_err(|_| InvalidAccessToken)?;
        Ok(token.claims)
    }
}

fn read_keys(keys: &[KeyMaterial]) -> Result<Keys, NoSigningKey> {
    let (current_kid, current) =
        keys.iter().find_map(|key| Some((key.kid.clone(), key.signing.as_ref()?))).ok_or(NoSigningKey)?;
    let pkcs8 = current.to_pkcs8_der().expect("an Ed25519 key always has a PKCS#8 form");
    let verifying =
        keys.iter().map(|key| (key.kid.clone(), DecodingKey::from_ed_der(key.verifying.as_bytes()))).collect();
    Ok(Keys { current_kid, signing: EncodingKey::from_ed_der(pkcs8.as_bytes()), verifying })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use uuid::Uuid;

    fn tokens(key: &KeyMaterial, audience: &str) -> AccessTokens {
        AccessTokens::new(std::slice::from_ref(key), "souk", audience, 900).unwrap()
    }

    fn sign(tokens: &AccessTokens, now: Timestamp) -> String {
        let (sub, sid) = (UserId::from_uuid(Uuid::from_u128(1)), SessionId::from_uuid(Uuid::from_u128(2)));
        tokens.sign(sub, sid, Role::Customer, 3, now).0
    }

    #[test]
    fn a_token_is_accepted_by_its_own_keys_only_and_in_its_time() {
        let key = KeyMaterial::generate();
        let ours = tokens(&key, "souk-api");
        let now = crate::actors::clock::now();
        let claims = ours.verify(&sign(&ours, now)).unwrap();
        assert_eq!((claims.role, claims.epoch), (Role::Customer, 3));
        assert!(ours.verify(&sign(&ours, now.plus_millis(-904_000))).is_ok(), "5 s leeway");
        assert!(ours.verify(&sign(&ours, now.plus_millis(-907_000))).is_err(), "expired");
        assert!(ours.verify(&sign(&ours, now.plus_millis(60_000))).is_err(), "not yet valid");
        assert!(ours.verify(&sign(&tokens(&key, "other"), now)).is_err(), "another audience");
        assert!(ours.verify(&sign(&tokens(&KeyMaterial::generate(), "souk-api"), now)).is_err(), "another key");
        for broken in ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
            assert_eq!(ours.verify(broken), Err(InvalidAccessToken));
        }
    }
}
