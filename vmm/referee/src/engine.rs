//! What cells live on: machines, the log, the TPM. It verifies and decides nothing; a program that decides elsewhere, or did
//! before it confined itself, makes its cells by this alone.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use referee_audit::AuditSink;
use referee_capabilities::Resources;
use referee_cell::{CheckedImage, Shell};
use referee_hv::Kvm;
use referee_policy::{Decision, Grants, Loans, Standings};

use crate::error::StartError;
use crate::muscle::Permit;
use crate::pool::Pool;
use crate::record;
use crate::tpm::HostTpm;

/// What must be opened before a process confines itself.
#[derive(Debug)]
pub struct Opened {
    kvm: Arc<Kvm>,
}

impl Opened {
    /// Opens `/dev/kvm`, and finds out what muscles can do with it.
    ///
    /// # Errors
    /// [`StartError::Host`].
    pub fn open() -> Result<Opened, StartError> {
        let mut kvm = Kvm::open().map_err(StartError::host("opening KVM"))?;
        kvm.probe_resume()
            .map_err(StartError::host("making a virtual machine"))?;
        Ok(Opened::with(Arc::new(kvm)))
    }

    /// The same with a `/dev/kvm` that is open already, perhaps since before a fork.
    pub fn with(kvm: Arc<Kvm>) -> Opened {
        Opened { kvm }
    }

    /// Descriptors that must stay open while the process closes all others.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 1] {
        [self.kvm.descriptor()]
    }

    /// A VM that is never run. The kernel patches its own code when the first VM of the system comes and the last one
    /// goes, which costs more than a VM; with one kept alive no cell pays for it.
    ///
    /// # Errors
    /// [`StartError::Host`].
    pub fn keeper(&self) -> Result<Shell, StartError> {
        Shell::create(&self.kvm).map_err(StartError::host("making a virtual machine"))
    }

    /// An engine that keeps `pool` machines ready. Every cell's `start` record says which layers of confinement are missing.
    ///
    /// # Errors
    /// [`StartError::Host`] when no thread is to be had.
    pub fn start(
        self,
        pool: usize,
        audit: AuditSink,
        not_confined_by: impl Into<String>,
    ) -> Result<Engine, StartError> {
        self.start_with(pool, audit, not_confined_by.into(), None, None)
    }

    pub(crate) fn start_with(
        self,
        pool: usize,
        audit: AuditSink,
        not_confined_by: String,
        keeper: Option<Shell>,
        tpm: Option<HostTpm>,
    ) -> Result<Engine, StartError> {
        let pool = Pool::new(self.kvm, pool).map_err(StartError::host("starting the pool's thread"))?;
        Ok(Engine(Arc::new(Inner {
            pool,
            _keeper: keeper.map(Mutex::new),
            tpm,
            audit,
            not_confined_by,
            permits: AtomicU64::new(0),
        })))
    }
}

/// What cells live on; clones are the same one.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Pool,
    /// See [`Opened::keeper`].
    _keeper: Option<Mutex<Shell>>,
    tpm: Option<HostTpm>,
    audit: AuditSink,
    not_confined_by: String,
    /// Numbers given to permits so far.
    permits: AtomicU64,
}

impl Engine {
    /// A permit from a decision that was made before, by this process or the one it was forked from: cells get what `opened`
    /// has, and paths are not looked at again. `taken_and_lent` is what was taken from the
    /// grants before, and lent to those that are delegated; nothing needs to be opened for those that are revoked.
    ///
    /// # Errors
    /// [`StartError::Rejected`] as [`crate::leads_to_no_socket`] says.
    pub fn permit(
        &self,
        image: CheckedImage,
        decision: Decision,
        grants: Grants,
        opened: Resources,
        taken_and_lent: (Standings, Loans),
    ) -> Result<Permit, StartError> {
        crate::muscle::leads_to_no_socket(&grants)?;
        Ok(Permit::new(
            self.clone(),
            image,
            decision,
            grants,
            (Some(opened), taken_and_lent),
        ))
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub(crate) fn tpm(&self) -> Option<&HostTpm> {
        self.0.tpm.as_ref()
    }

    pub(crate) fn not_confined_by(&self) -> &str {
        &self.0.not_confined_by
    }

    pub(crate) fn audit(&self, cell: &str, muscle: &str) -> AuditSink {
        self.0.audit.for_cell(cell, muscle)
    }

    /// A number that no other permit has.
    pub(crate) fn next_number(&self) -> u64 {
        self.0.permits.fetch_add(1, Ordering::Relaxed)
    }

    /// Records a refusal and gives it back.
    pub(crate) fn refusal(&self, refused: StartError, muscle: &str) -> Result<StartError, StartError> {
        if let StartError::Rejected { name, message } = &refused {
            let audit = self.audit(&cell_name()?, muscle);
            record::rejected(&audit, name, message).map_err(StartError::host("recording a refusal"))?;
        }
        Ok(refused)
    }
}

/// A name that no other cell of a shared log has.
pub(crate) fn cell_name() -> Result<String, StartError> {
    let number = getrandom::u64().map_err(StartError::host("taking random bytes"))?;
    Ok(format!("{number:016x}"))
}
