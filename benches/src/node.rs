//! `referee-node-bench`: calls through a node's API beside what they are made of, measured in turns in one run.
//!
//! The floor of a call is a call of the library in this process and a request to the same server that does nothing. The muscle echoes
//! its arguments, so that rows show what the node adds and not what a muscle does.
#![forbid(unsafe_code)]

#[path = "node/deadlines.rs"]
mod deadlines;
#[path = "node/many.rs"]
mod many;
#[path = "node/messages.rs"]
mod messages;
#[path = "node/traced.rs"]
mod traced;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use referee::{Cell, CellThread, Config, Inputs, Referee};
use referee_tests::Workshop;
use tokio::net::UnixStream;

/// Calls through a node's API beside what they are made of.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program `referee-vmm`.
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Samples of each row.
    #[arg(long, default_value_t = 2000)]
    samples: usize,
    /// Seconds for which throughput is measured.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Instead: so many deployments, and what they cost.
    #[arg(long, value_name = "N")]
    deployments: Option<usize>,
    /// Instead: a real-time deployment beside so many cells that spin, and how they share a processor.
    #[arg(long, value_name = "N", conflicts_with = "deployments")]
    spinners: Option<usize>,
    /// With --spinners: calls that run at once; 0: as many as there are processors.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "spinners")]
    slots: usize,
    /// Instead: what tracing adds to a call.
    #[arg(long, conflicts_with_all = ["deployments", "spinners"])]
    traced: bool,
    /// With --deployments: so many idle cells among them.
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "deployments")]
    idle_cells: usize,
}

/// Rounds in which rows take turns.
const ROUNDS: usize = 10;
const NOTHING: &str = "/health/live";
const WARM: &str = "/v1/deployments/warm/call/echo";
const FRESH: &str = "/v1/deployments/fresh/call/echo";
/// An array of one number, in CBOR.
const ARGUMENTS: [u8; 2] = [0x81, 0x05];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let workshop = Workshop::open(folder.path())?;
    let bundle = workshop.bundle(&workshop.guest("reactor", "echoes")?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (store, program) = (workshop.trust_store(), &arguments.program);
    if let Some(deployments) = arguments.deployments {
        let many = (deployments, arguments.idle_cells);
        return runtime.block_on(many::measure(program, folder.path(), (&store, &bundle), many));
    }
    let time = Duration::from_secs(arguments.seconds);
    if let Some(spinners) = arguments.spinners {
        let acts = workshop.bundle(&workshop.guest("reactor", "acts")?)?;
        let bundles = (bundle.as_path(), acts.as_path());
        let load = deadlines::Load {
            spinners,
            slots: arguments.slots,
            time,
        };
        let measured = deadlines::measure(program, folder.path(), &store, bundles, load);
        return runtime.block_on(measured);
    }
    if arguments.traced {
        let of = (store.as_path(), bundle.as_path());
        return runtime.block_on(traced::measure(program, folder.path(), of, arguments.samples));
    }
    let library = Referee::open(&Config::new(
        workshop.trust_store(),
        folder.path().join("library.jsonl"),
    ))?;
    let mut cell = library
        .admit_file(&bundle)?
        .permit(&[])?
        .start(Inputs::default())?;
    let thread = CellThread::enter()?;

    let node = Node::start(&arguments.program, folder.path(), &workshop.trust_store())?;
    node.deploy(
        &arguments.program,
        &bundle,
        "warm",
        &["--keep-memory", "--cells", "64"],
    )?;
    node.deploy(
        &arguments.program,
        &bundle,
        "fresh",
        &["--cells", "64", "--ahead", "2"],
    )?;
    let courier = workshop.bundle(&workshop.guest("reactor", "courier")?)?;
    for (name, ask, from, to) in [
        ("answerer", "none-1", "orders", "none-2"),
        ("asker", "orders", "none-3", "none-4"),
        ("alone", "none-5", "none-6", "none-7"),
        ("reader", "none-8", "news", "none-9"),
        ("sender", "none-10", "none-11", "news"),
    ] {
        let bindings = [("ask", ask), ("from", from), ("to", to)];
        let bindings = bindings.map(|(slot, channel)| format!("--bind={slot}=channel:{channel}"));
        let mut options = vec!["--keep-memory", "--cells", "4"];
        options.extend(bindings.iter().map(String::as_str));
        node.deploy(&arguments.program, &courier, name, &options)?;
    }
    runtime.block_on(measure(&arguments, &node.socket, &mut cell, &thread))?;
    runtime.block_on(messages::measure(&node.socket, arguments.samples, time))
}

async fn measure(
    arguments: &Arguments,
    socket: &Path,
    cell: &mut Cell,
    thread: &CellThread,
) -> anyhow::Result<()> {
    let mut client = connect(socket).await?;
    for path in [NOTHING, WARM, FRESH] {
        for _ in 0..100 {
            ask(&mut client, path).await?;
        }
    }
    let (mut nothing, mut warm, mut fresh, mut library) = (vec![], vec![], vec![], vec![]);
    let each = arguments.samples.div_ceil(ROUNDS);
    for _ in 0..ROUNDS {
        for (path, samples) in [(NOTHING, &mut nothing), (WARM, &mut warm), (FRESH, &mut fresh)] {
            for _ in 0..each {
                samples.push(ask(&mut client, path).await?);
            }
        }
        for _ in 0..each {
            let begun = Instant::now();
            cell.call_encoded(thread, "echo", &ARGUMENTS)?;
            library.push(begun.elapsed());
        }
    }
    let floor = percentile(&mut nothing, 50) + percentile(&mut library, 50);
    println!("one client, microseconds              median      p99   floor  ratio");
    for (name, samples, floor) in [
        ("a request that does nothing", &mut nothing, None),
        ("a call of the library", &mut library, None),
        ("a call, memory kept", &mut warm, Some(floor)),
        ("a call in a fresh cell", &mut fresh, Some(floor)),
    ] {
        let (median, p99) = (percentile(samples, 50), percentile(samples, 99));
        let beside = floor.map_or(String::new(), |floor| {
            format!("{floor:>8.1} {:>6.2}", median / floor)
        });
        println!("  {name:<34} {median:>8.1} {p99:>8.1}{beside}");
    }
    let time = Duration::from_secs(arguments.seconds);
    println!("throughput, requests a second          rate      p50      p99   ratio to nothing");
    let mut base = f64::NAN;
    for (clients, path, name) in [
        (8, NOTHING, "nothing, 8 clients"),
        (8, WARM, "memory kept, 8 clients"),
        (4, FRESH, "fresh cell, 4 clients"),
        (50, FRESH, "fresh cell, 50 clients"),
        (8, NOTHING, "nothing, 8 clients, again"),
    ] {
        let mut samples = load(socket, path, clients, time).await?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = samples.len() as f64 / time.as_secs_f64();
        if path == NOTHING && base.is_nan() {
            base = rate;
        }
        println!(
            "  {name:<34} {rate:>8.0} {:>8.1} {:>8.1} {:>8.2}",
            percentile(&mut samples, 50),
            percentile(&mut samples, 99),
            rate / base
        );
    }
    Ok(())
}

async fn load(
    socket: &Path,
    path: &'static str,
    clients: usize,
    time: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let mut tasks = Vec::new();
    let end = Instant::now() + time;
    for _ in 0..clients {
        let mut client = connect(socket).await?;
        tasks.push(tokio::spawn(async move {
            let mut samples = Vec::new();
            while Instant::now() < end {
                samples.push(ask(&mut client, path).await?);
            }
            Ok::<_, anyhow::Error>(samples)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok(all)
}

type Client = SendRequest<Full<Bytes>>;

async fn connect(socket: &Path) -> anyhow::Result<Client> {
    let stream = UnixStream::connect(socket).await?;
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // The client hears of it.
        let _ = connection.await;
    });
    Ok(client)
}

/// How long a request took, from its first byte to the answer's last.
async fn ask(client: &mut Client, path: &str) -> anyhow::Result<Duration> {
    let (method, body) = match path {
        NOTHING => (Method::GET, Bytes::new()),
        _ => (Method::POST, Bytes::from_static(&ARGUMENTS)),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "node")
        .header("content-type", "application/cbor")
        .body(Full::new(body))?;
    let begun = Instant::now();
    client.ready().await?;
    let answer = client.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("{path}: {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(begun.elapsed())
}

/// Sends a request with a body and reads the answer.
async fn send(client: &mut Client, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let form = match method {
        "POST" => "application/cbor",
        _ if path.starts_with("/v1/bundles/") => "application/octet-stream",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "node")
        .header("content-type", form)
        .body(Full::new(Bytes::from(body)))?;
    client.ready().await?;
    let answer = client.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body.into())
}

/// Microseconds.
fn percentile(samples: &mut [Duration], percent: usize) -> f64 {
    samples.sort();
    let index = samples.len() * percent / 100;
    let found = samples.get(index).or(samples.last());
    found.map_or(f64::NAN, |found| found.as_secs_f64() * 1e6)
}

/// Children of a process's first thread.
fn children(process: u32) -> anyhow::Result<Vec<u32>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    text.split_whitespace().map(|word| Ok(word.parse()?)).collect()
}

/// A node, until it is dropped.
struct Node {
    socket: PathBuf,
    process: Child,
}

impl Node {
    fn start(program: &Path, folder: &Path, trust_store: &Path) -> anyhow::Result<Node> {
        Node::start_with(program, folder, trust_store, "")
    }

    /// With more in the configuration.
    fn start_with(program: &Path, folder: &Path, trust_store: &Path, more: &str) -> anyhow::Result<Node> {
        let socket = folder.join("api.sock");
        let config = folder.join("node.toml");
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        let text = format!(
            "trust_store = {}\nstate = {}\n[api]\nsocket = {}\n[audit]\nfile = {}\n{more}",
            quoted(trust_store),
            quoted(&folder.join("state")),
            quoted(&socket),
            quoted(&folder.join("node.jsonl")),
        );
        std::fs::write(&config, text)?;
        let process = Command::new(program)
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let node = Node { socket, process };
        let patience = Instant::now() + Duration::from_secs(10);
        while std::os::unix::net::UnixStream::connect(&node.socket).is_err() {
            if Instant::now() > patience {
                bail!("the node does not answer");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(node)
    }

    fn deploy(&self, program: &Path, bundle: &Path, name: &str, options: &[&str]) -> anyhow::Result<()> {
        let status = Command::new(program)
            .arg("deploy")
            .arg("--host")
            .arg(&self.socket)
            .args(["--name", name])
            .args(options)
            .arg(bundle)
            .stdout(Stdio::null())
            .status()?;
        match status.success() {
            true => Ok(()),
            false => bail!("deploying {name} failed"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nothing of it is kept, so it need not end in order.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
