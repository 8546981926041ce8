//! ML-DSA-65 beside Ed25519: keys of the standard, a second implementation, bundles that need both signatures, and root keys that follow
//! each other.

use std::process::Command;

use cargo_muscle::{PrivateKey, public_key_from_pem, public_key_to_pem};
use fips204::ml_dsa_65;
use fips204::traits::{KeyGen as _, SerDes as _, Signer as _, Verifier as _};
use proptest::prelude::*;
use referee_bundle::{Algorithm, PublicKey};

/// RFC 9881, appendix C: the seed 00 01 … 1f and its public key.
const PRIVATE: &str = include_str!("data/rfc9881-ml-dsa-65-private.pem");
const PUBLIC: &str = include_str!("data/rfc9881-ml-dsa-65-public.pem");

fn seed() -> [u8; 32] {
    std::array::from_fn(|index| u8::try_from(index).expect("is small"))
}

#[test]
fn the_key_of_the_standard_is_read_and_written_as_it_is() {
    let key = PrivateKey::from_pem(PRIVATE).expect("is a key");
    assert_eq!(key.algorithm(), Algorithm::MlDsa65);
    let public = public_key_from_pem(PUBLIC).expect("is a key");
    assert_eq!(key.public_key(), Ok(public.clone()));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        lines(&public_key_to_pem(&public).expect("is written")),
        lines(PUBLIC)
    );
    assert_eq!(lines(&key.to_pem().expect("is written")), lines(PRIVATE));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever one implementation signs, the other takes, and neither takes anything else.
    #[test]
    fn two_implementations_agree(message in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let ours = PrivateKey::from_pem(PRIVATE).expect("is a key");
        let (their_public, their_private) = ml_dsa_65::KG::keygen_from_seed(&seed());
        let public = ours.public_key().expect("is sound");
        prop_assert_eq!(public.bytes(), &their_public.clone().into_bytes()[..]);
        let signature = ours.sign(&message).expect("signs");
        let as_theirs: [u8; ml_dsa_65::SIG_LEN] = signature.clone().try_into().expect("has that length");
        prop_assert!(their_public.verify(&message, &as_theirs, b""));
        let theirs = their_private.try_sign_with_seed(&[7; 32], &message, b"").expect("signs");
        prop_assert_eq!(public.verify(&message, &theirs), Ok(()));
        // With a context it is another signature, and a changed bit makes it none.
        let with_context = their_private.try_sign_with_seed(&[7; 32], &message, b"context").expect("signs");
        prop_assert!(public.verify(&message, &with_context).is_err());
        let mut changed = signature.clone();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        prop_assert!(public.verify(&message, &changed).is_err());
        let changed: [u8; ml_dsa_65::SIG_LEN] = changed.try_into().expect("has that length");
        prop_assert!(!their_public.verify(&message, &changed, b""));
        prop_assert!(public.verify(&message, &signature[1..]).is_err());
    }

    #[test]
    fn no_bytes_of_a_key_or_signature_make_it_panic(key in proptest::collection::vec(any::<u8>(), 1952), signature in proptest::collection::vec(any::<u8>(), 3309)) {
        let public = PublicKey::new(Algorithm::MlDsa65, &key).expect("any bytes are a key");
        prop_assert!(public.verify(b"message", &signature).is_err());
    }
}

struct Desk(tempfile::TempDir);

impl Desk {
    fn run(&self, words: &str) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_cargo-muscle"))
            .args(words.split(' '))
            .current_dir(self.0.path())
            .output()
            .expect("starts");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().expect("ends by itself"), text)
    }

    #[track_caller]
    fn gives(&self, code: i32, words: &str) -> String {
        let (found, text) = self.run(words);
        assert_eq!(found, code, "{words}: {text}");
        text
    }
}

/// A desk with keys of both algorithms, and an unsigned bundle of a program that exits.
fn desk() -> Desk {
    let desk = Desk(tempfile::tempdir().expect("a folder"));
    for words in [
        "keygen me",
        "keygen --algorithm ml-dsa-65 me-pq",
        "keygen root",
        "keygen other",
    ] {
        desk.gives(0, words);
    }
    let file = |name: &str| desk.0.path().join(name);
    std::fs::write(
        file("exit.s"),
        ".globl _start\n_start: ud2\n.section .rodata\n.quad 1\n.data\n.quad 1\n",
    )
    .expect("is written");
    let linked = Command::new("cc")
        .args([
            "-nostartfiles",
            "-nostdlib",
            "-static-pie",
            "-Wl,--no-dynamic-linker,-z,norelro,-z,separate-code,-z,noexecstack,--build-id=none",
            "-o",
        ])
        .args([file("exit"), file("exit.s")])
        .status()
        .expect("a linker");
    assert!(linked.success());
    let settings = "[muscle]\nname = \"exit\"\nversion = \"1.0.0\"\nstyle = \"command\"\n";
    std::fs::write(file("Muscle.toml"), settings).expect("is written");
    desk.gives(0, "trust init trust.store --root-key root.key --expires 365d");
    desk.gives(
        0,
        "trust add-publisher trust.store --name me --key me.pub --key me-pq.pub --scope exit --expires 300d --root-key root.key",
    );
    desk
}

#[test]
fn a_second_signature_is_needed_when_the_trust_store_says_so_and_cannot_be_stripped() {
    let desk = desk();
    let build = "build --elf exit --settings Muscle.toml";
    desk.gives(0, &format!("{build} --key me.key -o one.muscle"));
    desk.gives(0, &format!("{build} --key me.key --key me-pq.key -o both.muscle"));
    desk.gives(0, &format!("{build} --key me-pq.key -o pq.muscle"));
    // Ed25519 alone is required at first.
    for (bundle, code) in [("one", 0), ("both", 0), ("pq", 101)] {
        desk.gives(code, &format!("verify {bundle}.muscle --trust trust.store"));
    }
    desk.gives(
        0,
        "trust require trust.store --algorithm ed25519 --algorithm ml-dsa-65 --root-key root.key",
    );
    desk.gives(0, "verify both.muscle --trust trust.store");
    for bundle in ["one", "pq"] {
        let text = desk.gives(101, &format!("verify {bundle}.muscle --trust trust.store"));
        assert!(text.contains("algorithm-missing"), "{text}");
    }
    // Adding the second later is the same as both at once.
    desk.gives(0, "sign --key me-pq.key one.muscle");
    let read = |name: &str| std::fs::read(desk.0.path().join(name)).expect("is there");
    assert_eq!(read("one.muscle"), read("both.muscle"));
    // A changed bit of the second signature refuses the bundle, whatever the first says.
    let mut changed = read("both.muscle");
    let public =
        public_key_from_pem(&String::from_utf8(read("me-pq.pub")).expect("is text")).expect("is a key");
    let at = changed
        .windows(32)
        .position(|window| window == public.key_id().0)
        .expect("its key id is there")
        + 100;
    changed[at] ^= 1;
    std::fs::write(desk.0.path().join("changed.muscle"), changed).expect("is written");
    let text = desk.gives(101, "verify changed.muscle --trust trust.store");
    assert!(text.contains("signature-invalid"), "{text}");
}

#[test]
fn root_keys_follow_each_other_by_the_signatures_of_both() {
    let desk = desk();
    let copy = |from: &str, to: &str| {
        let path = |name: &str| desk.0.path().join(name);
        std::fs::copy(path(from), path(to)).expect("is copied")
    };
    copy("trust.store", "former.store");
    // By the new key alone: good in itself, and it does not follow.
    desk.gives(
        0,
        "trust rotate-root trust.store --root-pub other.pub --root-key other.key",
    );
    let text = desk.gives(101, "trust follows former.store trust.store");
    assert!(text.contains("pinned-signatures"), "{text}");
    // By the old key alone: it follows nobody's word but that of who is leaving.
    copy("former.store", "trust.store");
    desk.gives(
        0,
        "trust rotate-root trust.store --root-pub other.pub --root-key root.key",
    );
    desk.gives(101, "trust follows former.store trust.store");
    // The new one signs later, elsewhere.
    desk.gives(
        0,
        "trust sign trust.store --root-key other.key --former former.store",
    );
    assert!(
        desk.gives(0, "trust follows former.store trust.store")
            .contains("version 3 follows 2")
    );
    // Not backwards, not twice, not over one.
    desk.gives(101, "trust follows trust.store former.store");
    desk.gives(101, "trust follows trust.store trust.store");
    copy("trust.store", "second.store");
    desk.gives(
        0,
        "trust require second.store --algorithm ed25519 --algorithm ml-dsa-65 --root-key other.key",
    );
    desk.gives(0, "trust follows trust.store second.store");
    let text = desk.gives(101, "trust follows former.store second.store");
    assert!(
        text.contains("pinned-signatures") || text.contains("store-out-of-sequence"),
        "{text}"
    );
    // The old key has nothing to say any more.
    let text = desk.gives(
        1,
        "trust require second.store --algorithm ed25519 --root-key root.key",
    );
    assert!(text.contains("is no root key"), "{text}");
}
