//! One guest run beside its neighbour, and the verdict.

use anyhow::Context;

use crate::check::{check, check_audit};
use crate::expectation::Expectation;
use crate::flavour::Flavour;
use crate::guest::Guest;
use crate::neighbour::Neighbour;
use crate::program::{Ended, Program};
use crate::scene::Scene;
use crate::workshop::Workshop;

/// What trials share.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Where bundles come from.
    pub workshop: Workshop,
    /// The program under test.
    pub program: Program,
    /// The kind of KVM.
    pub flavour: Flavour,
}

/// What came of a trial.
pub type Verdict = anyhow::Result<()>;

impl Trial {
    /// Runs a guest beside a neighbour, and checks the ending, the neighbour, the audit log, and what is left.
    ///
    /// # Errors
    /// Says what was not as the guest's file demands.
    pub fn judge(&self, guest: &Guest) -> Verdict {
        let neighbour = Neighbour::start(&self.workshop, &self.program)?;
        let result = self.judge_alone(guest);
        let beside = neighbour.finish();
        result?;
        beside
    }

    /// The same without a neighbour.
    ///
    /// # Errors
    /// As [`Trial::judge`].
    pub fn judge_alone(&self, guest: &Guest) -> Verdict {
        let scene = Scene::set(&guest.header)?;
        let ended = self.run(guest, &scene)?;
        let found = check(guest.header.expected(self.flavour), &guest.header.streams, &ended)?;
        let fault = match found {
            Expectation::Exit(_) => None,
            Expectation::Fault(fault) => Some(fault.names.as_slice()),
        };
        check_audit(&scene.audit(), fault).context("audit log")?;
        scene.check_untouched(&guest.header)
    }

    /// Runs a guest in its scene.
    ///
    /// # Errors
    /// When the program cannot be started or does not end.
    pub fn run(&self, guest: &Guest, scene: &Scene) -> anyhow::Result<Ended> {
        let bundle = self.workshop.bundle(guest)?;
        let header = &guest.header;
        let verb = if header.call.is_some() { "call" } else { "run" };
        let mut command = self.program.command([verb, "--json", "--trust"]);
        command
            .arg(self.workshop.trust_store())
            .arg("--audit")
            .arg(scene.audit());
        for binding in &header.bindings {
            command.args([
                "--bind",
                &binding.replace("{}", &scene.path().display().to_string()),
            ]);
        }
        command.args(&header.options).arg(bundle);
        if let Some((function, arguments)) = &header.call {
            command.args([function, arguments]);
        }
        Ended::of(
            command
                .spawn()
                .with_context(|| self.program.path().display().to_string())?,
        )
    }
}
