//! Connections: how many, from whom, and how long they may take to say what they want.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use referee_policy::Caller;
use rustix::process::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tower_service::Service;

use crate::config::Api;
use crate::node::Principal;
use crate::report::Rarely;
use crate::tls::{Tls, client_name};

/// Who is at the other end: as the kernel says (unix(7), `SO_PEERCRED`), or as the certificate does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) Caller);

impl Peer {
    pub(crate) fn principal(&self) -> Principal {
        Principal(match &self.0 {
            Caller::User { uid, .. } => format!("uid:{uid}"),
            Caller::Client { name } => format!("client:{name}"),
        })
    }

    fn of_socket(stream: &UnixStream) -> io::Result<Peer> {
        let peer = stream.peer_cred()?;
        Ok(Peer(Caller::User {
            uid: peer.uid(),
            gid: peer.gid(),
            service: peer.uid() == geteuid().as_raw(),
        }))
    }

    /// The handshake has seen to it that there is one.
    fn of_certificate(stream: &TlsStream<TcpStream>) -> Option<Peer> {
        let (_, connection) = stream.get_ref();
        let name = client_name(connection.peer_certificates()?.first()?)?;
        Some(Peer(Caller::Client { name }))
    }
}

/// Where clients come from.
pub(crate) struct Listeners {
    pub socket: UnixListener,
    pub tcp: Option<(TcpListener, Arc<Tls>)>,
}

/// Streams of one HTTP/2 connection at once.
const STREAMS_MAX: u32 = 128;
/// Bytes of a request's head.
const HEAD_MAX: usize = 16 << 10;

/// Serves until `end` comes back; then lets requests that are under way end.
///
/// # Errors
/// When no connection can be taken at all.
pub(crate) async fn serve(
    listeners: Listeners,
    router: Router,
    api: Api,
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    let (ending, ends) = watch::channel(false);
    let speaker = Arc::new(Speaker { router, api });
    let local = Door::new("", speaker.api.connections);
    let remote = Door::new(
        "api.tcp: ",
        listeners.tcp.as_ref().map_or(0, |(_, tls)| tls.connections()),
    );
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            taken = listeners.socket.accept() => {
                let Some((stream, place)) = local.take(taken.map(|(stream, _)| stream)).await else {
                    continue;
                };
                let Ok(peer) = Peer::of_socket(&stream) else {
                    continue;
                };
                let (speaker, ends) = (Arc::clone(&speaker), ends.clone());
                let until = speaker.first_words_until();
                tokio::spawn(async move {
                    speaker.speak(stream, Some(peer), until, ends).await;
                    drop(place);
                });
            }
            taken = accept(listeners.tcp.as_ref()) => {
                let (taken, tls) = taken;
                let Some((stream, place)) = remote.take(taken).await else {
                    continue;
                };
                // As it is in force now, also if it is replaced before the handshake is over.
                let acceptor = tls.acceptor();
                let (speaker, ends) = (Arc::clone(&speaker), ends.clone());
                let until = speaker.first_words_until();
                tokio::spawn(async move {
                    // Of what goes wrong in a handshake the other side is told; here nobody could do anything about it.
                    if let Ok(Ok(stream)) = tokio::time::timeout_at(until, acceptor.accept(stream)).await
                        && let Some(peer) = Peer::of_certificate(&stream)
                    {
                        speaker.speak(stream, Some(peer), until, ends).await;
                    }
                    drop(place);
                });
            }
        }
    }
    drop((listeners, ends));
    // Each connection has a receiver for as long as it is there.
    let _ = ending.send(true);
    ending.closed().await;
    Ok(())
}

/// Serves whoever connects and does not ask who it is, within the limits of the API and with places of its own, for as long as the process
/// lives.
pub(crate) async fn serve_openly(listener: TcpListener, router: Router, api: Api) -> Infallible {
    let (_never_ending, ends) = watch::channel(false);
    let door = Door::new("metrics: ", api.connections);
    let speaker = Arc::new(Speaker { router, api });
    loop {
        let taken = listener.accept().await.map(|(stream, _)| stream);
        let Some((stream, place)) = door.take(taken).await else {
            continue;
        };
        let (speaker, ends) = (Arc::clone(&speaker), ends.clone());
        let until = speaker.first_words_until();
        tokio::spawn(async move {
            speaker.speak(stream, None, until, ends).await;
            drop(place);
        });
    }
}

/// The next connection on TCP; never one if there is no such listener.
async fn accept(tcp: Option<&(TcpListener, Arc<Tls>)>) -> (io::Result<TcpStream>, &Arc<Tls>) {
    match tcp {
        Some((listener, tls)) => {
            let taken = listener.accept().await.map(|(stream, _)| {
                // An answer is not to wait for what may follow it; without this it only comes later.
                let _ = stream.set_nodelay(true);
                stream
            });
            (taken, tls)
        }
        None => std::future::pending().await,
    }
}

/// How many come in at once, by one way.
struct Door {
    /// What its problems begin with.
    name: &'static str,
    room: Arc<Semaphore>,
    limit: usize,
    rarely: Rarely,
}

impl Door {
    fn new(name: &'static str, limit: usize) -> Door {
        Door {
            name,
            room: Arc::new(Semaphore::new(limit)),
            limit,
            rarely: Rarely::default(),
        }
    }

    /// A connection with its place. Closed at once when there are too many: to wait would let those who hold them stop all others.
    async fn take<S>(&self, taken: io::Result<S>) -> Option<(S, OwnedSemaphorePermit)> {
        let stream = match taken {
            Ok(stream) => stream,
            // Of the connection that was to be, or for want of descriptors: the next may go better (accept(2)).
            Err(error) => {
                self.say(&format!("a connection was not taken: {error}"));
                tokio::time::sleep(AFTER_FAILURE).await;
                return None;
            }
        };
        match Arc::clone(&self.room).try_acquire_owned() {
            Ok(place) => Some((stream, place)),
            Err(_) => {
                self.say(&format!("more than {} connections", self.limit));
                None
            }
        }
    }

    fn say(&self, problem: &str) {
        self.rarely.problem(&format!("{}{problem}", self.name));
    }
}

/// Speaks HTTP on connections.
struct Speaker {
    router: Router,
    api: Api,
}

impl Speaker {
    /// Until when a connection that begins now must have said what it wants.
    fn first_words_until(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.api.header_seconds)
    }

    async fn speak<S>(&self, stream: S, peer: Option<Peer>, until: Instant, mut ends: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let asked = Arc::new(Notify::new());
        let connection = connection(stream, self.router.clone(), peer, &self.api, Arc::clone(&asked));
        let mut connection = std::pin::pin!(connection);
        // What goes wrong here is the client's connection; it knows. Until it is known which HTTP a client speaks, no clock but this
        // one runs.
        let is_over = tokio::select! {
            _ = &mut connection => true,
            first = tokio::time::timeout_at(until, asked.notified()) => first.is_err(),
            () = end_has_come(&mut ends, FIRST_WORDS_AT_END) => true,
        };
        if is_over {
            return;
        }
        tokio::select! {
            _ = &mut connection => return,
            () = end_has_come(&mut ends, Duration::ZERO) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// How long a connection that was taken before the end may have its first request after it: its client could connect, so that nothing
/// would tell it apart from a node that crashed.
pub(crate) const FIRST_WORDS_AT_END: Duration = Duration::from_secs(1);

/// Comes back `grace` after the end.
async fn end_has_come(ends: &mut watch::Receiver<bool>, grace: Duration) {
    // A sender that is gone ends it too.
    let _ = ends.wait_for(|end| *end).await;
    tokio::time::sleep(grace).await;
}

/// Serves one connection, of which it is said who is at the other end.
#[cfg(test)]
pub(crate) async fn serve_one(stream: UnixStream, router: Router, api: Api, peer: Peer) {
    // What goes wrong is the client's.
    let _ = connection(stream, router, Some(peer), &api, Arc::default()).await;
}

/// What a connection breaks with.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

const AFTER_FAILURE: Duration = Duration::from_millis(100);

fn connection<S>(
    stream: S,
    router: Router,
    peer: Option<Peer>,
    api: &Api,
    asked: Arc<Notify>,
) -> impl GracefulConnection<Error = BoxError, Output = Result<(), BoxError>> + Send + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(api.header_seconds))
        .max_buf_size(HEAD_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Some(Duration::from_secs(api.header_seconds)));
    let service = service_fn(move |mut request: Request<Incoming>| {
        asked.notify_one();
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        router.clone().call(request)
    });
    builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned()
}
