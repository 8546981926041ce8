//! A TPM that is sound but for one answer: whichever it is, and whatever is wrong with it, the process that asked fails in order, gives
//! nothing away that it should not, and the host goes on with the next request.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use referee_attest::{AttestError, Attester, Open, Reply, Request, StateOwner};
use referee_evidence::to_hex;

use crate::host::{Host, NONCE, bundle, measure, programs};

/// What is done to the one answer.
type Change = fn(&mut Vec<u8>);

const HEAD: usize = 10;

const CHANGES: [(&str, Change); 5] = [
    ("its first value is another", |answer| flip(answer, HEAD)),
    ("its middle is another", |answer| {
        let middle = HEAD + answer.len().saturating_sub(HEAD) / 2;
        flip(answer, middle);
    }),
    ("every byte after its head is the highest", |answer| {
        answer.iter_mut().skip(HEAD).for_each(|byte| *byte = 0xff);
    }),
    ("it is cut, and says so", |answer| {
        answer.truncate(HEAD.max(answer.len() / 2));
        let size = u32::try_from(answer.len()).unwrap_or(0);
        answer[2..6].copy_from_slice(&size.to_be_bytes());
    }),
    ("it is TPM_RC_FAILURE", |answer| {
        *answer = vec![0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01];
    }),
];

fn flip(answer: &mut [u8], at: usize) {
    if let Some(byte) = answer.get_mut(at) {
        *byte ^= 0x55;
    }
}

/// Between a process and a TPM: counts answers, and changes one of them.
struct Between {
    path: PathBuf,
    turn: Arc<Turn>,
}

#[derive(Default)]
struct Turn {
    answered: AtomicU32,
    /// Which answer, and how.
    changed: Mutex<Option<(u32, Change)>>,
}

impl Between {
    fn new(host: &Host, tpm: &Path) -> Between {
        let path = host.path("between.sock");
        let turn = Arc::new(Turn::default());
        let listener = UnixListener::bind(&path).expect("listens");
        let (behind, seen) = (tpm.to_owned(), Arc::clone(&turn));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                pass_commands(stream, &behind, &seen);
            }
        });
        let control = UnixListener::bind(host.path("between.sock.ctrl")).expect("listens");
        let behind = PathBuf::from(format!("{}.ctrl", tpm.display()));
        std::thread::spawn(move || {
            for stream in control.incoming().map_while(Result::ok) {
                let other = UnixStream::connect(&behind).expect("is there");
                let (mut from, mut to) = (
                    stream.try_clone().expect("is open"),
                    other.try_clone().expect("is open"),
                );
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                let (mut from, mut to) = (other, stream);
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        });
        Between { path, turn }
    }

    fn open(&self, host: &Host) -> Open {
        Open {
            tpm: format!("tcti:swtpm:path={}", self.path.display()),
            ..host.open.clone()
        }
    }

    /// How many answers a request takes, and what it gives, with this one changed.
    fn ask(
        &self,
        host: &Host,
        request: &Request,
        changed: Option<(u32, Change)>,
    ) -> (u32, Result<Reply, AttestError>) {
        self.turn.answered.store(0, Ordering::SeqCst);
        *self.turn.changed.lock().expect("nobody panicked") = changed;
        let asked = Attester::start(programs().tpm.path(), self.open(host), Duration::from_secs(20))
            .and_then(|mut attester| attester.ask(request));
        (self.turn.answered.load(Ordering::SeqCst), asked)
    }
}

fn pass_commands(mut stream: UnixStream, tpm: &Path, turn: &Turn) {
    let mut tpm = UnixStream::connect(tpm).expect("is there");
    while let Some(command) = packet(&mut stream) {
        tpm.write_all(&command).expect("is taken");
        let Some(mut answer) = packet(&mut tpm) else {
            return;
        };
        let number = turn.answered.fetch_add(1, Ordering::SeqCst);
        if let Some((which, change)) = *turn.changed.lock().expect("nobody panicked")
            && which == number
        {
            change(&mut answer);
        }
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// One command or answer: its length is in its head (Part 1, 18).
fn packet(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEAD];
    stream.read_exact(&mut bytes).ok()?;
    let size = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]) as usize;
    bytes.resize(size.max(HEAD), 0);
    stream.read_exact(&mut bytes[HEAD..]).ok()?;
    Some(bytes)
}

fn owner() -> StateOwner {
    StateOwner {
        publisher: "acme".into(),
        muscle: "memo".into(),
        slot: "notes".into(),
    }
}

fn save(bytes: &[u8]) -> Request {
    Request::SaveState {
        owner: owner(),
        bundle: bundle("memo", 5),
        after: None,
        bytes: to_hex(bytes),
    }
}

#[test]
fn one_answer_that_is_changed_is_an_error_by_name_and_the_host_goes_on() {
    let host = Host::ready();
    host.ask(&save(b"state")).expect("is saved");
    let mut tools = host.tools();
    let socket = host.tpm_directory().join("other.sock");
    let between = Between::new(&host, &socket);
    let load = Request::LoadState {
        owner: owner(),
        epoch: 1,
    };
    let requests = [
        Request::Status,
        measure(bundle("second", 8)),
        Request::Evidence {
            nonce: to_hex(&NONCE),
            spoke: BTreeMap::new(),
            audit_head: None,
        },
        Request::Rotate { older_than: None },
        save(b"state"),
        load.clone(),
        Request::Enrol,
    ];
    let (mut changed, mut restarts) = (0, 0);
    for (place, request) in requests.iter().enumerate() {
        let (answers, sound) = between.ask(&host, request, None);
        sound.expect("is answered");
        assert!(answers > 5, "{request:?}: {answers}");
        for which in 0..answers {
            // Each answer in one way, another one for each request and answer.
            let (what, change) = CHANGES[(which as usize + place) % CHANGES.len()];
            let (_, asked) = between.ask(&host, request, Some((which, change)));
            changed += 1;
            match asked {
                Ok(_) | Err(AttestError::Failed { .. }) => {}
                Err(other) => panic!("{request:?}, answer {which}, {what}: {other}"),
            }
            // A handle that was changed on its way is never flushed; the kernel's resource manager does that when /dev/tpmrm0 is
            // closed.
            tools.run("tpm2_flushcontext", &["--transient-object"]);
            tools.run("tpm2_flushcontext", &["--loaded-session"]);
            let (_, mut after) = between.ask(&host, &load, None);
            if matches!(&after, Err(error) if ["event-log-mismatch", "key-closed"].contains(&error.name())) {
                // It was told of another boot, or of other registers: nothing is measured or opened until there is one.
                restarts += 1;
                drop(tools);
                let restart = Request::Restart {
                    tpm: host.open.tpm.clone(),
                };
                host.ask(&restart).expect("restarts");
                after = host.ask(&load);
                tools = host.tools();
            }
            let kept = Some(to_hex(b"state"));
            assert!(
                matches!(&after, Ok(Reply::State { bytes, .. }) if *bytes == kept),
                "after {request:?}, answer {which}, {what}: {after:?}"
            );
        }
    }
    assert!(changed > 60, "{changed}");
    assert!(restarts < changed / 8, "{restarts} of {changed}");
}
