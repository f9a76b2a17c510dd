//! The keys that a process signs and checks access tokens with; whoever reads them anew puts them in the place of the old.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use ed25519_dalek::{SigningKey, VerifyingKey};
use jsonwebtoken::{DecodingKey, EncodingKey};

use super::ed25519;
use crate::domain::signing_keys::{KeyTerm, signer};
use crate::domain::time::Timestamp;

const ID_BYTES: usize = 8;

/// The name of a key in tokens, `kid`: the first eight bytes of its public half, in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; ID_BYTES]);

impl KeyId {
    pub fn of(key: &VerifyingKey) -> Self {
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&key.as_bytes()[..ID_BYTES]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An Ed25519 key with its term: one that signs, or one whose tokens are only accepted.
#[derive(Clone)]
pub struct KeyMaterial {
    pub id: KeyId,
    pub term: KeyTerm,
    signing: Option<SigningKey>,
    verifying: VerifyingKey,
}

impl KeyMaterial {
    pub fn signing(key: SigningKey, term: KeyTerm) -> Self {
        let verifying = key.verifying_key();
        Self { id: KeyId::of(&verifying), term, verifying, signing: Some(key) }
    }

    /// A new key that signs.
    pub fn generate() -> Self {
        Self::signing(SigningKey::from_bytes(&rand::random()), KeyTerm::ENDLESS)
    }

    pub fn verifying(key: VerifyingKey) -> Self {
        Self { id: KeyId::of(&key), term: KeyTerm::ENDLESS, signing: None, verifying: key }
    }
}

/// There is no key that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no signing key")]
pub struct NoSigningKey;

struct Held {
    id: KeyId,
    term: KeyTerm,
    public: VerifyingKey,
    decoding: DecodingKey,
}

struct Keys {
    held: Vec<Held>,
    /// Those that can sign, and from when.
    signing: Vec<(KeyId, EncodingKey)>,
    signing_terms: Vec<KeyTerm>,
}

/// A key as everybody may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    pub id: KeyId,
    pub bytes: [u8; 32],
}

/// Cheap to clone: all clones hold the same keys.
#[derive(Clone)]
pub struct KeyRing(Arc<RwLock<Keys>>);

impl KeyRing {
    pub fn new(keys: &[KeyMaterial]) -> Result<Self, NoSigningKey> {
        Ok(Self(Arc::new(RwLock::new(held(keys)?))))
    }

    /// Holds these keys from now on. False: they are the same as before.
    pub fn replace(&self, keys: &[KeyMaterial]) -> Result<bool, NoSigningKey> {
        let is_known = |(held, key): (&Held, &KeyMaterial)| held.id == key.id && held.term == key.term;
        let same = {
            let now_held = &self.read().held;
            now_held.len() == keys.len() && now_held.iter().zip(keys).all(is_known)
        };
        if !same {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = held(keys)?;
        }
        Ok(!same)
    }

    /// Whether what the key signed is accepted.
    pub fn accepts(&self, id: KeyId, now: Timestamp) -> bool {
        self.read().held.iter().any(|key| key.id == id && !key.term.is_over(now))
    }

    /// The keys whose signatures are accepted, or will be.
    pub fn public_keys(&self, now: Timestamp) -> Vec<PublicKey> {
        let keys = self.read();
        let accepted = keys.held.iter().filter(|key| !key.term.is_over(now));
        accepted.map(|key| PublicKey { id: key.id, bytes: key.public.to_bytes() }).collect()
    }

    /// The key that signs now.
    pub(super) fn with_signer<T>(&self, now: Timestamp, sign: impl FnOnce(KeyId, &EncodingKey) -> T) -> T {
        let keys = self.read();
        let at = signer(&keys.signing_terms, now).expect("a ring without a key that signs is not made");
        let (id, key) = &keys.signing[at];
        sign(*id, key)
    }

    /// The key of this name, if what it signed is accepted.
    pub(super) fn with_accepted<T>(
        &self,
        name: &str,
        now: Timestamp,
        check: impl FnOnce(KeyId, &DecodingKey) -> T,
    ) -> Option<T> {
        let keys = self.read();
        let named = keys.held.iter().find(|key| key.id.to_string() == name)?;
        (!named.term.is_over(now)).then(|| check(named.id, &named.decoding))
    }

    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held(keys: &[KeyMaterial]) -> Result<Keys, NoSigningKey> {
    let able = || keys.iter().filter_map(|key| Some((key, key.signing.as_ref()?)));
    if able().next().is_none() {
        return Err(NoSigningKey);
    }
    ed25519::install();
    let hold = |key: &KeyMaterial| Held {
        id: key.id,
        term: key.term,
        public: key.verifying,
        decoding: ed25519::decoding_key(&key.verifying),
    };
    Ok(Keys {
        held: keys.iter().map(hold).collect(),
        signing: able().map(|(key, private)| (key.id, ed25519::encoding_key(private))).collect(),
        signing_terms: able().map(|(key, _)| key.term).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(signs_from: i64, accepted_until: Option<i64>) -> KeyMaterial {
        let term = KeyTerm { signs_from: Timestamp(signs_from), accepted_until: accepted_until.map(Timestamp) };
        KeyMaterial { term, ..KeyMaterial::generate() }
    }

    fn signer_at(ring: &KeyRing, now: i64) -> KeyId {
        ring.with_signer(Timestamp(now), |id, _| id)
    }

    #[test]
    fn every_clone_of_a_ring_goes_over_to_the_next_key_at_its_time() {
        let (old, new) = (key(0, None), key(100, None));
        let ring = KeyRing::new(std::slice::from_ref(&old)).unwrap();
        let clone = ring.clone();
        assert!(!ring.replace(std::slice::from_ref(&old)).unwrap());
        let ending = KeyMaterial { term: old.term.ending(Timestamp(500)), ..old.clone() };
        assert!(ring.replace(&[new.clone(), ending]).unwrap());
        assert_eq!((signer_at(&clone, 99), signer_at(&clone, 100)), (old.id, new.id));
        assert!(clone.accepts(new.id, Timestamp(5)) && clone.accepts(old.id, Timestamp(499)));
        assert!(!clone.accepts(old.id, Timestamp(500)));
        let public = |now| clone.public_keys(Timestamp(now)).iter().map(|key| key.id).collect::<Vec<_>>();
        assert_eq!((public(499), public(500)), (vec![new.id, old.id], vec![new.id]));
    }

    #[test]
    fn a_ring_has_a_key_that_signs() {
        let verifying = KeyMaterial::verifying(KeyMaterial::generate().verifying);
        assert_eq!(KeyRing::new(std::slice::from_ref(&verifying)).err(), Some(NoSigningKey));
        let ring = KeyRing::new(&[key(0, None)]).unwrap();
        assert_eq!(ring.replace(&[verifying]), Err(NoSigningKey));
        assert_eq!(ring.public_keys(Timestamp(1)).len(), 1);
    }

    #[test]
    fn a_key_is_named_by_its_first_public_bytes() {
        let key = KeyMaterial::generate();
        let first: String = key.verifying.as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(key.id.to_string(), first);
    }
}
