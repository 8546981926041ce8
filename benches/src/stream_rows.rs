//! Bytes between this program and a muscle in `referee-vmm run`, by the Unix socket that the muscle's slot is bound to.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::muscles::Muscles;
use crate::rows::{Bench, nanoseconds};

/// The muscle `stream`, which lives no longer than a minute: that is what policy gives.
pub struct Streamer {
    child: Child,
    stream: UnixStream,
    begun: Instant,
    _folder: tempfile::TempDir,
}

/// How long one is used.
const FRESH: Duration = Duration::from_secs(30);
/// How long its socket is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

impl Streamer {
    fn start(muscles: &Muscles) -> anyhow::Result<Streamer> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("stream");
        let mut child = Command::new(muscles.program()?)
            .arg("run")
            .arg("--trust")
            .arg(muscles.file("trust.store")?)
            .arg("--audit")
            .arg(folder.path().join("audit.jsonl"))
            .arg("--bind")
            .arg(format!("stream=unix:{}", socket.display()))
            .arg(muscles.file("stream.muscle")?)
            .stdin(Stdio::null())
            .spawn()
            .context("starting referee-vmm")?;
        let begun = Instant::now();
        let connected = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break Ok(stream),
                Err(error) if begun.elapsed() > PATIENCE || child.try_wait()?.is_some() => break Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error).context("nobody listens at the muscle's socket");
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut streamer = Streamer {
            child,
            stream,
            begun,
            _folder: folder,
        };
        streamer.stream.write_all(b"CONNECT 2000\n")?;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            streamer.stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        ensure!(
            line.starts_with(b"OK "),
            "the muscle's socket says {}",
            String::from_utf8_lossy(&line)
        );
        Ok(streamer)
    }

    /// A batch of messages, as the muscle `stream` says.
    fn batch(&mut self, what: u8, batch: u32, message: &mut [u8]) -> anyhow::Result<()> {
        let length = u32::try_from(message.len())?;
        let count = u64::from(batch) * if what == b'e' { 1 } else { u64::from(length) };
        let mut request = vec![what];
        request.extend(count.to_le_bytes());
        request.extend(length.to_le_bytes());
        self.stream.write_all(&request)?;
        for _ in 0..batch {
            if what != b'o' {
                self.stream.write_all(message)?;
            }
            if what != b'i' {
                self.stream.read_exact(message)?;
            }
        }
        if what == b'i' {
            let mut acknowledged = [0];
            self.stream.read_exact(&mut acknowledged)?;
        }
        Ok(())
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        // It waits for the next program until then; one that has ended already needs nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time of each message, a batch at a time.
pub fn moved(
    bench: &mut Bench,
    count: usize,
    samples: &mut Vec<f64>,
    what: u8,
    length: usize,
) -> anyhow::Result<()> {
    let old = |streamer: &Streamer| streamer.begun.elapsed() > FRESH;
    if bench.streamer.as_ref().is_none_or(old) {
        bench.streamer = None;
        bench.streamer = Some(Streamer::start(&bench.muscles)?);
    }
    let streamer = bench.streamer.as_mut().context("a muscle")?;
    let batch = match length {
        _ if what == b'e' => 16,
        ..65_536 => 1024,
        65_536..1_048_576 => 16,
        _ => 4,
    };
    let mut message = vec![7; length];
    for index in 0..count + 1 {
        let begun = Instant::now();
        streamer.batch(what, batch, &mut message)?;
        if index > 0 {
            samples.push(nanoseconds(begun.elapsed()) / f64::from(batch));
        }
    }
    Ok(())
}
