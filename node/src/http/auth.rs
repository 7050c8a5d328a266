//! Basic authentication of the one server user. May not know paths or databases.
//!
//! What is compared is a SHA-256 over a secret random salt and the client's base64 text, in
//! constant time: the password is sent with every request, so a slow password hash would cost more
//! than the request itself. The salt lives in memory only; nothing that could be attacked offline
//! is stored.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The one user.
pub const ROOT: &str = "root";

/// The operating system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("no randomness from the operating system: {0}")]
pub struct RandomError(getrandom::Error);

/// Checks credentials.
#[derive(Clone)]
pub struct Authenticator {
    salt: [u8; 32],
    digest: [u8; 32],
}

impl std::fmt::Debug for Authenticator {
    /// Keeps the secrets out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator")
    }
}

impl Authenticator {
    /// For user `root` with this password.
    ///
    /// # Errors
    /// No randomness for the salt.
    pub fn new(password: &str) -> Result<Self, RandomError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(RandomError)?;
        let token = STANDARD.encode(format!("{ROOT}:{password}"));
        let digest = salted(&salt, token.as_bytes());
        Ok(Self { salt, digest })
    }

    /// True when the request carries the right user and password.
    #[must_use]
    pub fn accepts(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(AUTHORIZATION) else { return false };
        let value = value.as_bytes();
        let Some((scheme, token)) = value.split_at_checked(6) else { return false };
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return false;
        }
        salted(&self.salt, token.trim_ascii()).ct_eq(&self.digest).into()
    }
}

fn salted(salt: &[u8; 32], token: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(token).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_right_credentials_pass() {
        let auth = Authenticator::new("se:cret").unwrap();
        let right = STANDARD.encode("root:se:cret");
        assert!(auth.accepts(&headers(&format!("Basic {right}"))));
        assert!(auth.accepts(&headers(&format!("basic  {right} "))));
        for wrong in ["root:", "root:secret", "admin:se:cret", "root:se:cret2", ""] {
            let token = STANDARD.encode(wrong);
            assert!(!auth.accepts(&headers(&format!("Basic {token}"))), "{wrong}");
        }
        for junk in ["", "Basic", "Basic ", "Bearer x", "Basic \u{fc}"] {
            let mut map = HeaderMap::new();
            map.insert(
                AUTHORIZATION,
                axum::http::HeaderValue::from_bytes(junk.as_bytes()).unwrap(),
            );
            assert!(!auth.accepts(&map), "{junk}");
        }
        assert!(!auth.accepts(&HeaderMap::new()));
    }
}
