//! `referee-verify witness`: one request in, one answer out. Put it behind `ssh`, an inetd or a web server's CGI.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use referee_tlog::{Answer, CosignerKeys, Witness};

use crate::cli::WitnessArgs;
use crate::seal::write_secret;

/// Longest request that is read.
const REQUEST_MAX: u64 = 1 << 20;

/// Answers one request, and says whether it cosigned.
///
/// # Errors
/// When key or memory cannot be read or written.
pub fn run(args: &WitnessArgs) -> anyhow::Result<bool> {
    let shown = args.secret.display();
    let text = zeroize::Zeroizing::new(
        std::fs::read_to_string(&args.secret).with_context(|| format!("key {shown}"))?,
    );
    let keys = CosignerKeys::parse(&text).with_context(|| format!("key {shown}"))?;
    let logs = args
        .log
        .iter()
        .map(|key| (key.name.clone(), key.clone()))
        .collect();
    let mut request = Vec::new();
    std::io::stdin()
        .take(REQUEST_MAX)
        .read_to_end(&mut request)
        .context("standard input")?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let answer = Witness::new(&args.memory, keys, logs).answer(&request, now)?;
    write!(std::io::stdout(), "{answer}").context("standard output")?;
    let cosigned = matches!(answer, Answer::Cosigned(_));
    if !cosigned {
        eprintln!("referee-verify: not cosigned, status {}", answer.status());
    }
    Ok(cosigned)
}

/// Makes keys; the secret's file must not exist yet.
///
/// # Errors
/// When the name cannot be one, or the file exists or cannot be written.
pub fn make_key(name: &str, secret: &Path) -> anyhow::Result<bool> {
    let (keys, text) = CosignerKeys::generate(name)?;
    write_secret(secret, text.as_bytes())?;
    for key in keys.public()? {
        println!("{key}");
    }
    Ok(true)
}
