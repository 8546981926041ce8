//! Speculation that a thread may give up (`PR_SET_SPECULATION_CTRL`, prctl(2) and the kernel's `spec_ctrl.rst`); threads that it makes give it up too.
//!
//! For the guest in a cell this means less than for the process around it: on VT-x and SVM the processor's own register of the guest says what the guest
//! speculates. What is flushed or fenced when the *thread* is exchanged for another holds for both.

use rustix::io::Errno;
use rustix::process::{
    SpeculationFeature, SpeculationFeatureControl, SpeculationFeatureState, control_speculative_feature,
    speculative_feature_state,
};

use crate::side_channels::Lacking;

/// What is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    IndirectBranches,
    StoreBypass,
    /// The other way round: emptying the cache is what is turned on.
    L1dFlush,
}

/// How things stand with a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is so for everybody, or the processor has no such flaw.
    Already,
    /// It is for the thread to choose.
    Choice,
}

pub(crate) fn offered(kind: Kind) -> Result<(), Lacking> {
    standing(kind, state(kind)?, siblings_run()).map(drop)
}

/// Gives it up for the calling thread, for good where the kernel can, and looks whether that holds.
pub(crate) fn apply(kind: Kind) -> Result<(), Lacking> {
    if standing(kind, state(kind)?, siblings_run())? == Standing::Already {
        return Ok(());
    }
    control_speculative_feature(kind.feature(), kind.wanted()).map_err(|errno| Lacking::Refused {
        call: "PR_SET_SPECULATION_CTRL",
        errno,
    })?;
    match state(kind)?.bits() & kind.wanted().bits() {
        0 => Err(Lacking::NotSeen),
        _ => Ok(()),
    }
}

impl Kind {
    fn feature(self) -> SpeculationFeature {
        match self {
            Kind::IndirectBranches => SpeculationFeature::IndirectBranchSpeculation,
            Kind::StoreBypass => SpeculationFeature::SpeculativeStoreBypass,
            Kind::L1dFlush => SpeculationFeature::FlushL1DCacheOnContextSwitchOutOfTask,
        }
    }

    fn wanted(self) -> SpeculationFeatureControl {
        match self {
            Kind::IndirectBranches | Kind::StoreBypass => SpeculationFeatureControl::FORCE_DISABLE,
            Kind::L1dFlush => SpeculationFeatureControl::ENABLE,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Kind::IndirectBranches => "it does with spectre_v2_user=prctl",
            Kind::StoreBypass => "it does with spec_store_bypass_disable=prctl, on a processor that can",
            Kind::L1dFlush => "it does with l1d_flush=on, on a processor that can",
        }
    }
}

/// What a state that the kernel tells means. `siblings`: whether cores have two threads that run.
fn standing(kind: Kind, state: SpeculationFeatureState, siblings: bool) -> Result<Standing, Lacking> {
    let is = |what: SpeculationFeatureState| state.contains(what);
    let choice = is(SpeculationFeatureState::PRCTL);
    match kind {
        Kind::L1dFlush if !choice => Err(Lacking::NoChoice { hint: kind.hint() }),
        Kind::L1dFlush if siblings => Err(Lacking::Siblings),
        Kind::L1dFlush => Ok(Standing::Choice),
        Kind::IndirectBranches | Kind::StoreBypass => match () {
            // The processor has no such flaw.
            () if state.is_empty() => Ok(Standing::Already),
            () if is(SpeculationFeatureState::FORCE_DISABLE) => Ok(Standing::Already),
            () if choice => Ok(Standing::Choice),
            () if is(SpeculationFeatureState::DISABLE) => Ok(Standing::Already),
            () => Err(Lacking::NoChoice { hint: kind.hint() }),
        },
    }
}

fn state(kind: Kind) -> Result<SpeculationFeatureState, Lacking> {
    let refused = |errno| Lacking::Refused {
        call: "PR_GET_SPECULATION_CTRL",
        errno,
    };
    let state = speculative_feature_state(kind.feature()).map_err(refused)?;
    // Bits that nobody knows yet say nothing that could be relied on.
    state.ok_or_else(|| refused(Errno::RANGE))
}

/// Whether cores have two threads that run. Where that cannot be told, they may.
fn siblings_run() -> bool {
    let active = std::fs::read_to_string("/sys/devices/system/cpu/smt/active");
    active.map_or(true, |text| text.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood() {
        type S = SpeculationFeatureState;
        for kind in [Kind::IndirectBranches, Kind::StoreBypass] {
            for (state, expected) in [
                (S::empty(), Some(Standing::Already)),
                (S::PRCTL | S::ENABLE, Some(Standing::Choice)),
                (S::PRCTL | S::DISABLE, Some(Standing::Choice)),
                (S::PRCTL | S::FORCE_DISABLE, Some(Standing::Already)),
                (S::DISABLE, Some(Standing::Already)),
                (S::ENABLE, None),
            ] {
                let found = standing(kind, state, true);
                assert_eq!(found.clone().ok(), expected, "{kind:?} {state:?}: {found:?}");
            }
        }
        let flush = |state, siblings| standing(Kind::L1dFlush, state, siblings);
        assert_eq!(flush(S::PRCTL | S::DISABLE, false), Ok(Standing::Choice));
        assert_eq!(flush(S::PRCTL | S::DISABLE, true), Err(Lacking::Siblings));
        // Off at boot is not what it is for the others.
        assert!(matches!(
            flush(S::FORCE_DISABLE, false),
            Err(Lacking::NoChoice { .. })
        ));
    }

    #[test]
    fn what_is_offered_here_can_be_had_and_what_is_not_cannot() {
        for kind in [Kind::IndirectBranches, Kind::StoreBypass, Kind::L1dFlush] {
            // It is for good, so it is for a thread that ends.
            let tried = std::thread::spawn(move || apply(kind)).join().expect("ends");
            assert_eq!(tried.is_ok(), offered(kind).is_ok(), "{kind:?}: {tried:?}");
        }
    }
}
