//! Capability `files`: one directory, and what is below it.
//!
//! Every path is resolved by the kernel beneath the directory's descriptor (`openat2` with `RESOLVE_BENEATH`,
//! `NO_SYMLINKS`, `NO_MAGICLINKS`, `NO_XDEV`), so that there is no moment between a check and its use. What each
//! way out meets:
//!
//! | way out | answer |
//! |---|---|
//! | an absolute path, `..` | `Denied`, before the kernel sees it; the kernel refuses them again |
//! | a symbolic link, anywhere in the path | `Denied`: none is followed, also not inside the directory |
//! | `/proc` magic links, another mount below the directory | `Denied` |
//! | a hard link to a file elsewhere | readable (the operator put it there); opening it for writing is `Denied` |
//! | rename, also while a path is resolved | stays beneath the descriptor, or `Denied` |
//! | a device, socket or pipe | never opened for use: `Invalid` |
//!
//! Removing and renaming name the last part of a path relative to its parent's descriptor, and never follow it.
//!
//! `cap-std` resolves paths the same way; it would follow links inside the directory and cross mounts, cannot rename
//! without replacing, and asks for calls that the filter then would have to allow (`openat`, `fcntl`).
//!
//! System calls, all of them: `openat2` (reading, writing, parents), `statx`, `pread64`, `pwrite64`, `ftruncate`,
//! `getdents64`, `unlinkat`, `mkdirat`, `renameat2`, `close`.

mod list;
mod path;
mod within;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use muscle_abi::capability::call;
use muscle_abi::frame::ErrorCode;
use referee_audit::Value;
use referee_policy::{FilesAccess, Power};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::broker::Act;
use crate::error::{CallError, Refusal, Stop};
use crate::op::Op;
use crate::payload::{self, Arguments};
use crate::quota::Quota;
use path::{Place, beneath};
use within::Within;

/// A granted directory.
#[derive(Debug)]
pub(crate) struct Files {
    folder: OwnedFd,
    access: FilesAccess,
    within: Option<Within>,
    /// Whether the right to write was taken back.
    was_writable: bool,
    bytes: Quota,
    files: Quota,
    open: Vec<OpenFile>,
    next: u32,
    max_open: usize,
}

#[derive(Debug)]
struct OpenFile {
    number: u32,
    /// As it was opened.
    path: String,
    descriptor: OwnedFd,
    writable: bool,
    identity: Identity,
}

/// Device and inode: which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u32, u32, u64);

type Outcome<'p> = Result<(), Refusal<'p>>;

impl Files {
    /// A directory with the power of its grant; any other power allows nothing in it.
    pub fn new(folder: OwnedFd, power: &Power, max_open: usize) -> Files {
        let mut files = Files {
            folder,
            access: FilesAccess::Read,
            within: None,
            was_writable: false,
            bytes: Quota::new(0),
            files: Quota::new(0),
            open: Vec::new(),
            next: 1,
            max_open: 0,
        };
        if let Power::Files {
            access,
            within,
            max_bytes,
            max_files,
            ..
        } = power
        {
            files.access = *access;
            files.within = within.as_deref().map(Within::new);
            files.bytes = Quota::new(*max_bytes);
            files.files = Quota::new(u64::from(*max_files));
            files.max_open = max_open;
        }
        files
    }

    pub fn act<'p>(&mut self, op: Op, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let changes = matches!(
            op,
            Op::FilesWrite | Op::FilesTruncate | Op::FilesRemove | Op::FilesRename | Op::FilesMkdir
        );
        if changes {
            self.must_write()?;
        }
        match op {
            Op::FilesOpen => self.open(payload, act),
            Op::FilesRead => self.read(payload, act),
            Op::FilesWrite => self.write(payload, act),
            Op::FilesTruncate => self.truncate(payload, act),
            Op::FilesClose => self.close(payload, act),
            Op::FilesStat => self.stat(payload, act),
            Op::FilesList => self.list(payload, act),
            Op::FilesRemove => self.remove(payload, act),
            Op::FilesRename => self.rename(payload, act),
            Op::FilesMkdir => self.mkdir(payload, act),
            _ => Err(CallError::new(ErrorCode::Denied, "the grant is of another kind").into()),
        }
    }

    fn must_write(&self) -> Result<(), CallError<'static>> {
        match self.access {
            FilesAccess::ReadWrite => Ok(()),
            FilesAccess::Read if self.was_writable => Err(CallError::new(
                ErrorCode::Denied,
                "the right to write was revoked",
            )),
            FilesAccess::Read => Err(CallError::new(
                ErrorCode::Denied,
                "the directory is granted for reading",
            )),
        }
    }

    fn open<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let mut arguments = Arguments::new(payload, 2)?;
        let (path, flags) = (self.path(arguments.text()?)?, OpenFlags::read(arguments.u32()?)?);
        arguments.finish()?;
        if flags.write {
            self.must_write().map_err(|error| error.at(path))?;
        }
        if self.open.len() >= self.max_open {
            return Err(CallError::new(ErrorCode::Quota, "too many open files")
                .at(path)
                .into());
        }
        let found = match flags.exclusive {
            true => None,
            false => match beneath(self.folder.as_fd(), path, flags.existing(), Mode::empty()) {
                Ok(found) => Some(found),
                Err(Errno::NOENT) if flags.create => None,
                Err(errno) => return Err(failed(errno).at(path).into()),
            },
        };
        let file = match found {
            Some(descriptor) => self.open_existing(descriptor, path, flags, act)?,
            None => self.create(path, flags, act)?,
        };
        let number = file.number;
        self.open.push(file);
        payload::write(act.reply, |out| out.u32(number)?.ok());
        Ok(())
    }

    fn open_existing<'p>(
        &mut self,
        descriptor: OwnedFd,
        path: &'p str,
        flags: OpenFlags,
        act: &mut Act<'_>,
    ) -> Result<OpenFile, Refusal<'p>> {
        let status = status_of(descriptor.as_fd()).map_err(|errno| failed(errno).at(path))?;
        if kind_of(&status) != FileType::RegularFile {
            return Err(CallError::new(ErrorCode::Invalid, "it is no file")
                .at(path)
                .into());
        }
        if flags.write && status.stx_nlink != 1 {
            let message = "the file has other names, perhaps outside the directory";
            return Err(CallError::new(ErrorCode::Denied, message).at(path).into());
        }
        let number = self.number();
        act.record(&[
            ("path", Value::Guest(path.as_bytes())),
            ("file", Value::Number(u64::from(number))),
            ("write", Value::Flag(flags.write)),
            ("truncate", Value::Flag(flags.truncate)),
        ])?;
        if flags.truncate {
            rustix::fs::ftruncate(&descriptor, 0).map_err(|errno| failed(errno).at(path))?;
            self.bytes.moved(status.stx_size, 0);
        }
        Ok(OpenFile {
            number,
            path: path.to_owned(),
            descriptor,
            writable: flags.write,
            identity: identity_of(&status),
        })
    }

    fn create<'p>(
        &mut self,
        path: &'p str,
        flags: OpenFlags,
        act: &mut Act<'_>,
    ) -> Result<OpenFile, Refusal<'p>> {
        if !self.files.allows(1) {
            return Err(CallError::new(ErrorCode::Quota, "no more files may be made")
                .at(path)
                .into());
        }
        let number = self.number();
        act.record(&[
            ("path", Value::Guest(path.as_bytes())),
            ("file", Value::Number(u64::from(number))),
            ("write", Value::Flag(true)),
            ("create", Value::Flag(true)),
        ])?;
        let made = flags.existing() | OFlags::CREATE | OFlags::EXCL;
        let descriptor = beneath(self.folder.as_fd(), path, made, Mode::from_raw_mode(0o644))
            .map_err(|errno| failed(errno).at(path))?;
        self.files.moved(0, 1);
        let status = status_of(descriptor.as_fd()).map_err(|errno| failed(errno).at(path))?;
        Ok(OpenFile {
            number,
            path: path.to_owned(),
            descriptor,
            writable: true,
            identity: identity_of(&status),
        })
    }

    fn read<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let mut arguments = Arguments::new(payload, 3)?;
        let (number, offset, max) = (arguments.u32()?, arguments.u64()?, arguments.u32()?);
        arguments.finish()?;
        let file = find(&self.open, number)?;
        end_of(offset, 0)?;
        let max = usize::try_from(max.min(act.max_chunk)).unwrap_or(0);
        let taken = payload::byte_string(act.reply, max, |room| {
            rustix::io::pread(&file.descriptor, room, offset)
        });
        let taken = taken.map_err(interrupted_or_failed)?;
        act.record(&[
            ("file", Value::Number(u64::from(number))),
            ("offset", Value::Number(offset)),
            ("bytes", Value::Number(taken as u64)),
        ])
    }

    fn write<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let mut arguments = Arguments::new(payload, 3)?;
        let (number, offset, bytes) = (arguments.u32()?, arguments.u64()?, arguments.bytes()?);
        arguments.finish()?;
        let file = find_writable(&self.open, number)?;
        let end = end_of(offset, bytes.len())?;
        let before = status_of(file.descriptor.as_fd()).map_err(failed)?.stx_size;
        let after = if bytes.is_empty() { before } else { before.max(end) };
        if !self.bytes.allows(after - before) {
            return Err(CallError::new(ErrorCode::Quota, "no more bytes may be written").into());
        }
        act.record(&[
            ("file", Value::Number(u64::from(number))),
            ("offset", Value::Number(offset)),
            ("bytes", Value::Number(bytes.len() as u64)),
        ])?;
        let written = write_all(file.descriptor.as_fd(), bytes, offset);
        let after = match written {
            Ok(()) => after,
            // A full disk took a part: count that part.
            Err(_) => status_of(file.descriptor.as_fd()).map_or(after, |status| status.stx_size),
        };
        self.bytes.moved(before, after);
        written.map_err(failed)?;
        payload::null(act.reply);
        Ok(())
    }

    fn truncate<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let mut arguments = Arguments::new(payload, 2)?;
        let (number, length) = (arguments.u32()?, arguments.u64()?);
        arguments.finish()?;
        let file = find_writable(&self.open, number)?;
        end_of(length, 0)?;
        let before = status_of(file.descriptor.as_fd()).map_err(failed)?.stx_size;
        if !self.bytes.allows(length.saturating_sub(before)) {
            return Err(CallError::new(ErrorCode::Quota, "no more bytes may be written").into());
        }
        act.record(&[
            ("file", Value::Number(u64::from(number))),
            ("length", Value::Number(length)),
        ])?;
        rustix::fs::ftruncate(&file.descriptor, length).map_err(failed)?;
        self.bytes.moved(before, length);
        payload::null(act.reply);
        Ok(())
    }

    fn close<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let mut arguments = Arguments::new(payload, 1)?;
        let number = arguments.u32()?;
        arguments.finish()?;
        find(&self.open, number)?;
        act.record(&[("file", Value::Number(u64::from(number)))])?;
        self.open.retain(|file| file.number != number);
        payload::null(act.reply);
        Ok(())
    }

    fn stat<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let path = self.one_path(payload)?;
        let status = match Place::of(path) {
            None => status_of(self.folder.as_fd()),
            Some(place) => place
                .parent(self.folder.as_fd())
                .and_then(|parent| status_at(parent.fd(self.folder.as_fd()), place.name)),
        };
        let status = status.map_err(|errno| failed(errno).at(path))?;
        act.record(&[("path", Value::Guest(path.as_bytes()))])?;
        let kind = kind_number(kind_of(&status));
        payload::write(act.reply, |out| {
            out.array(2)?.u32(kind)?.u64(status.stx_size)?.ok()
        });
        Ok(())
    }

    fn list<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let path = self.one_path(payload)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = beneath(self.folder.as_fd(), path, flags, Mode::empty())
            .map_err(|errno| failed(errno).at(path))?;
        let max = usize::try_from(act.max_chunk).unwrap_or(0);
        let entries = match list::entries(folder.as_fd(), max) {
            Ok(Some(entries)) => entries,
            Ok(None) => {
                let message = "the directory has more entries than one answer can name";
                return Err(CallError::new(ErrorCode::TooLarge, message).at(path).into());
            }
            Err(errno) => return Err(failed(errno).at(path).into()),
        };
        act.record(&[
            ("path", Value::Guest(path.as_bytes())),
            ("entries", Value::Number(entries.len() as u64)),
        ])?;
        payload::write(act.reply, |out| {
            out.array(entries.len() as u64)?;
            for (name, kind) in &entries {
                out.array(2)?.str(name)?.u32(kind_number(*kind))?;
            }
            Ok(())
        });
        Ok(())
    }

    fn remove<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let path = self.one_name(payload)?;
        let place =
            Place::of(path).ok_or(CallError::new(ErrorCode::Invalid, "the directory itself stays"))?;
        let parent = place
            .parent(self.folder.as_fd())
            .map_err(|errno| failed(errno).at(path))?;
        let parent = parent.fd(self.folder.as_fd());
        let status = status_at(parent, place.name).map_err(|errno| failed(errno).at(path))?;
        self.must_be_closed(&status, path)?;
        act.record(&[("path", Value::Guest(path.as_bytes()))])?;
        let flags = match kind_of(&status) {
            FileType::Directory => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        rustix::fs::unlinkat(parent, place.name, flags).map_err(|errno| failed(errno).at(path))?;
        self.gone(&status);
        payload::null(act.reply);
        Ok(())
    }

    fn rename<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let mut arguments = Arguments::new(payload, 2)?;
        let (from, to) = (self.name(arguments.text()?)?, self.name(arguments.text()?)?);
        arguments.finish()?;
        let itself = CallError::new(ErrorCode::Invalid, "the directory itself stays");
        let old = Place::of(from).ok_or(itself)?;
        let new = Place::of(to).ok_or(itself)?;
        let root = self.folder.as_fd();
        let old_parent = old.parent(root).map_err(|errno| failed(errno).at(from))?;
        let new_parent = new.parent(root).map_err(|errno| failed(errno).at(to))?;
        let source = status_at(old_parent.fd(root), old.name).map_err(|errno| failed(errno).at(from))?;
        // Nobody but the cell knows of a quota, so a file that appears at `to` only now must not be replaced.
        let (replaced, flags) = match status_at(new_parent.fd(root), new.name) {
            Ok(status) if identity_of(&status) == identity_of(&source) => (None, RenameFlags::empty()),
            Ok(status) => (Some(status), RenameFlags::empty()),
            Err(Errno::NOENT) => (None, RenameFlags::NOREPLACE),
            Err(errno) => return Err(failed(errno).at(to).into()),
        };
        if let Some(status) = &replaced {
            self.must_be_closed(status, to)?;
        }
        act.record(&[
            ("from", Value::Guest(from.as_bytes())),
            ("to", Value::Guest(to.as_bytes())),
        ])?;
        rustix::fs::renameat_with(
            old_parent.fd(root),
            old.name,
            new_parent.fd(root),
            new.name,
            flags,
        )
        .map_err(|errno| failed(errno).at(to))?;
        if let Some(status) = &replaced {
            self.gone(status);
        }
        payload::null(act.reply);
        Ok(())
    }

    fn mkdir<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Outcome<'p> {
        let path = self.one_name(payload)?;
        let place = Place::of(path).ok_or(CallError::new(ErrorCode::Exists, "it is there already"))?;
        if !self.files.allows(1) {
            return Err(CallError::new(ErrorCode::Quota, "no more files may be made")
                .at(path)
                .into());
        }
        let parent = place
            .parent(self.folder.as_fd())
            .map_err(|errno| failed(errno).at(path))?;
        act.record(&[("path", Value::Guest(path.as_bytes()))])?;
        rustix::fs::mkdirat(
            parent.fd(self.folder.as_fd()),
            place.name,
            Mode::from_raw_mode(0o755),
        )
        .map_err(|errno| failed(errno).at(path))?;
        self.files.moved(0, 1);
        payload::null(act.reply);
        Ok(())
    }

    /// A file that is open would keep its bytes on the disk after its name is gone, and the quota would not know.
    fn must_be_closed<'p>(&self, status: &Statx, path: &'p str) -> Result<(), CallError<'p>> {
        match self.open.iter().any(|file| file.identity == identity_of(status)) {
            true => Err(CallError::new(ErrorCode::Invalid, "the file is open").at(path)),
            false => Ok(()),
        }
    }

    /// Gives the quota back what a removed thing took up.
    fn gone(&mut self, status: &Statx) {
        self.files.moved(1, 0);
        if kind_of(status) == FileType::RegularFile && status.stx_nlink == 1 {
            self.bytes.moved(status.stx_size, 0);
        }
    }

    /// A number that no open file has; numbers come round only after four thousand million.
    fn number(&mut self) -> u32 {
        loop {
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            if self.open.iter().all(|file| file.number != number) {
                return number;
            }
        }
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy)]
struct OpenFlags {
    write: bool,
    create: bool,
    exclusive: bool,
    truncate: bool,
}

impl OpenFlags {
    fn read(bits: u32) -> Result<OpenFlags, CallError<'static>> {
        let known = call::OPEN_WRITE | call::OPEN_CREATE | call::OPEN_EXCLUSIVE | call::OPEN_TRUNCATE;
        let has = |bit: u32| bits & bit != 0;
        let flags = OpenFlags {
            write: has(call::OPEN_WRITE),
            create: has(call::OPEN_CREATE),
            exclusive: has(call::OPEN_EXCLUSIVE),
            truncate: has(call::OPEN_TRUNCATE),
        };
        let needs_write = flags.create || flags.truncate;
        if bits & !known != 0 || (needs_write && !flags.write) || (flags.exclusive && !flags.create) {
            return Err(CallError::new(
                ErrorCode::Invalid,
                "these flags do not go together",
            ));
        }
        Ok(flags)
    }

    /// Flags to open a file that is there. `NONBLOCK` so that a pipe does not hold the cell until it is refused.
    fn existing(self) -> OFlags {
        let access = if self.write { OFlags::RDWR } else { OFlags::RDONLY };
        access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW
    }
}

fn find(open: &[OpenFile], number: u32) -> Result<&OpenFile, CallError<'static>> {
    open.iter()
        .find(|file| file.number == number)
        .ok_or(CallError::new(
            ErrorCode::StaleHandle,
            "no open file has this number",
        ))
}

fn find_writable(open: &[OpenFile], number: u32) -> Result<&OpenFile, CallError<'static>> {
    match find(open, number)? {
        file if file.writable => Ok(file),
        _ => Err(CallError::new(ErrorCode::Denied, "the file is open for reading")),
    }
}

/// Where `length` bytes from `offset` end; files end at 2^63 - 1.
fn end_of(offset: u64, length: usize) -> Result<u64, CallError<'static>> {
    u64::try_from(length)
        .ok()
        .and_then(|length| offset.checked_add(length))
        .filter(|end| i64::try_from(*end).is_ok())
        .ok_or(CallError::new(ErrorCode::Invalid, "no file is that long"))
}

fn write_all(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> Result<(), Errno> {
    let (mut rest, mut at) = (bytes, offset);
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, rest, at))?;
        if written == 0 {
            return Err(Errno::IO);
        }
        rest = rest.get(written..).unwrap_or(&[]);
        at = at.saturating_add(written as u64);
    }
    Ok(())
}

const WANTED: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::NLINK)
    .union(StatxFlags::SIZE)
    .union(StatxFlags::INO);

fn status_of(descriptor: BorrowedFd<'_>) -> Result<Statx, Errno> {
    rustix::fs::statx(descriptor, c"", AtFlags::EMPTY_PATH, WANTED)
}

fn status_at(parent: BorrowedFd<'_>, name: &str) -> Result<Statx, Errno> {
    rustix::fs::statx(
        parent,
        name,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        WANTED,
    )
}

fn kind_of(status: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(status.stx_mode))
}

fn identity_of(status: &Statx) -> Identity {
    Identity(status.stx_dev_major, status.stx_dev_minor, status.stx_ino)
}

fn kind_number(kind: FileType) -> u32 {
    match kind {
        FileType::RegularFile => 0,
        FileType::Directory => 1,
        _ => 2,
    }
}

fn interrupted_or_failed(errno: Errno) -> Refusal<'static> {
    match errno {
        Errno::INTR => Refusal::Stop(Stop::Interrupted),
        errno => failed(errno).into(),
    }
}

/// What a muscle is told of the host's error.
fn failed(errno: Errno) -> CallError<'static> {
    let (code, message) = match errno {
        Errno::NOENT => (ErrorCode::NotFound, "there is no such file"),
        Errno::EXIST => (ErrorCode::Exists, "it is there already"),
        Errno::LOOP => (ErrorCode::Denied, "links are not followed"),
        Errno::XDEV => (ErrorCode::Denied, "the path leaves the directory"),
        Errno::NOTDIR => (ErrorCode::Invalid, "a part of the path is no directory"),
        Errno::ISDIR => (ErrorCode::Invalid, "it is a directory"),
        Errno::NOTEMPTY => (ErrorCode::Invalid, "the directory is not empty"),
        Errno::NAMETOOLONG => (ErrorCode::Invalid, "the name is too long"),
        Errno::NXIO => (ErrorCode::Invalid, "it is no file"),
        Errno::INVAL => (ErrorCode::Invalid, "the file system does not allow this"),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            (ErrorCode::Io, "the host's permissions do not allow this")
        }
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => (ErrorCode::Io, "the disk is full"),
        _ => (ErrorCode::Io, "the host could not do it"),
    };
    CallError::new(code, message)
}
