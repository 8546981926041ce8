//! From grants to what a cell is made of.

use std::time::Duration;

use muscle_abi::boot::Style;
use referee_bundle::ClockGrade;
use referee_capabilities::{HostError, boot_seed};
use referee_cell::{CellLimits, CellSpec, ClockAccess};
use referee_policy::Grants;
use referee_vsock::{Cid, VsockLimits};

/// Largest RPC frame, in bytes.
const FRAME_MAX: u64 = 16 << 20;

/// What a cell with these grants gets besides its image. The grants' handles are drawn when the broker is made, so
/// their table is empty as yet.
///
/// # Errors
/// [`HostError::Random`].
pub fn cell_spec(grants: &Grants, style: Style, argument_block: Vec<u8>) -> Result<CellSpec, HostError> {
    let granted = grants.limits();
    let clock = match grants.clock() {
        None => ClockAccess::None,
        Some(ClockGrade::Coarse) => ClockAccess::Coarse,
        Some(ClockGrade::Fine) => ClockAccess::Fine,
    };
    Ok(CellSpec {
        style,
        argument_block,
        limits: CellLimits {
            memory_bytes: granted.memory_bytes,
            stack_bytes: granted.stack_bytes,
            deadline: Some(Duration::from_millis(granted.deadline_ms)),
            cpu: Some(Duration::from_millis(granted.cpu_ms)),
            frame_bytes: u32::try_from(FRAME_MAX.min(granted.memory_bytes)).unwrap_or(u32::MAX),
        },
        // Every cell is alone on its channel, so all have the same address there.
        cid: Cid::FIRST_GUEST,
        vsock: VsockLimits::default(),
        grants: Vec::new(),
        rings: Vec::new(),
        seed: grants.allows_random().then(|| boot_seed(grants)).transpose()?,
        clock,
        resettable: false,
    })
}
