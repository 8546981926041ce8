//! The nursery's own life.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use referee::StartError;
use referee::voucher::Vouched;
use referee_bundle::{ReadLimits, UnixTime, VerifiedBundle, verify};
use referee_cell::Shell;
use referee_hv::Kvm;
use referee_hv::process::{ChildExit, ChildProcess, Forked, Namespaces, exit_at_once, fork_into};
use referee_policy::{Applicant, Binding, Decision, Grants, Loans, Standings, assess};
use rustix::event::{PollFd, PollFlags, poll};

use crate::error::{NodeError, OrHost};
use crate::manager::HandedOver;
use crate::notary::Commission;
use crate::nursery::Trusted;
use crate::nursery::measured::Measured;
use crate::nursery::messages::{Ask, Assessment, Authority, Given, Order, Told};
use crate::nursery::passing;
use crate::nursery::rings::Rings;
use crate::ring;
use crate::stream;
use crate::vouching::TpmGrants;
use crate::worker::{self, Beginning, Birth, Shape};

/// How long at most a request may wait for a worker's end: nobody else is served meanwhile.
const PATIENCE_MAX: Duration = Duration::from_secs(1);
/// `SIGKILL`; `SIGSYS`, which a seccomp filter sends.
const KILL: i32 = 9;
const SECCOMP: i32 = 31;

/// Forks the nursery off. The caller must have one thread, and must keep the child: dropping it ends it. `listeners` are closed in it. `notary`: the
/// line to whoever measures bundles, if nothing may run that is not measured.
///
/// # Errors
/// When the fork fails.
pub(crate) fn start(
    authority: Authority,
    trusted: Trusted,
    notary: Option<OwnedFd>,
    listeners: &mut HandedOver,
) -> Result<(ChildProcess, OwnedFd), NodeError> {
    let (ours, theirs) = passing::pair().or_host("making a line to the nursery")?;
    match fork_into(Namespaces::NONE).or_host("forking the nursery")? {
        Forked::Parent(child) => Ok((child, ours)),
        Forked::Child(_) => {
            drop(ours);
            // Its workers would have it too.
            drop(std::mem::take(listeners));
            // KVM is opened in there, so that the supervisor never has it.
            let code = match serve(theirs, authority, trusted, notary) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("referee-vmm: the nursery: {}", error.with_causes());
                    1
                }
            };
            exit_at_once(code)
        }
    }
}

struct Nest {
    authority: Authority,
    trusted: Trusted,
    kvm: Arc<Kvm>,
    /// A VM that is never run: while there is one, the kernel does not patch itself at the first and the last cell.
    _keeper: Shell,
    workers: BTreeMap<u64, ChildProcess>,
    /// Who the muscles of those workers are that may ask the TPM.
    vouched: BTreeMap<u64, Vouched>,
    /// What may run, where that is only what was measured.
    measured: Option<Measured>,
    rings: Rings,
}

/// Serves the supervisor until it is gone; then the workers go with this process.
fn serve(
    socket: OwnedFd,
    authority: Authority,
    trusted: Trusted,
    notary: Option<OwnedFd>,
) -> Result<(), NodeError> {
    let mut kvm = Kvm::open().or_host("opening KVM")?;
    kvm.probe_resume().or_host("making a virtual machine")?;
    let keeper = Shell::create(&kvm).or_host("making a virtual machine")?;
    let mut nest = Nest {
        authority,
        trusted,
        kvm: Arc::new(kvm),
        _keeper: keeper,
        workers: BTreeMap::new(),
        vouched: BTreeMap::new(),
        measured: notary.map(Measured::by),
        rings: Rings::default(),
    };
    loop {
        if let Some(measured) = &mut nest.measured {
            measured.until_asked(&socket).or_host("listening to the notary")?;
        }
        let received = passing::receive(&socket).or_host("listening to the supervisor")?;
        let Some((ask, descriptors)) = received else {
            return Ok(());
        };
        let told = nest.answer(ask, descriptors).unwrap_or_else(|error| match error {
            NodeError::Rejected { name, message } => Told::Rejected { name, message },
            other => Told::Failed {
                message: other.with_causes(),
            },
        });
        let sent = match passing::send(&socket, &told, &[]) {
            // One answer that is too large is no reason to end all workers.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let message = error.to_string();
                passing::send(&socket, &Told::Failed { message }, &[])
            }
            other => other,
        };
        if sent.is_err() {
            return Ok(());
        }
    }
}

/// What a worker is to run: by whose word, with what taken and lent since, and where its cells begin.
type Decided = (
    (VerifiedBundle, Decision, Grants),
    (Standings, Loans),
    Option<Beginning>,
);

impl Nest {
    fn answer(&mut self, ask: Ask, descriptors: Vec<OwnedFd>) -> Result<Told, NodeError> {
        let mut descriptors = descriptors.into_iter();
        let mut descriptor = || {
            let missing = || io::Error::other("a descriptor is missing");
            descriptors
                .next()
                .ok_or_else(missing)
                .or_host("reading a request")
        };
        match ask {
            Ask::Assess(order) => {
                let (bundle, decision, grants) = self.decide(&order, descriptor()?.into())?;
                let assessed = assessment(&bundle, &decision, &grants)?;
                Ok(Told::Assessed(Box::new(assessed)))
            }
            Ask::Measure(order) => {
                let bundle = descriptor()?.into();
                let measured = self.measured.as_ref().ok_or_else(no_tpm)?;
                if measured.has(&order.digest) {
                    return Ok(Told::Measured);
                }
                let (bundle, _, grants) = self.decide(&order, bundle)?;
                self.have_done(
                    Commission::Measure {
                        bundle: referee::measured(&bundle),
                        to_be_signed: grants.needs_tpm(),
                    },
                    descriptor()?,
                )
            }
            Ask::Evidence => self.have_done(Commission::Evidence, descriptor()?),
            Ask::Speak { worker } => {
                let line = descriptor()?;
                let vouched = self.vouched.get(&worker).cloned();
                let vouched =
                    vouched.ok_or_else(|| io::Error::other("no such worker's muscle may ask the TPM"));
                self.have_done(
                    Commission::Speak(Box::new(vouched.or_host("asking the notary")?)),
                    line,
                )
            }
            Ask::LookAtTpm => self.have_done(Commission::Look, descriptor()?),
            Ask::Spawn { order, .. }
                if self
                    .measured
                    .as_ref()
                    .is_some_and(|measured| !measured.has(&order.digest)) =>
            {
                Ok(Told::NotMeasured)
            }
            Ask::Spawn { worker, order, shape } => {
                let decided = self.decide(&order, descriptor()?.into())?;
                let changed = (order.standings, order.loans);
                let (calls, log) = (descriptor()?.into(), descriptor()?.into());
                let beginning = match order.snapshot {
                    None => None,
                    Some(digest) => Some(Beginning {
                        digest,
                        file: descriptor()?.into(),
                    }),
                };
                self.spawn(worker, (decided, changed, beginning), shape, calls, log)
            }
            Ask::Life { worker, begins: true } => {
                self.rings.begin(worker)?;
                Ok(Told::Lived)
            }
            Ask::Life {
                worker,
                begins: false,
            } => {
                self.rings.end(worker);
                Ok(Told::Lived)
            }
            Ask::Reap { worker, patience } => {
                self.vouched.remove(&worker);
                let how = match self.workers.remove(&worker) {
                    Some(child) => reap(child, patience.min(PATIENCE_MAX)).or_host("waiting for a worker")?,
                    None => "was not there".into(),
                };
                self.rings.leave(worker);
                Ok(Told::Reaped { how })
            }
            Ask::Reload => {
                let read = Trusted::read(&self.authority)?;
                if self.measured.is_some() {
                    self.trusted.must_be_measured_as(&read)?;
                }
                self.trusted = read;
                Ok(Told::Reloaded)
            }
            Ask::Greet => Ok(Told::Greeted),
        }
    }

    /// Has the notary do something, and answer on this line.
    fn have_done(&mut self, commission: Commission, line: OwnedFd) -> Result<Told, NodeError> {
        let measured = self.measured.as_mut().ok_or_else(no_tpm)?;
        measured
            .commission(commission, &line)
            .or_host("asking the notary")?;
        Ok(Told::OnTheLine)
    }

    fn decide(&self, order: &Order, mut file: File) -> Result<(VerifiedBundle, Decision, Grants), NodeError> {
        let limits = ReadLimits {
            bundle_bytes: self.authority.max_bundle_bytes,
            ..ReadLimits::default()
        };
        let mut bytes = Vec::new();
        (&mut file)
            .take(limits.bundle_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .or_host("reading a bundle")?;
        let now = UnixTime::from(SystemTime::now());
        let bundle = verify(bytes, &self.trusted.store, &limits, now).map_err(StartError::from)?;
        if bundle.digest().0 != order.digest {
            return Err(NodeError::Rejected {
                name: "bundle-changed".into(),
                message: "the kept bundle is not the one that was deployed; deploy it again".into(),
            });
        }
        let bindings = order
            .bindings
            .iter()
            .map(|text| Binding::parse(text).and_then(Binding::resolve))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| NodeError::Rejected {
                name: "binding-invalid".into(),
                message: error.to_string(),
            })?;
        let decision = assess(&Applicant::of(&bundle), &bindings, &self.trusted.policies);
        let mut grants = decision.grants().map_err(StartError::from)?;
        if bundle.manifest().exports.is_empty() {
            return Err(NodeError::Rejected {
                name: "wrong-style".into(),
                message: format!(
                    "`{}` exports no functions, so there is nothing to call; run it by `referee-vmm run`",
                    bundle.manifest().name
                ),
            });
        }
        if grants.needs_tpm() && self.measured.is_none() {
            return Err(no_tpm());
        }
        referee::leads_to_no_socket(&grants)?;
        let is_unbound = |(slot, ..): &(&str, _, _)| grants.ring_name(slot).is_none();
        if let Some((slot, ..)) = grants.rings().find(is_unbound) {
            return Err(NodeError::Rejected {
                name: "ring-not-joined".into(),
                message: format!(
                    "slot `{slot}` is an end of a ring: bind it to one that another deployment has the other end of, with --bind {slot}=ring:NAME"
                ),
            });
        }
        if let Some(name) = grants.function_names().next() {
            return Err(NodeError::Rejected {
                name: "host-function-missing".into(),
                message: format!(
                    "it is granted the function `{name}`, which only an embedding program offers"
                ),
            });
        }
        if let Some(deadline_ms) = order.deadline_ms {
            grants.narrow_deadline(deadline_ms);
        }
        if let Some(cpu_ms) = order.cpu_ms {
            grants.narrow_cpu(cpu_ms);
        }
        Ok((bundle, decision, grants))
    }

    fn spawn(
        &mut self,
        worker: u64,
        (decided, (standings, loans), beginning): Decided,
        shape: Shape,
        calls: UnixStream,
        log: UnixStream,
    ) -> Result<Told, NodeError> {
        let (bundle, decision, grants) = decided;
        let left = grants.left(&standings, &loans);
        if let Some((slot, ..)) = grants.rings().find(|(slot, ..)| left.slot(slot).is_none()) {
            return Err(ring::revoked(slot));
        }
        let given = Given {
            console: stream::consoles(&left),
            tpm: TpmGrants::of(&left),
            ..Given::of(&grants)
        };
        let vouched = grants
            .needs_tpm()
            .then(|| Vouched::new(&bundle, &decision, &grants));
        let origin = worker::origin()?;
        let rings = self.rings.hand(worker, &given.rings)?;
        let birth = Birth {
            rings,
            bundle,
            decision,
            grants,
            standings,
            loans,
            beginning,
            shape,
            calls,
            log,
        };
        let forked = fork_into(Namespaces::ALL).or_host("forking a worker");
        if forked.is_err() {
            self.rings.leave(worker);
        }
        match forked? {
            Forked::Parent(child) => {
                self.workers.insert(worker, child);
                if let Some(vouched) = vouched {
                    self.vouched.insert(worker, vouched);
                }
                Ok(Told::Spawned(Box::new(given)))
            }
            // It never returns: what this process holds must not be dropped in the child, above all not its siblings.
            Forked::Child(_) => worker::live(birth, Arc::clone(&self.kvm), origin),
        }
    }
}

fn no_tpm() -> NodeError {
    NodeError::Rejected {
        name: "no-tpm".into(),
        message: "this node has no TPM, which a muscle with a slot `attest` or `state` needs: its configuration has no [tpm]".into(),
    }
}

fn assessment(
    bundle: &VerifiedBundle,
    decision: &Decision,
    grants: &Grants,
) -> Result<Assessment, NodeError> {
    let manifest = bundle.manifest();
    let limits = grants.limits();
    let given = Given::of(grants);
    Ok(Assessment {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        description: manifest.description.clone(),
        publisher: bundle.signer().publisher.clone(),
        key_id: bundle.signer().key_id.to_string(),
        security_epoch: manifest.security_epoch,
        exports: manifest.exports.clone(),
        memory_bytes: limits.memory_bytes,
        cpu_ms: limits.cpu_ms,
        deadline_ms: limits.deadline_ms,
        granted: given.powers,
        waits: given.waits,
        channels: given.channels,
        decision: decision.to_json().or_host("writing a decision")?,
    })
}

/// Waits for a worker's end, so long before it is brought about.
fn reap(child: ChildProcess, patience: Duration) -> io::Result<String> {
    let descriptor = child.descriptor();
    let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let timeout = rustix::event::Timespec::try_from(patience).map_err(io::Error::other)?;
    let ended = match poll(&mut polled, Some(&timeout)) {
        Ok(ready) => ready > 0,
        // A stop signal is blocked here, so this is rare; the worker is then ended a little early.
        Err(rustix::io::Errno::INTR) => false,
        Err(error) => return Err(error.into()),
    };
    if !ended {
        child.send(KILL)?;
    }
    Ok(match child.join()? {
        ChildExit::Code(0) => "ended in order".into(),
        ChildExit::Code(code) => format!("exited with code {code}"),
        ChildExit::Signal(SECCOMP) => {
            "made a system call that its seccomp filter does not allow, and was killed".into()
        }
        ChildExit::Signal(signal) => format!("was killed by signal {signal}"),
    })
}
