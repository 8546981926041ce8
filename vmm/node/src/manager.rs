//! The service manager that runs the node, if one does: what it hands over and what it is told (sd_listen_fds(3), sd_notify(3)).
//!
//! Only the supervisor speaks to it. The nursery and the workers have its address in their environment and are not heard: a unit says
//! `NotifyAccess=main`.

use std::env;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use rustix::time::{ClockId, clock_gettime};

use crate::error::NodeError;

/// Sockets that the service manager made. Whoever forks must close them in the child.
#[derive(Debug, Default)]
pub(crate) struct HandedOver {
    /// For the API.
    pub api: Option<UnixListener>,
    /// For metrics and health.
    pub metrics: Option<TcpListener>,
}

/// Takes them: a Unix socket is the API's, one of TCP the metrics'.
///
/// # Errors
/// [`NodeError::Config`] when they are anything else, or do not listen.
pub(crate) fn take_listeners() -> Result<HandedOver, NodeError> {
    let refuse = |why: String| NodeError::Config(format!("what the service manager hands over {why}"));
    let mut handed = ListenFd::from_env();
    let mut taken = HandedOver::default();
    for index in 0..handed.len() {
        // A unit with `Accept=yes` hands over connections.
        if let Ok(Some(socket)) = handed.take_unix_listener(index) {
            if !socket_acceptconn(&socket).unwrap_or(false) {
                return Err(refuse("is a socket that does not listen".into()));
            }
            if taken.api.replace(socket).is_some() {
                return Err(refuse("is more than one Unix socket; the API has one".into()));
            }
            continue;
        }
        let tcp = handed.take_tcp_listener(index);
        let tcp = tcp.map_err(|error| refuse(format!("is no socket for the API or for metrics: {error}")))?;
        let Some(socket) = tcp.filter(|socket| socket_acceptconn(socket).unwrap_or(false)) else {
            return Err(refuse("is a socket that does not listen".into()));
        };
        if taken.metrics.replace(socket).is_some() {
            return Err(refuse("is more than one TCP socket; metrics have one".into()));
        }
    }
    Ok(taken)
}

/// Says that the node serves.
pub(crate) fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={}", one_line(status)));
}

/// Says that trust store and policies are being read again, since now; [`ready`] says that this is done.
pub(crate) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    tell(&format!(
        "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading trust store and policies again"
    ));
}

/// Says that the node is about to end.
pub(crate) fn stopping(status: &str) {
    tell(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
}

/// Says that the node gets on.
pub(crate) fn alive() {
    tell("WATCHDOG=1");
}

/// How often [`alive`] is to be said, if somebody waits for it: twice within the time after which the node counts as stuck.
pub(crate) fn watchdog_period() -> Option<Duration> {
    let own = std::process::id().to_string();
    if env::var("WATCHDOG_PID").is_ok_and(|pid| pid != own) {
        return None;
    }
    period(&env::var("WATCHDOG_USEC").ok()?)
}

fn period(micros: &str) -> Option<Duration> {
    let half = micros.parse::<u64>().ok()? / 2;
    (half > 0).then(|| Duration::from_micros(half))
}

/// A status has one line; what a policy's error quotes must not become another assignment.
fn one_line(status: &str) -> String {
    status.replace(|c: char| c.is_control(), " ")
}

fn tell(state: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let send = || {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    };
    // Without a service manager that listens there is nobody to tell.
    let _ = send();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_comes_twice_in_the_time_that_is_given() {
        assert_eq!(period("30000000"), Some(Duration::from_secs(15)));
        for none in ["", "0", "1", "-5", "soon"] {
            assert_eq!(period(none), None, "{none}");
        }
    }

    #[test]
    fn a_status_cannot_say_anything_else() {
        assert_eq!(one_line("line 3:\nREADY=1"), "line 3: READY=1");
    }
}
