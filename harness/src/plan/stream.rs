//! Random streams, derived by name from the root seed of a run.
//! Because no stream shares state with another, adding a fault never shifts the keys, and so on.
//! No ambient generator may be used anywhere in the harness; this file is the only source.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// A named stream: a sequential generator, or a value for any index without drawing the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    key: [u8; 32],
}

impl Stream {
    /// The stream `name` of the run whose root seed is `seed`.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"quorate-stream-1\0");
        hash.update(seed.to_le_bytes());
        hash.update(name.as_bytes());
        Self { key: hash.finalize().into() }
    }

    /// A generator at the stream's beginning.
    #[must_use]
    pub fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.key)
    }

    /// The value at index `k`, whatever was drawn before. Independent of [`Stream::rng`]'s values.
    #[must_use]
    pub fn at(&self, k: u64) -> u64 {
        let mut rng = self.rng();
        // Number 0 of ChaCha's streams is what `rng` hands out, so `at(0)` must not start there.
        rng.set_stream(k.wrapping_add(1));
        rng.next_u64()
    }
}

/// A generator for the stream `name`.
#[must_use]
pub fn rng(seed: u64, name: &str) -> ChaCha8Rng {
    Stream::new(seed, name).rng()
}

/// The value at index `k` of the stream `name`. Keep a [`Stream`] when many are wanted.
#[must_use]
pub fn at(seed: u64, name: &str, k: u64) -> u64 {
    Stream::new(seed, name).at(k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_fixed_for_ever() {
        // A change of these numbers would change every saved plan's meaning.
        let values = [at(1, "keys", 0), at(1, "keys", 1), rng(1, "keys").next_u64()];
        expect_test::expect![[r#"
            [
                14962823415000027255,
                14103762074759936595,
                4717299013862664342,
            ]
        "#]]
        .assert_debug_eq(&values);
    }

    #[test]
    fn streams_differ_by_name_seed_and_index() {
        let values = [at(1, "keys", 0), at(1, "keys", 1), at(1, "mix", 0), at(2, "keys", 0)];
        for (i, a) in values.iter().enumerate() {
            assert!(values[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn an_index_does_not_depend_on_what_was_drawn() {
        let stream = Stream::new(7, "keys");
        let before = stream.at(1000);
        let mut rng = stream.rng();
        rng.next_u64();
        assert_eq!(stream.at(1000), before);
    }
}
