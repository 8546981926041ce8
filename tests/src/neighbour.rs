//! The well-behaved cell beside a hostile one: begun before it, ended after it, and none the worse for it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, ensure};

use crate::check::check_audit;
use crate::program::{Ended, PATIENCE, Program};
use crate::scene::Scene;
use crate::workshop::Workshop;

/// A cell that waits for the end of its standard input.
#[derive(Debug)]
pub struct Neighbour {
    child: Option<Child>,
    scene: Scene,
}

impl Neighbour {
    /// Starts the neighbour and waits until it says that it runs.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(workshop: &Workshop, program: &Program) -> anyhow::Result<Neighbour> {
        let guest = workshop.guest("baseline", "neighbour")?;
        let bundle = workshop.bundle(&guest)?;
        let scene = Scene::set(&guest.header)?;
        let mut command = program.command(["run", "--trust"]);
        command
            .arg(workshop.trust_store())
            .arg("--audit")
            .arg(scene.audit())
            .arg(bundle);
        let child = command.stdin(Stdio::piped()).spawn().context("the neighbour")?;
        let mut neighbour = Neighbour {
            child: Some(child),
            scene,
        };
        let stdout = neighbour
            .child
            .as_mut()
            .and_then(|child| child.stdout.take())
            .context("has a pipe")?;
        let (line, rest) = first_line(stdout)?;
        if line != "ready\n" {
            drop(rest);
            let ended = neighbour.end()?;
            anyhow::bail!(
                "the neighbour did not start: {:?} {} {}",
                ended.code,
                line,
                ended.errors()
            );
        }
        Ok(neighbour)
    }

    /// Lets the neighbour end, and looks whether it ended well.
    ///
    /// # Errors
    /// When it did not.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let ended = self.end()?;
        ensure!(
            ended.code == Some(7) && ended.stderr.is_empty(),
            "the neighbour was disturbed: code {:?}, signal {:?}, {}",
            ended.code,
            ended.signal,
            ended.errors()
        );
        check_audit(&self.scene.audit(), None).context("the neighbour's audit log")
    }

    fn end(&mut self) -> anyhow::Result<Ended> {
        let mut child = self.child.take().context("ends once")?;
        drop(child.stdin.take());
        Ended::of(child).context("the neighbour")
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A trial that failed for another reason; nothing more to learn here.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads one line, without waiting for ever.
fn first_line(stdout: ChildStdout) -> anyhow::Result<(String, BufReader<ChildStdout>)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        let read = reader.read_line(&mut line);
        // Nobody listens any more once patience is over.
        let _ = sender.send(read.map(|_| (line, reader)));
    });
    Ok(receiver
        .recv_timeout(PATIENCE)
        .context("the neighbour says nothing")??)
}
