//! What was measured since the node started, by the notary's word: nothing else becomes a worker's.
//!
//! The notary is believed what it says of the bundle that it was asked about, once. One that speaks of anything else is not itself any more, and is asked
//! and heard no longer: it could otherwise keep the nursery from everybody else by speaking without end.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use referee_attest::Bundle;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::notary::{Commission, Done, Job, now_ms, supersedes};
use crate::nursery::passing;
use crate::report;

/// Most jobs that the notary may have.
const JOBS_MAX: usize = 64;

/// The nursery's end of the line to the notary.
pub(super) struct Measured {
    /// None once the notary is gone.
    line: Option<OwnedFd>,
    jobs: BTreeMap<u64, Option<Bundle>>,
    next: u64,
    bundles: BTreeMap<[u8; 32], Bundle>,
}

impl Measured {
    pub fn by(line: OwnedFd) -> Measured {
        Measured {
            line: Some(line),
            jobs: BTreeMap::new(),
            next: 0,
            bundles: BTreeMap::new(),
        }
    }

    /// Whether the bundle of this digest may run.
    pub fn has(&self, digest: &[u8; 32]) -> bool {
        self.bundles.contains_key(digest)
    }

    /// Gives the notary something to do, of which whoever has the other end of `line` will hear.
    ///
    /// # Errors
    /// When it is gone, or has too much to do.
    pub fn commission(&mut self, commission: Commission, line: &OwnedFd) -> io::Result<()> {
        let gone = || io::Error::other("the notary is gone, so nothing new is measured; restart the node");
        let notary = self.line.as_ref().ok_or_else(gone)?;
        if self.jobs.len() >= JOBS_MAX {
            return Err(too_much(JOBS_MAX));
        }
        let bundle = match &commission {
            Commission::Measure { bundle, .. } => Some(bundle.clone()),
            Commission::Evidence | Commission::Speak(_) | Commission::Look => None,
        };
        let number = self.next;
        self.next += 1;
        let job = Job {
            number,
            given_ms: now_ms(),
            commission,
        };
        // One that is busy with a TPM that stalls reads nothing meanwhile.
        passing::send_now(notary, &job, &[line.as_fd()]).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => too_much(self.jobs.len()),
            _ => error,
        })?;
        self.jobs.insert(number, bundle);
        Ok(())
    }

    /// Waits until the supervisor asks for something or is gone; meanwhile, and before that is looked at, takes all that the notary says.
    ///
    /// # Errors
    /// When there is no waiting on this host.
    pub fn until_asked(&mut self, supervisor: &OwnedFd) -> io::Result<()> {
        let (mut asked, mut timeout) = (false, None);
        loop {
            let mut polled = vec![PollFd::new(supervisor, PollFlags::IN)];
            polled.extend(self.line.as_ref().map(|line| PollFd::new(line, PollFlags::IN)));
            match poll(&mut polled, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let ready = |at: usize| polled.get(at).is_some_and(|one| !one.revents().is_empty());
            asked |= ready(0);
            match (ready(1), asked) {
                (true, _) => self.hear(),
                (false, true) => return Ok(()),
                (false, false) => {}
            }
            if asked {
                timeout = Some(Timespec::default());
            }
        }
    }

    fn hear(&mut self) {
        let wrong = match self.line.as_ref().map(passing::receive::<Done>) {
            Some(Ok(Some((done, _)))) => match self.jobs.remove(&done.number) {
                Some(Some(bundle)) if done.measured => {
                    // What the TPM would refuse from now on is refused here too.
                    self.bundles.retain(|_, other| !supersedes(&bundle, other));
                    self.bundles.insert(bundle.digest, bundle);
                    return;
                }
                Some(None) if done.measured => "called measured what is no bundle".to_owned(),
                Some(_) => return,
                None => "answered what it was not asked".to_owned(),
            },
            Some(Err(error)) => format!("is not understood: {error}"),
            Some(Ok(None)) | None => "ended".to_owned(),
        };
        // What was measured stays so.
        self.line = None;
        report::problem(&format!("the notary {wrong}; nothing new is measured"));
    }
}

fn too_much(waiting: usize) -> io::Error {
    io::Error::other(format!("{waiting} questions wait for the TPM already"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    fn bundle(digest: u8) -> Bundle {
        Bundle {
            muscle: format!("muscle-{digest} 1.0.0"),
            digest: [digest; 32],
            signer: [0; 32],
            epoch: 0,
        }
    }

    fn measure(digest: u8) -> Commission {
        Commission::Measure {
            bundle: bundle(digest),
            to_be_signed: false,
        }
    }

    /// The nursery's part, and the notary's end of its line.
    fn stage() -> (Measured, OwnedFd) {
        let (ours, theirs) = passing::pair().expect("a pair");
        (Measured::by(ours), theirs)
    }

    /// Commissions something, and gives the end on which its answer would come.
    fn commission(measured: &mut Measured, commission: Commission) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        measured.commission(commission, &OwnedFd::from(theirs))?;
        Ok(ours)
    }

    fn done(number: u64, measured: bool) -> Done {
        Done { number, measured }
    }

    /// What the nursery does when the supervisor has asked for something, with this having been said: it must come back to serve it.
    fn hears(measured: &mut Measured) {
        let (ours, supervisor) = passing::pair().expect("a pair");
        passing::send(&supervisor, &0u8, &[]).expect("is sent");
        measured.until_asked(&ours).expect("is asked");
    }

    #[test]
    fn what_it_was_asked_about_is_measured_by_its_word_and_nothing_else() {
        let (mut measured, notary) = stage();
        for digest in [1, 2] {
            commission(&mut measured, measure(digest)).expect("is given");
        }
        // Out of order, and one that is refused.
        for word in [done(1, true), done(0, false)] {
            passing::send(&notary, &word, &[]).expect("is sent");
        }
        hears(&mut measured);
        assert_eq!([1, 2].map(|digest| measured.has(&[digest; 32])), [false, true]);
        commission(&mut measured, measure(1)).expect("it is asked on");
    }

    #[test]
    fn one_that_says_what_it_was_not_asked_is_heard_no_more() {
        type Lie = fn(&OwnedFd);
        let lies: [(&str, Lie); 6] = [
            ("of nothing", |notary| {
                drop(passing::send(notary, &done(7, true), &[]))
            }),
            ("twice", |notary| {
                for word in [done(0, false), done(0, true)] {
                    drop(passing::send(notary, &word, &[]));
                }
            }),
            ("of what is no bundle", |notary| {
                drop(passing::send(notary, &done(1, true), &[]))
            }),
            ("garbage", |notary| {
                let _ = rustix::io::write(notary, &[0xff; 40]);
            }),
            ("more than a message holds", |notary| {
                // As much as the socket takes at once; more than a message may have.
                let _ = rustix::io::write(notary, &vec![0xff; 150 << 10]);
            }),
            ("a message of nothing", |notary| {
                let _ = rustix::io::write(notary, &[]);
            }),
        ];
        for (what, lie) in lies {
            let (mut measured, notary) = stage();
            let waits = commission(&mut measured, measure(1)).expect("is given");
            commission(&mut measured, Commission::Look).expect("is given");
            lie(&notary);
            // True now, and too late.
            drop(passing::send(&notary, &done(0, true), &[]));
            hears(&mut measured);
            assert!(!measured.has(&[1; 32]), "{what}");
            commission(&mut measured, measure(2)).expect_err(what);
            // With the notary's end, whoever waits for an answer hears that none comes.
            drop(notary);
            waits
                .set_read_timeout(Some(std::time::Duration::from_secs(30)))
                .expect("is set");
            assert_eq!(io::Read::read(&mut &waits, &mut [0]).expect("ends"), 0, "{what}");
        }
    }

    #[test]
    fn one_that_speaks_without_end_keeps_the_nursery_from_nobody() {
        let (mut measured, notary) = stage();
        commission(&mut measured, measure(1)).expect("is given");
        let speaks = thread::spawn(move || while passing::send(&notary, &done(0, false), &[]).is_ok() {});
        hears(&mut measured);
        drop(measured);
        speaks.join().expect("its line was closed");
    }

    #[test]
    fn one_that_ends_takes_nothing_with_it_that_was_measured() {
        let (mut measured, notary) = stage();
        commission(&mut measured, measure(1)).expect("is given");
        passing::receive::<Job>(&notary).expect("comes");
        passing::send(&notary, &done(0, true), &[]).expect("is sent");
        drop(notary);
        hears(&mut measured);
        assert!(measured.has(&[1; 32]));
        commission(&mut measured, measure(2)).expect_err("it is gone");
    }

    #[test]
    fn one_that_reads_nothing_is_not_waited_for() {
        let (mut measured, _notary) = stage();
        let long = |digest| Commission::Measure {
            bundle: Bundle {
                muscle: "x".repeat(16 << 10),
                ..bundle(digest)
            },
            to_be_signed: false,
        };
        let (given, says) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let refused = (0..200).find_map(|digest| commission(&mut measured, long(digest)).err());
            let _ = given.send(refused.map(|error| error.to_string()));
        });
        let refused = says
            .recv_timeout(std::time::Duration::from_secs(30))
            .expect("it does not wait");
        let refused = refused.expect("it has too much to do");
        assert!(refused.contains("wait for the TPM already"), "{refused}");
    }
}
