//! The host's TPM: what this program is, bundles before they run, and what is signed about either, all by `referee-tpm`,
//! the process that has the TPM.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use referee_attest::Registers;
use referee_attest::{
    AttestError, Attester, Bundle, Component, Facts, Open, Reply, Request, from_hex, to_hex,
};
use referee_bundle::{Digest, VerifiedBundle};
use referee_hv::x86_64::system::SystemPages;

use crate::authority::Authority;
use crate::error::StartError;

/// Which TPM, and how it is used.
#[derive(Debug, Clone)]
pub struct Tpm {
    /// `device:/dev/tpmrm0`; `swtpm:DIR`, a program that is made and started as needed; `tcti:CONF`, as its library writes it.
    pub name: String,
    /// The program `referee-tpm`. Whoever can replace it decides what is signed here.
    pub program: PathBuf,
    /// Directory of event log and sealed keys; without it, /var/lib/referee/tpm or within the software TPM's directory.
    pub state: Option<PathBuf>,
    /// Registers that are measured into. An identity register holds one identity a boot: a program that embeds cells is not
    /// `referee-vmm`, so where both run, each needs its own registers, counter and state.
    pub registers: Registers,
    /// NV index of the anti-rollback counter.
    pub counter: u32,
    /// The TPM is given up when it has not answered for so long.
    pub patience: Duration,
}

impl Tpm {
    /// This TPM by this `referee-tpm`, with the defaults of `referee-vmm`: registers 14 and 13, counter 01800100, a minute.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Tpm {
        Tpm {
            name: name.into(),
            program: program.into(),
            state: None,
            registers: Registers {
                identity: 14,
                muscles: 13,
                allow_resettable: false,
            },
            counter: 0x0180_0100,
            patience: Duration::from_secs(60),
        }
    }
}

/// A bundle as it is measured.
pub fn measured(bundle: &VerifiedBundle) -> Bundle {
    let manifest = bundle.manifest();
    Bundle {
        muscle: format!("{} {}", manifest.name, manifest.version),
        digest: bundle.digest().0,
        signer: bundle.signer().key_id.0,
        epoch: manifest.security_epoch,
    }
}

/// Everything that enforces the rules in this process, in the order in which it is measured: the program that runs and not
/// what lies at its path by now, `referee-tpm`, the trap stubs, the system-call filters (none for an embedded cell), the
/// policies and the trust store, the last two as their digests.
///
/// # Errors
/// Those of reading the programs.
pub fn identity(
    tpm_program: &Path,
    filters: &[&str],
    policy: [u8; 32],
    trust: [u8; 32],
) -> std::io::Result<Vec<Component>> {
    let file = |path: &Path| -> std::io::Result<[u8; 32]> {
        let named = |error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("measuring {}: {error}", path.display()))
        };
        Ok(Digest::of(&std::fs::read(path).map_err(named)?).0)
    };
    // Descriptor tables and stubs as they are before addresses are drawn for a cell.
    let system = SystemPages {
        tables_va: 0,
        stubs_va: 0,
        trap_stack_va: 0,
    };
    let stubs = system.to_bytes().map_err(std::io::Error::other)?;
    let component = |name: &str, digest: [u8; 32]| Component {
        name: name.into(),
        digest,
    };
    Ok(vec![
        component("vmm", file(Path::new("/proc/self/exe"))?),
        component("tpm", file(tpm_program)?),
        component("trap-stubs", Digest::of(&stubs).0),
        component("seccomp", Digest::of(filters.concat().as_bytes()).0),
        component("policy", policy),
        component("trust", trust),
    ])
}

/// The TPM of a [`crate::Referee`] whose [`crate::Config`] names one. Each request starts `referee-tpm` and ends it, so that other
/// programs of the host may use the TPM in between.
#[derive(Debug)]
pub struct HostTpm {
    tpm: Tpm,
    components: Vec<Component>,
    trust_version: u64,
    /// Whether it was seen to have a key.
    signs: AtomicBool,
}

impl HostTpm {
    /// This TPM, asked by a program that is measured as these components and decides by this version of its trust store.
    pub fn new(tpm: Tpm, components: Vec<Component>, trust_version: u64) -> HostTpm {
        HostTpm {
            tpm,
            components,
            trust_version,
            signs: AtomicBool::new(false),
        }
    }

    /// Of a program in which cells are embedded, which no filters of Referee's confine.
    pub(crate) fn embedded(tpm: Tpm, policy: [u8; 32], authority: &Authority) -> Result<HostTpm, StartError> {
        let components = identity(&tpm.program, &[], policy, authority.trust_digest())
            .map_err(StartError::host("reading what this program is"))?;
        Ok(HostTpm::new(tpm, components, authority.trust_version()))
    }

    /// Makes counter and first key, without which nothing is signed; to be done once on a host, by its owner.
    ///
    /// # Errors
    /// [`StartError`]; also when there is a key already.
    pub fn init(&self) -> Result<(), StartError> {
        self.asked(&Request::Init { replace: false }).map(drop)
    }

    /// Evidence of this program for a verifier: what it is, which bundles ran in this boot, its instance key. `nonce` is the
    /// verifier's, 16 to 64 bytes, each used once. `referee-verify evidence` reads it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn evidence(&self, nonce: &[u8]) -> Result<Vec<u8>, StartError> {
        if !(16..=64).contains(&nonce.len()) {
            return Err(StartError::Rejected {
                name: "nonce-length",
                message: format!("a nonce has 16 to 64 bytes, not {}", nonce.len()),
            });
        }
        self.document(&Request::Evidence {
            nonce: to_hex(nonce),
            spoke: std::collections::BTreeMap::new(),
            audit_head: None,
        })
    }

    /// This program and host as they are, as TOML, for a verifier to hold later evidence against.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn reference(&self) -> Result<String, StartError> {
        match self.asked(&Request::Reference)? {
            Reply::Text { text } => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    /// Measures a bundle, which may run when this returns; says whether it is the first time in this boot.
    pub(crate) fn measure(&self, bundle: &VerifiedBundle) -> Result<bool, StartError> {
        self.measure_for(bundle, false)
    }

    /// Refuses unless what is about to run can be signed afterwards.
    pub(crate) fn must_sign(&self, bundle: &VerifiedBundle) -> Result<(), StartError> {
        if !self.signs.load(Ordering::Relaxed) {
            self.measure_for(bundle, true)?;
            self.signs.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// As [`HostTpm::measure`]; one that is to be signed afterwards is refused when there is no key.
    pub(crate) fn measure_for(
        &self,
        bundle: &VerifiedBundle,
        to_be_signed: bool,
    ) -> Result<bool, StartError> {
        let bundle = measured(bundle);
        match self.asked(&Request::Measure { bundle, to_be_signed })? {
            Reply::Measured { first } => Ok(first),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the facts signed.
    pub(crate) fn sign(&self, facts: Facts) -> Result<Vec<u8>, StartError> {
        let facts = Box::new(facts);
        self.document(&Request::Receipt { facts })
    }

    fn document(&self, request: &Request) -> Result<Vec<u8>, StartError> {
        let reply = self.asked(request)?;
        let Reply::Bytes { bytes } = &reply else {
            return Err(unexpected(&reply));
        };
        from_hex(bytes).ok_or_else(|| unexpected(&reply))
    }

    fn asked(&self, request: &Request) -> Result<Reply, StartError> {
        self.ask(request).map_err(|error| match error {
            AttestError::Rejected { rule, message } => StartError::Rejected {
                name: rule.name(),
                message,
            },
            other => StartError::host("asking the TPM")(other),
        })
    }

    /// Asks one thing, in the words of `referee-tpm`.
    ///
    /// # Errors
    /// [`AttestError`].
    pub fn ask(&self, request: &Request) -> Result<Reply, AttestError> {
        self.session()?.ask(request)
    }

    /// For several requests in a row. Until it is dropped, no other program of the host may use a TPM with this state.
    ///
    /// # Errors
    /// [`AttestError`].
    pub fn session(&self) -> Result<Attester, AttestError> {
        let open = Open {
            tpm: self.tpm.name.clone(),
            state: self.tpm.state.clone(),
            registers: self.tpm.registers,
            counter: self.tpm.counter,
            components: self.components.clone(),
            trust_version: self.trust_version,
        };
        Attester::start(&self.tpm.program, open, self.tpm.patience)
    }
}

fn unexpected(reply: &Reply) -> StartError {
    let message = format!("referee-tpm is of another version than this program: it answered {reply:?}");
    StartError::host("asking the TPM")(std::io::Error::other(message))
}
