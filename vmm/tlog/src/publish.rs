//! From the audit log to its tiles. What was published before is compared, so that a log that was cut or written anew is noticed here
//! already; a crash in between leaves tiles that the next run finds right.

use std::path::Path;

use referee_audit::verify_each;

use crate::checkpoint::Checkpoint;
use crate::error::TlogError;
use crate::files::{read, replace};
use crate::hash::TreeHash;
use crate::note::Note;
use crate::tiles::{TILE_WIDTH, TileDirectory, TileKind};
use crate::tree::{Leaves, Nodes as _};

/// Name of the file with the newest checkpoint.
pub const CHECKPOINT: &str = "checkpoint";

/// Checks the first `most` lines of the log (`u64::MAX`: all) and makes the tree over them. A record's bytes are its line without the
/// newline.
///
/// # Errors
/// [`TlogError::Audit`] when the log is broken.
pub fn leaves_of(log: &Path, most: u64) -> Result<Leaves, TlogError> {
    let mut leaves = Leaves::default();
    let summary = verify_each(log, most, |_, line| leaves.push(line))?;
    match summary.first {
        0 => Ok(leaves),
        first => Err(TlogError::Missing { first }),
    }
}

/// Writes the tiles of the first `records` of a log, and gives the tree. The checkpoint is the caller's to sign and to save, last.
///
/// # Errors
/// [`TlogError::Cut`] and [`TlogError::Rewritten`] when the log contradicts what was published; [`TlogError::Audit`] when it is broken in
/// itself; [`TlogError::File`].
pub fn publish(log: &Path, records: u64, directory: &Path) -> Result<Leaves, TlogError> {
    let leaves = leaves_of(log, records)?;
    compare(&leaves, directory)?;
    let tiles = TileDirectory::new(directory, leaves.size());
    write_entries(log, &leaves, &tiles)?;
    for level in 0.. {
        let (full, partial) = tiles.extent(level);
        if full == 0 && partial == 0 {
            break;
        }
        for index in 0..full {
            write_hashes(&tiles, &leaves, level, index, TILE_WIDTH)?;
        }
        if partial > 0 {
            write_hashes(&tiles, &leaves, level, full, partial)?;
        }
    }
    Ok(leaves)
}

/// Puts a signed checkpoint into its place.
///
/// # Errors
/// [`TlogError::File`].
pub fn save_checkpoint(directory: &Path, note: &Note) -> Result<(), TlogError> {
    replace(&directory.join(CHECKPOINT), note.to_string().as_bytes())
}

/// Holds the log against the newest checkpoint and all full tiles.
fn compare(leaves: &Leaves, directory: &Path) -> Result<(), TlogError> {
    let Some(bytes) = read(&directory.join(CHECKPOINT))? else {
        return Ok(());
    };
    let published = Checkpoint::parse(&Note::parse(&bytes)?.text)?.head;
    let found = leaves.size();
    if found < published.size {
        return Err(TlogError::Cut {
            found,
            published: published.size,
        });
    }
    if crate::tree::root(leaves, published.size)? == published.root {
        return Ok(());
    }
    // Which record it is, the tiles know.
    let tiles = TileDirectory::new(directory, published.size);
    let (full, partial) = tiles.extent(0);
    for index in 0..=full {
        let width = if index == full { partial } else { TILE_WIDTH };
        let hashes = tiles.hashes(0, index, width)?.unwrap_or_default();
        for (record, hash) in (index * TILE_WIDTH..).zip(hashes) {
            if leaves.node(0, record)? != hash {
                return Err(TlogError::Rewritten { record });
            }
        }
    }
    Err(TlogError::Rewritten { record: 0 })
}

fn write_hashes(
    tiles: &TileDirectory,
    leaves: &Leaves,
    level: u8,
    index: u64,
    width: u64,
) -> Result<(), TlogError> {
    let mut bytes = Vec::new();
    for at in index * TILE_WIDTH..index * TILE_WIDTH + width {
        bytes.extend(leaves.node(level * 8, at)?.0);
    }
    tiles.write(TileKind::Hashes(level), index, width, &bytes)
}

/// Writes the records themselves. The log is read once more, so each line is compared with the leaf that it was.
fn write_entries(log: &Path, leaves: &Leaves, tiles: &TileDirectory) -> Result<(), TlogError> {
    let (mut bundle, mut record) = (Vec::new(), 0u64);
    let mut result = Ok(());
    verify_each(log, leaves.size(), |_, line| {
        let entry = || {
            // The audit log's records have at most 16 KiB.
            let length = u16::try_from(line.len()).ok();
            let same = leaves
                .node(0, record)
                .is_ok_and(|leaf| leaf == TreeHash::of_leaf(line));
            length.filter(|_| same).ok_or(TlogError::Rewritten { record })
        };
        let width = record % TILE_WIDTH + 1;
        let last = record + 1 == leaves.size();
        let written = entry().and_then(|length| {
            bundle.extend(length.to_be_bytes());
            bundle.extend(line);
            if width == TILE_WIDTH || last {
                tiles.write(TileKind::Entries, record / TILE_WIDTH, width, &bundle)?;
                bundle.clear();
            }
            Ok(())
        });
        if result.is_ok() {
            result = written;
        }
        record += 1;
    })?;
    result
}

/// The root of a published tree, from its tiles alone.
#[cfg(test)]
pub(crate) fn root_from_tiles(directory: &Path, size: u64) -> Result<TreeHash, TlogError> {
    crate::tree::root(&TileDirectory::new(directory, size), size)
}

#[cfg(test)]
mod tests;
