//! A set of Cedar policies that was checked against the schema.
//!
//! Checking costs about as much as reading, so it is left out in one case alone: for the policies that are
//! compiled into this program ([`PolicySet::shipped`]), which a test checks. Whatever comes from a file is checked at
//! every load; there is no cache that somebody could write to.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cedar_policy::{Policy, PolicyId, Schema, ValidationMode, Validator};
use referee_bundle::Manifest;
use sha2::{Digest, Sha256};

/// The schema as people read it.
pub const SCHEMA: &str = include_str!("../../../policies/referee.cedarschema");
/// The same schema in the form that loads fast.
pub(crate) const SCHEMA_JSON: &str = include_str!("../../../policies/referee.cedarschema.json");
/// The policies that hold when the operator names none.
pub(crate) const DEFAULT_POLICIES: &str = include_str!("../../../policies/default.cedar");

/// Most bytes of one policy file.
pub const MAX_POLICY_BYTES: u64 = 1 << 20;

/// Policies, ready to decide.
#[derive(Debug, Clone)]
pub struct PolicySet {
    pub(crate) cedar: cedar_policy::PolicySet,
    pub(crate) schema: Option<Schema>,
    reasons: BTreeMap<String, String>,
    sources: Vec<String>,
    digest: [u8; 32],
}

/// Why policies were not loaded.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A policy file or folder cannot be read.
    #[error("cannot read policies from {path}")]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder without any `.cedar` file: more likely a mistake than the wish to grant nothing.
    #[error("there is no .cedar file in {path}")]
    NoPolicies {
        /// The folder.
        path: PathBuf,
    },
    /// A policy file is larger than [`MAX_POLICY_BYTES`].
    #[error("{path} is larger than {MAX_POLICY_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Anybody could change the policy.
    #[error("{path} may be written by everybody (mode {mode:o}): chmod o-w {path}")]
    WritableByAll {
        /// File or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A policy file is not UTF-8.
    #[error("{name} is not UTF-8")]
    NotUtf8 {
        /// The file.
        name: String,
    },
    /// A policy file is not Cedar.
    #[error("{name} is not Cedar")]
    Syntax {
        /// The file.
        name: String,
        /// Where and why.
        #[source]
        source: Box<cedar_policy::ParseErrors>,
    },
    /// A policy has no `@id`, so that no record could name it.
    #[error("policy number {number} of {name} has no @id(\"…\")")]
    NoId {
        /// The file.
        name: String,
        /// Which one, counted from 1.
        number: usize,
    },
    /// Two policies have one `@id`.
    #[error("two policies have the @id {id:?}, the second in {name}")]
    SameId {
        /// The file of the second.
        name: String,
        /// The id.
        id: String,
    },
    /// A file has a template; nothing would ever link it.
    #[error("{name} has a template (a policy with ?principal or ?resource), which never decides anything")]
    Template {
        /// The file.
        name: String,
    },
    /// Policies speak of what the schema does not have.
    #[error("policies do not fit the schema: {}", .errors.join("; "))]
    Invalid {
        /// What the validator said, one for each mistake.
        errors: Vec<String>,
    },
    /// The compiled-in schema is none.
    #[error("the schema compiled into this program is not one")]
    Schema(#[source] Box<cedar_policy::SchemaError>),
    /// The same of the schema of API policies.
    #[error("the schema compiled into this program is not one")]
    AccessSchema(#[source] Box<cedar_policy::CedarSchemaError>),
}

impl PolicySet {
    /// The policies compiled into this program, `policies/default.cedar`.
    ///
    /// # Errors
    /// [`PolicyError`] if the program was built from policies that are none.
    pub fn shipped() -> Result<PolicySet, PolicyError> {
        PolicySet::read(&[("default.cedar", DEFAULT_POLICIES)])
    }

    /// Those of [`PolicySet::shipped`] that can say something about what this manifest asks: reading policies is most
    /// of what a decision costs, and most muscles ask for little. Decides as the whole set does.
    ///
    /// # Errors
    /// As [`PolicySet::shipped`].
    pub fn shipped_for(manifest: &Manifest) -> Result<PolicySet, PolicyError> {
        let asked = manifest.slots.iter().map(|slot| slot.request.kind().name());
        let asked: Vec<&str> = asked.chain(["memory", "cpu", "deadline"]).collect();
        let text: String = shipped_policies()
            .filter(|policy| speaks_of(policy, &asked))
            .collect();
        let mut set = PolicySet::read(&[("default.cedar", &text)])?;
        set.digest = digest_of(&[("default.cedar", DEFAULT_POLICIES)]);
        Ok(set)
    }

    /// Reads and checks policies from files, and from the `.cedar` files of folders.
    ///
    /// # Errors
    /// [`PolicyError`]; one bad policy refuses them all.
    pub fn load<P: AsRef<Path>>(paths: &[P]) -> Result<PolicySet, PolicyError> {
        let texts = texts_of(paths)?;
        let borrowed: Vec<(&str, &str)> = texts
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        PolicySet::parse(&borrowed)
    }

    /// Reads and checks policies from texts, each with a name for messages.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(texts: &[(&str, &str)]) -> Result<PolicySet, PolicyError> {
        let schema =
            Schema::from_json_str(SCHEMA_JSON).map_err(|error| PolicyError::Schema(Box::new(error)))?;
        PolicySet::parse_against(texts, schema)
    }

    /// The same, checked against another schema.
    pub(crate) fn parse_against(texts: &[(&str, &str)], schema: Schema) -> Result<PolicySet, PolicyError> {
        let mut set = PolicySet::read(texts)?;
        set.check(schema)?;
        Ok(set)
    }

    /// SHA-256 over all texts in their order, for records of what decided.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Names of the texts.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// The `@reason` of a policy.
    pub(crate) fn reason(&self, id: &str) -> Option<&str> {
        self.reasons.get(id).map(String::as_str)
    }

    fn read(texts: &[(&str, &str)]) -> Result<PolicySet, PolicyError> {
        let mut cedar = cedar_policy::PolicySet::new();
        let mut reasons = BTreeMap::new();
        for (name, text) in texts {
            let parsed: cedar_policy::PolicySet = text.parse().map_err(|source| PolicyError::Syntax {
                name: (*name).to_owned(),
                source: Box::new(source),
            })?;
            if parsed.templates().next().is_some() {
                return Err(PolicyError::Template {
                    name: (*name).to_owned(),
                });
            }
            for policy in parsed.policies() {
                let id = policy.annotation("id").filter(|id| !id.is_empty());
                let id = id.ok_or_else(|| no_id(name, policy))?.to_owned();
                if let Some(reason) = policy.annotation("reason") {
                    reasons.insert(id.clone(), reason.to_owned());
                }
                let named = policy.new_id(PolicyId::new(&id));
                cedar.add(named).map_err(|_| PolicyError::SameId {
                    name: (*name).to_owned(),
                    id,
                })?;
            }
        }
        Ok(PolicySet {
            cedar,
            schema: None,
            reasons,
            sources: texts.iter().map(|(name, _)| (*name).to_owned()).collect(),
            digest: digest_of(texts),
        })
    }

    fn check(&mut self, schema: Schema) -> Result<(), PolicyError> {
        let validator = Validator::new(schema);
        let result = validator.validate(&self.cedar, ValidationMode::Strict);
        if !result.validation_passed() {
            let mut errors: Vec<String> = result.validation_errors().map(ToString::to_string).collect();
            errors.sort();
            return Err(PolicyError::Invalid { errors });
        }
        self.schema = Some(validator.schema().clone());
        Ok(())
    }
}

/// Names and texts of policy files, and of the `.cedar` files of folders.
pub(crate) fn texts_of<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<(String, String)>, PolicyError> {
    let mut files = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        let failed = |source| PolicyError::Read {
            path: path.to_owned(),
            source,
        };
        let status = fs::metadata(path).map_err(failed)?;
        if !status.is_dir() {
            files.push(path.to_owned());
            continue;
        }
        refuse_writable_by_all(path, status.mode())?;
        let mut found = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?.path();
            if entry.extension().is_some_and(|extension| extension == "cedar") {
                found.push(entry);
            }
        }
        if found.is_empty() {
            return Err(PolicyError::NoPolicies {
                path: path.to_owned(),
            });
        }
        found.sort();
        files.extend(found);
    }
    let mut texts = Vec::with_capacity(files.len());
    for path in &files {
        texts.push((path.display().to_string(), read_file(path)?));
    }
    Ok(texts)
}

fn digest_of(texts: &[(&str, &str)]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (_, text) in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().into()
}

/// The text of each shipped policy; each begins with its `@id` at the start of a line.
pub(crate) fn shipped_policies() -> impl Iterator<Item = &'static str> {
    const START: &str = "\n@id(";
    let first = DEFAULT_POLICIES.find(START).map_or(0, |at| at + 1);
    let mut rest = DEFAULT_POLICIES.get(first..).unwrap_or("");
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(START).map_or(rest.len(), |at| at + 1);
        let (policy, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(policy)
    })
}

/// Whether a policy's text names one of these actions, or none at all and so speaks of every action.
pub(crate) fn speaks_of(policy: &str, actions: &[&str]) -> bool {
    const ACTION: &str = "Action::\"";
    let mut named = policy
        .split(ACTION)
        .skip(1)
        .filter_map(|after| after.split('"').next())
        .peekable();
    named.peek().is_none() || named.any(|name| actions.contains(&name))
}

/// Cedar numbers policies without an id in the order of the text: `policy0`, `policy1`, …
fn no_id(name: &str, policy: &Policy) -> PolicyError {
    let number = policy.id().to_string();
    let number = number
        .strip_prefix("policy")
        .and_then(|digits| digits.parse::<usize>().ok());
    PolicyError::NoId {
        name: name.to_owned(),
        number: number.map_or(0, |number| number.saturating_add(1)),
    }
}

fn read_file(path: &Path) -> Result<String, PolicyError> {
    let failed = |source| PolicyError::Read {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    refuse_writable_by_all(path, file.metadata().map_err(failed)?.mode())?;
    let mut bytes = Vec::new();
    file.take(MAX_POLICY_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_POLICY_BYTES {
        return Err(PolicyError::TooLarge {
            path: path.to_owned(),
        });
    }
    String::from_utf8(bytes).map_err(|_| PolicyError::NotUtf8 {
        name: path.display().to_string(),
    })
}

/// A sticky folder such as `/tmp` is refused too: others may add a policy there.
fn refuse_writable_by_all(path: &Path, mode: u32) -> Result<(), PolicyError> {
    match mode & 0o002 {
        0 => Ok(()),
        _ => Err(PolicyError::WritableByAll {
            path: path.to_owned(),
            mode: mode & 0o7777,
        }),
    }
}
