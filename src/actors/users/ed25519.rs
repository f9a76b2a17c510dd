//! All the cryptography that `jsonwebtoken` has here: Ed25519. A process that knows no other algorithm cannot be talked into
//! one, and the crates for RSA and the NIST curves are not in it.

use ed25519_dalek::{Signature, SignatureError, Signer, SigningKey, Verifier, VerifyingKey};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};

static ED25519: CryptoProvider =
    CryptoProvider { signer_factory: signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Tells `jsonwebtoken`, once a process.
pub fn install() {
    // An error says that it has been told.
    let _ = ED25519.install_default();
}

pub fn encoding_key(key: &SigningKey) -> EncodingKey {
    EncodingKey::from_ed_der(key.as_bytes())
}

pub fn decoding_key(key: &VerifyingKey) -> DecodingKey {
    DecodingKey::from_ed_der(key.as_bytes())
}

struct TokenSigner(SigningKey);
struct TokenVerifier(VerifyingKey);

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    check(*algorithm, key.family())?;
    let bytes: &[u8; 32] = key.as_bytes().try_into().map_err(|_| ErrorKind::InvalidEddsaKey)?;
    Ok(Box::new(TokenSigner(SigningKey::from_bytes(bytes))))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    check(*algorithm, key.family())?;
    let bytes: &[u8; 32] = key.try_get_as_bytes()?.try_into().map_err(|_| ErrorKind::InvalidEddsaKey)?;
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| ErrorKind::InvalidEddsaKey)?;
    Ok(Box::new(TokenVerifier(key)))
}

fn check(algorithm: Algorithm, family: AlgorithmFamily) -> Result<()> {
    match (algorithm, family) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => Ok(()),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

impl Signer<Vec<u8>> for TokenSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignatureError> {
        Ok(self.0.try_sign(message)?.to_bytes().to_vec())
    }
}

impl JwtSigner for TokenSigner {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

impl Verifier<Vec<u8>> for TokenVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), SignatureError> {
        // Strict: one signature has one form (RFC 8032, 5.1.7), and a key of small order signs nothing.
        self.0.verify_strict(message, &Signature::from_slice(signature)?)
    }
}

impl JwtVerifier for TokenVerifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_signs_only_that_key_verifies_and_only_unchanged() {
        let (key, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let signature = signer(&Algorithm::EdDSA, &encoding_key(&key)).unwrap().sign(b"message");
        let verifies = |key: &SigningKey, message: &[u8], signature: &Vec<u8>| {
            verifier(&Algorithm::EdDSA, &decoding_key(&key.verifying_key())).unwrap().verify(message, signature).is_ok()
        };
        assert!(verifies(&key, b"message", &signature));
        assert!(!verifies(&other, b"message", &signature));
        assert!(!verifies(&key, b"messagf", &signature));
        for changed in [&signature[..63], &[], &[0; 64]] {
            assert!(!verifies(&key, b"message", &changed.to_vec()));
        }
    }

    #[test]
    fn there_is_no_other_algorithm() {
        let secret = (EncodingKey::from_secret(&[1; 32]), DecodingKey::from_secret(&[1; 32]));
        let key = SigningKey::from_bytes(&[1; 32]);
        let keys = (encoding_key(&key), decoding_key(&key.verifying_key()));
        for algorithm in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::PS256] {
            assert!(signer(&algorithm, &keys.0).is_err() && verifier(&algorithm, &keys.1).is_err());
            assert!(signer(&algorithm, &secret.0).is_err() && verifier(&algorithm, &secret.1).is_err());
        }
        assert!(signer(&Algorithm::EdDSA, &secret.0).is_err() && verifier(&Algorithm::EdDSA, &secret.1).is_err());
        let short = (EncodingKey::from_ed_der(&[1; 31]), DecodingKey::from_ed_der(&[1; 31]));
        assert!(signer(&Algorithm::EdDSA, &short.0).is_err() && verifier(&Algorithm::EdDSA, &short.1).is_err());
    }
}
