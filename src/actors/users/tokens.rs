//! Access tokens: JWTs signed with Ed25519, checked without asking anybody.
//!
//! A token names its user, session, role and epoch; `kid` picks the key. What cannot be seen in a token (its session
//! ended, its epoch passed) is checked against [`super::messages::CheckSession`].

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::key_ring::{KeyId, KeyMaterial, KeyRing, NoSigningKey};
use crate::actors::clock;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::time::Timestamp;
use crate::domain::users::Role;

/// A clock that signs may be ahead of one that checks by this much. Seconds.
pub const LEEWAY_SECONDS: u64 = 5;

const ALGORITHM: &str = "EdDSA";
const TYPE: &str = "at+jwt";

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

/// The whole header of a token: one with anything else in it, such as the address of a key, is none of ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenHeader {
    alg: String,
    typ: String,
    kid: String,
}

/// A token whose signature and times were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedToken {
    pub claims: AccessClaims,
    /// The key that signed it.
    pub key: KeyId,
}

/// The token is malformed, of another issuer or audience, out of its time, or not signed by one of the shop's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the access token is not valid")]
pub struct InvalidAccessToken;

/// Signs and checks access tokens; cheap to clone.
#[derive(Clone)]
pub struct AccessTokens {
    keys: KeyRing,
    validation: Arc<Validation>,
    issuer: Arc<str>,
    audience: Arc<str>,
    lifetime_seconds: i64,
}

impl AccessTokens {
    /// Signs with the key whose turn it is and accepts all of them in their terms.
    pub fn new(
        keys: &[KeyMaterial],
        issuer: &str,
        audience: &str,
        lifetime_seconds: i64,
    ) -> Result<Self, NoSigningKey> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SECONDS;
        // From the second on that a token names it is over (RFC 7519, section 4.1.4): no leeway for its end.
        validation.reject_tokens_expiring_in_less_than = LEEWAY_SECONDS + 1;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        Ok(Self {
            keys: KeyRing::new(keys)?,
            validation: Arc::new(validation),
            issuer: issuer.into(),
            audience: audience.into(),
            lifetime_seconds,
        })
    }

    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// A token for this session, with the time at which it expires.
    pub fn sign(&self, sub: UserId, sid: SessionId, role: Role, epoch: i64, now: Timestamp) -> (String, Timestamp) {
        let seconds = now.0.div_euclid(1000);
        // Serves for its lifetime at least, however much of this second is over.
        let exp = seconds + i64::from(now.0.rem_euclid(1000) > 0) + self.lifetime_seconds;
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
        let token = self.keys.with_signer(now, |id, key| {
            let mut header = Header::new(Algorithm::EdDSA);
            header.typ = Some(TYPE.into());
            header.kid = Some(id.to_string());
            jsonwebtoken::encode(&header, &claims, key)
                .expect("plain claims under a key that was checked at start always sign")
        });
        (token, Timestamp(exp * 1000))
    }

    /// What a token says, if it is one of ours and in its time.
    pub fn verify(&self, token: &str) -> Result<CheckedToken, InvalidAccessToken> {
        let header = header_of(token).ok_or(InvalidAccessToken)?;
        let check = |key: KeyId, decoding: &DecodingKey| {
            let token = jsonwebtoken::decode::<AccessClaims>(token, decoding, &self.validation).ok()?;
            Some(CheckedToken { claims: token.claims, key })
        };
        self.keys.with_accepted(&header.kid, clock::now(), check).flatten().ok_or(InvalidAccessToken)
    }
}

/// `None`: no header of a token of ours.
fn header_of(token: &str) -> Option<TokenHeader> {
    let (header, _) = token.split_once('.')?;
    let header: TokenHeader = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    (header.alg == ALGORITHM && header.typ == TYPE).then_some(header)
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
        let now = clock::now();
        let checked = ours.verify(&sign(&ours, now)).unwrap();
        assert_eq!((checked.claims.role, checked.claims.epoch, checked.key), (Role::Customer, 3, key.id));
        assert!(ours.verify(&sign(&ours, now.plus_millis(-890_000))).is_ok(), "the last seconds");
        assert!(ours.verify(&sign(&ours, now.plus_millis(-901_000))).is_err(), "expired");
        assert!(ours.verify(&sign(&ours, now.plus_millis(4_000))).is_ok(), "of a clock that is ahead");
        assert!(ours.verify(&sign(&ours, now.plus_millis(60_000))).is_err(), "not yet valid");
        assert!(ours.verify(&sign(&tokens(&key, "other"), now)).is_err(), "another audience");
        assert!(ours.verify(&sign(&tokens(&KeyMaterial::generate(), "souk-api"), now)).is_err(), "another key");
        for broken in ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
            assert_eq!(ours.verify(broken), Err(InvalidAccessToken));
        }
    }

    #[test]
    fn what_a_key_signed_is_refused_once_its_term_is_over() {
        let (old, new) = (KeyMaterial::generate(), KeyMaterial::generate());
        let ours = tokens(&old, "souk-api");
        let now = clock::now();
        let token = sign(&ours, now);
        let over_in = |millis| {
            let mut key = old.clone();
            key.term = key.term.ending(now.plus_millis(millis));
            key
        };
        ours.keys().replace(&[new.clone(), over_in(60_000)]).unwrap();
        assert_eq!(ours.verify(&token).map(|token| token.key), Ok(old.id));
        assert_eq!(ours.verify(&sign(&ours, now)).map(|token| token.key), Ok(new.id));
        ours.keys().replace(&[new, over_in(0)]).unwrap();
        assert_eq!(ours.verify(&token), Err(InvalidAccessToken));
    }
}
