//! What a worker says of a piece of a call, as steps of the call's trace.
//!
//! The supervisor believes a worker nothing: times lie within the piece as the supervisor measured it, names are short and of few letters,
//! and there are only so many.

use std::time::{Duration, SystemTime};

use referee_trace::Stage;

use crate::line::{Step, What};

/// Most steps of a piece that are told.
const STEPS_MAX: usize = 72;
/// Most letters of a capability's name.
const NAME_MAX: usize = 48;

/// Tells the steps of a piece that began then and lasted so long.
pub(crate) fn tell(piece: &Stage, began: SystemTime, lasted: Duration, steps: &[Step]) {
    // Uses lie within the run, which a worker tells first.
    let mut run = None;
    for step in steps.iter().take(STEPS_MAX) {
        let (after, step_lasted) = within(step, lasted);
        let at = began + after;
        match &step.what {
            What::CellStart => drop(piece.step("cell start".into(), at, step_lasted)),
            What::CellTake => drop(piece.step("cell take".into(), at, step_lasted)),
            What::Run => run = Some(piece.step("run".into(), at, step_lasted)),
            What::Use(name) => {
                let parent = run.as_ref().unwrap_or(piece);
                drop(parent.step(format!("use {}", name_of(name)), at, step_lasted));
            }
        }
    }
}

/// A step's beginning and length, of which nothing lies outside of the piece.
fn within(step: &Step, piece: Duration) -> (Duration, Duration) {
    let after = step.after.min(piece);
    (after, step.lasted.min(piece.saturating_sub(after)))
}

fn name_of(name: &str) -> &str {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name.len() <= NAME_MAX && name.bytes().all(is_one) {
        true => name,
        false => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_is_none_is_not_told() {
        assert_eq!(name_of("console.out"), "console.out");
        for name in ["a b", "a\nb", "\u{e9}", &"a".repeat(NAME_MAX + 1)] {
            assert_eq!(name_of(name), "unknown");
        }
    }

    proptest! {
        #[test]
        fn no_step_lies_outside_of_its_piece(after: u64, lasted: u64, piece: u32) {
            let piece = Duration::from_nanos(piece.into());
            let step = Step {
                what: What::Run,
                after: Duration::from_nanos(after),
                lasted: Duration::from_nanos(lasted),
            };
            let (after, lasted) = within(&step, piece);
            prop_assert!(after + lasted <= piece);
        }
    }
}
