//! The check: evidence, nonce and reference in, one finding for each thing that must hold out.
//!
//! Nothing is believed before it is checked: the key before its statements, the statements before the token that they carry the hash of,
//! the token before its claims, and the log only as far as the quoted registers count it.

use subtle::ConstantTimeEq as _;

use crate::claims::{Claims, TOKEN_AAD, Token, TpmKind};
use crate::error::Malformed;
use crate::event_log::{Bank, Content, EventLog};
use crate::evidence::{Certified, Evidence};
use crate::hex::to_hex;
use crate::reference::{KeyReference, Reference, counter_name};
use crate::report::Report;
use crate::tpm::{AttestationKey, Attested, Body, NULL_PCRS_RESETTABLE};

/// Checks that come after the token's.
const AFTER_TOKEN: [&str; 10] = [
    "nonce",
    "tpm-kind",
    "quote",
    "registers",
    "log",
    "boot",
    "identity",
    "bundles",
    "counter",
    "epoch",
];

/// Checks evidence. A nonce must be given out once and have at least 16 bytes; that is the caller's to see to.
pub fn check(evidence: &[u8], nonce: &[u8], reference: &Reference) -> Report {
    let mut report = Report::default();
    let parsed = Evidence::parse(evidence);
    let described = parsed.map(|parsed| {
        (
            parsed,
            format!("{} bytes of format {}", evidence.len(), Evidence::FORMAT),
        )
    });
    let Some(evidence) = report.note("format", described) else {
        report.unknown(
            &["attestation-key", "key-known", "token"],
            "the file cannot be read",
        );
        report.unknown(&AFTER_TOKEN, "the file cannot be read");
        return report;
    };
    let key = report.note("attestation-key", attestation_key(&evidence.attestation_key));
    let known = key
        .as_ref()
        .and_then(|key| report.note("key-known", key_known(key, reference)));
    let token = report.note("token", token(&evidence, reference));
    let (Some(key), Some((token, claims))) = (key, token) else {
        report.unknown(&AFTER_TOKEN, "there is no sound key or token to check it by");
        return report;
    };
    report.note("nonce", nonce_fits(&claims, nonce));
    report.note("tpm-kind", tpm_kind(&claims, known.as_ref(), reference));
    let quote = report.note("quote", quote(&evidence, &key, &token));
    let registers = report.note("registers", registers(&claims, quote.as_ref(), reference));
    match (quote, registers) {
        (Some(quote), Some(bank)) => measured(&mut report, &evidence, &claims, &quote, bank, reference),
        _ => report.unknown(
            &["log", "boot", "identity", "bundles"],
            "there is no sound quote to replay the log against",
        ),
    }
    let counted = report.note(
        "counter",
        counter(&evidence.counter, &key, &token.digest(), reference),
    );
    match counted {
        Some(value) => {
            report.note("epoch", epoch(&claims, value, reference));
        }
        None => report.unknown(&["epoch"], "there is no sound counter"),
    }
    report
}

pub(crate) type Found<T> = Result<(T, String), Malformed>;

pub(crate) fn no<T>(document: &'static str, what: impl Into<String>) -> Found<T> {
    Err(Malformed::new(document, what))
}

pub(crate) fn attestation_key(public: &[u8]) -> Found<AttestationKey> {
    let key = AttestationKey::parse(public)?;
    let name = to_hex(&key.name());
    Ok((key, format!("restricted P-256 key {name}")))
}

pub(crate) fn key_known(key: &AttestationKey, reference: &Reference) -> Found<KeyReference> {
    let name = to_hex(&key.name());
    match reference.attestation_key.iter().find(|known| known.name == name) {
        Some(known) => Ok((known.clone(), "listed in the reference".into())),
        None => no(
            "attestation key",
            format!("{name} is not in the reference: nobody says that it is in a TPM"),
        ),
    }
}

fn token(evidence: &Evidence, reference: &Reference) -> Found<(Token, Claims)> {
    let token = Token::parse(&evidence.token)?;
    let claims = token.claims()?;
    token.verify(TOKEN_AAD, &claims.instance())?;
    let named = 1 + usize::from(claims.ml_dsa_key.is_some());
    if token.signatures() != named {
        return no("token", "signed by a key that it does not name");
    }
    let with = match (&claims.ml_dsa_key, reference.require_ml_dsa) {
        (Some(_), _) => "Ed25519 and ML-DSA-65",
        (None, false) => "Ed25519 alone",
        (None, true) => return no("token", "not signed with ML-DSA-65, which the reference requires"),
    };
    let shown = format!(
        "signed by instance key {} with {with}",
        to_hex(&claims.instance_key)
    );
    Ok(((token, claims), shown))
}

fn nonce_fits(claims: &Claims, nonce: &[u8]) -> Found<()> {
    if bool::from(claims.nonce.ct_eq(nonce)) {
        return Ok(((), format!("{} bytes, as asked", nonce.len())));
    }
    no(
        "nonce",
        "made for another nonce: evidence of an earlier request, or for somebody else",
    )
}

fn tpm_kind(claims: &Claims, known: Option<&KeyReference>, reference: &Reference) -> Found<()> {
    // The host may call its TPM hardware; only whoever listed the key knows.
    let software = claims.tpm == TpmKind::Software || known.is_none_or(|known| known.software);
    let model = &claims.tpm_model;
    match (software, reference.allow_software_tpm) {
        (false, _) => Ok(((), format!("hardware: {model}"))),
        (true, true) => Ok(((), format!("software, which the reference allows: {model}"))),
        (true, false) => no(
            "TPM",
            format!("a program of the host ({model}), which whoever is root there can make say anything"),
        ),
    }
}

fn quote(evidence: &Evidence, key: &AttestationKey, token: &Token) -> Found<Attested> {
    let attested = evidence.quote.open(key, &token.digest())?;
    match attested.body {
        Body::Quote { .. } => Ok((
            attested,
            "signed by the attestation key over this token's hash".into(),
        )),
        Body::Nv { .. } => no("TPM statement", "is an NV_Certify where a quote was expected"),
    }
}

fn registers(claims: &Claims, quote: Option<&Attested>, reference: &Reference) -> Found<Bank> {
    let document = "registers";
    let Some(Body::Quote { selection, .. }) = quote.map(|quote| &quote.body) else {
        return no(document, "there is no sound quote");
    };
    let mut wanted = vec![claims.identity_pcr, claims.muscle_pcr];
    wanted.sort_unstable();
    let [(algorithm, pcrs)] = &selection[..] else {
        return no(
            document,
            format!("{} banks are quoted; one was expected", selection.len()),
        );
    };
    if *pcrs != wanted || claims.identity_pcr == claims.muscle_pcr {
        return no(
            document,
            format!("{pcrs:?} are quoted; the token speaks of {wanted:?}"),
        );
    }
    let Some(bank) = Bank::from_number(*algorithm) else {
        return no(document, format!("unknown bank {algorithm:#06x}"));
    };
    let resettable = wanted.iter().any(|pcr| NULL_PCRS_RESETTABLE.contains(pcr));
    if resettable && !reference.allow_resettable_registers {
        return no(
            document,
            format!("one of {wanted:?} can be set back by software of the host"),
        );
    }
    let caution = if resettable {
        ", one of them resettable, which the reference allows"
    } else {
        ""
    };
    Ok((
        bank,
        format!(
            "{}: identity in {}, muscles in {}{caution}",
            bank.name(),
            claims.identity_pcr,
            claims.muscle_pcr
        ),
    ))
}

fn measured(
    report: &mut Report,
    evidence: &Evidence,
    claims: &Claims,
    quote: &Attested,
    bank: Bank,
    reference: &Reference,
) {
    let Some(log) = report.note("log", log(evidence, claims, quote, bank, reference)) else {
        report.unknown(
            &["boot", "identity", "bundles"],
            "the log does not account for the registers",
        );
        return;
    };
    let contents: Vec<(u32, Content)> = log
        .events()
        .iter()
        .filter_map(|event| Some((event.pcr(), event.content().ok()?)))
        .collect();
    report.note("boot", boot(&contents, quote));
    report.note("identity", identity(&contents, claims, reference));
    report.note("bundles", bundles(&contents, claims, reference));
}

fn log(
    evidence: &Evidence,
    claims: &Claims,
    quote: &Attested,
    bank: Bank,
    reference: &Reference,
) -> Found<EventLog> {
    let document = "event log";
    let log = evidence.event_log()?;
    let Body::Quote { digest: quoted, .. } = &quote.body else {
        return no(document, "there is no quote");
    };
    let base = reference.base(bank, &[claims.identity_pcr, claims.muscle_pcr])?;
    // The quote's digest is in the hash of the key's scheme, whatever the bank.
    let at = |count: usize| {
        let values: Vec<u8> = log.replay(bank, &base, count).into_values().flatten().collect();
        Bank::Sha256.hash(&values)
    };
    let counted = usize::try_from(claims.events).unwrap_or(usize::MAX);
    let stray = |event: &&crate::event_log::Event| !base.contains_key(&event.pcr());
    if let Some(event) = log.events().iter().find(stray) {
        return no(
            document,
            format!("an event in register {}, which is not quoted", event.pcr()),
        );
    }
    if counted == log.events().len() && at(counted) == *quoted {
        return Ok((log, format!("{counted} events replay to the quoted registers")));
    }
    let stops = (0..=log.events().len()).find(|count| at(*count) == *quoted);
    let where_it_stops = match stops {
        Some(count) => format!("the registers are those after {count}"),
        None => "at no point of it do the registers have the quoted values".into(),
    };
    no(
        document,
        format!(
            "{} events, {} counted by the token; {where_it_stops}",
            log.events().len(),
            claims.events
        ),
    )
}

fn boot(contents: &[(u32, Content)], quote: &Attested) -> Found<()> {
    let document = "boot";
    let Some((_, first)) = contents.first().filter(|(_, first)| first.kind == Content::BOOT) else {
        return no(document, "the log does not begin with a boot");
    };
    if contents
        .iter()
        .skip(1)
        .any(|(_, content)| content.kind == Content::BOOT)
    {
        return no(document, "the log has a second boot in it");
    }
    let logged = first
        .detail
        .get("resets")
        .and_then(|count| count.parse::<u32>().ok());
    if logged != Some(quote.reset_count) {
        return no(
            document,
            format!(
                "the log is of boot {logged:?}, the quote of boot {}",
                quote.reset_count
            ),
        );
    }
    Ok(((), format!("the TPM's boot {}", quote.reset_count)))
}

fn identity(contents: &[(u32, Content)], claims: &Claims, reference: &Reference) -> Found<()> {
    let document = "identity";
    let mut seen = Vec::new();
    for (pcr, content) in contents {
        let is_component = content.kind == Content::COMPONENT;
        if is_component != (*pcr == claims.identity_pcr) {
            return no(
                document,
                format!("a {} `{}` in register {pcr}", content.kind, content.name),
            );
        }
        if !is_component {
            continue;
        }
        let digest = to_hex(&content.digest);
        let Some(good) = reference.identity.get(&content.name) else {
            return no(
                document,
                format!(
                    "component `{}`, of which the reference knows nothing",
                    content.name
                ),
            );
        };
        if !good.contains(&digest) {
            return no(
                document,
                format!(
                    "{} is {digest}, which is none that the reference lists",
                    content.name
                ),
            );
        }
        if seen.contains(&content.name.as_str()) {
            return no(document, format!("{} was measured twice", content.name));
        }
        seen.push(&content.name);
    }
    if let Some(missing) = reference
        .identity
        .keys()
        .find(|name| !seen.contains(&name.as_str()))
    {
        return no(document, format!("{missing} was not measured"));
    }
    Ok(((), format!("{}, each as the reference lists it", seen.join(", "))))
}

fn bundles(contents: &[(u32, Content)], claims: &Claims, reference: &Reference) -> Found<()> {
    let document = "bundles";
    let mut digests = Vec::new();
    for (pcr, content) in contents.iter().filter(|(pcr, _)| *pcr == claims.muscle_pcr) {
        if content.kind == Content::BOOT {
            continue;
        }
        if content.kind != Content::BUNDLE {
            return no(
                document,
                format!("a {} `{}` in register {pcr}", content.kind, content.name),
            );
        }
        let digest = to_hex(&content.digest);
        if !reference
            .bundle
            .iter()
            .any(|allowed| allowed.fits(&digest, content))
        {
            return no(
                document,
                format!(
                    "{} ({digest}) ran, and fits nothing in the reference",
                    content.name
                ),
            );
        }
        digests.push(content.digest);
    }
    for (cell, spoke) in &claims.submodules {
        if !digests.contains(&spoke.bundle) {
            return no(
                document,
                format!("cell {cell} speaks for a bundle that was never measured"),
            );
        }
    }
    Ok((
        (),
        format!(
            "{} ran, each allowed by the reference; {} spoke",
            digests.len(),
            claims.submodules.len()
        ),
    ))
}

/// The counter's value, if this key certified it over `qualifying`.
pub(crate) fn counter(
    certified: &Certified,
    key: &AttestationKey,
    qualifying: &[u8],
    reference: &Reference,
) -> Found<u64> {
    let document = "counter";
    let attested = certified.open(key, qualifying)?;
    let Body::Nv {
        name,
        offset,
        contents,
    } = attested.body
    else {
        return no(document, "is a quote where an NV_Certify was expected");
    };
    let index = reference.counter.index;
    if name != counter_name(index) || offset != 0 {
        return no(
            document,
            format!(
                "is not the counter at {index:#010x} that only counts up: its name is {}",
                to_hex(&name)
            ),
        );
    }
    match <[u8; 8]>::try_from(&contents[..]) {
        Ok(value) => {
            let value = u64::from_be_bytes(value);
            Ok((value, format!("{value}, certified by the attestation key")))
        }
        Err(_) => no(document, format!("has {} bytes, not 8", contents.len())),
    }
}

fn epoch(claims: &Claims, counted: u64, reference: &Reference) -> Found<()> {
    if claims.epoch != counted {
        return no(
            "epoch",
            format!("the token says {}, the counter {counted}", claims.epoch),
        );
    }
    if counted < reference.counter.minimum {
        return no(
            "epoch",
            format!(
                "{counted}; the reference wants at least {}",
                reference.counter.minimum
            ),
        );
    }
    Ok(((), format!("{counted}, at least {}", reference.counter.minimum)))
}
