//! Sees to it that this process does not outlive whoever asks by more than a moment, whatever the TPM does.
//!
//! The end of the input is the sign to go, and it is looked at between two requests. A TPM that stalls in the middle of one would keep this process for as long
//! as it likes; and an asker that was killed can end nothing any more.

use std::io::stdin;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// How long what is under way may go on, and a software TPM may take to be put to sleep.
const GRACE: Duration = Duration::from_secs(5);
/// Enough for a thread that waits.
const STACK: usize = 64 << 10;

/// Has the process end when its input has ended, a little later than it would by itself. What it had under way is then as after a loss of power, which the next
/// one finds and puts in order.
pub fn start() {
    // Without it everything is as it is while the TPM answers.
    let _ = thread::Builder::new()
        .name("watch".into())
        .stack_size(STACK)
        .spawn(|| {
            if has_ended() {
                thread::sleep(GRACE);
                std::process::exit(1);
            }
        });
}

/// Comes back when nobody can write into the input any more, whether or not all of it was read. False if that cannot be seen.
fn has_ended() -> bool {
    let input = stdin();
    loop {
        let mut polled = [PollFd::new(&input, PollFlags::empty())];
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => return polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR),
        }
    }
}
