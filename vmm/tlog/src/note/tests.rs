use fips204::traits::{KeyGen as _, SerDes as _, Signer as _, Verifier as _};
use proptest::prelude::*;

use super::*;
use crate::cosignature::{CosignerKeys, cosigned_message};
use crate::hash::TreeHash;
use crate::tree::TreeHead;

/// From the documentation of golang.org/x/mod/sumdb/note.
const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fn checkpoint() -> Checkpoint {
    let head = TreeHead {
        size: 7,
        root: TreeHash::of_leaf(b"root"),
    };
    Checkpoint::new("example.com/log", head).expect("is a name")
}

#[test]
fn a_note_of_go_is_read_and_verified() {
    let note = Note::parse(GO_NOTE.as_bytes()).expect("is a note");
    let key = VerifierKey::parse(GO_KEY).expect("is a key");
    assert_eq!(key.verify(&note).expect("holds"), Verification::Signed);
    assert_eq!(note.to_string(), GO_NOTE);
    assert_eq!(key.to_string(), GO_KEY);
    let mut changed = note.clone();
    changed.text = changed.text.replace("don't", "do");
    assert!(matches!(
        key.verify(&changed),
        Err(TlogError::BadSignature { .. })
    ));
}

#[test]
fn a_key_that_has_not_signed_is_missing_and_not_wrong() {
    let mut note = Note::parse(GO_NOTE.as_bytes()).expect("is a note");
    let key = VerifierKey::parse(GO_KEY).expect("is a key");
    note.signatures[0].name = "Somebody".into();
    assert_eq!(key.verify(&note).expect("is missing"), Verification::Missing);
    note.signatures[0].name = "PeterNeumann".into();
    note.signatures[0].id[0] ^= 1;
    assert_eq!(key.verify(&note).expect("is missing"), Verification::Missing);
}

#[test]
fn cosignatures_bind_time_tree_and_name() {
    let (keys, text) = CosignerKeys::generate("witness.example/w1").expect("is made");
    let mut note = Note::unsigned(checkpoint().to_string());
    note.signatures = keys.cosign(&note, 1_700_000_000).expect("is a checkpoint");
    let again = CosignerKeys::parse(&text).expect("is a key");
    for key in again.public().expect("is a name") {
        assert_eq!(VerifierKey::parse(&key.to_string()).expect("is a key"), key);
        assert_eq!(
            key.verify(&note).expect("holds"),
            Verification::SignedAt(1_700_000_000)
        );
        let mut other = note.clone();
        other.text = other.text.replace("\n7\n", "\n8\n");
        assert!(matches!(key.verify(&other), Err(TlogError::BadSignature { .. })));
        let mut later = note.clone();
        later.signatures.iter_mut().for_each(|line| line.bytes[7] ^= 1);
        assert!(matches!(key.verify(&later), Err(TlogError::BadSignature { .. })));
    }
}

/// The second implementation of ML-DSA accepts what the first signs, and the other way round.
#[test]
fn ml_dsa_44_is_what_another_implementation_says_it_is() {
    let seed = [3; 32];
    let keys = CosignerKeys::from_seeds("example.com/log", &[1; 32], &seed).expect("is a name");
    let note = Note::unsigned(checkpoint().to_string());
    let line = keys.cosign_ml_dsa(&note, 5).expect("is a checkpoint");
    let [_, key] = keys.public().expect("is a name");
    let (public, secret) = fips204::ml_dsa_44::KG::keygen_from_seed(&seed);
    assert_eq!(public.clone().into_bytes()[..], *key.public());
    let message = cosigned_message("example.com/log", 5, &checkpoint());
    let signature: [u8; 2420] = line.bytes[8..].try_into().expect("has that length");
    assert!(public.verify(&message, &signature, &[]));
    let theirs = secret.try_sign_with_seed(&[9; 32], &message, &[]).expect("signs");
    let mut signed = note;
    signed.signatures = vec![key.line([&5u64.to_be_bytes()[..], &theirs].concat())];
    assert_eq!(key.verify(&signed).expect("holds"), Verification::SignedAt(5));
}

#[test]
fn what_is_no_note_or_key_is_refused() {
    for text in [
        "",
        "\n",
        "text\n",
        "text\n\n",
        "text\n\nno dash\n",
        "text\n\n— name\n",
        "text\n\n— name AAAA\n",
        "text\n\n— na+me AAAAAAAA\n",
        "text\n\n—  AAAAAAAA\n",
        "text\n\n— name AAAAAAAA",
        "te\rxt\n\n— name AAAAAAAA\n",
    ] {
        assert!(Note::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    let many = format!("text\n\n{}", "— name AAAAAAAA\n".repeat(65));
    assert!(Note::parse(many.as_bytes()).is_err());
    for key in [
        "",
        "a+b",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10Q=",
        "PeterNeumann+c74f20a3+ABpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ] {
        assert!(VerifierKey::parse(key).is_err(), "{key:?}");
    }
    for text in [
        "",
        "log\n7\n",
        "log\n07\nx\n",
        "log\n7\nAAAA\n",
        "log\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
    ] {
        assert!(Checkpoint::parse(text).is_err(), "{text:?}");
    }
    let extended = format!("{}more\n", checkpoint());
    assert!(Checkpoint::parse(&extended).is_err());
}

proptest! {
    #[test]
    fn notes_come_back_as_they_went(text in "[ -~\u{e9}\n]{0,80}", names in prop::collection::vec("[a-z./]{1,20}", 1..4), bytes in prop::collection::vec(any::<u8>(), 1..100)) {
        let note = Note {
            text: format!("{text}\n"),
            signatures: names.into_iter().map(|name| NoteSignature { name, id: [1, 2, 3, 4], bytes: bytes.clone() }).collect(),
        };
        prop_assert_eq!(Note::parse(note.to_string().as_bytes()).expect("is a note"), note);
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Note::parse(&bytes);
        let _ = crate::witness::Request::parse(&bytes);
        let _ = crate::proof::InclusionProof::parse(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = VerifierKey::parse(&text);
        let _ = Checkpoint::parse(&text);
        let _ = CosignerKeys::parse(&text);
    }
}
