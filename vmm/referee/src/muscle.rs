//! A verified muscle, and what it is permitted.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use muscle_abi::boot::Style;
use referee_audit::AuditSink;
use referee_bundle::{Manifest, VerifiedBundle};
use referee_capabilities::{Broker, CellClock, LiveBroker, Resources, Slots, TpmQuestions, argument_block};
use referee_cell::{
    CellSpec, CheckedImage, Host, LoadedCell, RingHold, Services, Shell, Sockets, Template, Unfit,
};
use referee_policy::{Applicant, Binding, Decision, Grant, Grants, Loans, Power, Standings, assess};

use crate::broker_host::{BrokerHost, NoHost};
use crate::canceller::Shared;
use crate::cell::Cell;
use crate::control::{Entry, GrantControl, Ledger};
use crate::engine::{Engine, cell_name};
use crate::error::StartError;
use crate::inputs::Inputs;
use crate::kit::{Recipe, StartUp};
use crate::pool::Ahead;
use crate::record;
use crate::ring::Joined;
use crate::root::Referee;
use crate::snapshot::{Beginning, snapshot_unfit};
use crate::spec::cell_spec;
use crate::tpm::HostTpm;
use crate::transcript::Transcript;
use crate::voucher::Voucher;

/// A muscle whose bundle was verified and whose image was checked. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Muscle {
    referee: Referee,
    image: CheckedImage,
}

impl Muscle {
    pub(crate) fn new(referee: Referee, image: CheckedImage) -> Muscle {
        Muscle { referee, image }
    }

    /// What the bundle says of itself, all of it signed.
    pub fn manifest(&self) -> &Manifest {
        self.image.bundle().manifest()
    }

    /// The bundle.
    pub fn bundle(&self) -> &VerifiedBundle {
        self.image.bundle()
    }

    /// Asks policy about everything that the manifest asks for, with each slot bound to a real thing. A refusal is recorded.
    ///
    /// # Errors
    /// [`StartError::Rejected`] names the slot or limit that is refused and says why.
    pub fn permit(&self, bindings: &[Binding]) -> Result<Permit, StartError> {
        let decision = assess(
            &Applicant::of(self.image.bundle()),
            bindings,
            self.referee.policies(),
        );
        let engine = self.referee.engine();
        let granted = decision.grants().map_err(StartError::from).and_then(|grants| {
            embeddable(&grants, self.bundle(), engine.tpm())?;
            needs_no_node(&grants)?;
            Ok(grants)
        });
        match granted {
            Ok(grants) => Ok(Permit::new(
                engine.clone(),
                self.image.clone(),
                decision,
                grants,
                (None, (Standings::default(), Loans::default())),
            )),
            Err(refused) => Err(engine.refusal(refused, &self.title())?),
        }
    }

    pub(crate) fn title(&self) -> String {
        title(self.manifest())
    }
}

pub(crate) fn title(manifest: &Manifest) -> String {
    format!("{} {}", manifest.name, manifest.version)
}

/// Refuses grants that no cell of this library can have: those of [`leads_to_no_socket`], and what the TPM does where there is none.
///
/// # Errors
/// [`StartError::Rejected`] with the name `no-tpm` or `not-embeddable`.
pub fn embeddable(grants: &Grants, bundle: &VerifiedBundle, tpm: Option<&HostTpm>) -> Result<(), StartError> {
    match tpm {
        _ if !grants.needs_tpm() => {}
        Some(tpm) => tpm.must_sign(bundle)?,
        None => return Err(no_tpm()),
    }
    leads_to_no_socket(grants)
}

fn no_tpm() -> StartError {
    StartError::Rejected {
        name: "no-tpm",
        message: "it is granted what the host's TPM does, and there is none: name one in Config::tpm".into(),
    }
}

/// Refuses grants that lead to Unix sockets: they need a thread that serves them, which is not started here.
///
/// # Errors
/// [`StartError::Rejected`] with the name `not-embeddable`.
pub fn leads_to_no_socket(grants: &Grants) -> Result<(), StartError> {
    let outside = |grant: &&Grant| {
        matches!(
            grant.power(),
            Power::VsockListen { .. } | Power::VsockConnect { .. }
        )
    };
    match grants.slots().iter().find(outside) {
        None => Ok(()),
        Some(grant) => Err(StartError::Rejected {
            name: "not-embeddable",
            message: format!(
                "slot `{}` leads to another program's socket, which only `referee-vmm run` gives to a cell",
                grant.slot()
            ),
        }),
    }
}

/// Refuses grants that only a cell of a node can have: nobody else carries messages, or joins rings by their names.
///
/// # Errors
/// [`StartError::Rejected`] with the name `no-node`.
pub fn needs_no_node(grants: &Grants) -> Result<(), StartError> {
    let named = |(slot, ..): (&str, _, _)| Some((slot.to_owned(), grants.ring_name(slot)?.to_owned()));
    match grants.channels().next() {
        None => match grants.rings().find_map(named) {
            None => Ok(()),
            Some((slot, ring)) => Err(StartError::Rejected {
                name: "no-node",
                message: format!(
                    "slot `{slot}` is bound to the ring `{ring}`, which only a node joins: deploy it with `referee-vmm deploy`, or bind it to nothing and join it by Permit::join_ring"
                ),
            }),
        },
        Some((slot, channel, ..)) => Err(StartError::Rejected {
            name: "no-node",
            message: format!(
                "slot `{slot}` is bound to the channel `{channel}`, and only a node carries messages: deploy it with `referee-vmm deploy`"
            ),
        }),
    }
}

/// A muscle with its grants: what cells are made of. It can only become narrower. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Permit(Arc<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    /// Under which the pool keeps cells of it. Narrower ones may use the same: limits of time are a life's, not a cell's.
    number: u64,
    engine: Engine,
    image: CheckedImage,
    decision: Decision,
    grants: Grants,
    /// What is left of them, and which cells have them.
    ledger: Arc<Ledger>,
    /// What was opened ahead for all cells; what was granted is opened for each, when this is none.
    opened: Option<Arc<Resources>>,
    /// How long after a call a hot thread may poll for its cells.
    spin: Option<Duration>,
    /// Rings that lead to other permits, in the order of their slots.
    rings: Vec<Joined>,
    /// At which its cells begin, if not before their first instruction.
    beginning: Option<Arc<Beginning>>,
}

/// Cells of a permit that are kept loaded; dropping it ends that.
#[derive(Debug)]
pub struct Loaded(Permit);

impl Drop for Loaded {
    fn drop(&mut self) {
        self.0.engine().pool().forget(self.0.0.number);
    }
}

/// What a cell's life needs besides the machine.
pub(crate) struct Life {
    pub spec: CellSpec,
    pub host: BrokerHost,
    /// Zero of its clock.
    pub epoch: Instant,
}

impl Permit {
    pub(crate) fn new(
        engine: Engine,
        image: CheckedImage,
        decision: Decision,
        grants: Grants,
        (opened, taken_and_lent): (Option<Resources>, (Standings, Loans)),
    ) -> Permit {
        let audit = engine.audit("", &title(image.bundle().manifest()));
        Permit(Arc::new(Parts {
            ledger: Ledger::new(grants.clone(), audit, taken_and_lent),
            number: engine.next_number(),
            engine,
            image,
            decision,
            grants,
            opened: opened.map(Arc::new),
            spin: None,
            rings: Vec::new(),
            beginning: None,
        }))
    }

    /// Takes grants back from all cells of this permit, its clones' too, or makes them smaller: those that run and those that will be started.
    pub fn control(&self) -> GrantControl {
        self.0.ledger.control()
    }

    /// What policy granted.
    pub fn grants(&self) -> &Grants {
        &self.0.grants
    }

    /// How long after a call a hot thread may poll for its cells, if that was permitted with [`Referee::permit_spin`].
    pub fn spin(&self) -> Option<Duration> {
        self.0.spin
    }

    pub(crate) fn set_spin(&mut self, decision: Decision, idle: Duration) {
        let parts = Arc::make_mut(&mut self.0);
        parts.decision = decision;
        parts.spin = Some(idle);
    }

    /// What policy said about each slot, and why.
    pub fn decision(&self) -> &Decision {
        &self.0.decision
    }

    /// Joins a granted slot to a ring that a node keeps, by this process's part of it.
    #[doc(hidden)]
    pub fn join_kept_ring(
        &mut self,
        slot: &str,
        role: muscle_abi::ring::Role,
        name: &str,
        ring: &referee_cell::Ring,
    ) {
        self.add_ring(Joined::kept_elsewhere(slot, role, name, ring));
    }

    pub(crate) fn rings(&self) -> &[Joined] {
        &self.0.rings
    }

    pub(crate) fn beginning(&self) -> Option<&Arc<Beginning>> {
        self.0.beginning.as_ref()
    }

    /// The same permit for cells that begin there. The pool keeps them apart.
    pub(crate) fn beginning_at(&self, beginning: Beginning) -> Permit {
        let number = self.engine().next_number();
        Permit(Arc::new(Parts {
            number,
            beginning: Some(Arc::new(beginning)),
            ..(*self.0).clone()
        }))
    }

    /// What its cells would be told, but for what is random.
    pub(crate) fn spec(&self) -> Result<CellSpec, StartError> {
        let audit = self.engine().audit("", "");
        // No cell: for as long as it takes to find out what one is told.
        let entry = self.0.ledger.enter(Arc::default());
        let inputs = Inputs {
            // No line to the host's TPM, for which a thread would have to be made.
            tpm: Some(TpmQuestions::default()),
            ..Inputs::default()
        };
        let Life { spec, .. } = self.life(Style::Reactor, inputs, &audit, &entry)?;
        Ok(spec)
    }

    /// Notes what a granted slot is joined to.
    pub(crate) fn add_ring(&mut self, joined: Joined) {
        let Parts { rings, grants, .. } = Arc::make_mut(&mut self.0);
        rings.push(joined);
        let place = |joined: &Joined| {
            grants
                .slots()
                .iter()
                .position(|grant| grant.slot() == joined.slot())
        };
        rings.sort_by_key(place);
    }

    /// Lowers the wall-clock time of each call, in milliseconds; never raises it. Cells that were started before keep theirs.
    pub fn narrow_deadline(&mut self, deadline_ms: u64) {
        Arc::make_mut(&mut self.0).grants.narrow_deadline(deadline_ms);
    }

    /// Lowers the CPU time of each call, in milliseconds; never raises it. Cells that were started before keep theirs.
    pub fn narrow_cpu(&mut self, cpu_ms: u64) {
        Arc::make_mut(&mut self.0).grants.narrow_cpu(cpu_ms);
    }

    /// Starts a cell whose exported functions are to be called. Its first instruction runs with the first call.
    ///
    /// # Errors
    /// [`StartError`]; [`StartError::Rejected`] when the muscle exports nothing.
    pub fn start(&self, inputs: Inputs) -> Result<Cell, StartError> {
        self.start_observed(Style::Reactor, inputs, |_| None)
    }

    /// Starts a cell whose `main` is to be run, with [`Cell::run`].
    ///
    /// # Errors
    /// [`StartError`]; [`StartError::Rejected`] when the muscle has no `main`.
    pub fn start_main(&self, inputs: Inputs) -> Result<Cell, StartError> {
        self.start_observed(Style::Command, inputs, |_| None)
    }

    /// Starts a cell. All that passes between it and the host is written into the transcript that `observe` makes.
    pub(crate) fn start_observed(
        &self,
        style: Style,
        inputs: Inputs,
        observe: impl FnOnce(&CellSpec) -> Option<Transcript>,
    ) -> Result<Cell, StartError> {
        let manifest = self.bundle().manifest();
        let wrong = match style {
            Style::Reactor if manifest.style != Style::Reactor && manifest.exports.is_empty() => {
                Some(format!("`{}` exports no functions", manifest.name))
            }
            Style::Command if manifest.style != Style::Command => Some(format!(
                "`{}` has no main to run; it exports functions",
                manifest.name
            )),
            _ => None,
        };
        let wrong = wrong.or_else(|| {
            let begun = self.0.beginning.is_some() && style == Style::Command;
            begun.then(|| {
                "it begins at a snapshot, where its functions are called and no main is run".to_owned()
            })
        });
        match wrong {
            Some(message) => Err(self.wrong_style(message)?),
            None => {
                self.covered(&inputs)?;
                self.build(style, inputs, None, observe)
            }
        }
    }

    /// Refuses inputs that lack what was granted, and rings that lead nowhere.
    pub(crate) fn covered(&self, inputs: &Inputs) -> Result<(), StartError> {
        let covered = inputs.functions.cover(&self.0.grants);
        let covered = covered.and_then(|()| match inputs.channels {
            Some(_) => Ok(()),
            None => needs_no_node(&self.0.grants),
        });
        let covered = covered.and_then(|()| {
            let asks = self.0.grants.needs_tpm();
            match asks && inputs.tpm.is_none() && self.engine().tpm().is_none() {
                true => Err(no_tpm()),
                false => Ok(()),
            }
        });
        match covered.and_then(|()| self.all_rings_joined()) {
            Ok(()) => Ok(()),
            Err(missing) => Err(self.engine().refusal(missing, &self.title())?),
        }
    }

    fn all_rings_joined(&self) -> Result<(), StartError> {
        let joined = |slot: &str| self.0.rings.iter().any(|joined| joined.slot() == slot);
        match self.0.grants.rings().find(|(slot, ..)| !joined(slot)) {
            None => Ok(()),
            Some((slot, ..)) => Err(StartError::Rejected {
                name: "ring-not-joined",
                message: format!(
                    "the ring in slot `{slot}` leads to no other muscle: join it by Permit::join_ring before the first start"
                ),
            }),
        }
    }

    /// The ends of all rings, for a new cell alone.
    fn take_rings(&self) -> Result<Vec<RingHold>, StartError> {
        let taken = self.0.rings.iter().map(Joined::take).collect();
        match taken {
            Err(refused @ StartError::Rejected { .. }) => {
                Err(self.engine().refusal(refused, &self.title())?)
            }
            other => other,
        }
    }

    fn wrong_style(&self, message: String) -> Result<StartError, StartError> {
        let name = "wrong-style";
        self.engine()
            .refusal(StartError::Rejected { name, message }, &self.title())
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn bundle(&self) -> &VerifiedBundle {
        self.0.image.bundle()
    }

    pub(crate) fn image(&self) -> &CheckedImage {
        &self.0.image
    }

    pub(crate) fn title(&self) -> String {
        title(self.bundle().manifest())
    }

    /// Starts a cell, in the place of one whose entry is given.
    pub(crate) fn build(
        &self,
        style: Style,
        inputs: Inputs,
        entry: Option<Arc<Entry>>,
        observe: impl FnOnce(&CellSpec) -> Option<Transcript>,
    ) -> Result<Cell, StartError> {
        self.engine().pool().check_log()?;
        let rings = self.take_rings()?;
        let audit = self.engine().audit(&cell_name()?, &self.title());
        let shared = Arc::<Shared>::default();
        let entry = match entry {
            Some(entry) => {
                entry.renew(Arc::clone(&shared));
                entry
            }
            None => self.0.ledger.enter(Arc::clone(&shared)),
        };
        record::start(
            &audit,
            self.bundle(),
            &entry.left(&self.0.grants).grants,
            &self.0.decision,
            self.engine().not_confined_by(),
            self.beginning().map(|beginning| beginning.id.as_str()),
        )
        .map_err(StartError::host("recording a start"))?;
        for joined in &self.0.rings {
            record::joined(&audit, joined).map_err(StartError::host("recording a ring"))?;
        }
        entry.begins(audit.clone());
        let life = self.life(style, inputs, &audit, &entry).map(|mut life| {
            if let Some(transcript) = observe(&life.spec) {
                life.host = life.host.with_transcript(transcript);
            }
            life
        });
        let started = life.and_then(|life| {
            let cell = self.furnish(style, life)?;
            let books = (audit.clone(), shared, Arc::clone(&entry));
            Cell::new(self.clone(), style, cell, books, rings)
        });
        match started {
            Ok(cell) => Ok(cell),
            Err(error) => {
                entry.ends();
                let message = error.to_string();
                record::failed(&audit, None, &message, record::HOST_ERROR)
                    .map_err(StartError::host("recording an end"))?;
                Err(error)
            }
        }
    }

    /// Keeps `count` cells loaded ahead by the pool's thread, for [`Permit::start`], for as long as the result lives. Each takes the
    /// memory of an idle cell.
    ///
    /// The muscle's start-up is run once on that thread, recorded as a life of its own, and the cells begin after it, if that is
    /// sound: if the start-up asks the host for nothing, and the muscle has no grants, or was built with an SDK that reads what
    /// differs between lives when it needs it. Otherwise each life runs its start-up. [`Cell::is_templated`] tells. A cell that is started when all are taken is made
    /// at once, from there too. All cells from one
    /// start-up have the same layout in memory; when one of them breaks a rule, the next are made from a new one.
    ///
    /// # Errors
    /// [`StartError`] when a cell could not be started either.
    pub fn keep_loaded(&self, count: usize) -> Result<Loaded, StartError> {
        if let Some((slot, ..)) = self.0.grants.rings().next() {
            let refused = StartError::Rejected {
                name: "ring-not-kept",
                message: format!(
                    "cells cannot be loaded ahead with the ring in slot `{slot}`, which one cell has at a time"
                ),
            };
            return Err(self.engine().refusal(refused, &self.title())?);
        }
        let audit = self.engine().audit("", "");
        // No cell: for as long as it takes to find out what one is told.
        let entry = self.0.ledger.enter(Arc::default());
        let Life { mut spec, .. } = self.life(Style::Reactor, Inputs::default(), &audit, &entry)?;
        spec.seed = None;
        // The handles are another life's; there are as many as there will be, so the boot block has its size.
        let recipe = Recipe {
            image: self.0.image.clone(),
            spec,
            grants: entry.left(&self.0.grants).grants,
            decision: self.0.decision.clone(),
            audit,
            not_confined_by: self.engine().not_confined_by().to_owned(),
            start_up: match self.beginning() {
                Some(beginning) => StartUp::Skipped(Arc::clone(&beginning.template)),
                None => StartUp::Untried,
            },
        };
        self.engine().pool().keep_loaded(self.0.number, count, recipe);
        Ok(Loaded(self.clone()))
    }

    /// A cell of this life: one that was loaded ahead, if there is one and it fits, or one that is made now, from what those begin from, or from the
    /// image.
    fn furnish(&self, style: Style, life: Life) -> Result<Box<LoadedCell>, StartError> {
        let pool = self.engine().pool();
        let ahead = match style {
            Style::Reactor => pool.take_ahead(self.0.number),
            Style::Command => None,
        };
        match ahead {
            Some(Ahead::Cell(mut cell)) if cell.can_be_reset(&life.spec) => {
                cell.reset(&life.spec, Box::new(life.host), life.epoch)
                    .map_err(StartError::host("furnishing a cell"))?;
                return Ok(cell);
            }
            Some(Ahead::Template(template)) => self.load_from(&template, pool.take_shell()?, life),
            Some(Ahead::Cell(_)) | None => match self.beginning() {
                Some(beginning) => self.load_from(&beginning.template, pool.take_shell()?, life),
                None => self.load(pool.take_shell()?, life),
            },
        }
        .map(Box::new)
    }

    /// The pool's cells may have the same layout as one that broke a rule: has them made anew.
    pub(crate) fn distrust(&self) {
        self.engine().pool().distrust(self.0.number);
    }

    /// A cell of this life in a shell, begun from a template that fits.
    pub(crate) fn load_from(
        &self,
        template: &Arc<Template>,
        shell: Shell,
        life: Life,
    ) -> Result<LoadedCell, StartError> {
        let services = self.services(Box::new(NoHost), life.epoch);
        let mut cell = LoadedCell::load_from(template, shell, &self.0.image, &life.spec, services)
            .map_err(StartError::host("loading from a template"))?;
        if !cell.can_be_reset(&life.spec) {
            if self.beginning().is_some() {
                let unfit = snapshot_unfit(Unfit::Told);
                return Err(self.engine().refusal(unfit, &self.title())?);
            }
            return self.load(self.engine().pool().take_shell()?, life);
        }
        cell.reset(&life.spec, Box::new(life.host), life.epoch)
            .map_err(StartError::host("furnishing a cell"))?;
        Ok(cell)
    }

    /// Loads the muscle into a shell.
    pub(crate) fn load(&self, shell: Shell, life: Life) -> Result<LoadedCell, StartError> {
        let services = self.services(Box::new(life.host), life.epoch);
        LoadedCell::load(shell, &self.0.image, &life.spec, services)
            .map_err(StartError::host("loading the muscle"))
    }

    fn services(&self, host: Box<dyn Host>, epoch: Instant) -> Services {
        Services {
            host,
            sockets: Sockets::none(),
            epoch,
        }
    }

    /// The cell's end of a line to the TPM. At its other end is a thread that lives as long as the line.
    fn vouched(&self, audit: &AuditSink, grants: &Grants) -> Result<OwnedFd, StartError> {
        let no = |error| StartError::host("making a line to the TPM")(error);
        let (cell, host) = UnixStream::pair().map_err(no)?;
        let voucher = Voucher::new(audit.cell(), self.bundle(), &self.0.decision, grants);
        let engine = self.engine().clone();
        let serve = move || {
            if let Some(tpm) = engine.tpm() {
                voucher.serve(tpm, host, |_| ());
            }
        };
        thread::Builder::new()
            .name("referee-tpm-line".into())
            .spawn(serve)
            .map_err(no)?;
        Ok(cell.into())
    }

    /// Opens what was granted and hands it to a new life, with handles and a clock of its own.
    pub(crate) fn life(
        &self,
        style: Style,
        inputs: Inputs,
        audit: &AuditSink,
        entry: &Entry,
    ) -> Result<Life, StartError> {
        let left = entry.left(&self.0.grants);
        let grants = &left.grants;
        let mut resources = match &self.0.opened {
            Some(opened) => opened.duplicate(inputs.console),
            None => Resources::acquire(grants, inputs.console),
        }
        .map_err(StartError::host("opening what was granted"))?;
        if grants.needs_tpm() {
            match inputs.tpm {
                Some(line) => resources.carry_questions_by(line),
                None => resources.ask_tpm_by(self.vouched(audit, grants)?),
            }
        }
        resources.offer(inputs.functions.into_inner());
        if let Some(line) = inputs.channels {
            resources.carry_messages_by(line);
        }
        let variable = |name: &str| {
            let found = inputs.environment.iter().rev().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        let arguments = argument_block(grants, &inputs.arguments, variable)
            .map_err(StartError::host("writing the arguments"))?;
        let mut spec = cell_spec(grants, style, arguments).map_err(StartError::host("making a cell"))?;
        let clock = match self.beginning() {
            Some(beginning) => CellClock::showing(beginning.monotonic),
            None => CellClock::start(),
        };
        let slots = Slots {
            granted: &self.0.grants,
            left: grants,
        };
        let broker = Broker::new(slots, resources, audit.clone(), clock, inputs.limits)
            .map_err(StartError::host("handing over the grants"))?;
        spec.grants = broker.entries();
        spec.rings = self.0.rings.iter().map(Joined::end).collect();
        let broker = LiveBroker::from(broker);
        entry.lives(&left, broker.clone());
        spec.resettable = true;
        Ok(Life {
            spec,
            // No grant leads to an outside socket, see `embeddable`.
            host: BrokerHost::new(broker, grants, |_| PathBuf::new()),
            epoch: clock.instant_of(0).unwrap_or_else(Instant::now),
        })
    }
}
