//! Reading records from any number on, while others append: without a lock, so that nobody who records ever waits for a reader.
//!
//! Lines are given as they stand in the file, so that whoever gets them can check the chain. The log may be rotated meanwhile: between two batches only the
//! number of the next record is kept, and it is looked for anew.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{AuditError, Defect};
use crate::record::MAX_RECORD;
use crate::rotate::archives;
use crate::verify::check_line;

/// How much is read line by line once it is known that a record is in there.
const NEAR: u64 = 4 * MAX_RECORD as u64;
/// What every line begins with, before its number.
const FRONT: &[u8] = b"{\"seq\":";

/// A place in a log.
#[derive(Debug, Clone)]
pub struct Reader {
    log: PathBuf,
    next: u64,
}

impl Reader {
    /// Before the record that follows the one with this number; before the first if there is none.
    pub fn after(log: &Path, seq: Option<u64>) -> Reader {
        Reader {
            log: log.to_owned(),
            next: seq.map_or(0, |seq| seq.saturating_add(1)),
        }
    }

    /// Number of the record that comes next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next whole records, each with its newline: at most so many, and no more bytes than this and one record. Empty when there is none yet. Older
    /// records that are neither in the log nor beside it are passed over.
    ///
    /// # Errors
    /// [`AuditError::Open`], [`AuditError::Read`]; [`AuditError::Broken`] when what stands there is no record, with the line counted from where this began.
    pub fn read(&mut self, most: u64, bytes: usize) -> Result<Vec<u8>, AuditError> {
        let mut lines = Vec::new();
        let mut taken = 0;
        let is_needed = |archive: &PathBuf| last_of(archive).is_none_or(|last| last >= self.next);
        let mut files: Vec<PathBuf> = archives(&self.log)?.into_iter().filter(is_needed).collect();
        files.push(self.log.clone());
        for path in files {
            if taken >= most || lines.len() >= bytes {
                break;
            }
            let Some(file) = open(&path, path == self.log)? else {
                continue;
            };
            taken += self.read_from(&file, most - taken, bytes, &mut lines)?;
        }
        Ok(lines)
    }

    /// Takes what a file has of the next records, and gives how many.
    fn read_from(
        &mut self,
        file: &File,
        most: u64,
        bytes: usize,
        lines: &mut Vec<u8>,
    ) -> Result<u64, AuditError> {
        let length = file.metadata().map_err(AuditError::Read)?.len();
        let start = near(file, length, self.next).map_err(AuditError::Read)?;
        let mut from = file;
        from.seek(SeekFrom::Start(start)).map_err(AuditError::Read)?;
        let mut input = BufReader::new(from);
        let (mut taken, mut offset, mut line) = (0, start, Vec::new());
        while taken < most && lines.len() < bytes {
            line.clear();
            let limit = MAX_RECORD as u64 + 1;
            let read = input
                .by_ref()
                .take(limit)
                .read_until(b'\n', &mut line)
                .map_err(AuditError::Read)?;
            // The end, or a record that is just being written.
            if read == 0 || (line.last() != Some(&b'\n') && line.len() <= MAX_RECORD) {
                break;
            }
            let record = match check_line(&line) {
                Ok(record) => record,
                // The log was rotated under this; what was taken is whole, and the rest is looked for anew.
                Err(_) if taken > 0 => break,
                Err(defect) => {
                    return Err(AuditError::Broken {
                        line: taken + 1,
                        offset,
                        defect,
                    });
                }
            };
            let seq = record.before().records;
            offset = offset.saturating_add(line.len() as u64);
            if seq < self.next {
                continue;
            }
            if seq > self.next && taken > 0 {
                return Err(AuditError::Broken {
                    line: taken + 1,
                    offset,
                    defect: Defect::WrongSequence {
                        expected: self.next,
                        found: seq,
                    },
                });
            }
            lines.extend_from_slice(&line);
            taken += 1;
            self.next = seq.saturating_add(1);
        }
        Ok(taken)
    }
}

/// Start of a line that is no later than that of the record with this number, and near it.
fn near(file: &File, length: u64, seq: u64) -> io::Result<u64> {
    // A line starts at `low`, and its number is lower, or it is the first.
    let (mut low, mut high) = (0, length);
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        match line_after(file, middle)? {
            Some((start, number)) if number < seq && start < high => low = start,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first line that starts behind this byte, and its number; `None` when there is none, or it is no record.
fn line_after(file: &File, offset: u64) -> io::Result<Option<(u64, u64)>> {
    let mut buffer = [0u8; MAX_RECORD + 64];
    let read = read_at(file, &mut buffer, offset)?;
    let bytes = buffer.get(..read).unwrap_or_default();
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let number = bytes.get(end + 1..).and_then(number_of);
    Ok(number.map(|number| (offset + end as u64 + 1, number)))
}

/// The number that a line begins with.
fn number_of(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(FRONT)?;
    let digits = rest.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read_at(room, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Opens a file of the log; one beside it may have been moved away meanwhile.
fn open(path: &Path, is_log: bool) -> Result<Option<File>, AuditError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_log => Ok(None),
        Err(source) => Err(AuditError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The last number in an archive's name.
fn last_of(archive: &Path) -> Option<u64> {
    archive.to_str()?.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AuditLog, Event, Kind, Options, Value, verify_bytes};

    /// A log with so many records of all lengths.
    fn log(folder: &Path, records: u64) -> (PathBuf, AuditLog) {
        let path = folder.join("audit.jsonl");
        let mut log = AuditLog::open(&path, Options::default()).expect("opens");
        more(&mut log, records);
        (path, log)
    }

    fn more(log: &mut AuditLog, records: u64) {
        for number in 0..records {
            let text = "x".repeat(usize::try_from(number * 37 % 400).expect("small"));
            let detail = [("text", Value::Text(&text))];
            log.append("c", "m", &Event::of_cell(Kind::Use, &detail))
                .expect("appended");
        }
    }

    fn numbers(lines: &[u8]) -> Vec<u64> {
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| number_of(line).expect("a record")).collect()
    }

    #[test]
    fn every_record_is_found_by_its_number() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, _log) = log(folder.path(), 1500);
        for after in (0..1499).step_by(13) {
            let mut reader = Reader::after(&path, Some(after));
            let lines = reader.read(2, usize::MAX).expect("reads");
            let expected: Vec<u64> = (after + 1..1500).take(2).collect();
            assert_eq!(numbers(&lines), expected);
        }
        let all = Reader::after(&path, None)
            .read(u64::MAX, usize::MAX)
            .expect("reads");
        assert_eq!(all, std::fs::read(&path).expect("is there"), "byte for byte");
        for beyond in [1499, 1500, u64::MAX] {
            let mut reader = Reader::after(&path, Some(beyond));
            assert!(reader.read(9, usize::MAX).expect("reads").is_empty(), "{beyond}");
        }
    }

    #[test]
    fn pieces_of_any_size_are_the_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, _log) = log(folder.path(), 300);
        for (most, bytes) in [(1, usize::MAX), (7, usize::MAX), (u64::MAX, 1), (u64::MAX, 5000)] {
            let mut reader = Reader::after(&path, None);
            let mut all = Vec::new();
            loop {
                let lines = reader.read(most, bytes).expect("reads");
                if lines.is_empty() {
                    break;
                }
                assert!(
                    numbers(&lines).len() as u64 <= most && lines.len() < bytes.saturating_add(MAX_RECORD)
                );
                all.extend(lines);
            }
            assert_eq!(verify_bytes(&all).expect("unbroken").head.records, 300);
        }
    }

    #[test]
    fn a_reader_goes_on_across_rotations_and_what_is_appended() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, mut log) = log(folder.path(), 50);
        let mut reader = Reader::after(&path, Some(9));
        let mut all = reader.read(5, usize::MAX).expect("reads");
        for _ in 0..3 {
            log.rotate(&path).expect("rotated");
            more(&mut log, 20);
            all.extend(reader.read(15, usize::MAX).expect("reads"));
        }
        all.extend(reader.read(u64::MAX, usize::MAX).expect("reads"));
        let last = log.head().records - 1;
        assert_eq!(numbers(&all), (10..=last).collect::<Vec<_>>());
        // Archives that somebody took away are passed over.
        for archive in archives(&path).expect("read") {
            std::fs::remove_file(archive).expect("removed");
        }
        let rest = Reader::after(&path, None)
            .read(u64::MAX, usize::MAX)
            .expect("reads");
        assert_eq!(numbers(&rest), (last - 20..=last).collect::<Vec<_>>());
    }

    #[test]
    fn half_a_record_is_none_and_a_broken_one_is_not_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, log) = log(folder.path(), 3);
        drop(log);
        let bytes = std::fs::read(&path).expect("is there");
        std::fs::write(&path, [&bytes[..], b"{\"seq\":3,\"time"].concat()).expect("written");
        let mut reader = Reader::after(&path, None);
        assert_eq!(numbers(&reader.read(9, usize::MAX).expect("reads")), [0, 1, 2]);
        assert!(reader.read(9, usize::MAX).expect("reads").is_empty());
        let text = String::from_utf8(bytes).expect("JSON");
        std::fs::write(&path, text.replacen("\"use\"", "\"end\"", 1)).expect("written");
        let broken = Reader::after(&path, None).read(9, usize::MAX);
        assert!(
            matches!(
                broken,
                Err(AuditError::Broken {
                    defect: Defect::WrongHash,
                    ..
                })
            ),
            "{broken:?}"
        );
    }
}
