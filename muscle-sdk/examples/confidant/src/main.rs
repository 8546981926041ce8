//! Is told a secret by somebody who checked first what it is.
//!
//! ```text
//!   relying party                                   this muscle, in its cell
//!   nonce ────────────────────────────────────────► makes a key pair; has the host's TPM vouch for it
//!   checks it: which host, policy, muscle ◄──────── evidence, with the public key in it
//!   seals the secret to that key (HPKE) ──────────► opens it
//!   knows who answers ◄──────────────────────────── HMAC-SHA256(secret, nonce)
//! ```
//! All of it in lines of hexadecimal digits, on standard input and output. The private key is in the cell's memory and nowhere else:
//! neither the host's administrator nor the VMM's own files ever have it, and it is gone with the cell.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use hmac::{Hmac, KeyInit as _, Mac as _};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem as _, OpModeR, Serializable as _, single_shot_open};
use muscle::prelude::*;
use sha2::Sha256;

/// What sealing is also bound to, so that nothing sealed for another purpose opens here.
const INFO: &[u8] = b"referee secret 1";
/// Bytes of an encapsulated X25519 key (RFC 9180, 7.1).
const ENCAPSULATED: usize = 32;

#[muscle::main]
fn main() -> Result<(), &'static str> {
    let mut input = muscle::io::stdin();
    let mut line = || {
        let text = input.read_line().map_err(|_| "standard input cannot be read")?;
        from_hex(text.as_deref().unwrap_or_default().trim()).ok_or("a line that is no hexadecimal digits")
    };
    let nonce = line()?;
    let seed = muscle::random::bytes::<32>().map_err(|_| "no random bytes")?;
    let (private, public) = X25519HkdfSha256::derive_keypair(&seed);
    let evidence = muscle::attest::evidence(b"confidant", &nonce, &public.to_bytes())
        .map_err(|_| "the host gives no evidence")?;
    println!("{}", to_hex(&evidence));

    let sealed = line()?;
    let (encapsulated, ciphertext) = sealed
        .split_at_checked(ENCAPSULATED)
        .ok_or("too short for a sealed secret")?;
    let encapsulated = Deserializable::from_bytes(encapsulated).map_err(|_| "no encapsulated key")?;
    let secret = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        INFO,
        ciphertext,
        &nonce,
    )
    .map_err(|_| "sealed to another key, or for another nonce")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).map_err(|_| "a secret of no use")?;
    mac.update(&nonce);
    println!("{}", to_hex(&mac.finalize().into_bytes()));
    Ok(())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    };
    digits?.chunks(2).map(byte).collect()
}
