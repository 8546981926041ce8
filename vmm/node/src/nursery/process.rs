//! The nursery's own life.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use referee::StartError;
use referee_bundle::{ReadLimits, TrustStore, UnixTime, VerifiedBundle, read_trust_store, verify};
use referee_cell::Shell;
use referee_hv::Kvm;
use referee_hv::process::{ChildExit, ChildProcess, Forked, Namespaces, exit_at_once, fork_into};
use referee_policy::{Applicant, Binding, Decision, Grants, PolicySet, Standings, assess};
use rustix::event::{PollFd, PollFlags, poll};

use crate::channel;
use crate::error::{NodeError, OrHost};
use crate::manager::HandedOver;
use crate::nursery::messages::{Ask, Assessment, Authority, Order, Told};
use crate::nursery::passing;
use crate::nursery::rings::Rings;
use crate::ring;
use crate::worker::{self, Birth, Shape};

/// How long at most a request may wait for a worker's end: nobody else is served meanwhile.
const PATIENCE_MAX: Duration = Duration::from_secs(1);
/// `SIGKILL`; `SIGSYS`, which a seccomp filter sends.
const KILL: i32 = 9;
const SECCOMP: i32 = 31;

/// Forks the nursery off. The caller must have one thread, and must keep the child: dropping it ends it. `listeners` are closed in it.
///
/// # Errors
/// When trust store or policies are refused, `/dev/kvm` cannot be opened, or the fork fails.
pub(crate) fn start(
    authority: Authority,
    listeners: &mut HandedOver,
) -> Result<(ChildProcess, OwnedFd), NodeError> {
    let trusted = Trusted::read(&authority)?;
    let (ours, theirs) = passing::pair().or_host("making a line to the nursery")?;
    match fork_into(Namespaces::NONE).or_host("forking the nursery")? {
        Forked::Parent(child) => Ok((child, ours)),
        Forked::Child(_) => {
            drop(ours);
            // Its workers would have it too.
            drop(std::mem::take(listeners));
            // KVM is opened in there, so that the supervisor never has it.
            let code = match serve(theirs, authority, trusted) {
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

/// Whom to trust and what is permitted.
struct Trusted {
    store: TrustStore,
    policies: PolicySet,
}

impl Trusted {
    fn read(authority: &Authority) -> Result<Trusted, NodeError> {
        let now = UnixTime::from(SystemTime::now());
        let store = read_trust_store(&authority.trust_store, &ReadLimits::default())
            .and_then(|bytes| TrustStore::parse(&bytes, now))
            .map_err(|rejected| NodeError::Rejected {
                name: rejected.name().to_owned(),
                message: format!("trust store {}: {rejected}", authority.trust_store.display()),
            })?;
        let policies = if authority.policies.is_empty() {
            PolicySet::shipped()
        } else {
            PolicySet::load(&authority.policies)
        }
        .map_err(|error| NodeError::Rejected {
            name: "policy-invalid".into(),
            message: format!("policies: {error}"),
        })?;
        Ok(Trusted { store, policies })
    }
}

struct Nest {
    authority: Authority,
    trusted: Trusted,
    kvm: Arc<Kvm>,
    /// A VM that is never run: while there is one, the kernel does not patch itself at the first and the last cell.
    _keeper: Shell,
    workers: BTreeMap<u64, ChildProcess>,
    rings: Rings,
}

/// Serves the supervisor until it is gone; then the workers go with this process.
fn serve(socket: OwnedFd, authority: Authority, trusted: Trusted) -> Result<(), NodeError> {
    let mut kvm = Kvm::open().or_host("opening KVM")?;
    kvm.probe_resume().or_host("making a virtual machine")?;
    let keeper = Shell::create(&kvm).or_host("making a virtual machine")?;
    let mut nest = Nest {
        authority,
        trusted,
        kvm: Arc::new(kvm),
        _keeper: keeper,
        workers: BTreeMap::new(),
        rings: Rings::default(),
    };
    loop {
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
            Ask::Spawn { worker, order, shape } => {
                let decided = self.decide(&order, descriptor()?.into())?;
                let standings = order.standings;
                let (calls, log) = (descriptor()?.into(), descriptor()?.into());
                self.spawn(worker, (decided, standings), shape, calls, log)
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
                let how = match self.workers.remove(&worker) {
                    Some(child) => reap(child, patience.min(PATIENCE_MAX)).or_host("waiting for a worker")?,
                    None => "was not there".into(),
                };
                self.rings.leave(worker);
                Ok(Told::Reaped { how })
            }
            Ask::Reload => {
                self.trusted = Trusted::read(&self.authority)?;
                Ok(Told::Reloaded)
            }
            Ask::Greet => Ok(Told::Greeted),
        }
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
        referee::embeddable(&grants, &bundle, None)?;
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
        (decided, standings): ((VerifiedBundle, Decision, Grants), Standings),
        shape: Shape,
        calls: UnixStream,
        log: UnixStream,
    ) -> Result<Told, NodeError> {
        let (bundle, decision, grants) = decided;
        let channels = channel::granted(&grants);
        let granted = ring::granted(&grants);
        let left = grants.left(&standings);
        if let Some((slot, ..)) = grants.rings().find(|(slot, ..)| left.slot(slot).is_none()) {
            return Err(ring::revoked(slot));
        }
        let origin = worker::origin()?;
        let rings = self.rings.hand(worker, &granted)?;
        let birth = Birth {
            rings,
            bundle,
            decision,
            grants,
            standings,
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
                Ok(Told::Spawned {
                    channels,
                    rings: granted,
                })
            }
            // It never returns: what this process holds must not be dropped in the child, above all not its siblings.
            Forked::Child(_) => worker::live(birth, Arc::clone(&self.kvm), origin),
        }
    }
}

fn assessment(
    bundle: &VerifiedBundle,
    decision: &Decision,
    grants: &Grants,
) -> Result<Assessment, NodeError> {
    let manifest = bundle.manifest();
    let limits = grants.limits();
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
        granted: grants
            .slots()
            .iter()
            .map(|grant| (grant.slot().to_owned(), grant.power().clone()))
            .collect(),
        channels: channel::granted(grants),
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
