//! The service from its start to its end.
//!
//! ```text
//!   config ─► notary, nursery forked ─► state, log ─► nursery answers ─► identity measured ─► socket ─► ready ─► … ─► stop signal ─► drain ─► end
//! ```

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use referee_hv::process::StopSignals;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::api::{self, Listeners};
use crate::config::Config;
use crate::error::{NodeError, OrHost};
use crate::health;
use crate::manager::{self, HandedOver};
use crate::node::{Node, Principal};
use crate::notary;
use crate::nursery::{self, Authority, Nursery, Trusted};
use crate::report;
use crate::tls::Tls;

/// SIGHUP: read trust store and policies again.
const HANG_UP: i32 = 1;

/// Runs the node until a stop signal. The caller must have one thread.
///
/// # Errors
/// [`NodeError`] when it cannot start.
pub fn serve(config: Config) -> Result<(), NodeError> {
    crate::descriptors::raise_limit();
    let authority = Authority {
        trust_store: config.trust_store.clone(),
        policies: config.policies.clone(),
        max_bundle_bytes: config.cells.bundle_bytes,
    };
    let mut handed_over = manager::take_listeners()?;
    let trusted = Trusted::read(&authority)?;
    let notary = match &config.tpm {
        Some(tpm) => Some(notary::start(tpm, &trusted, &mut handed_over)?.split()),
        None => None,
    };
    let (notary, line) = notary.unzip();
    let (nursery_process, socket) = nursery::start(authority, trusted, line, &mut handed_over)?;
    let nursery_end = nursery_process
        .descriptor()
        .try_clone_to_owned()
        .or_host("watching the nursery")?;
    // Stop signals are blocked since that fork, in every thread that is made from here on.
    let signals = StopSignals::open().or_host("listening to signals")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .or_host("starting the service's threads")?;
    let found = Found {
        nursery: Nursery::new(socket),
        nursery_end,
        signals,
        handed_over,
    };
    let served = runtime.block_on(run(config, found));
    // Requests to the nursery may still be under way on threads that block; it is ended below.
    runtime.shutdown_timeout(Duration::from_millis(100));
    drop(nursery_process);
    // It has nobody left to work for.
    drop(notary);
    served
}

/// What there is before the first thread is made.
struct Found {
    nursery: Nursery,
    /// Readable when the nursery has ended.
    nursery_end: OwnedFd,
    signals: StopSignals,
    /// Sockets that the service manager made.
    handed_over: HandedOver,
}

async fn run(config: Config, found: Found) -> Result<(), NodeError> {
    let node = Node::open(config.clone(), found.nursery)?;
    // Without KVM it says why and ends; then nobody is told that the node is ready.
    node.nursery().greet().await?;
    // Nor without its TPM: what this node is must be measured before anything runs.
    if let Some(notary) = node.notary() {
        notary.look().await?;
    }
    let handed_over = found.handed_over.api.is_some();
    let listener = match found.handed_over.api {
        Some(listener) => listener,
        None => listen(&config)?,
    };
    let doing = "listening on the API's socket";
    listener.set_nonblocking(true).or_host(doing)?;
    let listener = UnixListener::from_std(listener).or_host(doing)?;
    let address = listener.local_addr().or_host(doing)?;
    let tcp = match node.tls() {
        Some(tls) => Some((listen_on_tcp(tls).await?, Arc::clone(tls))),
        None => None,
    };
    let on_tcp = match &tcp {
        Some((tcp, _)) => format!(" and https {}", tcp.local_addr().or_host(doing)?),
        None => String::new(),
    };
    let metrics = metrics(&config, found.handed_over.metrics)?;
    health::look(&node).await;
    let mut heard = listen_to(found.signals, found.nursery_end)?;
    let router = api::router(node.clone());
    let idle = tokio::spawn({
        let node = node.clone();
        async move { node.retire_idle().await }
    });
    let resting = tokio::spawn({
        let node = node.clone();
        async move { node.let_cells_rest().await }
    });
    let removing = tokio::spawn({
        let node = node.clone();
        async move { node.remove_unused_bundles().await }
    });
    let time = tokio::spawn({
        let turns = node.turns().clone();
        async move { turns.keep_time().await }
    });
    let pings = tokio::spawn(ping(node.clone()));
    let watch = tokio::spawn({
        let node = node.clone();
        async move { health::watch(node).await }
    });
    let comparing = tokio::spawn({
        let node = node.clone();
        async move { node.compare().await }
    });
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let listeners = Listeners {
        socket: listener,
        tcp,
    };
    let server = tokio::spawn(api::serve(listeners, router, config.api.clone(), async {
        // Its sender is dropped only by sending.
        let _ = ended.await;
    }));
    let mut scraped = String::new();
    if let Some((listener, address)) = metrics {
        scraped = format!(", metrics on http://{address}/metrics");
        let router = api::open_router(node.clone());
        // It says how the node is while calls end, too, and goes with the process.
        tokio::spawn(api::serve_openly(listener, router, config.api.clone()));
    }
    let status = status(&node);
    let path = address.as_pathname().unwrap_or(&config.api.socket);
    report::notice(&format!(
        "ready: {status}, API on {}{on_tcp}{scraped}",
        path.display()
    ));
    manager::ready(&status);
    let outcome = until_stopped(&node, &mut heard).await;
    manager::stopping("calls that are under way may end");
    report::notice("ending: calls that are under way may end");
    node.drain();
    let _ = end.send(());
    let patience = Duration::from_secs(config.drain_seconds);
    node.settle(patience).await;
    // What is left then are connections on which nothing is under way, or whose clients do not read.
    let _ = tokio::time::timeout(api::FIRST_WORDS_AT_END + Duration::from_secs(1), server).await;
    idle.abort();
    resting.abort();
    removing.abort();
    time.abort();
    pings.abort();
    watch.abort();
    comparing.abort();
    let (audit, tracer) = (node.audit().clone(), node.tracer().clone());
    tokio::task::spawn_blocking(move || {
        tracer.end();
        audit.sync()
    })
    .await
    .or_host("flushing the audit log")?
    .or_host("flushing the audit log")?;
    if !handed_over {
        // It may be gone already. One that the service manager made goes on listening for the next life of the service.
        let _ = fs::remove_file(&config.api.socket);
    }
    outcome
}

/// Tells the service manager that the node gets on: the threads of the API run, and the nursery answers.
async fn ping(node: Node) {
    let Some(period) = manager::watchdog_period() else {
        return;
    };
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // One that does not answer is not asked again; then no ping comes either.
        if node.nursery().greet().await.is_ok() {
            manager::alive();
        }
    }
}

fn status(node: &Node) -> String {
    format!(
        "{} deployments, {} slots",
        node.deployments().len(),
        node.slot_count()
    )
}

/// What makes the service do something that no client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// SIGHUP: trust store and policies are to be read again.
    HangUp,
    /// SIGINT or SIGTERM.
    Stop,
    /// The nursery has ended.
    NurseryEnded,
}

/// Signals and the nursery's end, from a thread that waits for them.
fn listen_to(
    signals: StopSignals,
    nursery_end: OwnedFd,
) -> Result<mpsc::UnboundedReceiver<Heard>, NodeError> {
    let (heard, hears) = mpsc::unbounded_channel();
    let listen = move || {
        loop {
            let mut polled = [
                PollFd::new(&signals, PollFlags::IN),
                PollFd::new(&nursery_end, PollFlags::IN),
            ];
            // Interrupted or not: they are looked at.
            let _ = poll(&mut polled, None);
            let [_, nursery] = &polled;
            let ended = nursery.revents().contains(PollFlags::IN);
            while let Ok(Some(signal)) = signals.take() {
                let what = if signal == HANG_UP {
                    Heard::HangUp
                } else {
                    Heard::Stop
                };
                if heard.send(what).is_err() {
                    return;
                }
            }
            if ended {
                let _ = heard.send(Heard::NurseryEnded);
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(listen).or_host("starting a thread")?;
    Ok(hears)
}

/// Comes back when the service is to end; with an error if nobody asked for it.
async fn until_stopped(node: &Node, heard: &mut mpsc::UnboundedReceiver<Heard>) -> Result<(), NodeError> {
    loop {
        match heard.recv().await {
            Some(Heard::HangUp) => {
                manager::reloading();
                reload(node).await;
            }
            Some(Heard::Stop) => return Ok(()),
            // Nothing can be started any more, and its workers have gone with it.
            Some(Heard::NurseryEnded) | None => {
                let why = "it ended by itself";
                return Err(io::Error::other(why)).or_host("keeping the nursery");
            }
        }
    }
}

async fn reload(node: &Node) {
    match node.reload(&Principal("signal".into())).await {
        Ok(()) => {
            report::notice("trust store and policies were read again");
            manager::ready(&status(node));
        }
        Err(error) => {
            let message = format!(
                "trust store and policies stay as they were: {}",
                error.with_causes()
            );
            report::problem(&message);
            manager::ready(&message);
        }
    }
}

/// Listens on the configured socket. One that nobody listens on any more is replaced; anything else at the path is left alone.
fn listen(config: &Config) -> Result<StdListener, NodeError> {
    let path = &config.api.socket;
    let doing = "listening on the API's socket";
    make_room(path)?;
    let listener = StdListener::bind(path).map_err(|error| {
        NodeError::host("listening on the API's socket")(format!("{}: {error}", path.display()))
    })?;
    fs::set_permissions(path, fs::Permissions::from_mode(config.socket_mode()?)).or_host(doing)?;
    Ok(listener)
}

/// Where metrics are to be had over TCP, if anywhere.
fn metrics(
    config: &Config,
    handed_over: Option<StdTcpListener>,
) -> Result<Option<(TcpListener, SocketAddr)>, NodeError> {
    let doing = "listening for metrics";
    let listener = match (handed_over, config.metrics.listen) {
        (Some(listener), _) => listener,
        (None, None) => return Ok(None),
        (None, Some(address)) => StdTcpListener::bind(address).map_err(|error| {
            NodeError::host("listening for metrics")(format!("metrics.listen {address}: {error}"))
        })?,
    };
    listener.set_nonblocking(true).or_host(doing)?;
    let listener = TcpListener::from_std(listener).or_host(doing)?;
    let address = listener.local_addr().or_host(doing)?;
    Ok(Some((listener, address)))
}

async fn listen_on_tcp(tls: &Tls) -> Result<TcpListener, NodeError> {
    let address = tls.address();
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| NodeError::host("listening on api.tcp.address")(format!("{address}: {error}")))
}

fn make_room(path: &Path) -> Result<(), NodeError> {
    let refuse = |why: String| Err(NodeError::Config(format!("api.socket {}: {why}", path.display())));
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
