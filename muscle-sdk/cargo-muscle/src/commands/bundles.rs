//! `cargo muscle build`, `sign`, `inspect` and `verify`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use referee_bundle::{ImagePlan, ReadLimits, TrustStore, UnixTime, read_bundle, read_trust_store, verify};
use serde_json::json;

use super::arguments::{Build, Inspect, Sign, Verify};
use super::replace;
use crate::assemble::{Contents, assemble_with};
use crate::compile::{BuildRequest, compile};
use crate::error::Error;
use crate::inspect::{describe, to_json};
use crate::keys::PrivateKey;
use crate::settings::manifest_from_toml;
use crate::sign::sign;
use crate::units::time_from_text;

pub(super) fn build(arguments: &Build) -> Result<String, Error> {
    // The keys are read first: a mistake in a path shows before the long part.
    let keys: Vec<PrivateKey> = arguments
        .keys
        .iter()
        .map(|path| PrivateKey::read(path))
        .collect::<Result<_, _>>()?;
    let (elf, settings) = match (&arguments.elf, &arguments.settings) {
        (Some(elf), Some(settings)) => (elf.clone(), settings.clone()),
        (_, settings) => {
            let built = compile(&BuildRequest {
                folder: arguments.folder.clone(),
                package: arguments.package.clone(),
                program: arguments.bin.clone(),
                features: arguments.features.clone(),
                debug: arguments.debug,
            })?;
            let beside = built.package_folder.join("Muscle.toml");
            (built.elf, settings.clone().unwrap_or(beside))
        }
    };
    let text = fs::read_to_string(&settings).map_err(Error::file(&settings))?;
    let manifest = manifest_from_toml(&text)?;
    let name = manifest.name.clone();
    let data = arguments.data.as_deref().map(read).transpose()?;
    let provenance = arguments.provenance.as_deref().map(read).transpose()?;
    let mut bundle = assemble_with(
        manifest,
        &Contents {
            elf: &read(&elf)?,
            data: data.as_deref(),
            provenance: provenance.as_deref(),
        },
    )?;
    for key in &keys {
        bundle = sign(&bundle, key)?;
    }
    let output = arguments
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{name}.muscle")));
    replace(&output, &bundle)?;
    let next = match keys.is_empty() {
        false => "signed",
        true => "not signed; sign it with `cargo muscle sign`",
    };
    Ok(format!("{}  {} bytes, {next}\n", output.display(), bundle.len()))
}

pub(super) fn sign_file(arguments: &Sign) -> Result<String, Error> {
    let key = PrivateKey::read(&arguments.key)?;
    let bundle = read_bundle(&arguments.bundle, &ReadLimits::default()).map_err(Error::bundle)?;
    let signed = sign(&bundle, &key)?;
    let output = arguments.output.as_ref().unwrap_or(&arguments.bundle);
    replace(output, &signed)?;
    let key_id = key.key_id().map_err(Error::bundle)?;
    Ok(format!("{}  signed by key {key_id}\n", output.display()))
}

pub(super) fn inspect(arguments: &Inspect) -> Result<String, Error> {
    let bundle = read_bundle(&arguments.bundle, &ReadLimits::default()).map_err(Error::bundle)?;
    match arguments.json {
        true => Ok(format!("{:#}\n", to_json(&bundle)?)),
        false => describe(&bundle),
    }
}

pub(super) fn verify_file(arguments: &Verify) -> Result<String, Error> {
    let limits = ReadLimits::default();
    let system_time = SystemTime::now();
    let now = match &arguments.at {
        Some(text) => time_from_text(text, system_time)?,
        None => UnixTime::from(system_time),
    };
    let store = read_trust_store(&arguments.trust, &limits).map_err(Error::trust_store)?;
    let store = TrustStore::parse(&store, now).map_err(Error::trust_store)?;
    let bytes = read_bundle(&arguments.bundle, &limits).map_err(Error::bundle)?;
    let bundle = verify(bytes, &store, &limits, now).map_err(Error::bundle)?;
    ImagePlan::check(&bundle).map_err(Error::image)?;
    let signer = bundle.signer();
    Ok(match arguments.json {
        true => format!(
            "{:#}\n",
            json!({
                "name": bundle.name(),
                "version": bundle.manifest().version,
                "digest": bundle.digest().to_string(),
                "content_digest": bundle.content_digest().to_string(),
                "publisher": signer.publisher,
                "key_id": signer.key_id.to_string(),
                "trust_store_version": store.document().version,
            })
        ),
        false => format!(
            "{} {} is good: signed by {} with key {}\nsha256 {}\n",
            bundle.name(),
            bundle.manifest().version,
            signer.publisher,
            signer.key_id,
            bundle.digest()
        ),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::file(path))
}
