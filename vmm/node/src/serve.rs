//! The service from its start to its end.
//!
//! ```text
//!   config ─► nursery forked ─► state, log ─► socket ─► ready ─► … ─► stop signal ─► drain ─► end
//! ```

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::time::Duration;

use referee_hv::process::StopSignals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::api;
use crate::config::Config;
use crate::error::{NodeError, OrHost};
use crate::node::{Node, Principal};
use crate::nursery::{self, Authority, Nursery};
use crate::report;

/// SIGHUP: read trust store and policies again.
const HANG_UP: i32 = 1;

/// Runs the node until a stop signal. The caller must have one thread.
///
/// # Errors
/// [`NodeError`] when it cannot start.
pub fn serve(config: Config) -> Result<(), NodeError> {
    let authority = Authority {
        trust_store: config.trust_store.clone(),
        policies: config.policies.clone(),
        max_bundle_bytes: config.cells.bundle_bytes,
    };
    let (nursery_process, socket) = nursery::start(authority)?;
    let watched = nursery_process
        .descriptor()
        .try_clone_to_owned()
        .or_host("watching the nursery")?;
    // Stop signals are blocked since that fork, in every thread that is made from here on.
    let signals = StopSignals::open().or_host("listening to signals")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .or_host("starting the service's threads")?;
    let served = runtime.block_on(run(config, Nursery::new(socket), watched, signals));
    // Requests to the nursery may still be under way on threads that block; it is ended below.
    runtime.shutdown_timeout(Duration::from_millis(100));
    drop(nursery_process);
    served
}

async fn run(
    config: Config,
    nursery: Nursery,
    nursery_process: OwnedFd,
    signals: StopSignals,
) -> Result<(), NodeError> {
    let node = Node::open(config.clone(), nursery)?;
    let listener = listen(&config)?;
    let mut signals = stop_signals(signals)?;
    let nursery_ended = end_of(nursery_process)?;
    let router = api::router(node.clone());
    let idle = tokio::spawn({
        let node = node.clone();
        async move { node.retire_idle().await }
    });
    let (end, ended) = oneshot::channel::<()>();
    let server = tokio::spawn(api::serve(listener, router, config.api.clone(), async {
        // Its sender is dropped only by sending.
        let _ = ended.await;
    }));
    let deployments = node.deployments().len();
    report::notice(&format!(
        "ready: {deployments} deployments, {} slots, API on {}",
        node.slot_count(),
        config.api.socket.display()
    ));
    notify("READY=1");
    let why = tokio::select! {
        () = until_stopped(&node, &mut signals) => Ok(()),
        // Its workers end with it.
        _ = nursery_ended => {
            Err(NodeError::host("without the nursery there is no worker")("the nursery has ended"))
        }
    };
    notify("STOPPING=1");
    report::notice("ending: calls that are under way may end");
    node.drain();
    let _ = end.send(());
    let patience = Duration::from_secs(config.drain_seconds);
    node.settle(patience).await;
    // What is left are connections on which nothing is under way, or whose clients do not read.
    let _ = tokio::time::timeout(Duration::from_secs(1), server).await;
    idle.abort();
    let audit = node.audit().clone();
    tokio::task::spawn_blocking(move || audit.sync())
        .await
        .or_host("flushing the audit log")?
        .or_host("flushing the audit log")?;
    if config.api.socket.exists() {
        // A socket that the service manager made is its own to remove.
        let _ = fs::remove_file(&config.api.socket);
    }
    why
}

/// Comes back when a process has ended: its descriptor is readable then (pidfd_open(2)).
fn end_of(process: OwnedFd) -> Result<oneshot::Receiver<()>, NodeError> {
    let (ended, has_ended) = oneshot::channel();
    let watch = move || {
        while poll(&mut [PollFd::new(&process, PollFlags::IN)], None) == Err(Errno::INTR) {}
        // The service may be ending already.
        let _ = ended.send(());
    };
    let thread = std::thread::Builder::new().name("nursery".into());
    thread.spawn(watch).or_host("starting a thread")?;
    Ok(has_ended)
}

/// The stop signals that come, from a thread that waits for them.
fn stop_signals(signals: StopSignals) -> Result<mpsc::UnboundedReceiver<i32>, NodeError> {
    let (heard, hears) = mpsc::unbounded_channel();
    let listen = move || {
        loop {
            let mut polled = [PollFd::new(&signals, PollFlags::IN)];
            // Interrupted or not: it is looked at.
            let _ = poll(&mut polled, None);
            while let Ok(Some(signal)) = signals.take() {
                if heard.send(signal).is_err() {
                    return;
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(listen).or_host("starting a thread")?;
    Ok(hears)
}

/// Comes back at SIGINT or SIGTERM. SIGHUP has trust store and policies read again.
async fn until_stopped(node: &Node, signals: &mut mpsc::UnboundedReceiver<i32>) {
    while signals.recv().await == Some(HANG_UP) {
        notify("RELOADING=1");
        match node.reload(&Principal("signal".into())).await {
            Ok(()) => report::notice("trust store and policies were read again"),
            Err(error) => report::problem(&format!(
                "trust store and policies stay as they were: {}",
                error.with_causes()
            )),
        }
        notify("READY=1");
    }
}

/// Listens on the configured socket. One that nobody listens on any more is replaced; anything else at the path is left alone.
fn listen(config: &Config) -> Result<UnixListener, NodeError> {
    let path = &config.api.socket;
    let doing = "listening on the API's socket";
    make_room(path)?;
    let listener = StdListener::bind(path).map_err(|error| {
        NodeError::host("listening on the API's socket")(format!("{}: {error}", path.display()))
    })?;
    fs::set_permissions(path, fs::Permissions::from_mode(config.socket_mode()?)).or_host(doing)?;
    listener.set_nonblocking(true).or_host(doing)?;
    UnixListener::from_std(listener).or_host(doing)
}

fn make_room(path: &Path) -> Result<(), NodeError> {
    let refuse = |why: String| {
        Err(NodeError::Config(format!(
            "api.socket {}: {why}",
            path.display()
        )))
    };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match StdStream::connect(path) {
            Ok(_) => refuse("another program listens there already".into()),
            Err(_) => fs::remove_file(path).or_host("removing a stale socket"),
        },
        Ok(_) => refuse("is there and is no socket".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => refuse(error.to_string()),
    }
}

/// Tells the service manager, if there is one (sd_notify(3)).
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    // Without a service manager that listens there is nobody to tell.
    let _ = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(state.as_bytes(), path));
}
