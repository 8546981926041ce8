//! Messages between deployments beside the least that carries bytes between two processes' threads: a ping-pong over a Unix socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};

use crate::{Client, connect, percentile};

/// Messages that the muscle sends in one call before its own broker refuses the next.
const IN_A_CALL: u32 = 1000;

/// What a courier is called with: an array of the text "e", in CBOR; and an array of the bytes of that text.
const TEXT: &[u8] = &[0x81, 0x61, b'e'];
const BYTES: &[u8] = &[0x81, 0x42, 0x61, b'e'];

/// Measures and prints the rows. There are the deployments `asker`, whose requests `answerer` takes; `alone`, whom nobody hears;
/// `sender`, whom `reader` does.
///
/// # Errors
/// When the node does not answer as it should.
pub async fn measure(socket: &Path, samples: usize, time: Duration) -> anyhow::Result<()> {
    let mut client = connect(socket).await?;
    let (plain, request) = (
        "/v1/deployments/answerer/call/take",
        "/v1/deployments/asker/call/ask",
    );
    let alone = "/v1/deployments/alone/call/many";
    for _ in 0..20 {
        post(&mut client, plain, TEXT).await?;
        post(&mut client, request, BYTES).await?;
    }
    let mut pings = tokio::task::spawn_blocking(move || ping_pong(samples)).await??;
    let (mut calls, mut requests, mut sends) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..samples {
        calls.push(post(&mut client, plain, TEXT).await?);
        requests.push(post(&mut client, request, BYTES).await?);
    }
    for _ in 0..samples.div_ceil(100) {
        sends.push(post(&mut client, alone, BYTES).await? / IN_A_CALL);
    }
    println!("messages, microseconds                 median      p99   ratio to the ping-pong");
    let floor = percentile(&mut pings, 50);
    for (name, samples) in [
        ("a ping-pong over a Unix socket", &mut pings),
        ("a call of the receiver by the API", &mut calls),
        ("a call that makes a request of it", &mut requests),
        ("a message that is sent, of a thousand", &mut sends),
    ] {
        let (median, p99) = (percentile(samples, 50), percentile(samples, 99));
        println!("  {name:<38} {median:>8.1} {p99:>8.1} {:>8.1}", median / floor);
    }
    let taken = throughput(&mut client, time).await?;
    println!("messages taken a second, one sender and one receiver: {taken:.0}");
    Ok(())
}

/// Messages that a receiver took a second while its sender had as many wait as there may.
async fn throughput(client: &mut Client, time: Duration) -> anyhow::Result<f64> {
    let before = taken(client).await?;
    let begun = Instant::now();
    while begun.elapsed() < time {
        post(client, "/v1/deployments/sender/call/many", BYTES).await?;
    }
    let lasted = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = (taken(client).await? - before) as f64;
    Ok(count / lasted)
}

async fn taken(client: &mut Client) -> anyhow::Result<u64> {
    let shown = get(client, "/v1/deployments/reader").await?;
    let shown: serde_json::Value = serde_json::from_slice(&shown)?;
    let taken = shown.pointer("/counted/messages_taken");
    taken
        .and_then(serde_json::Value::as_u64)
        .context("the node does not count messages")
}

/// How long each of so many ping-pongs took.
fn ping_pong(samples: usize) -> anyhow::Result<Vec<Duration>> {
    let (mut here, mut there) = UnixStream::pair()?;
    let echo = std::thread::spawn(move || {
        let mut byte = [0; 1];
        while there.read_exact(&mut byte).is_ok() && there.write_all(&byte).is_ok() {}
    });
    let mut all = Vec::new();
    let mut byte = [0; 1];
    for _ in 0..samples {
        let begun = Instant::now();
        here.write_all(&byte)?;
        here.read_exact(&mut byte)?;
        all.push(begun.elapsed());
    }
    drop(here);
    // It ends with the socket, and cannot panic.
    let _ = echo.join();
    Ok(all)
}

async fn post(client: &mut Client, path: &str, body: &'static [u8]) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    exchange(client, Method::POST, path, Bytes::from_static(body)).await?;
    Ok(begun.elapsed())
}

async fn get(client: &mut Client, path: &str) -> anyhow::Result<Bytes> {
    exchange(client, Method::GET, path, Bytes::new()).await
}

async fn exchange(client: &mut Client, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "node")
        .header("content-type", "application/cbor")
        .body(Full::new(body))?;
    client.ready().await?;
    let answer = client.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    match status.is_success() {
        true => Ok(body),
        false => bail!("{path}: {status}: {}", String::from_utf8_lossy(&body)),
    }
}
