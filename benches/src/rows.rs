//! What is measured. The muscle is the smallest that there is, written in assembly: it echoes its arguments.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use cargo_muscle::{PrivateKey, remove_signatures, sign, trust};
use referee::{Cell, CellThread, Config, HotThread, Inputs, Permit, Referee};
use referee_bundle::{Algorithm, NameScope, PublisherKey, UnixTime};
use referee_tests::{Guest, Workshop};

use crate::muscles::Muscles;
use crate::ring_rows::Ringers;
use crate::stream_rows::Streamer;
use crate::tpm_rows::TpmHost;
use crate::{audit_rows, call_rows, compute_rows, ring_rows, stream_rows, tpm_rows};

/// What the benches permit besides what is permitted by itself.
const SPIN: &str = r#"@id("spin") permit (principal, action == Action::"spin", resource);"#;

/// A row of the table.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// Its floor: a mode of the floor program, or `native` and a work of that program.
    pub floor: Option<&'static str>,
    /// How many times fewer samples than of the cheapest row.
    pub cost: usize,
    /// Takes samples, in nanoseconds.
    pub measure: fn(&mut Bench, usize, &mut Vec<f64>) -> anyhow::Result<()>,
}

/// Every row, in the order of the table.
pub const ROWS: [Row; 48] = [
    Row {
        name: "verify",
        what: "signature, trust store, digests, image of the smallest bundle",
        floor: None,
        cost: 2,
        measure: verify,
    },
    Row {
        name: "verify_hybrid",
        what: "as verify, with a second signature, ML-DSA-65, that the trust store requires",
        floor: None,
        cost: 1,
        measure: verify_hybrid,
    },
    Row {
        name: "permit",
        what: "policy decides about all that a bundle asks for",
        floor: None,
        cost: 2,
        measure: permit,
    },
    Row {
        name: "start",
        what: "from a permit to the first result, no pool; floor: bare VM to its first doorbell",
        floor: Some("start"),
        cost: 4,
        measure: start,
    },
    Row {
        name: "pool_start",
        what: "as start, with a VM made ahead; floor as start",
        floor: Some("start"),
        cost: 4,
        measure: pool_start,
    },
    Row {
        name: "loaded_start",
        what: "as start, with a cell loaded ahead; floor: a bare VM made ahead, to its first doorbell",
        floor: Some("warm"),
        cost: 4,
        measure: loaded_start,
    },
    Row {
        name: "template_start",
        what: "the same; floor: a bare VM that was run before, to its second doorbell",
        floor: Some("again"),
        cost: 4,
        measure: loaded_start,
    },
    Row {
        name: "cold_start",
        what: "from bytes to the first result: verify, permit, start; floor as start",
        floor: Some("start"),
        cost: 4,
        measure: cold_start,
    },
    Row {
        name: "call",
        what: "empty call; floor: a bare doorbell, there and back",
        floor: Some("doorbell"),
        cost: 1,
        measure: call_rows::call,
    },
    Row {
        name: "call_exitless",
        what: "empty call of a hot cell; floor: a number there and back in memory that guest and host poll",
        floor: Some("polled"),
        cost: 1,
        measure: call_rows::call_exitless,
    },
    Row {
        name: "call_exitless_1k",
        what: "the same with 1 KiB there and back, which is too much for the lane; floor as call_exitless",
        floor: Some("polled"),
        cost: 1,
        measure: call_rows::call_exitless_1k,
    },
    Row {
        name: "call_1k",
        what: "call with 1 KiB there and back; floor as call",
        floor: Some("doorbell"),
        cost: 1,
        measure: call_rows::call_1k,
    },
    Row {
        name: "call_1m",
        what: "call with 1 MiB; floor: a doorbell and a copy of as much",
        floor: Some("reset-256"),
        cost: 10,
        measure: call_rows::call_1m,
    },
    Row {
        name: "host_call",
        what: "call that calls a function of the host; floor: two doorbells",
        floor: Some("doorbells"),
        cost: 1,
        measure: call_rows::host_call,
    },
    Row {
        name: "reset_call",
        what: "reset, then a call; floor: a bare doorbell",
        floor: Some("doorbell"),
        cost: 2,
        measure: call_rows::reset_call,
    },
    Row {
        name: "reset_call_0",
        what: "the same, of a muscle that made no page dirty but its channel's; floor as reset_call",
        floor: Some("reset-0"),
        cost: 2,
        measure: |bench, count, samples| call_rows::reset_touched(bench, count, samples, 0),
    },
    Row {
        name: "reset_call_16",
        what: "16 pages more; floor: a doorbell and a copy of 16 pages",
        floor: Some("reset-16"),
        cost: 2,
        measure: |bench, count, samples| call_rows::reset_touched(bench, count, samples, 16),
    },
    Row {
        name: "reset_call_128",
        what: "the same with 128",
        floor: Some("reset-128"),
        cost: 4,
        measure: |bench, count, samples| call_rows::reset_touched(bench, count, samples, 128),
    },
    Row {
        name: "reset_call_1024",
        what: "the same with 1024",
        floor: Some("reset-1024"),
        cost: 10,
        measure: |bench, count, samples| call_rows::reset_touched(bench, count, samples, 1024),
    },
    Row {
        name: "compute_sha256",
        what: "SHA-256 of 16 MiB in one call; floor: the same crate in an ordinary program",
        floor: Some("native sha256"),
        cost: 20,
        measure: |bench, count, samples| compute_rows::computed(bench, count, samples, "sha256"),
    },
    Row {
        name: "compute_matmul",
        what: "product of two matrices of 448 x 448 `f32`; floor as compute_sha256",
        floor: Some("native matmul"),
        cost: 20,
        measure: |bench, count, samples| compute_rows::computed(bench, count, samples, "matmul"),
    },
    Row {
        name: "compute_json",
        what: "40,000 small documents parsed; floor as compute_sha256",
        floor: Some("native json"),
        cost: 20,
        measure: |bench, count, samples| compute_rows::computed(bench, count, samples, "json"),
    },
    Row {
        name: "vsock_in_64",
        what: "each message of 64 bytes to a muscle, by the socket that its slot is bound to; floor: a pair of Unix sockets",
        floor: Some("stream-i-64"),
        cost: 20,
        measure: |bench, count, samples| stream_rows::moved(bench, count, samples, b'i', 64),
    },
    Row {
        name: "vsock_in_1k",
        what: "the same, 1 KiB to a muscle; floor likewise",
        floor: Some("stream-i-1024"),
        cost: 20,
        measure: |bench, count, samples| stream_rows::moved(bench, count, samples, b'i', 1024),
    },
    Row {
        name: "vsock_in_64k",
        what: "the same, 64 KiB to a muscle; floor likewise",
        floor: Some("stream-i-65536"),
        cost: 20,
        measure: |bench, count, samples| stream_rows::moved(bench, count, samples, b'i', 65536),
    },
    Row {
        name: "vsock_in_1m",
        what: "the same, 1 MiB to a muscle; floor likewise",
        floor: Some("stream-i-1048576"),
        cost: 20,
        measure: |bench, count, samples| stream_rows::moved(bench, count, samples, b'i', 1048576),
    },
    Row {
        name: "vsock_out_64",
        what: "the same, 64 bytes from a muscle; floor likewise",
        floor: Some("stream-o-64"),
        cost: 20,
        measure: |bench, count, samples| stream_rows::moved(bench, count, samples, b'o', 64),
    },
    Row {
        name: "vsock_out_1k",
        what: "the same, 1 KiB from a muscle; floor likewise",
        floor: Some("stream-o-1024"),
        cost: 20,
        measure: |bench, count, samples| stream_rows::moved(bench, count, samples, b'o', 1024),
    },
    Row {
        name: "vsock_out_64k",
        what: "the same, 64 KiB from a muscle; floor likewise",
        floor: Some("stream-o-65536"),
        cost: 20,
        measure: |bench, count, samples| stream_rows::moved(bench, count, samples, b'o', 65536),
    },
    Row {
        name: "vsock_out_1m",
        what: "the same, 1 MiB from a muscle; floor likewise",
        floor: Some("stream-o-1048576"),
        cost: 20,
        measure: |bench, count, samples| stream_rows::moved(bench, count, samples, b'o', 1048576),
    },
    Row {
        name: "vsock_trip",
        what: "64 bytes there and back; floor likewise",
        floor: Some("stream-e-64"),
        cost: 4,
        measure: |bench, count, samples| stream_rows::moved(bench, count, samples, b'e', 64),
    },
    Row {
        name: "vsock_trip_1k",
        what: "1 KiB there and back; floor likewise",
        floor: Some("stream-e-1024"),
        cost: 4,
        measure: |bench, count, samples| stream_rows::moved(bench, count, samples, b'e', 1024),
    },
    Row {
        name: "ring_64",
        what: "each message of 64 bytes from muscle to muscle through a ring; floor: a pair of Unix sockets",
        floor: Some("stream-i-64"),
        cost: 50,
        measure: |bench, count, samples| ring_rows::passed(bench, count, samples, ["send", "take"], 64),
    },
    Row {
        name: "ring_1k",
        what: "the same, 1 KiB; floor likewise",
        floor: Some("stream-i-1024"),
        cost: 50,
        measure: |bench, count, samples| ring_rows::passed(bench, count, samples, ["send", "take"], 1024),
    },
    Row {
        name: "ring_64k",
        what: "the same, 64 KiB; floor likewise",
        floor: Some("stream-i-65536"),
        cost: 50,
        measure: |bench, count, samples| ring_rows::passed(bench, count, samples, ["send", "take"], 65536),
    },
    Row {
        name: "ring_copy_64",
        what: "as ring_64; floor: a copy into a buffer of 1 MiB and one out of it",
        floor: Some("copy-64"),
        cost: 50,
        measure: |bench, count, samples| ring_rows::passed(bench, count, samples, ["send", "take"], 64),
    },
    Row {
        name: "ring_copy_1k",
        what: "as ring_1k; floor likewise",
        floor: Some("copy-1024"),
        cost: 50,
        measure: |bench, count, samples| ring_rows::passed(bench, count, samples, ["send", "take"], 1024),
    },
    Row {
        name: "ring_copy_64k",
        what: "as ring_64k; floor likewise",
        floor: Some("copy-65536"),
        cost: 50,
        measure: |bench, count, samples| ring_rows::passed(bench, count, samples, ["send", "take"], 65536),
    },
    Row {
        name: "ring_trip",
        what: "64 bytes there and back through two rings; floor: likewise over a pair of Unix sockets",
        floor: Some("stream-e-64"),
        cost: 50,
        measure: |bench, count, samples| ring_rows::passed(bench, count, samples, ["trip", "echo"], 64),
    },
    Row {
        name: "kill",
        what: "from cancel to the call's return; floor: immediate_exit and a signal",
        floor: Some("kill"),
        cost: 10,
        measure: call_rows::kill,
    },
    Row {
        name: "audit_record",
        what: "a record in the audit log; floor: a bare write of as many bytes",
        floor: Some("write"),
        cost: 1,
        measure: audit_rows::written,
    },
    Row {
        name: "audit_flush",
        what: "a record on the disk; floor: a bare write and fdatasync",
        floor: Some("flush"),
        cost: 4,
        measure: audit_rows::flushed,
    },
    Row {
        name: "audit_flush_8",
        what: "the same for each of eight threads, which share flushes; floor as audit_flush",
        floor: Some("flush"),
        cost: 4,
        measure: audit_rows::shared,
    },
    Row {
        name: "tpm_measure",
        what: "a bundle that this boot has run before; floor: a software TPM started, asked for random bytes, ended",
        floor: Some("tpm"),
        cost: 40,
        measure: tpm_rows::measured,
    },
    Row {
        name: "tpm_receipt",
        what: "a receipt signed; floor as tpm_measure",
        floor: Some("tpm"),
        cost: 40,
        measure: tpm_rows::receipt,
    },
    Row {
        name: "tpm_evidence",
        what: "evidence; floor as tpm_measure",
        floor: Some("tpm"),
        cost: 40,
        measure: tpm_rows::evidence,
    },
    Row {
        name: "state_load",
        what: "a muscle's state of 4 KiB loaded; floor as tpm_measure",
        floor: Some("tpm"),
        cost: 40,
        measure: tpm_rows::load,
    },
    Row {
        name: "state_save",
        what: "the same saved: a new file, two sealed keys, two counts; floor as tpm_measure",
        floor: Some("tpm"),
        cost: 40,
        measure: tpm_rows::saved,
    },
];

/// What all rows share.
pub struct Bench {
    referee: Referee,
    bundle: Vec<u8>,
    hybrid: (Referee, Vec<u8>),
    permit: Permit,
    /// The benches' own muscles.
    pub touches: Permit,
    pub sinks: Permit,
    pub relays: Permit,
    pub spins: Permit,
    pooled: Permit,
    pub thread: CellThread,
    pub echo: Cell,
    /// Of one that does the same and takes calls by the lane, hot while calls keep coming.
    pub hot: Cell,
    /// Muscles written in Rust.
    pub muscles: Muscles,
    /// The one that computes. Made when a row asks for it, as what follows.
    pub compute: Option<Cell>,
    pub streamer: Option<Streamer>,
    pub ringers: Option<Ringers>,
    tpm: Option<TpmHost>,
    /// Where the logs are.
    pub folder: tempfile::TempDir,
}

impl Bench {
    /// A host with a software TPM.
    pub fn tpm(&mut self) -> anyhow::Result<&TpmHost> {
        match &mut self.tpm {
            Some(host) => Ok(host),
            none => Ok(none.insert(TpmHost::new()?)),
        }
    }

    /// Builds the muscles and opens the library.
    pub fn new(muscles: Option<PathBuf>, program: Option<PathBuf>) -> anyhow::Result<Bench> {
        let folder = tempfile::tempdir()?;
        let workshop = Workshop::open(folder.path())?;
        let bundle_of = |group, name| -> anyhow::Result<Vec<u8>> {
            let file = workshop.bundle(&workshop.guest(group, name)?)?;
            Ok(std::fs::read(file)?)
        };
        let bundle = |name| bundle_of("reactor", name);
        let mut config = Config::new(workshop.trust_store(), folder.path().join("audit.jsonl"));
        config.policies = vec![
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/default.cedar"),
            folder.path().join("spin.cedar"),
        ];
        std::fs::write(&config.policies[1], SPIN)?;
        let referee = Referee::open(&config)?;
        let hybrid = hybrid(&bundle("echoes")?, folder.path())?;
        let permit = referee.admit(bundle("echoes")?)?.permit(&[])?;
        let own = |name: &str| -> anyhow::Result<Permit> {
            let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests");
            let guest = Guest::read(&guests.join(name).with_extension("s"))?;
            Ok(referee.admit_file(&workshop.bundle(&guest)?)?.permit(&[])?)
        };
        let pool = Referee::open(&Config { pool: 4, ..config })?;
        let mut spins = pool.admit(bundle("spins")?)?.permit(&[])?;
        spins.narrow_deadline(10_000);
        let pooled = pool.admit(bundle("echoes")?)?.permit(&[])?;
        let echo = permit.start(Inputs::default())?;
        let mut spinning = referee.admit(bundle_of("hot", "lanes")?)?.permit(&[])?;
        referee.permit_spin(&mut spinning, Duration::from_millis(1))?;
        let mut hot = spinning.start(Inputs::default())?;
        hot.keep_hot(&Arc::new(HotThread::start_on(1)?))?;
        Ok(Bench {
            bundle: bundle("echoes")?,
            hybrid,
            touches: own("touches")?,
            sinks: own("sinks")?,
            relays: own("relays")?,
            referee,
            permit,
            spins,
            pooled,
            thread: CellThread::enter()?,
            echo,
            hot,
            muscles: Muscles {
                folder: muscles,
                program,
            },
            compute: None,
            streamer: None,
            ringers: None,
            tpm: None,
            folder,
        })
    }
}

/// The bundle with signatures of two algorithms, and a library that requires both.
fn hybrid(bundle: &[u8], folder: &Path) -> anyhow::Result<(Referee, Vec<u8>)> {
    let root = PrivateKey::generate(Algorithm::Ed25519)?;
    let keys = [Algorithm::Ed25519, Algorithm::MlDsa65].map(PrivateKey::generate);
    let mut signed = remove_signatures(bundle)?;
    let mut listed = Vec::new();
    let expires = UnixTime(u64::from(u32::MAX));
    for key in keys {
        let key = key?;
        signed = sign(&signed, &key)?;
        listed.push(PublisherKey {
            public_key: key.public_key()?,
            expires,
        });
    }
    let store = trust::init(vec![root.public_key()?], 1, expires)?;
    let scope = NameScope::parse("*").context("a scope")?;
    let store = trust::add_publisher(&store, "both", listed, vec![scope])?;
    let store = trust::require(&store, vec![Algorithm::Ed25519, Algorithm::MlDsa65])?;
    let path = folder.join("hybrid.store");
    std::fs::write(&path, trust::sign(&store, &root, &[])?)?;
    Ok((
        Referee::open(&Config::new(path, folder.join("hybrid.jsonl")))?,
        signed,
    ))
}

/// An array of no arguments in CBOR.
pub const NOTHING: [u8; 1] = [0x80];

pub fn timed<T>(samples: &mut Vec<f64>, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = act();
    samples.push(nanoseconds(begun.elapsed()));
    done
}

pub fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

fn verify(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    for _ in 0..count {
        let bundle = bench.bundle.clone();
        timed(samples, || bench.referee.admit(bundle))?;
    }
    Ok(())
}

fn verify_hybrid(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    let (referee, bundle) = &bench.hybrid;
    for _ in 0..count {
        let bundle = bundle.clone();
        timed(samples, || referee.admit(bundle))?;
    }
    Ok(())
}

fn permit(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    let muscle = bench.referee.admit(bench.bundle.clone())?;
    for _ in 0..count {
        timed(samples, || muscle.permit(&[]))?;
    }
    Ok(())
}

fn start(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    for _ in 0..count {
        let cell = timed(samples, || -> anyhow::Result<Cell> {
            let mut cell = bench.permit.start(Inputs::default())?;
            cell.call_encoded(&bench.thread, "echo", &NOTHING)?;
            Ok(cell)
        })?;
        drop(cell);
    }
    Ok(())
}

fn pool_start(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    for _ in 0..count {
        // The pool has time to fill itself, as between two requests.
        std::thread::sleep(Duration::from_millis(2));
        let cell = timed(samples, || -> anyhow::Result<Cell> {
            let mut cell = bench.pooled.start(Inputs::default())?;
            cell.call_encoded(&bench.thread, "echo", &NOTHING)?;
            Ok(cell)
        })?;
        drop(cell);
    }
    Ok(())
}

fn loaded_start(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    let _loaded = bench.pooled.keep_loaded(4)?;
    std::thread::sleep(Duration::from_millis(10));
    pool_start(bench, count, samples)
}

fn cold_start(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    for _ in 0..count {
        let bundle = bench.bundle.clone();
        let cell = timed(samples, || -> anyhow::Result<Cell> {
            let permit = bench.referee.admit(bundle)?.permit(&[])?;
            let mut cell = permit.start(Inputs::default())?;
            cell.call_encoded(&bench.thread, "echo", &NOTHING)?;
            Ok(cell)
        })?;
        drop(cell);
    }
    Ok(())
}
