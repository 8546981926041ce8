//! A broker for tests, with grants that went the whole way through policy.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, PoisonError};

use minicbor::{Decoder, Encoder};
use muscle_abi::boot::Style;
use muscle_abi::capability::CapabilityKind;
use muscle_abi::frame::{ErrorCode, FrameKind};
use referee_audit::{AuditLog, AuditSink, GuestText, Options};
use referee_bundle::{Arch, CapabilityRequest, Delegated, Limits, Manifest, Slot};
use referee_policy::{Applicant, Binding, FilesAccess, Grants, PolicySet, decide};

use crate::{Broker, BrokerLimits, CellClock, ChannelLine, ConsoleStreams, Resources, SharedBytes, Stop};

pub const READ: CapabilityRequest = CapabilityRequest::Files {
    access: FilesAccess::Read,
    max_bytes: 0,
    max_files: 0,
};

pub const fn read_write(max_bytes: u64, max_files: u32) -> CapabilityRequest {
    CapabilityRequest::Files {
        access: FilesAccess::ReadWrite,
        max_bytes,
        max_files,
    }
}

/// Slots by their names; one that ends in `@FROM` is delegated over that slot, one in `@@FROM` may be delegated on.
pub fn grants(slots: &[(&str, CapabilityRequest)], binds: &[String]) -> Grants {
    let manifest = Manifest {
        name: "test".to_owned(),
        version: "1".to_owned(),
        security_epoch: 1,
        abi: muscle_abi::ABI_VERSION,
        arch: Arch::X86_64,
        style: Style::Command,
        entry: 0,
        segments: Vec::new(),
        parts: Vec::new(),
        slots: slots
            .iter()
            .map(|(name, request)| {
                let (name, from) = name.split_once('@').unwrap_or((name, ""));
                Slot {
                    name: name.to_owned(),
                    request: request.clone(),
                    delegated: (!from.is_empty()).then(|| Delegated {
                        from: from.trim_start_matches('@').to_owned(),
                        onward: from.starts_with('@'),
                    }),
                }
            })
            .collect(),
        limits: Limits {
            memory_bytes: 1 << 20,
            stack_bytes: 1 << 16,
            cpu_ms: None,
            deadline_ms: None,
        },
        exports: Vec::new(),
        description: String::new(),
    };
    let applicant = Applicant {
        manifest: &manifest,
        publisher: "acme",
        key_id: "00".repeat(32),
    };
    let all =
        PolicySet::parse(&[("all", "@id(\"all\") permit (principal, action, resource);")]).expect("Cedar");
    let binds: Vec<Binding> = binds
        .iter()
        .map(|text| {
            Binding::parse(text)
                .and_then(Binding::resolve)
                .expect("a binding")
        })
        .collect();
    decide(&applicant, &binds, &all)
        .and_then(|decision| decision.grants())
        .expect("granted")
}

/// A parent that has the same answer for every question.
fn vouch(mut line: UnixStream) {
    let mut head = [0; 5];
    while line.read_exact(&mut head).is_ok() {
        let [_, a, b, c, d] = head;
        let mut question = vec![0; u32::from_le_bytes([a, b, c, d]) as usize];
        if line.read_exact(&mut question).is_err() || line.write_all(&[0, 4, 0, 0, 0, 1, 2, 3, 4]).is_err() {
            return;
        }
    }
}

/// A broker, what it wrote, and its log.
pub struct Rig {
    pub broker: Broker,
    pub out: SharedBytes,
    pub err: SharedBytes,
    pub audit: AuditSink,
    pub line: ChannelLine,
}

pub struct Reply(pub FrameKind, pub Vec<u8>);

impl Rig {
    pub fn new(slots: &[(&str, CapabilityRequest)], binds: &[String]) -> Rig {
        Rig::with(slots, binds, b"", BrokerLimits::default())
    }

    pub fn with(
        slots: &[(&str, CapabilityRequest)],
        binds: &[String],
        input: &[u8],
        limits: BrokerLimits,
    ) -> Rig {
        let grants = grants(slots, binds);
        let (streams, out, err) = ConsoleStreams::memory(input.to_vec());
        let options = Options {
            guest: GuestText::Escape,
            ..Options::default()
        };
        let audit = AuditSink::new(AuditLog::in_memory(options), "cell", "test 1");
        let mut resources = Resources::acquire(&grants, streams).expect("opened");
        if grants.needs_tpm() {
            let (cell, host) = UnixStream::pair().expect("a pair");
            resources.ask_tpm_by(cell.into());
            std::thread::spawn(|| vouch(host));
        }
        let line = ChannelLine::default();
        resources.carry_messages_by(line.clone());
        let broker =
            Broker::new(&grants, resources, audit.clone(), CellClock::start(), limits).expect("a broker");
        Rig {
            broker,
            out,
            err,
            audit,
            line,
        }
    }

    pub fn handle(&self, kind: CapabilityKind) -> u64 {
        let entries = self.broker.entries();
        entries
            .iter()
            .find(|entry| entry.kind == kind as u32)
            .expect("granted")
            .handle
    }

    pub fn raw(&mut self, handle: u64, name: &str, payload: &[u8]) -> Result<Reply, Stop> {
        let mut reply = b"left over".to_vec();
        self.broker
            .call(handle, name, payload, &mut reply)
            .map(|kind| Reply(kind, reply))
    }

    /// Calls with the handle of the grant that the name belongs to.
    pub fn call(&mut self, name: &str, encode: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Result<Reply, Stop> {
        let kind = crate::Op::from_name(name).expect("an operation").kind();
        let mut encoder = Encoder::new(Vec::new());
        encode(&mut encoder);
        self.raw(self.handle(kind), name, &encoder.into_writer())
    }

    pub fn files(&mut self, name: &str, encode: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Reply {
        self.call(name, encode).expect("a reply")
    }

    /// A call whose arguments are texts.
    pub fn texts(&mut self, name: &str, texts: &[&str]) -> Reply {
        self.files(name, |out| {
            out.array(texts.len() as u64).expect("a vector");
            for text in texts {
                out.str(text).expect("a vector");
            }
        })
    }

    pub fn open(&mut self, path: &str, flags: u32) -> Reply {
        self.files("files.open", |out| {
            out.array(2)
                .and_then(|out| out.str(path))
                .and_then(|out| out.u32(flags))
                .expect("a vector");
        })
    }

    pub fn write(&mut self, file: u32, offset: u64, bytes: &[u8]) -> Reply {
        self.files("files.write", |out| {
            out.array(3)
                .and_then(|out| out.u32(file))
                .and_then(|out| out.u64(offset))
                .and_then(|out| out.bytes(bytes))
                .expect("a vector");
        })
    }

    pub fn read(&mut self, file: u32, offset: u64, max: u32) -> Reply {
        self.files("files.read", |out| {
            out.array(3)
                .and_then(|out| out.u32(file))
                .and_then(|out| out.u64(offset))
                .and_then(|out| out.u32(max))
                .expect("a vector");
        })
    }

    pub fn truncate(&mut self, file: u32, length: u64) -> Reply {
        self.files("files.truncate", |out| {
            out.array(2)
                .and_then(|out| out.u32(file))
                .and_then(|out| out.u64(length))
                .expect("a vector");
        })
    }

    pub fn close(&mut self, file: u32) -> Reply {
        self.files("files.close", |out| {
            out.array(1).and_then(|out| out.u32(file)).expect("a vector");
        })
    }

    /// The log's records.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let bytes = self.audit.memory().expect("in memory");
        referee_audit::verify_bytes(&bytes).expect("an unbroken log");
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect()
    }

    pub fn last_record(&self) -> serde_json::Value {
        self.records().pop().expect("a record")
    }
}

impl Reply {
    /// The error's code; `None` when the call went well.
    pub fn code(&self) -> Option<ErrorCode> {
        if self.0 != FrameKind::Error {
            return None;
        }
        let mut decoder = Decoder::new(&self.1);
        assert_eq!(decoder.array().ok(), Some(Some(2)));
        let code = ErrorCode::from_number(decoder.u32().expect("a code")).expect("a known code");
        decoder.str().expect("a message");
        assert_eq!(decoder.position(), self.1.len());
        Some(code)
    }

    pub fn is_null(&self) -> bool {
        self.0 == FrameKind::Return && self.1 == [0xf6]
    }

    pub fn number(&self) -> u32 {
        assert_eq!(self.code(), None);
        Decoder::new(&self.1).u32().expect("a number")
    }

    pub fn bytes(&self) -> Vec<u8> {
        assert_eq!(self.code(), None);
        let mut decoder = Decoder::new(&self.1);
        let bytes = decoder.bytes().expect("bytes").to_vec();
        assert_eq!(decoder.position(), self.1.len());
        bytes
    }
}

pub fn text(bytes: &SharedBytes) -> String {
    let bytes: Arc<_> = Arc::clone(bytes);
    let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&bytes).into_owned()
}
