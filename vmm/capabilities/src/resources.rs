//! What grants need opened, before the process confines itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use referee_policy::{Device, Grants, Power, SerialTo};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::channel::ChannelLine;
use crate::console::{ConsoleStreams, Output};
use crate::error::HostError;
use crate::functions::HostFunctions;
use crate::tpm_line::{DirectLine, TpmLine};
use crate::tpm_questions::TpmQuestions;

/// Opened things, each for one slot.
#[derive(Debug)]
pub struct Resources {
    pub(crate) console: ConsoleStreams,
    pub(crate) directories: BTreeMap<String, OwnedFd>,
    pub(crate) serial: BTreeMap<String, Output>,
    pub(crate) tpm: Option<TpmLine>,
    pub(crate) functions: HostFunctions,
    pub(crate) channels: Option<ChannelLine>,
}

impl Resources {
    /// Opens every directory and file that `grants` name. No link is followed on the way: policy judged this very
    /// path, and a link that was put there since is refused.
    ///
    /// # Errors
    /// [`HostError::OpenDirectory`], [`HostError::OpenSerial`], [`HostError::Streams`].
    pub fn acquire(grants: &Grants, console: ConsoleStreams) -> Result<Resources, HostError> {
        let mut resources = Resources {
            console,
            directories: BTreeMap::new(),
            serial: BTreeMap::new(),
            tpm: None,
            functions: HostFunctions::default(),
            channels: None,
        };
        for grant in grants.slots() {
            let slot = grant.slot().to_owned();
            match grant.power() {
                Power::Files { path, .. } => {
                    let folder = open_directory(path).map_err(|source| HostError::OpenDirectory {
                        slot: slot.clone(),
                        path: path.clone(),
                        source,
                    })?;
                    resources.directories.insert(slot, folder);
                }
                Power::Pio {
                    device: Device::Serial { to },
                    ..
                } => {
                    let output = match to {
                        SerialTo::Stdout => Output::File {
                            file: stdout().map_err(HostError::Streams)?,
                            terminal: io::stdout().is_terminal(),
                        },
                        SerialTo::File(path) => Output::File {
                            file: open_to_append(path).map_err(|source| HostError::OpenSerial {
                                slot: slot.clone(),
                                path: path.clone(),
                                source,
                            })?,
                            terminal: false,
                        },
                    };
                    resources.serial.insert(slot, output);
                }
                Power::Console { .. }
                | Power::Args
                | Power::Env { .. }
                | Power::Clock { .. }
                | Power::Random
                | Power::Attest
                | Power::State { .. }
                | Power::Functions { .. }
                | Power::Ring { .. }
                | Power::Channel { .. }
                | Power::VsockListen { .. }
                | Power::VsockConnect { .. } => {}
            }
        }
        Ok(resources)
    }

    /// The same things for another life of the cell, or another cell with the same grants; the console is its own. The line to the TPM,
    /// which is one cell's, and functions are not taken along.
    ///
    /// # Errors
    /// [`HostError::Streams`] when there are no descriptors left.
    pub fn duplicate(&self, console: ConsoleStreams) -> Result<Resources, HostError> {
        let directories = self.directories.iter();
        let serial = self.serial.iter();
        Ok(Resources {
            console,
            directories: directories
                .map(|(slot, folder)| Ok((slot.clone(), folder.try_clone()?)))
                .collect::<io::Result<_>>()
                .map_err(HostError::Streams)?,
            serial: serial
                .map(|(slot, output)| Ok((slot.clone(), output.try_clone()?)))
                .collect::<io::Result<_>>()
                .map_err(HostError::Streams)?,
            tpm: None,
            functions: HostFunctions::default(),
            channels: None,
        })
    }

    /// Offers functions of this program; a grant of `functions` names those that the muscle may call.
    pub fn offer(&mut self, functions: HostFunctions) {
        self.functions = functions;
    }

    /// Has messages carried on by this line; grants of `channel` need one.
    pub fn carry_messages_by(&mut self, line: ChannelLine) {
        self.channels = Some(line);
    }

    /// Gives the line to whoever asks the TPM; grants of `attest` and `state` need one.
    pub fn ask_tpm_by(&mut self, line: OwnedFd) {
        self.tpm = Some(TpmLine::Direct(DirectLine::new(line)));
    }

    /// The same, where whoever runs the cell carries the questions on.
    pub fn carry_questions_by(&mut self, line: TpmQuestions) {
        self.tpm = Some(TpmLine::Carried(line));
    }

    /// Descriptors that must stay open while the process closes all others.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let console = [
            self.console.out.descriptor(),
            self.console.err.descriptor(),
            self.console.input.descriptor(),
        ];
        let serial = self.serial.values().map(Output::descriptor);
        let directories = self.directories.values().map(|folder| Some(folder.as_fd()));
        console
            .into_iter()
            .chain(serial)
            .chain(directories)
            .chain([self.tpm.as_ref().and_then(TpmLine::descriptor)])
            .flatten()
            .collect()
    }

    /// The opened directory of a slot.
    pub fn directory(&self, slot: &str) -> Option<BorrowedFd<'_>> {
        self.directories.get(slot).map(OwnedFd::as_fd)
    }

    /// Puts the output of a slot's serial port elsewhere.
    pub fn redirect_serial(&mut self, slot: &str, output: Output) {
        self.serial.insert(slot.to_owned(), output);
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve)?)
}

fn open_to_append(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file: File = rustix::fs::openat2(CWD, path, flags, Mode::from_raw_mode(0o600), resolve)?.into();
    Ok(file)
}

fn stdout() -> io::Result<File> {
    // Through the descriptor rather than a path: standard output may be a pipe.
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}
