//! What was measured since the node started, by the notary's word: nothing else becomes a worker's.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use referee_attest::Bundle;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::notary::{Commission, Done, Job, now_ms, supersedes};
use crate::nursery::passing;

/// Most jobs that the notary may have: they all fit into its socket, so giving one never waits.
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
            return Err(io::Error::other(format!(
                "{JOBS_MAX} questions wait for the TPM already"
            )));
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
        passing::send(notary, &job, &[line.as_fd()])?;
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
        let heard = self.line.as_ref().map(passing::receive::<Done>);
        match heard {
            Some(Ok(Some((done, _)))) => {
                if let Some(Some(bundle)) = self.jobs.remove(&done.number)
                    && done.measured
                {
                    // What the TPM would refuse from now on is refused here too.
                    self.bundles.retain(|_, other| !supersedes(&bundle, other));
                    self.bundles.insert(bundle.digest, bundle);
                }
            }
            // It is gone; what was measured stays so.
            _ => self.line = None,
        }
    }
}
