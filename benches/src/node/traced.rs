//! What tracing adds to a call: two nodes, of which one sends spans to a collector that throws them away, asked in turns.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use crate::{Node, ROUNDS, WARM, ask, connect, percentile};

/// Measures so many calls of each and prints the rows.
///
/// # Errors
/// When a node does not do as it should.
pub async fn measure(
    program: &Path,
    folder: &Path,
    (trust_store, bundle): (&Path, &Path),
    samples: usize,
) -> anyhow::Result<()> {
    let collector = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("[traces]\nendpoint = \"http://{}\"\n", collector.local_addr()?);
    // It goes with this process.
    thread::spawn(move || {
        for stream in collector.incoming().flatten() {
            thread::spawn(move || swallow(stream));
        }
    });
    let (mut nodes, mut clients) = (Vec::new(), Vec::new());
    for (name, more) in [("untraced", ""), ("traced", &endpoint)] {
        let folder = folder.join(name);
        std::fs::create_dir(&folder)?;
        let node = Node::start_with(program, &folder, trust_store, more)?;
        node.deploy(program, bundle, "warm", &["--keep-memory"])?;
        let mut client = connect(&node.socket).await?;
        for _ in 0..100 {
            ask(&mut client, WARM).await?;
        }
        nodes.push(node);
        clients.push((name, client, Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (_, client, taken) in &mut clients {
            for _ in 0..samples.div_ceil(ROUNDS) {
                taken.push(ask(client, WARM).await?);
            }
        }
    }
    println!("a call, memory kept, microseconds     median      p99  ratio to untraced");
    let mut floor = None;
    for (name, _, taken) in &mut clients {
        let median = percentile(taken, 50);
        let floor = *floor.get_or_insert(median);
        let p99 = percentile(taken, 99);
        println!("  {name:<34} {median:>8.1} {p99:>8.1} {:>6.2}", median / floor);
    }
    Ok(())
}

/// Answers each request on a connection with nothing.
fn swallow(mut stream: TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            more(&mut stream, &mut bytes)?;
        };
        let head = String::from_utf8_lossy(bytes.get(..end)?).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))?;
        let whole = end + length.trim().parse::<usize>().ok()?;
        while bytes.len() < whole {
            more(&mut stream, &mut bytes)?;
        }
        bytes.drain(..whole);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
    }
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 4096];
    let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
    bytes.extend_from_slice(piece.get(..count)?);
    Some(())
}
