//! The root of embedded cells: an authority on top of the engine that they live on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use referee_audit::{AuditLog, AuditSink, Options, Sharing};
use referee_bundle::{ReadLimits, read_bundle};
use referee_cell::CheckedImage;
use referee_policy::{Applicant, PolicySet};

use crate::authority::Authority;
use crate::engine::{Engine, Opened, cell_name};
use crate::error::StartError;
use crate::muscle::{Muscle, Permit};
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
pub struct Referee {
    engine: Engine,
    authority: Arc<Authority>,
    policies: Arc<PolicySet>,
    limits: ReadLimits,
}

impl Referee {
    /// Opens `/dev/kvm` and the audit log, reads and checks trust store and policies.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open(config: &Config) -> Result<Referee, StartError> {
        let authority = Authority::read(&config.trust_store, &config.policies, config.limits)?;
        let policies = authority.policies()?;
        let measuring = |tpm: &Tpm| HostTpm::embedded(tpm.clone(), policies.digest(), &authority);
        let tpm = config.tpm.as_ref().map(measuring).transpose()?;
        let options = Options {
            sharing: Sharing::Shared,
            sync_each: config.audit_sync,
            ..Options::default()
        };
        let file = AuditLog::open_file(&config.audit).map_err(StartError::host("opening the audit log"))?;
        let log = AuditLog::from_file(file, options).map_err(StartError::host("reading the audit log"))?;
        let opened = Opened::open()?;
        let keeper = opened.keeper()?;
        let audit = AuditSink::new(log, "", "");
        let nothing = record::EMBEDDED.to_owned();
        Ok(Referee {
            engine: opened.start_with(config.pool, audit, nothing, Some(keeper), tpm)?,
            authority: Arc::new(authority),
            policies: Arc::new(policies),
            limits: config.limits,
        })
    }

    /// The host's TPM, if [`Config::tpm`] names one.
    pub fn tpm(&self) -> Option<&HostTpm> {
        self.engine.tpm()
    }

    /// Verifies a bundle against the trust store as of now, and checks its image.
    ///
    /// The image is parsed in this program's process, which is not confined; a refusal is recorded.
    ///
    /// # Errors
    /// [`StartError::Rejected`] names the rule.
    pub fn admit(&self, bundle: Vec<u8>) -> Result<Muscle, StartError> {
        let admitted = || -> Result<CheckedImage, StartError> {
            let bundle = self.authority.verify(bundle)?;
            Ok(CheckedImage::check_unconfined(Arc::new(bundle))?)
        };
        let image = match admitted() {
            Ok(image) => image,
            Err(rejected) => return Err(self.engine.refusal(rejected, "")?),
        };
        let muscle = Muscle::new(self.clone(), image);
        if let Some(tpm) = self.tpm() {
            let title = muscle.title();
            let first = match tpm.measure(muscle.bundle()) {
                Ok(first) => first,
                Err(refused) => return Err(self.engine.refusal(refused, &title)?),
            };
            record::measured(&self.engine.audit(&cell_name()?, &title), muscle.bundle(), first)
                .map_err(StartError::host("recording a measurement"))?;
        }
        Ok(muscle)
    }

    /// As [`Referee::admit`], of a file.
    ///
    /// # Errors
    /// As [`Referee::admit`]; a file over the limit is refused before it is read.
    pub fn admit_file(&self, path: &Path) -> Result<Muscle, StartError> {
        match read_bundle(path, &self.limits) {
            Ok(bytes) => self.admit(bytes),
            Err(rejected) => Err(self.engine.refusal(rejected.into(), "")?),
        }
    }

    /// Asks policy whether cells of a permit may keep a core busy while calls keep coming, and `idle` longer (microseconds count): with
    /// [`crate::Cell::keep_hot`]. What else they may do stays. A refusal is recorded.
    ///
    /// # Errors
    /// [`StartError::Rejected`].
    pub fn permit_spin(&self, permit: &mut Permit, idle: Duration) -> Result<(), StartError> {
        let mut decision = permit.decision().clone();
        let applicant = Applicant::of(permit.bundle());
        match decision.ask_spin(&applicant, idle, self.policies()) {
            Ok(()) => {
                permit.set_spin(decision, idle);
                Ok(())
            }
            Err(refused) => Err(self.engine.refusal(refused.into(), &permit.title())?),
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn policies(&self) -> &PolicySet {
        &self.policies
    }
}
