//! `referee-verify evidence`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use referee_evidence::{
    AttestationKey, Attested, Bank, Body, Evidence, Reference, Report, Submodule, Token, check, to_hex,
};

use crate::cli::EvidenceArgs;
use crate::seal::seal_to_speaker;

/// Largest evidence that is read.
const BYTES_MAX: u64 = 256 << 20;

/// Checks, prints, and says whether everything holds.
///
/// # Errors
/// When a file cannot be read, or the parts cannot be written.
pub fn run(args: &EvidenceArgs) -> anyhow::Result<bool> {
    let bytes = read(&args.file, "evidence")?;
    let reference = read_reference(&args.reference)?;
    let report = check(&bytes, &args.nonce.0, &reference);
    let spoke = spoke(&bytes);
    if args.json {
        let shown: serde_json::Map<_, _> = spoke
            .iter()
            .map(|(cell, spoke)| (cell.clone(), spoke.to_json()))
            .collect();
        let value =
            serde_json::json!({ "holds": report.holds(), "findings": report.findings, "spoke": shown });
        println!("{value:#}");
    } else {
        for (cell, spoke) in &spoke {
            println!("{cell}: {:#}", spoke.to_json());
        }
        println!("{report}{}: {}", args.file.display(), verdict(&report));
    }
    if let Some(directory) = &args.extract {
        extract(&bytes, directory, &reference).with_context(|| format!("{}", directory.display()))?;
    }
    if let (Some(secret), Some(sealed), Some(to)) = (&args.secret, &args.sealed, &args.to) {
        if !report.holds() {
            eprintln!("referee-verify: not everything holds, so nothing is sealed");
            return Ok(false);
        }
        seal_to_speaker(&spoke, to, &args.nonce.0, secret, sealed)?;
    }
    Ok(report.holds())
}

/// What muscles say in the evidence, whether or not it holds.
fn spoke(evidence: &[u8]) -> BTreeMap<String, Submodule> {
    let claims = Evidence::parse(evidence)
        .and_then(|evidence| Token::parse(&evidence.token))
        .and_then(|token| token.claims());
    claims.map(|claims| claims.submodules).unwrap_or_default()
}

/// Reads a file that somebody else wrote.
///
/// # Errors
/// When it cannot be read, or is too large.
pub fn read(path: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let size = fs::metadata(path)
        .with_context(|| format!("{what} {shown}"))?
        .len();
    if size > BYTES_MAX {
        bail!("{what} {shown}: {size} bytes; more than {BYTES_MAX} are not read");
    }
    fs::read(path).with_context(|| format!("{what} {shown}"))
}

/// Reads the verifier's own file.
///
/// # Errors
/// When it cannot be read or is none.
pub fn read_reference(path: &Path) -> anyhow::Result<Reference> {
    let text = fs::read_to_string(path).with_context(|| format!("reference {}", path.display()))?;
    Reference::parse(&text).with_context(|| path.display().to_string())
}

/// The last line for people.
pub fn verdict(report: &Report) -> &'static str {
    match report.holds() {
        true => "everything holds",
        false => "DOES NOT HOLD",
    }
}

/// Writes what other people's tools check:
/// `openssl dgst -sha256 -verify key.pem -signature quote.der quote.msg`, and
/// `tpm2_checkquote -u key.pem -m quote.msg -s quote.sig -f quote.pcrs -q $(cat qualifying.hex) -g sha256`.
fn extract(bytes: &[u8], directory: &Path, reference: &Reference) -> anyhow::Result<()> {
    let evidence = Evidence::parse(bytes)?;
    let token = Token::parse(&evidence.token)?;
    let log = evidence.event_log()?;
    fs::create_dir(directory)?;
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes);
    write("token.cose", &evidence.token)?;
    write("qualifying.hex", to_hex(&token.digest()).as_bytes())?;
    write(
        "key.pem",
        AttestationKey::parse(&evidence.attestation_key)?
            .to_pem()
            .as_bytes(),
    )?;
    write("quote.msg", &evidence.quote.statement)?;
    write("quote.sig", &evidence.quote.signature)?;
    write("counter.msg", &evidence.counter.statement)?;
    write("counter.sig", &evidence.counter.signature)?;
    write(
        "quote.der",
        &AttestationKey::signature_to_der(&evidence.quote.signature)?,
    )?;
    write(
        "counter.der",
        &AttestationKey::signature_to_der(&evidence.counter.signature)?,
    )?;
    write("log.cbor", &evidence.log)?;
    write("log.json", format!("{:#}\n", log.to_json()).as_bytes())?;
    if let Body::Quote { selection, .. } = Attested::parse(&evidence.quote.statement)?.body
        && let [(algorithm, pcrs)] = &selection[..]
        && let Some(bank) = Bank::from_number(*algorithm)
    {
        let values = log.replay(bank, &reference.base(bank, pcrs)?, log.events().len());
        write(
            "quote.pcrs",
            &pcr_file(bank, &values.into_iter().collect::<Vec<_>>()),
        )?;
    }
    for (number, certificate) in evidence.certificates.iter().enumerate() {
        write(&format!("certificate-{number}.der"), certificate)?;
    }
    Ok(())
}

/// Registers in the form of `tpm2_quote --pcr`: TPML_PCR_SELECTION, count of digest lists, and one TPML_DIGEST, as the C structures
/// lie in memory on this architecture (tpm2-tools, `lib/pcr.c`).
fn pcr_file(bank: Bank, values: &[(u32, Vec<u8>)]) -> Vec<u8> {
    /// `sizeof(TPML_PCR_SELECTION)` has room for so many banks of this size, and a TPML_DIGEST for eight digests of 64 bytes.
    const BANKS: usize = 16;
    const DIGESTS: usize = 8;
    const DIGEST_BYTES: usize = 64;
    let mut out = Vec::new();
    out.extend(1u32.to_le_bytes());
    let mut mask = [0u8; 4];
    for (pcr, _) in values {
        if let Some(byte) = mask.get_mut((pcr / 8) as usize) {
            *byte |= 1 << (pcr % 8);
        }
    }
    out.extend(bank.number().to_le_bytes());
    out.push(3);
    out.extend(mask);
    // Each TPMS_PCR_SELECTION: algorithm, size, four bytes of mask, one of padding.
    out.push(0);
    out.resize(4 + BANKS * 8, 0);
    out.extend(1u32.to_le_bytes());
    let count = u32::try_from(values.len()).unwrap_or(0);
    out.extend(count.to_le_bytes());
    for (_, value) in values {
        out.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
        let mut digest = value.clone();
        digest.resize(DIGEST_BYTES, 0);
        out.extend(digest);
    }
    out.resize(
        out.len() + (DIGESTS - values.len().min(DIGESTS)) * (2 + DIGEST_BYTES),
        0,
    );
    out
}
