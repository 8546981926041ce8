//! Capabilities `args` and `env`: strings that the muscle finds in its memory when it starts, and nothing later.

use referee_policy::Grants;

use crate::error::HostError;

/// Most bytes of the argument block.
const MAX_BLOCK: usize = 1 << 20;

/// Lays out the argument block ([`muscle_abi::boot::Strings`]): the arguments, then `NAME=value` for each granted
/// variable that `variable` knows. Without an `args` grant there are no arguments.
///
/// # Errors
/// [`HostError::ArgumentsNotGranted`], [`HostError::ArgumentsTooLarge`].
pub fn argument_block(
    grants: &Grants,
    arguments: &[Vec<u8>],
    variable: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, HostError> {
    if !arguments.is_empty() && !grants.allows_args() {
        return Err(HostError::ArgumentsNotGranted {
            count: arguments.len(),
        });
    }
    let environment: Vec<Vec<u8>> = grants
        .env_names()
        .filter_map(|name| variable(name).map(|value| [name.as_bytes(), b"=", &value].concat()))
        .collect();
    let size = |run: &[Vec<u8>]| {
        run.iter().fold(4usize, |sum, text| {
            sum.saturating_add(text.len()).saturating_add(4)
        })
    };
    let bytes = size(arguments).saturating_add(size(&environment));
    let too_large = HostError::ArgumentsTooLarge {
        bytes,
        limit: MAX_BLOCK,
    };
    if bytes > MAX_BLOCK {
        return Err(too_large);
    }
    let mut block = Vec::with_capacity(bytes);
    for run in [arguments, &environment] {
        block.extend_from_slice(&length(run.len()));
        for text in run {
            block.extend_from_slice(&length(text.len()));
            block.extend_from_slice(text);
        }
    }
    Ok(block)
}

/// A length below [`MAX_BLOCK`] as it is laid out.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}
