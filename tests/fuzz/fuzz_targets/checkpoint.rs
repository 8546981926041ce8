//! What is read of published logs and of enrolment: no input panics a parser, and what is read is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_evidence::{Anchor, Challenge, EndorsementKey, EnrolmentRequest};
use referee_tlog::{Checkpoint, InclusionProof, Note, Request, VerifierKey};

/// From the documentation of golang.org/x/mod/sumdb/note.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fuzz_target!(|bytes: &[u8]| {
    let key = VerifierKey::parse(KEY).expect("is a key");
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(
            Note::parse(note.to_string().as_bytes()).expect("is the same"),
            note
        );
        let _ = key.verify(&note);
        if let Ok(checkpoint) = Checkpoint::parse(&note.text) {
            assert_eq!(checkpoint.to_string(), note.text);
        }
    }
    if let Ok(proof) = InclusionProof::parse(bytes) {
        assert_eq!(
            InclusionProof::parse(proof.to_string().as_bytes()).expect("is the same"),
            proof
        );
        let _ = proof.verify(b"a record");
    }
    if let Ok(request) = Request::parse(bytes) {
        assert_eq!(
            Request::parse(request.to_string().as_bytes()).expect("is the same"),
            request
        );
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(key) = VerifierKey::parse(text)
    {
        assert_eq!(VerifierKey::parse(&key.to_string()).expect("is the same"), key);
    }
    if let Ok(anchor) = Anchor::parse(bytes) {
        assert_eq!(anchor.to_bytes(), bytes);
    }
    if let Ok(request) = EnrolmentRequest::parse(bytes) {
        assert_eq!(request.to_bytes(), bytes);
        let _ = EndorsementKey::parse(&request.endorsement_key);
    }
    if let Ok(challenge) = Challenge::parse(bytes) {
        assert_eq!(challenge.to_bytes(), bytes);
    }
    let _ = EndorsementKey::parse(bytes);
});
