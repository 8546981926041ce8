//! How a verifier becomes sure that an attestation key is in a TPM: the maker's certificate, and a challenge that only that TPM opens.

use std::fs;
use std::path::Path;

use referee_evidence::{Challenge, EnrolmentRequest, Evidence, Reference, check, from_hex};
use referee_tests::Ended;

use crate::commands::{Desk, assert_ends};
use crate::host::programs;

/// Certificates of the authority that signs for software TPMs on this machine, as `swtpm_setup` made it.
pub fn authority() -> [String; 2] {
    let config = fs::read_to_string("/etc/swtpm-localca.conf").expect("swtpm is installed");
    let value = |name: &str| {
        let found = config.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        });
        found.expect("is configured")
    };
    [
        value("issuercert"),
        format!("{}/swtpm-localca-rootca-cert.pem", value("statedir")),
    ]
}

fn enrol(desk: &Desk) -> String {
    let request = desk.file("host.enrol");
    assert_ends(&desk.vmm(&["tpm", "enrol"], &["-o", &request]), 0);
    request
}

fn challenge(desk: &Desk, request: &str, authorities: &[String]) -> Ended {
    challenge_unless_revoked(desk, request, authorities, &[])
}

fn challenge_unless_revoked(desk: &Desk, request: &str, authorities: &[String], lists: &[&str]) -> Ended {
    let (challenge, expect) = (desk.file("host.challenge"), desk.file("host.expect"));
    for path in [&challenge, &expect] {
        let _ = fs::remove_file(path);
    }
    let mut words = vec![
        "challenge",
        request,
        "--challenge",
        &challenge,
        "--expect",
        &expect,
        "--software",
    ];
    for authority in authorities {
        words.extend(["--ca", authority]);
    }
    for list in lists {
        words.extend(["--crl", list]);
    }
    programs().verify.run(words).expect("ends")
}

fn parsed(request: &str) -> EnrolmentRequest {
    EnrolmentRequest::parse(&fs::read(request).expect("is there")).expect("is a request")
}

#[test]
fn a_key_that_is_in_the_makers_tpm_gets_into_the_reference() {
    let desk = Desk::new();
    assert_ends(&desk.vmm(&["tpm", "init"], &[]), 0);
    let request = enrol(&desk);
    let text = assert_ends(&challenge(&desk, &request, &authority()), 0);
    assert!(text.contains("holds  certificate"), "{text}");
    let answer = assert_ends(
        &desk.vmm(&["tpm", "activate"], &[&desk.file("host.challenge")]),
        0,
    );
    let expect = desk.file("host.expect");
    let enrolled = |answer: &str| {
        programs()
            .verify
            .run(["enrolled", &expect, answer])
            .expect("ends")
    };
    let entry = assert_ends(&enrolled(answer.trim()), 0);
    let wrong = format!("00{}", &answer.trim()[2..]);
    assert!(assert_ends(&enrolled(&wrong), 1).contains("not in one TPM"));
    // The entry in place of what the host says about itself.
    let own = assert_ends(&desk.vmm(&["tpm", "reference"], &[]), 0);
    let before = own.split("[[attestation_key]]").next().expect("is there");
    let reference = Reference::parse(&format!("{before}{entry}")).expect("is a reference");
    let (nonce, evidence) = ("00112233445566778899aabbccddeeff", desk.file("evidence"));
    assert_ends(&desk.vmm(&["attest"], &["--nonce", nonce, "-o", &evidence]), 0);
    let bytes = fs::read(&evidence).expect("is there");
    let report = check(&bytes, &from_hex(nonce).expect("is hexadecimal"), &reference);
    assert!(report.holds(), "{report}");
    assert_eq!(
        Evidence::parse(&bytes).expect("is evidence").attestation_key,
        parsed(&request).attestation_key
    );
}

#[test]
fn a_certificate_counts_for_its_key_and_by_its_authority_alone() {
    let (desk, other) = (Desk::new(), Desk::new());
    let (request, foreign) = (enrol(&desk), enrol(&other));
    let failed = |request: &str, authorities: &[String]| {
        let text = assert_ends(&challenge(&desk, request, authorities), 1);
        assert!(text.contains("FAILS  certificate"), "{text}");
        assert!(
            !Path::new(&desk.file("host.challenge")).exists(),
            "a challenge was made"
        );
        text
    };
    // Somebody else's authority.
    let stranger = desk.file("stranger.pem");
    let words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=stranger",
        "-days",
        "2",
        "-keyout",
        "/dev/null",
        "-out",
        &stranger,
    ];
    let made = std::process::Command::new("openssl")
        .args(words)
        .output()
        .expect("openssl is there");
    assert!(made.status.success());
    failed(&request, &[stranger]);
    // The certificate of another TPM.
    let (own, theirs) = (parsed(&request), parsed(&foreign));
    let mixed = desk.file("mixed.enrol");
    let write = |request: EnrolmentRequest| fs::write(&mixed, request.to_bytes()).expect("is written");
    let mut foreign = own.clone();
    foreign.certificates = theirs.certificates.clone();
    write(foreign);
    assert!(failed(&mixed, &authority()).contains("another key"));
    let mut bare = own.clone();
    bare.certificates.clear();
    write(bare);
    assert!(failed(&mixed, &authority()).contains("there is none"));
    // A certificate with a bit turned: in what is signed, and in the signature.
    for place in [200, own.certificates[0].len() - 9] {
        let mut turned = own.clone();
        turned.certificates.truncate(1);
        turned.certificates[0][place] ^= 1;
        write(turned);
        failed(&mixed, &authority());
    }
    // Not a certificate for a TPM: the authority's own.
    let mut words = own.clone();
    let pem = fs::read_to_string(&authority()[0]).expect("is there");
    words.certificates = vec![pem.into_bytes().into()];
    write(words);
    failed(&mixed, &authority());
}

#[test]
fn a_challenge_opens_in_the_tpm_that_has_both_keys_and_in_no_other() {
    let (desk, other) = (Desk::new(), Desk::new());
    let (request, foreign) = (enrol(&desk), enrol(&other));
    assert_ends(&challenge(&desk, &request, &authority()), 0);
    let path = desk.file("host.challenge");
    assert!(assert_ends(&other.vmm(&["tpm", "activate"], &[&path]), 104).contains("TPM2_ActivateCredential"));
    // An attestation key of one TPM with the endorsement key of another: somebody's own key beside a good TPM.
    let mixed = desk.file("mixed.enrol");
    let mut both = parsed(&foreign);
    both.attestation_key = parsed(&request).attestation_key;
    fs::write(&mixed, both.to_bytes()).expect("is written");
    assert_ends(&challenge(&desk, &mixed, &authority()), 0);
    for host in [&desk, &other] {
        assert_ends(&host.vmm(&["tpm", "activate"], &[&path]), 104);
    }
    // Every part of a challenge matters.
    assert_ends(&challenge(&desk, &foreign, &authority()), 0);
    let whole = Challenge::parse(&fs::read(&path).expect("is there")).expect("is a challenge");
    assert_ends(&other.vmm(&["tpm", "activate"], &[&path]), 0);
    for place in [0, 10, 40, 60] {
        let mut turned = whole.clone();
        turned.credential[place] ^= 1;
        fs::write(&path, turned.to_bytes()).expect("is written");
        assert_ends(&other.vmm(&["tpm", "activate"], &[&path]), 104);
    }
    let mut turned = whole;
    turned.seed[100] ^= 1;
    fs::write(&path, turned.to_bytes()).expect("is written");
    assert_ends(&other.vmm(&["tpm", "activate"], &[&path]), 104);
    fs::write(&path, "no challenge").expect("is written");
    assert_ends(&other.vmm(&["tpm", "activate"], &[&path]), 104);
}

#[test]
fn a_key_that_signs_anything_is_no_attestation_key() {
    let desk = Desk::new();
    let mut request = parsed(&enrol(&desk));
    // The attributes are bytes 4 to 8; `restricted` is bit 16.
    request.attestation_key[5] ^= 1;
    let path = desk.file("unrestricted.enrol");
    fs::write(&path, request.to_bytes()).expect("is written");
    let text = assert_ends(&challenge(&desk, &path, &authority()), 1);
    assert!(
        text.contains("FAILS  keys") && text.contains("restricted"),
        "{text}"
    );
}

/// A maker that says which of its certificates are good no more. Serial numbers 77 and 78.
const MAKER: &str = r#"
set -e
cat >ca.cnf <<END
[ca]
default_ca = maker
[maker]
database = index
crlnumber = number
default_md = sha256
default_crl_days = 2
END
: >index
echo 01 >number
printf 'extendedKeyUsage = 2.23.133.8.1\n' >extensions
openssl x509 -inform DER -in own.der -pubkey -noout >ek.pub
for name in ca stranger; do
  openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=maker -days 2 -keyout $name.key -out $name.pem -addext keyUsage=critical,keyCertSign,cRLSign
done
openssl req -new -newkey rsa:2048 -nodes -subj /CN=tpm -keyout tpm.key -out tpm.csr
for serial in 77 78; do
  openssl x509 -req -in tpm.csr -CA ca.pem -CAkey ca.key -set_serial $serial -force_pubkey ek.pub -extfile extensions -days 2 -out $serial.pem
  openssl x509 -in $serial.pem -outform DER -out $serial.der
done
list() { openssl ca -config ca.cnf -keyfile $1.key -cert $1.pem -gencrl "${@:3}" -out $2; }
openssl ca -config ca.cnf -keyfile ca.key -cert ca.pem -revoke 78.pem
list ca list.pem
openssl crl -in list.pem -outform DER -out list.der
list stranger forged.pem
list ca expired.pem -crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z
"#;

#[test]
fn a_certificate_that_its_maker_revoked_does_not_count() {
    let desk = Desk::new();
    let mut request = parsed(&enrol(&desk));
    fs::write(desk.file("own.der"), &*request.certificates[0]).expect("is written");
    let made = std::process::Command::new("bash")
        .args(["-c", MAKER])
        .current_dir(Path::new(&desk.file("")))
        .output()
        .expect("bash is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let path = desk.file("made.enrol");
    let mut answered = |serial: &str, lists: &[&str]| {
        let der = fs::read(desk.file(&format!("{serial}.der"))).expect("is there");
        request.certificates = vec![der.into()];
        fs::write(&path, request.to_bytes()).expect("is written");
        let lists: Vec<String> = lists.iter().map(|list| desk.file(list)).collect();
        let lists: Vec<&str> = lists.iter().map(String::as_str).collect();
        challenge_unless_revoked(&desk, &path, &[desk.file("ca.pem")], &lists)
    };
    let mut challenged =
        |serial: &str, lists: &[&str], code: i32| assert_ends(&answered(serial, lists), code);
    assert!(challenged("78", &[], 0).contains("revocation not looked at"));
    for list in ["list.pem", "list.der"] {
        assert!(challenged("77", &[list], 0).contains("not revoked"));
        assert!(challenged("78", &[list], 1).contains("CertRevoked"));
    }
    // A list that somebody else signed under the maker's name, one of long ago, and none of this maker.
    assert!(challenged("77", &["forged.pem"], 1).contains("InvalidCrlSignatureForPublicKey"));
    assert!(challenged("77", &["expired.pem"], 1).contains("CrlExpired"));
    challenged("77", &["ca.pem"], 2);
    challenged("77", &["missing.pem"], 2);
    // More than any maker has revoked, and not read into memory.
    let large = fs::File::create(desk.file("large.der")).expect("is made");
    large.set_len(1 << 40).expect("is sparse");
    assert!(challenged("77", &["large.der"], 2).contains("are not read"));

    // A list, or a certificate, with any byte changed or any end cut off is refused, whatever its DER says by then.
    for (name, lists) in [("list.der", ["changed.der"]), ("77.der", ["list.der"])] {
        let sound = fs::read(desk.file(name)).expect("is there");
        for at in 0..sound.len() {
            let mut changed = sound.clone();
            match at % 8 {
                7 => changed.truncate(at),
                bit => changed[at] ^= 1 << bit,
            }
            fs::write(desk.file("changed.der"), &changed).expect("is written");
            let serial = if name == "77.der" { "changed" } else { "77" };
            let ended = answered(serial, &lists);
            assert!(
                matches!(ended.code, Some(1 | 2)),
                "{name}, byte {at}: {:?} {}",
                ended.code,
                ended.errors()
            );
        }
    }
}
