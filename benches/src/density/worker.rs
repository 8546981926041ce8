//! A worker process: its side, and its parent's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use referee::{Cell, CellThread, Config, Inputs, Permit, Referee};
use referee_tests::Workshop;

use crate::group::Group;
use crate::memory;

/// How cells are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Making {
    /// Each loaded and started by itself.
    Started,
    /// All from one template.
    Loaded,
}

const BUNDLE: &str = "density.muscle";
const TRUST_STORE: &str = "density.store";
/// An array of no arguments in CBOR.
pub const NOTHING: [u8; 1] = [0x80];
/// Cells that are loaded ahead at a time; all others begin from the same template on the thread that starts them.
const AHEAD: usize = 1;

/// Puts everything into `folder` that workers need.
pub fn prepare(workshop: &Workshop, folder: &Path) -> anyhow::Result<()> {
    let bundle = workshop.bundle(&workshop.guest("reactor", "echoes")?)?;
    fs::copy(bundle, folder.join(BUNDLE))?;
    fs::copy(workshop.trust_store(), folder.join(TRUST_STORE))?;
    Ok(())
}

/// The library with the muscle that is measured.
pub fn permit(folder: &Path) -> anyhow::Result<Permit> {
    let log = folder.join(format!("{}.jsonl", std::process::id()));
    let referee = Referee::open(&Config::new(folder.join(TRUST_STORE), log))?;
    Ok(referee.admit_file(&folder.join(BUNDLE))?.permit(&[])?)
}

/// Makes `count` cells when it is told to, and keeps them until it is told again.
pub fn work(folder: &Path, count: usize, making: Making) -> anyhow::Result<()> {
    let permit = permit(folder)?;
    let thread = CellThread::enter()?;
    let mut told = std::io::stdin().lines();
    let before = memory::mappings()?;
    let mut each = Vec::with_capacity(count);
    let mut cells = Vec::with_capacity(count);
    println!("ready");
    told.next().context("nobody told it to go")??;
    let _ahead = match making {
        Making::Started => None,
        Making::Loaded => {
            let ahead = permit.keep_loaded(AHEAD)?;
            // Until the pool knows what they begin from, cells run their own start-up.
            while !started(&permit, &thread)?.is_templated() {
                std::thread::sleep(Duration::from_millis(3));
            }
            Some(ahead)
        }
    };
    let begun = Instant::now();
    for _ in 0..count {
        let begun = Instant::now();
        cells.push(started(&permit, &thread)?);
        each.push(begun.elapsed());
    }
    let mean = begun.elapsed() / u32::try_from(count)?;
    // Memory is counted with nothing left that waits to be destroyed.
    std::thread::sleep(Duration::from_millis(50));
    for time in each {
        println!("each {}", time.as_nanos());
    }
    println!("mean {}", mean.as_nanos());
    for (name, bytes) in memory::mappings()? {
        let before = before.get(&name).copied().unwrap_or_default();
        println!("in {name} {}", bytes - before);
    }
    println!("done");
    told.next().context("nobody told it to end")??;
    // Its end destroys the cells sooner than dropping them one by one, each with a record, would.
    std::process::exit(0)
}

fn started(permit: &Permit, thread: &CellThread) -> anyhow::Result<Cell> {
    let mut cell = permit.start(Inputs::default())?;
    cell.call_encoded(thread, "echo", &NOTHING)?;
    Ok(cell)
}

/// A worker as its parent sees it.
pub struct Worker {
    child: Child,
    tell: ChildStdin,
    told: BufReader<ChildStdout>,
}

impl Worker {
    /// Begins one and waits until it is ready.
    pub fn begin(
        folder: &Path,
        cells: usize,
        making: Making,
        group: Option<&Group>,
    ) -> anyhow::Result<Worker> {
        let making = making.to_possible_value().context("a way of making cells")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--cells", &cells.to_string(), "--making", making.get_name()])
            .arg("--worker")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(group) = group {
            group.take(child.id())?;
        }
        let tell = child.stdin.take().context("no standard input")?;
        let told = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut worker = Worker { child, tell, told };
        ensure!(worker.until("ready")?.is_empty(), "a worker spoke too early");
        Ok(worker)
    }

    /// Has it make its cells.
    pub fn go(&mut self) -> anyhow::Result<()> {
        Ok(self.tell.write_all(b"go\n")?)
    }

    /// What it measured, when it has made them.
    pub fn result(&mut self) -> anyhow::Result<String> {
        self.until("done")
    }

    /// Has it end.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.tell.write_all(b"end\n")?;
        let status = self.child.wait()?;
        ensure!(status.success(), "a worker ended with {status}");
        Ok(())
    }

    fn until(&mut self, word: &str) -> anyhow::Result<String> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            ensure!(
                self.told.read_line(&mut line)? > 0,
                "a worker ended; its errors are above"
            );
            if line.trim_end() == word {
                return Ok(text);
            }
            text.push_str(&line);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended is not there to be killed, and that is all that can go wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
