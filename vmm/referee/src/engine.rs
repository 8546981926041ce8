//! What all cells of a program share: `/dev/kvm`, whom to trust, what policy permits, where acts are recorded.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use referee_audit::{AuditLog, AuditSink, Options, Sharing};
use referee_bundle::{ReadLimits, TrustStore, UnixTime, read_bundle, read_trust_store, verify};
use referee_cell::{CheckedImage, Shell};
use referee_hv::Kvm;
use referee_policy::PolicySet;

use crate::error::StartError;
use crate::muscle::Muscle;
use crate::pool::Pool;
use crate::record;
use crate::tpm::{HostTpm, Tpm};

/// Where everything is that a program's cells depend on.
#[derive(Debug, Clone)]
pub struct Config {
    /// The signed trust store.
    pub trust_store: PathBuf,
    /// The audit log; made when it is not there. Several programs may share one.
    pub audit: PathBuf,
    /// Whether each record is on the disk before its act is answered; otherwise the kernel has it, and the disk at a cell's end.
    pub audit_sync: bool,
    /// Policy files and folders; when there are none, the policies compiled into this library.
    pub policies: Vec<PathBuf>,
    /// Bounds on what is read.
    pub limits: ReadLimits,
    /// Virtual machines kept ready for muscles of all kinds, so that a cell's start does not wait for one to be made. For a
    /// muscle that is started often, [`crate::Permit::keep_loaded`] does more.
    pub pool: usize,
    /// The host's TPM. With one, every muscle is measured before it is admitted, and receipts can be had; nothing that cannot be
    /// measured is admitted.
    pub tpm: Option<Tpm>,
}

impl Config {
    /// The shipped policies, records that the kernel has before an act is answered.
    pub fn new(trust_store: impl Into<PathBuf>, audit: impl Into<PathBuf>) -> Config {
        Config {
            trust_store: trust_store.into(),
            audit: audit.into(),
            audit_sync: false,
            policies: Vec::new(),
            limits: ReadLimits::default(),
            pool: 0,
            tpm: None,
        }
    }
}

/// The root of everything; clones are the same one.
#[derive(Debug, Clone)]
pub struct Referee(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Pool,
    /// A VM that is never run. The kernel patches its own code when the first VM of the system comes and the last one
    /// goes, which costs more than a VM; with one kept alive no cell pays for it.
    _keeper: Mutex<Shell>,
    trust_store: TrustStore,
    policies: PolicySet,
    tpm: Option<HostTpm>,
    audit: AuditSink,
    limits: ReadLimits,
    /// Numbers given to permits so far.
    permits: AtomicU64,
}

impl Referee {
    /// Opens `/dev/kvm` and the audit log, reads and checks trust store and policies.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open(config: &Config) -> Result<Referee, StartError> {
        let now = UnixTime::from(SystemTime::now());
        let bytes = read_trust_store(&config.trust_store, &config.limits)?;
        let trust_store = TrustStore::parse(&bytes, now)?;
        let policies = if config.policies.is_empty() {
            PolicySet::shipped()
        } else {
            PolicySet::load(&config.policies)
        }
        .map_err(|error| StartError::Rejected {
            name: "policy-invalid",
            message: format!("policies: {error}"),
        })?;
        let measuring = |tpm: &Tpm| {
            let (trust, version) = (trust_store.digest().0, trust_store.document().version);
            HostTpm::embedded(tpm.clone(), policies.digest(), trust, version)
        };
        let tpm = config.tpm.as_ref().map(measuring).transpose()?;
        let options = Options {
            sharing: Sharing::Shared,
            sync_each: config.audit_sync,
            ..Options::default()
        };
        let file = AuditLog::open_file(&config.audit).map_err(StartError::host("opening the audit log"))?;
        let log = AuditLog::from_file(file, options).map_err(StartError::host("reading the audit log"))?;
        let mut kvm = Kvm::open().map_err(StartError::host("opening KVM"))?;
        let keeper = Shell::create(&kvm).map_err(StartError::host("making a virtual machine"))?;
        kvm.probe_resume()
            .map_err(StartError::host("making a virtual machine"))?;
        let pool = Pool::new(kvm, config.pool).map_err(StartError::host("starting the pool's thread"))?;
        Ok(Referee(Arc::new(Inner {
            pool,
            _keeper: Mutex::new(keeper),
            trust_store,
            policies,
            tpm,
            audit: AuditSink::new(log, "", ""),
            limits: config.limits,
            permits: AtomicU64::new(0),
        })))
    }

    /// The host's TPM, if [`Config::tpm`] names one.
    pub fn tpm(&self) -> Option<&HostTpm> {
        self.0.tpm.as_ref()
    }

    /// Verifies a bundle against the trust store as of now, and checks its image.
    ///
    /// The image is parsed in this program's process, which is not confined; a refusal is recorded.
    ///
    /// # Errors
    /// [`StartError::Rejected`] names the rule.
    pub fn admit(&self, bundle: Vec<u8>) -> Result<Muscle, StartError> {
        let now = UnixTime::from(SystemTime::now());
        let admitted = || {
            let bundle = verify(bundle, &self.0.trust_store, &self.0.limits, now)?;
            CheckedImage::check_unconfined(Arc::new(bundle))
        };
        let image = match admitted() {
            Ok(image) => image,
            Err(rejected) => return Err(self.refusal(rejected.into(), "")?),
        };
        let muscle = Muscle::new(self.clone(), image);
        if let Some(tpm) = &self.0.tpm {
            let title = muscle.title();
            let first = match tpm.measure(muscle.bundle()) {
                Ok(first) => first,
                Err(refused) => return Err(self.refusal(refused, &title)?),
            };
            record::measured(&self.audit(&cell_name()?, &title), muscle.bundle(), first)
                .map_err(StartError::host("recording a measurement"))?;
        }
        Ok(muscle)
    }

    /// As [`Referee::admit`], of a file.
    ///
    /// # Errors
    /// As [`Referee::admit`]; a file over the limit is refused before it is read.
    pub fn admit_file(&self, path: &Path) -> Result<Muscle, StartError> {
        match read_bundle(path, &self.0.limits) {
            Ok(bytes) => self.admit(bytes),
            Err(rejected) => Err(self.refusal(rejected.into(), "")?),
        }
    }

    /// Records a refusal and gives it back.
    pub(crate) fn refusal(&self, refused: StartError, muscle: &str) -> Result<StartError, StartError> {
        if let StartError::Rejected { name, message } = &refused {
            let audit = self.audit(&cell_name()?, muscle);
            record::rejected(&audit, name, message).map_err(StartError::host("recording a refusal"))?;
        }
        Ok(refused)
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// A number that no other permit has.
    pub(crate) fn next_number(&self) -> u64 {
        self.0.permits.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn policies(&self) -> &PolicySet {
        &self.0.policies
    }

    pub(crate) fn audit(&self, cell: &str, muscle: &str) -> AuditSink {
        self.0.audit.for_cell(cell, muscle)
    }
}

/// A name that no other cell of a shared log has.
pub(crate) fn cell_name() -> Result<String, StartError> {
    let number = getrandom::u64().map_err(StartError::host("taking random bytes"))?;
    Ok(format!("{number:016x}"))
}
