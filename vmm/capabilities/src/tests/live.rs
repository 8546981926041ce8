//! Grants taken back from another thread, while uses are under way.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use minicbor::{Decoder, Encoder};
use muscle_abi::frame::{ErrorCode, FrameKind};
use referee_audit::{AuditLog, AuditSink, Options};
use referee_bundle::CapabilityRequest;

use super::rig::grants;
use crate::{Broker, BrokerLimits, CellClock, ConsoleStreams, HostFunctions, LiveBroker, Resources, Stop};

const LONG: Duration = Duration::from_secs(60);

fn functions(names: &[&str]) -> CapabilityRequest {
    CapabilityRequest::Functions {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// A broker whose slot `f` has one function.
fn with_function(function: impl Fn() + Send + Sync + 'static) -> (LiveBroker, u64) {
    let grants = grants(&[("f", functions(&["f"]))], &[]);
    let (streams, ..) = ConsoleStreams::memory(Vec::new());
    let mut resources = Resources::acquire(&grants, streams).expect("opened");
    let mut offered = HostFunctions::default();
    offered.insert(
        "f",
        Arc::new(move |_: &[u8]| {
            function();
            Ok(vec![0xf6])
        }),
    );
    resources.offer(offered);
    let audit = AuditSink::new(AuditLog::in_memory(Options::default()), "c", "m");
    let limits = BrokerLimits {
        denials: u32::MAX,
        ..BrokerLimits::default()
    };
    let broker = Broker::new(&grants, resources, audit, CellClock::start(), limits).expect("a broker");
    let handle = broker.entries()[0].handle;
    (broker.into(), handle)
}

/// Calls the function, and gives the error's code.
fn call(broker: &LiveBroker, handle: u64) -> Result<Option<ErrorCode>, Stop> {
    let mut payload = Encoder::new(Vec::new());
    payload
        .array(2)
        .and_then(|out| out.str("f"))
        .and_then(|out| out.bytes(b""))
        .expect("a vector");
    let mut reply = Vec::new();
    let kind = broker.call(handle, "functions.call", &payload.into_writer(), &mut reply)?;
    let mut decoder = Decoder::new(&reply);
    Ok((kind == FrameKind::Error).then(|| {
        decoder.array().expect("an error");
        ErrorCode::from_number(decoder.u32().expect("a code")).expect("is known")
    }))
}

#[test]
fn no_use_is_under_way_or_begins_once_a_revocation_has_returned() {
    // Whether the function may run; and how often it ran when it might not.
    let (allowed, wrong) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    for _ in 0..50 {
        allowed.store(true, Ordering::SeqCst);
        let (may, bad) = (Arc::clone(&allowed), Arc::clone(&wrong));
        let (broker, handle) = with_function(move || {
            thread::yield_now();
            if !may.load(Ordering::SeqCst) {
                bad.fetch_add(1, Ordering::SeqCst);
            }
        });
        let (begun, has_begun) = mpsc::channel();
        let caller = broker.clone();
        let caller = thread::spawn(move || {
            let mut denied = 0;
            while denied < 20 {
                match call(&caller, handle).expect("goes on") {
                    None => begun.send(()).unwrap_or_default(),
                    Some(ErrorCode::StaleHandle) => denied += 1,
                    Some(other) => panic!("{other:?}"),
                }
            }
        });
        has_begun.recv().expect("it works");
        broker.leave("f", None);
        assert!(broker.settle(Instant::now() + LONG, || {}));
        allowed.store(false, Ordering::SeqCst);
        caller.join().expect("is denied again and again");
    }
    assert_eq!(wrong.load(Ordering::SeqCst), 0);
}

#[test]
fn a_use_that_does_not_end_is_waited_for_and_told_of() {
    let (release, released) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let released = Mutex::new(released);
    let (broker, handle) = with_function(move || {
        // The test may be over.
        let _ = begun.send(());
        let _ = released.lock().expect("one at a time").recv();
    });
    let caller = broker.clone();
    let caller = thread::spawn(move || {
        (
            call(&caller, handle).expect("ends"),
            call(&caller, handle).expect("ends"),
        )
    });
    has_begun.recv().expect("is under way");
    broker.leave("f", None);
    let mut interrupted = 0;
    assert!(!broker.settle(Instant::now() + Duration::from_millis(20), || interrupted += 1));
    assert!(interrupted > 0);
    drop(release);
    assert!(broker.settle(Instant::now() + LONG, || {}));
    let (first, second) = caller.join().expect("ends");
    assert_eq!((first, second), (None, Some(ErrorCode::StaleHandle)));
}

#[test]
fn whoever_takes_a_grant_back_within_its_own_use_does_not_wait_for_ever() {
    let own: Arc<Mutex<Option<LiveBroker>>> = Arc::default();
    let within = Arc::clone(&own);
    let (broker, handle) = with_function(move || {
        let broker = within.lock().expect("whole").clone().expect("is set");
        broker.leave("f", None);
        assert!(
            !broker.settle(Instant::now(), || {}),
            "this very use is under way"
        );
    });
    *own.lock().expect("whole") = Some(broker.clone());
    assert_eq!(call(&broker, handle).expect("ends"), None);
    assert_eq!(call(&broker, handle).expect("ends"), Some(ErrorCode::StaleHandle));
    *own.lock().expect("whole") = None;
}

/// A parent that answers each question with its number, when it is let.
fn answer_in_turn(mut line: UnixStream, let_go: &mpsc::Receiver<()>) {
    use std::io::Write as _;
    let mut head = [0; 5];
    let mut number = 0u8;
    while line.read_exact(&mut head).is_ok() {
        let [_, a, b, c, d] = head;
        let mut question = vec![0; u32::from_le_bytes([a, b, c, d]) as usize];
        if line.read_exact(&mut question).is_err() || let_go.recv().is_err() {
            return;
        }
        if line.write_all(&[0, 1, 0, 0, 0, number]).is_err() {
            return;
        }
        number += 1;
    }
}

#[test]
fn the_answer_to_a_revoked_slot_goes_to_nobody_else() {
    let state = |max_bytes| CapabilityRequest::State { max_bytes };
    let grants = grants(&[("one", state(9)), ("two", state(9))], &[]);
    let (streams, ..) = ConsoleStreams::memory(Vec::new());
    let mut resources = Resources::acquire(&grants, streams).expect("opened");
    let (cell, host) = UnixStream::pair().expect("a pair");
    // A read that finds nothing ends as if a signal had come.
    cell.set_read_timeout(Some(Duration::from_millis(1)))
        .expect("is set");
    resources.ask_tpm_by(cell.into());
    let (let_go, may_go) = mpsc::channel();
    thread::spawn(move || answer_in_turn(host, &may_go));
    let audit = AuditSink::new(AuditLog::in_memory(Options::default()), "c", "m");
    let mut broker = Broker::new(
        &grants,
        resources,
        audit,
        CellClock::start(),
        BrokerLimits::default(),
    )
    .expect("a broker");
    let handles: Vec<u64> = broker.entries().iter().map(|entry| entry.handle).collect();
    let mut reply = Vec::new();
    // The socket says EAGAIN where a signal would have said EINTR, so this one is the host's failure; the question is under way all the same.
    let asked = broker.call(handles[0], "state.load", &[0x80], &mut reply);
    assert!(
        matches!(asked, Err(Stop::Host(_) | Stop::Interrupted)),
        "{asked:?}"
    );
    broker.leave("one", None);
    let_go.send(()).expect("is there");
    let_go.send(()).expect("is there");
    let answer = loop {
        match broker.call(handles[1], "state.load", &[0x80], &mut reply) {
            Ok(kind) => break kind,
            Err(_) => thread::yield_now(),
        }
    };
    let bytes = Decoder::new(&reply).bytes().expect("bytes").to_vec();
    assert_eq!(
        (answer, bytes),
        (FrameKind::Return, vec![1]),
        "the second answer, not the first"
    );
}
