//! `cargo muscle trust …`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use referee_bundle::{
    Digest, KeyId, NameScope, PublicKey, PublisherKey, ReadLimits, TrustStore, UnixTime, UnverifiedBundle,
    read_bundle, read_trust_store,
};
use serde_json::{Value, json};

use super::arguments::{
    RootKeys, TrustAddPublisher, TrustFollows, TrustInit, TrustRequire, TrustRevokeBundle, TrustRevokeKey,
    TrustRotateRoot, TrustShow, TrustSign,
};
use super::replace;
use crate::error::Error;
use crate::keys::{PrivateKey, read_public_key, write_new};
use crate::trust;
use crate::units::{time_from_text, time_to_text};

pub(super) fn init(arguments: &TrustInit) -> Result<String, Error> {
    let expires = time_from_text(&arguments.expires, SystemTime::now())?;
    let paths = arguments
        .signers
        .root_keys
        .iter()
        .chain(&arguments.root_public_keys);
    let keys: Vec<PublicKey> = paths
        .map(|path| read_public_key(path))
        .collect::<Result<_, _>>()?;
    let store = trust::init(keys, arguments.threshold, expires)?;
    // An empty file first: it refuses to replace a trust store, which no other command can bring back.
    write_new(&arguments.store, "", 0o644)?;
    finish(&arguments.store, store, &arguments.signers)
}

pub(super) fn add_publisher(arguments: &TrustAddPublisher) -> Result<String, Error> {
    let expires = time_from_text(&arguments.expires, SystemTime::now())?;
    let keys = arguments.keys.iter().map(|path| {
        Ok(PublisherKey {
            public_key: read_public_key(path)?,
            expires,
        })
    });
    let scopes = arguments.scopes.iter().map(|text| {
        let scope = NameScope::parse(text);
        scope.ok_or_else(|| Error::Scope { text: text.clone() })
    });
    let store = trust::add_publisher(
        &read(&arguments.store)?,
        &arguments.name,
        keys.collect::<Result<_, Error>>()?,
        scopes.collect::<Result<_, Error>>()?,
    )?;
    finish(&arguments.store, store, &arguments.signers)
}

pub(super) fn revoke_key(arguments: &TrustRevokeKey) -> Result<String, Error> {
    let key_id = match KeyId::from_hex(&arguments.key) {
        Some(key_id) => key_id,
        None => {
            let key = read_public_key(Path::new(&arguments.key));
            let missing = |_| Error::KeyIdText {
                text: arguments.key.clone(),
            };
            key.map_err(missing)?.key_id()
        }
    };
    let store = trust::revoke_key(&read(&arguments.store)?, key_id)?;
    finish(&arguments.store, store, &arguments.signers)
}

pub(super) fn revoke_bundle(arguments: &TrustRevokeBundle) -> Result<String, Error> {
    let digests = match Digest::from_hex(&arguments.bundle) {
        Some(digest) => vec![digest],
        None => {
            let limits = ReadLimits::default();
            let missing = |_| Error::DigestText {
                text: arguments.bundle.clone(),
            };
            let bytes = read_bundle(Path::new(&arguments.bundle), &limits).map_err(missing)?;
            let bundle = UnverifiedBundle::parse(&bytes, &limits).map_err(Error::bundle)?;
            vec![bundle.digest(), bundle.content_digest()]
        }
    };
    let store = trust::revoke_bundle(&read(&arguments.store)?, &digests)?;
    finish(&arguments.store, store, &arguments.signers)
}

pub(super) fn require(arguments: &TrustRequire) -> Result<String, Error> {
    let store = trust::require(&read(&arguments.store)?, arguments.algorithms.clone())?;
    finish(&arguments.store, store, &arguments.signers)
}

pub(super) fn rotate_root(arguments: &TrustRotateRoot) -> Result<String, Error> {
    let keys = arguments
        .root_public_keys
        .iter()
        .map(|path| read_public_key(path));
    let former = read(&arguments.store)?;
    let store = trust::rotate_root(&former, keys.collect::<Result<_, _>>()?, arguments.threshold)?;
    finish_after(&arguments.store, store, &arguments.signers, &root_keys(&former)?)
}

pub(super) fn follows(arguments: &TrustFollows) -> Result<String, Error> {
    let now = UnixTime::from(SystemTime::now());
    let former = TrustStore::parse(&read(&arguments.former)?, now).map_err(Error::trust_store)?;
    let next = former
        .followed_by(&read(&arguments.next)?, now)
        .map_err(Error::trust_store)?;
    Ok(format!(
        "{}  version {} follows {}\n",
        arguments.next.display(),
        next.document().version,
        former.document().version
    ))
}

pub(super) fn sign(arguments: &TrustSign) -> Result<String, Error> {
    let former = match &arguments.former {
        Some(former) => root_keys(&read(former)?)?,
        None => Vec::new(),
    };
    finish_after(
        &arguments.store,
        read(&arguments.store)?,
        &arguments.signers,
        &former,
    )
}

fn root_keys(store: &[u8]) -> Result<Vec<PublicKey>, Error> {
    Ok(trust::read(store)?.1.root_keys)
}

pub(super) fn show(arguments: &TrustShow) -> Result<String, Error> {
    let store = read(&arguments.store)?;
    match arguments.json {
        true => Ok(format!("{:#}\n", to_json(&store)?)),
        false => describe(&store),
    }
}

/// Signs with the given root keys, writes the file and says how many signatures are there.
fn finish(path: &Path, store: Vec<u8>, signers: &RootKeys) -> Result<String, Error> {
    finish_after(path, store, signers, &[])
}

/// The same, with the root keys of the version before, which may sign too.
fn finish_after(
    path: &Path,
    mut store: Vec<u8>,
    signers: &RootKeys,
    former: &[PublicKey],
) -> Result<String, Error> {
    for root_key in &signers.root_keys {
        store = trust::sign(&store, &PrivateKey::read(root_key)?, former)?;
    }
    replace(path, &store)?;
    let (set, document) = trust::read(&store)?;
    let own: Vec<_> = document.root_keys.iter().map(PublicKey::key_id).collect();
    let signed = set
        .signatures
        .iter()
        .filter(|signature| own.contains(&signature.key_id))
        .count() as u64;
    let needed = document.root_threshold;
    let next = match signed < needed {
        true => "; sign it with `cargo muscle trust sign`",
        false => "",
    };
    Ok(format!(
        "{}  version {}, {signed} of {needed} signatures{next}\n",
        path.display(),
        document.version
    ))
}

fn describe(store: &[u8]) -> Result<String, Error> {
    let (set, document) = trust::read(store)?;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(out, "{}", format!("{name:<12} {value}").trim_end());
    };
    line("version", document.version.to_string());
    line("expires", time_to_text(document.expires));
    let required = document.required_algorithms.iter().map(ToString::to_string);
    line("requires", required.collect::<Vec<_>>().join(", "));
    let total = document.root_keys.len();
    line(
        "root keys",
        format!("{} of {total} must sign", document.root_threshold),
    );
    for key in &document.root_keys {
        let signed = set
            .signatures
            .iter()
            .any(|signature| signature.key_id == key.key_id());
        let signed = if signed { "signed" } else { "not signed" };
        line("", format!("{} {}  {signed}", key.algorithm(), key.key_id()));
    }
    for publisher in &document.publishers {
        let scopes = publisher.scopes.iter().map(ToString::to_string);
        let scopes = scopes.collect::<Vec<_>>().join(", ");
        line("publisher", format!("{}, may sign {scopes}", publisher.name));
        for key in &publisher.keys {
            let (algorithm, key_id) = (key.public_key.algorithm(), key.public_key.key_id());
            let until = time_to_text(key.expires);
            let revoked = if document.revoked_keys.contains(&key_id) {
                ", revoked"
            } else {
                ""
            };
            line("", format!("{algorithm} {key_id}  until {until}{revoked}"));
        }
    }
    for key_id in &document.revoked_keys {
        line("revoked", format!("key {key_id}"));
    }
    for digest in &document.revoked_bundles {
        line("revoked", format!("bundle {digest}"));
    }
    Ok(out)
}

fn to_json(store: &[u8]) -> Result<Value, Error> {
    let (set, document) = trust::read(store)?;
    let key =
        |key: &PublicKey| json!({ "algorithm": key.algorithm().name(), "key_id": key.key_id().to_string() });
    Ok(json!({
        "version": document.version,
        "expires": document.expires.0,
        "digest": Digest::of(store).to_string(),
        "required_algorithms": document.required_algorithms.iter().map(|one| one.name()).collect::<Vec<_>>(),
        "root": {
            "threshold": document.root_threshold,
            "keys": document.root_keys.iter().map(key).collect::<Vec<_>>(),
            "signed_by": set.signatures.iter().map(|one| one.key_id.to_string()).collect::<Vec<_>>(),
        },
        "publishers": document.publishers.iter().map(|publisher| json!({
            "name": publisher.name,
            "scopes": publisher.scopes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "keys": publisher.keys.iter().map(|one| json!({
                "algorithm": one.public_key.algorithm().name(),
                "key_id": one.public_key.key_id().to_string(),
                "expires": one.expires.0,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "revoked_keys": document.revoked_keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "revoked_bundles": document.revoked_bundles.iter().map(ToString::to_string).collect::<Vec<_>>(),
    }))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_trust_store(path, &ReadLimits::default()).map_err(Error::trust_store)
}
