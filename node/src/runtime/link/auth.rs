//! Proof that a server knows the cluster's password, made so that it fits one connection, one pair
//! of servers and one role only. May not know sockets.
//!
//! It keeps strangers and misconfigured servers out. It does not encrypt, and whoever can change
//! bytes on the way can change them after the handshake; links belong on a network that is trusted
//! that far.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of a proof.
pub(crate) type Proof = [u8; 32];

/// Who proves. Part of the proof, so that nobody can hand a proof back to its maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Opened the connection.
    Dialer,
    /// Was dialed.
    Acceptor,
}

impl Role {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Dialer => b"quorate link 1 dialer",
            Self::Acceptor => b"quorate link 1 acceptor",
        }
    }
}

/// Key of a cluster's links. Not printable.
#[derive(Clone)]
pub(crate) struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Derives the key from the cluster's name and password.
    pub(crate) fn derive(cluster: &str, password: &str) -> Self {
        let mut mac = mac(password.as_bytes());
        absorb(&mut mac, b"quorate link key 1");
        absorb(&mut mac, cluster.as_bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// A role's proof over both sides' introductions, which hold nonces, names, ids and boots.
    pub(crate) fn prove(&self, role: Role, dialer: &[u8], acceptor: &[u8]) -> Proof {
        self.mac(role, dialer, acceptor).finalize().into_bytes().into()
    }

    /// Checks the other side's proof in constant time.
    #[must_use]
    pub(crate) fn verify(&self, role: Role, dialer: &[u8], acceptor: &[u8], proof: &Proof) -> bool {
        self.mac(role, dialer, acceptor).verify_slice(proof).is_ok()
    }

    fn mac(&self, role: Role, dialer: &[u8], acceptor: &[u8]) -> Hmac<Sha256> {
        let mut mac = mac(&self.0);
        absorb(&mut mac, role.label());
        absorb(&mut mac, dialer);
        absorb(&mut mac, acceptor);
        mac
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Length first, so that parts cannot be shifted against each other.
fn absorb(mac: &mut Hmac<Sha256>, part: &[u8]) {
    mac.update(&(part.len() as u64).to_be_bytes());
    mac.update(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_fits_one_key_role_and_conversation() {
        let key = Key::derive("bench", "secret");
        let proof = key.prove(Role::Dialer, b"a", b"b");
        assert!(key.verify(Role::Dialer, b"a", b"b", &proof));
        assert!(!key.verify(Role::Acceptor, b"a", b"b", &proof), "reflected");
        assert!(!key.verify(Role::Dialer, b"b", b"a", &proof), "sides swapped");
        assert!(!key.verify(Role::Dialer, b"a", b"c", &proof), "replayed");
        assert!(!key.verify(Role::Dialer, b"ab", b"", &proof), "shifted");
        for other in [Key::derive("bench", "other"), Key::derive("other", "secret")] {
            assert!(!other.verify(Role::Dialer, b"a", b"b", &proof));
        }
    }
}
