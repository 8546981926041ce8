//! From the audit log to its tiles. What was published before is compared, so that a log that was cut or written anew is noticed here
//! already; a crash in between leaves tiles that the next run finds right.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use referee_audit::verify_each;

use crate::checkpoint::Checkpoint;
use crate::error::TlogError;
use crate::files::{failed, read, replace};
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
    verify_each(log, most, |_, line| leaves.push(line))?;
    Ok(leaves)
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
    let input = File::open(log).map_err(|error| failed(log, error))?;
    let mut lines = BufReader::with_capacity(64 * 1024, input).split(b'\n');
    let (full, partial) = tiles.extent(0);
    for bundle in 0..=full {
        let width = if bundle == full { partial } else { TILE_WIDTH };
        let mut bytes = Vec::new();
        for record in bundle * TILE_WIDTH..bundle * TILE_WIDTH + width {
            let rewritten = TlogError::Rewritten { record };
            let line = match lines.next() {
                Some(line) => line.map_err(|error| failed(log, error))?,
                None => return Err(rewritten),
            };
            // The audit log's records have at most 16 KiB.
            let (Ok(length), true) = (
                u16::try_from(line.len()),
                TreeHash::of_leaf(&line) == leaves.node(0, record)?,
            ) else {
                return Err(rewritten);
            };
            bytes.extend(length.to_be_bytes());
            bytes.extend(line);
        }
        if width > 0 {
            tiles.write(TileKind::Entries, bundle, width, &bytes)?;
        }
    }
    Ok(())
}

/// The root of a published tree, from its tiles alone.
#[cfg(test)]
pub(crate) fn root_from_tiles(directory: &Path, size: u64) -> Result<TreeHash, TlogError> {
    crate::tree::root(&TileDirectory::new(directory, size), size)
}

#[cfg(test)]
mod tests;
