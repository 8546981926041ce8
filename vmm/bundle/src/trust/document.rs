//! The root document: its fields, their encoding and the rules that hold between them.

use crate::capability_request::in_range;
use crate::cbor::{Reader, Writer, same_again};
use crate::digest::{Digest, KeyId};
use crate::keys::{Algorithm, PublicKey};
use crate::manifest::check_sorted;
use crate::names::{NAME_MAX, NameScope, is_publisher_name};
use crate::rejected::{Document, Rejected};
use crate::unix_time::UnixTime;

/// Version of the document's form.
const FORMAT: u64 = 1;
const ROOT_KEYS_MAX: u64 = 16;
const PUBLISHERS_MAX: u64 = 4096;
const KEYS_MAX: u64 = 16;
const SCOPES_MAX: u64 = 64;
const REVOKED_MAX: u64 = 1 << 16;
const ALGORITHMS_MAX: u64 = 2;

/// What root keys sign. Its fields are only claims until it is in a [`crate::TrustStore`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDocument {
    /// Number of this document in its sequence, from 1.
    pub version: u64,
    /// When it stops being good.
    pub expires: UnixTime,
    /// How many root keys must sign.
    pub root_threshold: u64,
    /// The root keys, each once.
    pub root_keys: Vec<PublicKey>,
    /// Those who may sign bundles, sorted by name.
    pub publishers: Vec<Publisher>,
    /// Keys that no longer count, sorted.
    pub revoked_keys: Vec<KeyId>,
    /// Bundles that no longer run, sorted: SHA-256 of the file, or of its header and manifest.
    pub revoked_bundles: Vec<Digest>,
    /// Algorithms of which each bundle needs a signature, sorted by number; Ed25519 at least.
    pub required_algorithms: Vec<Algorithm>,
}

/// Somebody who may sign bundles of some names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// The name that policies and audit records use.
    pub name: String,
    /// The keys, each in one place of the document only.
    pub keys: Vec<PublisherKey>,
    /// The names of muscles that may be signed, sorted.
    pub scopes: Vec<NameScope>,
}

/// A publisher's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherKey {
    /// The key.
    pub public_key: PublicKey,
    /// When it stops being good.
    pub expires: UnixTime,
}

impl RootDocument {
    /// Decodes a document, refuses every other encoding of the same, and checks it. It checks no signature.
    ///
    /// # Errors
    /// [`Rejected`], one variant per rule.
    pub fn decode(bytes: &[u8]) -> Result<RootDocument, Rejected> {
        let mut reader = Reader::new(Document::TrustStore, bytes);
        let document = RootDocument::read(&mut reader)?;
        reader.finish()?;
        same_again(Document::TrustStore, bytes, &document.encode())?;
        document.check()?;
        Ok(document)
    }

    /// Encodes the document as it stands, unchecked.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(8);
        writer.u64(1);
        writer.u64(FORMAT);
        writer.u64(2);
        writer.u64(self.version);
        writer.u64(3);
        writer.u64(self.expires.0);
        writer.u64(4);
        writer.array(2);
        writer.u64(self.root_threshold);
        writer.array(self.root_keys.len());
        for key in &self.root_keys {
            writer.array(2);
            writer.i64(key.algorithm().number());
            writer.bytes(key.bytes());
        }
        writer.u64(5);
        writer.array(self.publishers.len());
        self.publishers
            .iter()
            .for_each(|publisher| publisher.write(&mut writer));
        writer.u64(6);
        writer.array(self.revoked_keys.len());
        self.revoked_keys
            .iter()
            .for_each(|key_id| writer.bytes(&key_id.0));
        writer.u64(7);
        writer.array(self.revoked_bundles.len());
        self.revoked_bundles
            .iter()
            .for_each(|digest| writer.bytes(&digest.0));
        writer.u64(8);
        writer.array(self.required_algorithms.len());
        self.required_algorithms
            .iter()
            .for_each(|algorithm| writer.i64(algorithm.number()));
        writer.into_bytes()
    }

    /// Checks the rules that hold between the fields.
    ///
    /// # Errors
    /// [`Rejected`], one variant per rule.
    pub fn check(&self) -> Result<(), Rejected> {
        in_range("version", self.version, 1, u64::MAX)?;
        let keys = self.root_keys.len() as u64;
        if self.root_threshold == 0 || self.root_threshold > keys {
            return Err(Rejected::RootThreshold {
                threshold: self.root_threshold,
                keys,
            });
        }
        for (index, publisher) in self.publishers.iter().enumerate() {
            if !is_publisher_name(&publisher.name) {
                return Err(Rejected::NameInvalid {
                    field: "publisher",
                    index,
                });
            }
            let scopes = publisher.scopes.iter().map(NameScope::to_string);
            check_sorted("scopes", scopes)?;
        }
        let names = self.publishers.iter().map(|publisher| &publisher.name);
        check_sorted("publishers", names)?;
        check_sorted("revoked keys", &self.revoked_keys)?;
        check_sorted("revoked bundles", &self.revoked_bundles)?;
        check_sorted("required algorithms", &self.required_algorithms)?;
        self.check_keys()?;
        match self.required_algorithms.contains(&Algorithm::Ed25519) {
            true => Ok(()),
            false => Err(Rejected::AlgorithmNotRequired {
                algorithm: Algorithm::Ed25519,
            }),
        }
    }

    /// Each key has one place, so that it means one thing; a root key is never a publisher's.
    fn check_keys(&self) -> Result<(), Rejected> {
        let root = self.root_keys.iter().map(PublicKey::key_id);
        let published = self.publishers.iter().flat_map(|publisher| &publisher.keys);
        let mut ids: Vec<KeyId> = root
            .clone()
            .chain(published.map(|key| key.public_key.key_id()))
            .collect();
        ids.sort_unstable();
        let twice = ids
            .iter()
            .zip(ids.iter().skip(1))
            .find(|(left, right)| left == right);
        if let Some((key_id, _)) = twice {
            return Err(Rejected::KeyDuplicate { key_id: *key_id });
        }
        match root.into_iter().find(|key_id| self.revoked_keys.contains(key_id)) {
            Some(key_id) => Err(Rejected::RootKeyRevoked { key_id }),
            None => Ok(()),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<RootDocument, Rejected> {
        let mut format = None;
        let mut version = None;
        let mut expires = None;
        let mut root = None;
        let mut publishers = None;
        let mut revoked_keys = None;
        let mut revoked_bundles = None;
        let mut required_algorithms = None;
        for _ in 0..reader.map("trust store")? {
            let offset = reader.offset();
            match reader.u64("key")? {
                1 => format = Some(read_format(reader)?),
                2 => version = Some(reader.u64("version")?),
                3 => expires = Some(UnixTime(reader.u64("expires")?)),
                4 => root = Some(read_root(reader)?),
                5 => publishers = Some(list(reader, "publishers", PUBLISHERS_MAX, Publisher::read)?),
                6 => {
                    revoked_keys = Some(list(reader, "revoked keys", REVOKED_MAX, |reader| {
                        reader.hash("revoked keys").map(KeyId)
                    })?);
                }
                7 => {
                    revoked_bundles = Some(list(reader, "revoked bundles", REVOKED_MAX, |reader| {
                        reader.hash("revoked bundles").map(Digest)
                    })?);
                }
                8 => {
                    let field = "required algorithms";
                    required_algorithms = Some(list(reader, field, ALGORITHMS_MAX, read_algorithm)?);
                }
                key => return Err(reader.unknown("trust store", key, offset)),
            }
        }
        reader.required("format", format)?;
        let (root_threshold, root_keys) = reader.required("root", root)?;
        Ok(RootDocument {
            version: reader.required("version", version)?,
            expires: reader.required("expires", expires)?,
            root_threshold,
            root_keys,
            publishers: reader.required("publishers", publishers)?,
            revoked_keys: reader.required("revoked keys", revoked_keys)?,
            revoked_bundles: reader.required("revoked bundles", revoked_bundles)?,
            required_algorithms: reader.required("required algorithms", required_algorithms)?,
        })
    }
}

impl Publisher {
    /// Whether it may sign a muscle of this name.
    pub fn may_sign(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.covers(name))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Publisher, Rejected> {
        reader.tuple("publisher", 3)?;
        let name = reader.text("publisher name", NAME_MAX)?.to_owned();
        let keys = list(reader, "publisher keys", KEYS_MAX, |reader| {
            reader.tuple("publisher key", 3)?;
            Ok(PublisherKey {
                public_key: read_public_key(reader)?,
                expires: UnixTime(reader.u64("key expires")?),
            })
        })?;
        let mut index = 0;
        let scopes = list(reader, "scopes", SCOPES_MAX, |reader| {
            let scope = NameScope::parse(reader.text("scope", NAME_MAX + 2)?);
            let scope = scope.ok_or_else(|| Rejected::ScopeInvalid {
                publisher: name.clone(),
                index,
            })?;
            index += 1;
            Ok(scope)
        })?;
        Ok(Publisher { name, keys, scopes })
    }

    fn write(&self, writer: &mut Writer) {
        writer.array(3);
        writer.text(&self.name);
        writer.array(self.keys.len());
        for key in &self.keys {
            writer.array(3);
            writer.i64(key.public_key.algorithm().number());
            writer.bytes(key.public_key.bytes());
            writer.u64(key.expires.0);
        }
        writer.array(self.scopes.len());
        self.scopes
            .iter()
            .for_each(|scope| writer.text(&scope.to_string()));
    }
}

fn list<'b, T>(
    reader: &mut Reader<'b>,
    field: &'static str,
    max: u64,
    mut read: impl FnMut(&mut Reader<'b>) -> Result<T, Rejected>,
) -> Result<Vec<T>, Rejected> {
    let count = reader.array(field, max)?;
    (0..count).map(|_| read(reader)).collect()
}

fn read_format(reader: &mut Reader<'_>) -> Result<(), Rejected> {
    match reader.u64("format")? {
        FORMAT => Ok(()),
        value => Err(Rejected::UnknownValue {
            document: Document::TrustStore,
            field: "format",
            value,
        }),
    }
}

fn read_root(reader: &mut Reader<'_>) -> Result<(u64, Vec<PublicKey>), Rejected> {
    reader.tuple("root", 2)?;
    let threshold = reader.u64("root threshold")?;
    let keys = list(reader, "root keys", ROOT_KEYS_MAX, |reader| {
        reader.tuple("root key", 2)?;
        read_public_key(reader)
    })?;
    Ok((threshold, keys))
}

fn read_algorithm(reader: &mut Reader<'_>) -> Result<Algorithm, Rejected> {
    let number = reader.i64("algorithm")?;
    Algorithm::from_number(number).ok_or(Rejected::AlgorithmUnsupported { algorithm: number })
}

fn read_public_key(reader: &mut Reader<'_>) -> Result<PublicKey, Rejected> {
    let algorithm = read_algorithm(reader)?;
    PublicKey::new(
        algorithm,
        reader.bytes("public key", algorithm.public_key_bytes())?,
    )
}
