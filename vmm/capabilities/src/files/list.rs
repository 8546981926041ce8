//! Reading a directory with `getdents64` alone.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, RawDir, StatxFlags};
use rustix::io::Errno;

/// The entries, sorted by name; `None` when an answer of `max` bytes could not hold them. Names that are not UTF-8
/// are left out: a muscle has no way to name them.
pub(crate) fn entries(folder: BorrowedFd<'_>, max: usize) -> Result<Option<Vec<(String, FileType)>>, Errno> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = RawDir::new(folder, &mut buffer);
    let mut found = Vec::new();
    let mut size = 0usize;
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if matches!(name, "." | "..") {
            continue;
        }
        size = size.saturating_add(name.len()).saturating_add(ENTRY);
        if size > max {
            return Ok(None);
        }
        let kind = match entry.file_type() {
            FileType::Unknown => kind_by_status(folder, name),
            kind => kind,
        };
        found.push((name.to_owned(), kind));
    }
    found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(Some(found))
}

/// For file systems that do not say it in the directory.
fn kind_by_status(folder: BorrowedFd<'_>, name: &str) -> FileType {
    rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)
        .map_or(FileType::Unknown, |status| {
            FileType::from_raw_mode(u32::from(status.stx_mode))
        })
}

/// Bytes of an entry in the answer besides its name, at most.
const ENTRY: usize = 5;
const BUFFER: usize = 8192;
