//! The tree as files that never change once they are full (c2sp.org/tlog-tiles):
//!
//! ```text
//!   DIR/checkpoint
//!   DIR/tile/0/000            256 hashes of records
//!   DIR/tile/0/001.p/44       the last one, not full
//!   DIR/tile/1/000.p/1        hashes over full tiles below
//!   DIR/tile/entries/000      the records themselves, each after its length, big-endian, 16 bits
//! ```
//! A web server can hand them out as they are; a reader takes the few that a proof needs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::TlogError;
use crate::files::{failed, read, replace};
use crate::hash::TreeHash;
use crate::tree::Nodes;

/// Hashes in a full tile.
pub const TILE_WIDTH: u64 = 256;
/// Levels of the tree in one level of tiles.
const TILE_HEIGHT: u8 = 8;

/// Tiles of a tree of one size.
#[derive(Debug, Clone)]
pub struct TileDirectory {
    directory: PathBuf,
    size: u64,
}

/// What tiles hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TileKind {
    /// Hashes at this level of tiles.
    Hashes(u8),
    /// Records.
    Entries,
}

impl TileDirectory {
    /// Those below `directory`, for the tree of the first `size` records.
    pub fn new(directory: &Path, size: u64) -> TileDirectory {
        TileDirectory {
            directory: directory.to_owned(),
            size,
        }
    }

    /// How many full tiles this level has, and how wide the one after them is.
    pub(crate) fn extent(&self, level: u8) -> (u64, u64) {
        let shift = u32::from(level) * u32::from(TILE_HEIGHT);
        let hashes = self.size.checked_shr(shift).unwrap_or(0);
        (hashes / TILE_WIDTH, hashes % TILE_WIDTH)
    }

    /// Where a tile of this width is.
    pub(crate) fn path(&self, kind: TileKind, index: u64, width: u64) -> PathBuf {
        let mut path = self.directory.join("tile");
        match kind {
            TileKind::Hashes(level) => path.push(level.to_string()),
            TileKind::Entries => path.push("entries"),
        }
        let digits = index.to_string();
        let digits = format!("{digits:0>width$}", width = digits.len().div_ceil(3) * 3);
        let groups = digits.len() / 3;
        for (number, group) in digits.as_bytes().chunks(3).enumerate() {
            let group = String::from_utf8_lossy(group);
            match (number + 1 == groups, width == TILE_WIDTH) {
                (false, _) => path.push(format!("x{group}")),
                (true, true) => path.push(group.as_ref()),
                (true, false) => {
                    path.push(format!("{group}.p"));
                    path.push(width.to_string());
                }
            }
        }
        path
    }

    /// The hashes of a tile: of the file of this width, or the beginning of the full one that came after it.
    pub(crate) fn hashes(
        &self,
        level: u8,
        index: u64,
        width: u64,
    ) -> Result<Option<Vec<TreeHash>>, TlogError> {
        for file_width in [width, TILE_WIDTH] {
            let path = self.path(TileKind::Hashes(level), index, file_width);
            let Some(bytes) = read(&path)? else { continue };
            if bytes.len() as u64 != file_width * TreeHash::SIZE as u64 {
                return Err(TlogError::Tile {
                    path,
                    what: "has another length than its name says",
                });
            }
            let hashes = bytes
                .chunks_exact(TreeHash::SIZE)
                .filter_map(|chunk| chunk.try_into().ok());
            return Ok(Some(
                hashes
                    .map(TreeHash)
                    .take(usize::try_from(width).unwrap_or(0))
                    .collect(),
            ));
        }
        Ok(None)
    }

    /// Writes a tile unless it is there as it should be, and takes away narrower ones that it replaces. One that is there with other
    /// contents is of a log that was never signed: the caller has compared what was.
    pub(crate) fn write(
        &self,
        kind: TileKind,
        index: u64,
        width: u64,
        bytes: &[u8],
    ) -> Result<(), TlogError> {
        let path = self.path(kind, index, width);
        if read(&path)?.as_deref() != Some(bytes) {
            replace(&path, bytes)?;
        }
        if width == TILE_WIDTH {
            let mut narrower = path.into_os_string();
            narrower.push(".p");
            let narrower = PathBuf::from(narrower);
            if narrower.exists() {
                fs::remove_dir_all(&narrower).map_err(|error| failed(&narrower, error))?;
            }
        }
        Ok(())
    }
}

impl Nodes for TileDirectory {
    fn node(&self, level: u8, index: u64) -> Result<TreeHash, TlogError> {
        let (tile_level, above) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        // The hashes of the tile that this node is over.
        let (first, count) = (index << above, 1u64 << above);
        let tile = first / TILE_WIDTH;
        let (full, partial) = self.extent(tile_level);
        let width = if tile < full { TILE_WIDTH } else { partial };
        let within = first % TILE_WIDTH;
        if tile > full || within + count > width {
            return Err(TlogError::OutOfRange {
                what: "subtree",
                index,
                size: self.size,
            });
        }
        let hashes = self
            .hashes(tile_level, tile, width)?
            .ok_or_else(|| TlogError::Tile {
                path: self.path(TileKind::Hashes(tile_level), tile, width),
                what: "is missing",
            })?;
        let mut nodes: Vec<TreeHash> = hashes
            .into_iter()
            .skip(usize::try_from(within).unwrap_or(usize::MAX))
            .take(usize::try_from(count).unwrap_or(0))
            .collect();
        while nodes.len() > 1 {
            nodes = nodes
                .chunks_exact(2)
                .filter_map(|pair| Some(TreeHash::of_node(pair.first()?, pair.last()?)))
                .collect();
        }
        nodes.first().copied().ok_or(TlogError::OutOfRange {
            what: "subtree",
            index,
            size: self.size,
        })
    }
}
