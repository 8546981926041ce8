//! Kinds of capability, and the table of grants in the boot block.
//!
//! A grant is named by a handle: slot number in the low half, generation in the high half. A handle whose
//! generation is not the slot's present one is refused.

/// Bytes of a grant's entry in the table.
pub const GRANT_ENTRY_SIZE: usize = 56;
/// Most bytes of a slot's name.
pub const SLOT_NAME_MAX: usize = 32;
/// Most bytes of a muscle's state.
pub const STATE_MAX: u64 = 256 << 10;
/// Most bytes of a message on a channel, and of a reply to one.
pub const MESSAGE_MAX: u64 = 256 << 10;
/// Most messages that one sending slot of a channel may ask for in one call.
pub const MESSAGES_MAX: u64 = 1 << 20;
/// Most slots in a manifest.
pub const SLOTS_MAX: usize = 64;

/// A power that a muscle may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum CapabilityKind {
    /// Standard output, error and input, and the log.
    Console = 1,
    /// Command-line arguments.
    Args = 2,
    /// Named environment variables.
    Env = 3,
    /// The time, and waiting for it.
    Clock = 4,
    /// Random bytes.
    Random = 5,
    /// A named directory.
    Files = 6,
    /// Listening on a vsock port for outside programs.
    VsockListen = 7,
    /// Connecting to an outside program by vsock port.
    VsockConnect = 8,
    /// A range of I/O ports.
    Pio = 9,
    /// Evidence of the host's TPM, with what the muscle says in it.
    Attest = 10,
    /// A few bytes that the host keeps for this muscle from run to run, sealed by its TPM.
    State = 11,
    /// Functions of the program in which the cell is embedded.
    Functions = 12,
    /// One end of a ring: memory through which messages go from one cell to another.
    Ring = 13,
    /// Messages to and from other deployments of a node.
    Channel = 14,
}

impl CapabilityKind {
    /// Every kind, in the order of its number.
    pub const ALL: [CapabilityKind; 14] = [
        CapabilityKind::Console,
        CapabilityKind::Args,
        CapabilityKind::Env,
        CapabilityKind::Clock,
        CapabilityKind::Random,
        CapabilityKind::Files,
        CapabilityKind::VsockListen,
        CapabilityKind::VsockConnect,
        CapabilityKind::Pio,
        CapabilityKind::Attest,
        CapabilityKind::State,
        CapabilityKind::Functions,
        CapabilityKind::Ring,
        CapabilityKind::Channel,
    ];

    /// The kind with this number, if there is one.
    pub fn from_number(number: u32) -> Option<CapabilityKind> {
        CapabilityKind::ALL
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }

    /// The kind's name in manifests, policies and audit records.
    pub const fn name(self) -> &'static str {
        match self {
            CapabilityKind::Console => "console",
            CapabilityKind::Args => "args",
            CapabilityKind::Env => "env",
            CapabilityKind::Clock => "clock",
            CapabilityKind::Random => "random",
            CapabilityKind::Files => "files",
            CapabilityKind::VsockListen => "vsock-listen",
            CapabilityKind::VsockConnect => "vsock-connect",
            CapabilityKind::Pio => "pio",
            CapabilityKind::Attest => "attest",
            CapabilityKind::State => "state",
            CapabilityKind::Functions => "functions",
            CapabilityKind::Ring => "ring",
            CapabilityKind::Channel => "channel",
        }
    }

    /// Whether one muscle may delegate a grant of this kind to another: what is used by calls of the host alone, and does not say who uses it.
    pub const fn may_be_delegated(self) -> bool {
        matches!(
            self,
            CapabilityKind::Clock | CapabilityKind::Random | CapabilityKind::Files
        )
    }

    /// The kind of this name, if there is one.
    pub fn from_name(name: &str) -> Option<CapabilityKind> {
        CapabilityKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One row of the table of grants, as the muscle sees it.
///
/// ```text
///   0  8  handle        8  4  kind       12  4  length of the slot's name
///  16  8  detail (port, first port | last port << 32, clock grade, file rights, place of a ring)
///  24 32  slot's name, padded with zeros
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantEntry {
    /// What to put in a frame's header.
    pub handle: u64,
    /// A [`CapabilityKind`] as its number.
    pub kind: u32,
    /// Bytes of the name.
    pub name_len: u32,
    /// What a driver needs to know of the grant: the port of a vsock grant, `first | last << 32` of a port
    /// range, 1 coarse or 2 fine of a clock, 0 read or 1 read-write of files, most bytes of a state or of a channel's message, where a ring is
    /// ([`crate::ring::Place`]).
    pub detail: u64,
    /// The slot's name as the manifest has it.
    pub name: [u8; SLOT_NAME_MAX],
}

impl GrantEntry {
    /// Writes the entry as bytes.
    pub fn to_bytes(&self) -> [u8; GRANT_ENTRY_SIZE] {
        let mut out = [0u8; GRANT_ENTRY_SIZE];
        out[0..8].copy_from_slice(&self.handle.to_le_bytes());
        out[8..12].copy_from_slice(&self.kind.to_le_bytes());
        out[12..16].copy_from_slice(&self.name_len.to_le_bytes());
        out[16..24].copy_from_slice(&self.detail.to_le_bytes());
        out[24..].copy_from_slice(&self.name);
        out
    }

    /// Reads an entry.
    pub fn from_bytes(bytes: &[u8; GRANT_ENTRY_SIZE]) -> GrantEntry {
        let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut name = [0u8; SLOT_NAME_MAX];
        name.copy_from_slice(&bytes[24..]);
        GrantEntry {
            handle: u64::from(half(0)) | (u64::from(half(4)) << 32),
            kind: half(8),
            name_len: half(12),
            detail: u64::from(half(16)) | (u64::from(half(20)) << 32),
            name,
        }
    }

    /// The slot's name.
    pub fn name(&self) -> &str {
        let length = (self.name_len as usize).min(SLOT_NAME_MAX);
        core::str::from_utf8(&self.name[..length]).unwrap_or("")
    }
}

/// What is said of a grant that is delegated: flags, and values that mean "all that there is".
pub mod delegate {
    /// Flag: `files`, for reading only.
    pub const READ_ONLY: u32 = 1;
    /// Flag: `clock`, milliseconds only.
    pub const COARSE: u32 = 2;
    /// `within` for the whole directory.
    pub const EVERYWHERE: &str = "";
    /// `max_bytes` for as many as the grant has.
    pub const ALL_BYTES: u64 = u64::MAX;
    /// `max_files` for as many as the grant has.
    pub const ALL_FILES: u32 = u32::MAX;
    /// Most delegations that one call of a muscle may make or take back.
    pub const CALL_MAX: u32 = 64;
}

/// Names of the host's calls and what they take and give; `docs/abi.md` has the table.
///
/// Payloads are CBOR arrays of the arguments; results are one CBOR value.
pub mod call {
    /// `[bytes] → null`: writes to standard output.
    pub const CONSOLE_OUT: &str = "console.out";
    /// `[bytes] → null`: writes to standard error.
    pub const CONSOLE_ERR: &str = "console.err";
    /// `[max: u32] → bytes`: reads standard input; empty at its end.
    pub const CONSOLE_IN: &str = "console.in";
    /// `[level: 1 error … 5 trace, target: text, message: text] → null`: writes a log line.
    pub const CONSOLE_LOG: &str = "console.log";
    /// `[] → [unix_ns: u64, monotonic_ns: u64]`: tells the time, as fine as the grant allows.
    pub const CLOCK_NOW: &str = "clock.now";
    /// `[length: u32] → bytes`: random bytes, at most 64 KiB a call.
    pub const RANDOM_FILL: &str = "random.fill";
    /// `[user_data: bytes ≤ 512, nonce: bytes 16 to 64, public_key: bytes ≤ 1024] → bytes`: evidence of the host's TPM that
    /// carries these, and what the host says about the muscle.
    pub const ATTEST_EVIDENCE: &str = "attest.evidence";
    /// `[] → bytes or null`: what was saved last; null before anything was.
    pub const STATE_LOAD: &str = "state.load";
    /// `[bytes] → null`: replaces what is kept; it is on the disk and cannot be rolled back when this is answered.
    pub const STATE_SAVE: &str = "state.save";
    /// `[name: text, argument: bytes] → [failed: bool, bytes or text]`: calls a function of the embedding program with one CBOR
    /// value, which answers with one, or with an error's words.
    pub const FUNCTIONS_CALL: &str = "functions.call";
    /// `[message: bytes] → receivers: u32`: puts a message, one CBOR value, into the queue of each receiver of the channel, or of none.
    pub const CHANNEL_SEND: &str = "channel.send";
    /// `[message: bytes] → [failed: bool, bytes or text]`: has the channel's one receiver answer a message with one CBOR value, or with
    /// its error's words.
    pub const CHANNEL_REQUEST: &str = "channel.request";
    /// `[slot: text, to: text, flags: u32, within: text, max_bytes: u64, max_files: u32] → null`: lends what is in the muscle's slot to the slot
    /// `to` of the channel's one receiver, or less of it: see [`delegate`](super::delegate).
    pub const CHANNEL_DELEGATE: &str = "channel.delegate";
    /// `[slot: text, to: text] → null`: takes back what was lent so.
    pub const CHANNEL_UNDELEGATE: &str = "channel.undelegate";
    /// `[path: text, flags: u32] → file: u32`: opens a file below the directory, see the flags below.
    pub const FILES_OPEN: &str = "files.open";
    /// `[file, offset: u64, max: u32] → bytes`: empty at the end.
    pub const FILES_READ: &str = "files.read";
    /// `[file, offset: u64, bytes] → null`: writes all of it.
    pub const FILES_WRITE: &str = "files.write";
    /// `[file, length: u64] → null`: cuts or extends a file.
    pub const FILES_TRUNCATE: &str = "files.truncate";
    /// `[file] → null`: closes a file.
    pub const FILES_CLOSE: &str = "files.close";
    /// `[path] → [kind: 0 file, 1 directory, 2 other; size: u64]`.
    pub const FILES_STAT: &str = "files.stat";
    /// `[path] → [[name, kind], …]`: entries sorted by name.
    pub const FILES_LIST: &str = "files.list";
    /// `[path] → null`: removes a file or an empty directory.
    pub const FILES_REMOVE: &str = "files.remove";
    /// `[from, to] → null`: renames within the directory.
    pub const FILES_RENAME: &str = "files.rename";
    /// `[path] → null`: makes a directory.
    pub const FILES_MKDIR: &str = "files.mkdir";

    /// Flag of [`FILES_OPEN`]: for writing too.
    pub const OPEN_WRITE: u32 = 1;
    /// Flag of [`FILES_OPEN`]: make it if it is not there.
    pub const OPEN_CREATE: u32 = 2;
    /// Flag of [`FILES_OPEN`]: it must not be there yet.
    pub const OPEN_EXCLUSIVE: u32 = 4;
    /// Flag of [`FILES_OPEN`]: empty it.
    pub const OPEN_TRUNCATE: u32 = 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_number_and_by_name() {
        for kind in CapabilityKind::ALL {
            assert_eq!(CapabilityKind::from_number(kind as u32), Some(kind));
            assert_eq!(CapabilityKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(CapabilityKind::from_number(0), None);
    }

    #[test]
    fn grant_entry_survives_a_round_trip() {
        let mut name = [0u8; SLOT_NAME_MAX];
        name[..5].copy_from_slice(b"input");
        let entry = GrantEntry {
            handle: 1 << 32,
            kind: 6,
            name_len: 5,
            detail: 1,
            name,
        };
        assert_eq!(GrantEntry::from_bytes(&entry.to_bytes()), entry);
        assert_eq!(entry.name(), "input");
    }
}
