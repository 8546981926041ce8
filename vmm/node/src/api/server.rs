//! Connections: how many, from whom, and how long they may take to say what they want.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use referee_policy::Caller;
use rustix::process::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};
use tower_service::Service;

use crate::config::Api;
use crate::node::Principal;
use crate::report;

/// Who is at the other end, as the kernel says (unix(7), `SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) Caller);

impl Peer {
    pub(crate) fn principal(self) -> Principal {
        Principal(format!("uid:{}", self.0.uid))
    }

    fn of(stream: &UnixStream) -> io::Result<Peer> {
        let peer = stream.peer_cred()?;
        Ok(Peer(Caller {
            uid: peer.uid(),
            gid: peer.gid(),
            service: peer.uid() == geteuid().as_raw(),
        }))
    }
}

/// Where connections come from.
pub(crate) trait Door {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Takes the next one, and says who is at its other end where that is known.
    ///
    /// # Errors
    /// Of the connection that was to be, or for want of descriptors: the next may go better (accept(2)).
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<Peer>)>> + Send;
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Option<Peer>)> {
        let (stream, _) = self.accept().await?;
        let peer = Peer::of(&stream)?;
        Ok((stream, Some(peer)))
    }
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Option<Peer>)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, None))
    }
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
    door: impl Door,
    router: Router,
    api: Api,
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(api.connections));
    let graceful = GracefulShutdown::new();
    let mut end = std::pin::pin!(end);
    loop {
        let taken = tokio::select! {
            () = &mut end => break,
            taken = door.next() => taken,
        };
        let (stream, peer) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                report::problem(&format!("a connection was not taken: {error}"));
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        // Closed at once when there are too many: to wait would let those who hold them stop all others.
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            report::problem(&format!("more than {} connections", api.connections));
            continue;
        };
        let asked = Arc::new(Notify::new());
        let connection = connection(stream, router.clone(), peer, &api, Arc::clone(&asked));
        let watched = graceful.watch(connection);
        let within = Duration::from_secs(api.header_seconds);
        tokio::spawn(async move {
            let mut watched = std::pin::pin!(watched);
            // What goes wrong here is the client's connection; it knows. Until it is known which HTTP a client speaks, no clock but this
            // one runs.
            let is_over = tokio::select! {
                _ = &mut watched => true,
                first = tokio::time::timeout(within, asked.notified()) => first.is_err(),
            };
            if !is_over {
                let _ = watched.await;
            }
            drop(place);
        });
    }
    drop(door);
    graceful.shutdown().await;
    Ok(())
}

/// What a connection breaks with.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

const AFTER_FAILURE: Duration = Duration::from_millis(100);

fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    peer: Option<Peer>,
    api: &Api,
    asked: Arc<Notify>,
) -> impl GracefulConnection<Error = BoxError, Output = Result<(), BoxError>> + Send + 'static {
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
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        router.clone().call(request)
    });
    builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned()
}
