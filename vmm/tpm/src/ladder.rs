//! Keys by version: whoever has the key of one version can make those of all older ones, and of no newer one.
//!
//! ```text
//!   L[4096] = HKDF(master key, "referee state ladder 1" ‖ owner)
//!   L[v-1]  = HKDF(L[v], "down")
//!   K[v]    = HKDF(L[v], "use")
//! ```
//! HKDF-SHA256 (RFC 5869). A version is a bundle's security epoch.

use zeroize::Zeroizing;

use crate::vault::derived;

/// The highest version.
pub const TOP: u64 = 4096;

/// One step of a ladder. There is no way up from it.
pub struct Rung {
    version: u64,
    secret: Zeroizing<[u8; 32]>,
}

impl Rung {
    /// The highest one.
    pub fn top(secret: Zeroizing<[u8; 32]>) -> Rung {
        Rung { version: TOP, secret }
    }

    /// The one of this version, if it is not above this one.
    pub fn down_to(&self, version: u64) -> Option<Rung> {
        let steps = self.version.checked_sub(version)?;
        let mut secret = self.secret.clone();
        for _ in 0..steps {
            secret = derived(&secret, b"down");
        }
        Some(Rung { version, secret })
    }

    /// The key of its version.
    pub fn key(&self) -> Zeroizing<[u8; 32]> {
        derived(&self.secret, b"use")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top() -> Rung {
        Rung::top(Zeroizing::new([7; 32]))
    }

    #[test]
    fn a_version_makes_the_keys_of_older_ones_and_of_no_newer_one() {
        let five = top().down_to(5).expect("below the top");
        let three = top().down_to(3).expect("below the top");
        assert_eq!(five.down_to(3).expect("below").key(), three.key());
        assert_eq!(five.down_to(5).expect("itself").key(), five.key());
        assert!(three.down_to(5).is_none());
        assert!(top().down_to(TOP + 1).is_none());
    }

    #[test]
    fn every_version_has_another_key_and_no_key_is_a_rung() {
        let mut seen = std::collections::BTreeSet::new();
        for version in 0..40 {
            let rung = top().down_to(version).expect("below the top");
            assert!(seen.insert(*rung.key()));
            assert!(seen.insert(*rung.secret));
        }
    }
}
