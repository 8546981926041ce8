//! `referee-hot-path PATH`: does one part of the host's work a hundred times, in [`counted`], for a program that counts instructions
//! (`scripts/check-costs.sh`). Nothing here runs a virtual machine, which such a program cannot follow.
#![forbid(unsafe_code)]

mod pump;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use referee::json;
use referee_audit::{AuditLog, AuditSink, Event, Kind, Options, Value};
use referee_bundle::{ReadLimits, TrustStore, UnixTime, VerifiedBundle, read_trust_store, verify};
use referee_capabilities::{Broker, BrokerLimits, CellClock, ConsoleStreams, HostFunctions, Resources};
use referee_policy::{Applicant, PolicySet, assess};
use referee_tests::{Guest, Workshop};

/// One part of the host's work.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which.
    path: HotPath,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum HotPath {
    /// Signature, trust store and digests of a small bundle.
    Verify,
    /// Policy's answer to all that it asks for.
    Decide,
    /// Arguments from JSON to CBOR, and a result back.
    Convert,
    /// A request into a muscle's queues and its answer out of them.
    Pump,
    /// A muscle's call of a host function, with its record.
    Broker,
    /// A record into the audit log.
    Record,
}

/// How often each is done.
const TIMES: usize = 100;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    match Arguments::parse().path {
        HotPath::Verify => {
            let small = Small::open(folder.path())?;
            small.verify()?;
            counted(|| small.verify().map(drop))
        }
        HotPath::Decide => {
            let bundle = Small::open(folder.path())?.verify()?;
            let policies = PolicySet::shipped()?;
            let applicant = Applicant::of(&bundle);
            let decide = || assess(&applicant, &[], &policies).grants().map(drop);
            decide()?;
            counted(|| Ok(decide()?))
        }
        HotPath::Convert => {
            const CALL: &[u8] = br#"{"symbol":"ABC","quantity":500,"price":41.25,"tags":["new","day"]}"#;
            let convert = || -> anyhow::Result<()> {
                json::from_cbor(&json::arguments(CALL)?)?;
                Ok(())
            };
            convert()?;
            counted(convert)
        }
        HotPath::Pump => {
            let mut line = pump::Line::connect()?;
            line.call()?;
            counted(|| line.call())
        }
        HotPath::Broker => {
            let bundle = Small::open(folder.path())?.verify()?;
            let mut broker = broker(&bundle, folder.path())?;
            let handle = broker.entries().first().context("a grant")?.handle;
            // A pair of the function's name and its argument, an integer, as bytes.
            const ARGUMENTS: &[u8] = b"\x82\x64same\x41\x07";
            let mut reply = Vec::new();
            let mut call = || -> anyhow::Result<()> {
                match broker.call(handle, "functions.call", ARGUMENTS, &mut reply) {
                    Ok(muscle_abi::frame::FrameKind::Return) => Ok(()),
                    other => bail!("the function was not called: {other:?}"),
                }
            };
            call()?;
            counted(call)
        }
        HotPath::Record => {
            let sink = sink(folder.path())?;
            let record = || -> anyhow::Result<()> {
                let detail = [("bytes", Value::Number(64))];
                let event = Event {
                    capability: Some("console"),
                    slot: Some("console"),
                    op: Some("console.out"),
                    ..Event::of_cell(Kind::Use, &detail)
                };
                Ok(sink.record(&event)?)
            };
            record()?;
            counted(record)
        }
    }
}

/// What is counted: its name is what the counting program looks for.
#[inline(never)]
fn counted(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    (0..TIMES).try_for_each(|_| work())
}

/// A small bundle that asks for a host function, and who trusts it.
struct Small {
    bytes: Vec<u8>,
    store: TrustStore,
    now: UnixTime,
}

impl Small {
    fn open(folder: &Path) -> anyhow::Result<Small> {
        let workshop = Workshop::open(folder)?;
        let guest = Guest::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/relays.s"))?;
        let now = UnixTime::from(SystemTime::now());
        let store = read_trust_store(&workshop.trust_store(), &ReadLimits::default())?;
        Ok(Small {
            bytes: std::fs::read(workshop.bundle(&guest)?)?,
            store: TrustStore::parse(&store, now)?,
            now,
        })
    }

    fn verify(&self) -> anyhow::Result<VerifiedBundle> {
        Ok(verify(
            self.bytes.clone(),
            &self.store,
            &ReadLimits::default(),
            self.now,
        )?)
    }
}

fn sink(folder: &Path) -> anyhow::Result<AuditSink> {
    let file = AuditLog::open_file(&folder.join("audit.jsonl"))?;
    Ok(AuditSink::new(
        AuditLog::from_file(file, Options::default())?,
        "cell",
        "muscle 1",
    ))
}

fn broker(bundle: &VerifiedBundle, folder: &Path) -> anyhow::Result<Broker> {
    let grants = assess(&Applicant::of(bundle), &[], &PolicySet::shipped()?).grants()?;
    let (streams, _, _) = ConsoleStreams::memory(Vec::new());
    let mut resources = Resources::acquire(&grants, streams)?;
    let mut functions = HostFunctions::default();
    functions.insert("same", Arc::new(|argument: &[u8]| Ok(argument.to_vec())));
    resources.offer(functions);
    Ok(Broker::new(
        &grants,
        resources,
        sink(folder)?,
        CellClock::start(),
        BrokerLimits::default(),
    )?)
}
