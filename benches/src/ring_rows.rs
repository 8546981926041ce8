//! Messages from muscle to muscle through a ring, each cell on a thread of its own.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, anyhow};
use referee::{CallError, Cell, CellThread, Config, Inputs, Referee};

use crate::rows::{Bench, nanoseconds};

/// Two cells of the muscle `ringer`, joined both ways; the far one waits on its thread for what to do.
pub struct Ringers {
    near: Cell,
    orders: Sender<(&'static str, u64)>,
    done: Receiver<Result<(), CallError>>,
}

impl Ringers {
    fn start(bench: &Bench) -> anyhow::Result<Ringers> {
        let log = bench.folder.path().join("rings.jsonl");
        let config = Config::new(bench.muscles.file("trust.store")?, log);
        let muscle = Referee::open(&config)?.admit_file(&bench.muscles.file("ringer.muscle")?)?;
        let (mut near, mut far) = (muscle.permit(&[])?, muscle.permit(&[])?);
        near.join_ring("out", &mut far, "in")?;
        far.join_ring("out", &mut near, "in")?;
        let near = near.start(Inputs::default())?;
        let mut far = far.start(Inputs::default())?;
        let (orders, ordered) = channel();
        let (says, done) = channel();
        thread::spawn(move || {
            let Ok(thread) = CellThread::enter() else { return };
            while let Ok((function, count)) = ordered.recv() {
                if says.send(far.call(&thread, function, &(count,))).is_err() {
                    return;
                }
            }
        });
        Ok(Ringers { near, orders, done })
    }

    /// Both sides' parts, at the same time.
    fn batch(
        &mut self,
        thread: &CellThread,
        [near, far]: [&'static str; 2],
        count: u64,
        length: u32,
    ) -> anyhow::Result<()> {
        let gone = || anyhow!("the other cell's thread is over");
        self.orders.send((far, count)).map_err(|_| gone())?;
        self.near.call::<_, ()>(thread, near, &(count, length))?;
        self.done.recv().map_err(|_| gone())??;
        Ok(())
    }
}

/// The time of each message, or trip, a batch at a time. Two calls are in it, which a batch makes small.
pub fn passed(
    bench: &mut Bench,
    count: usize,
    samples: &mut Vec<f64>,
    sides: [&'static str; 2],
    length: u32,
) -> anyhow::Result<()> {
    if bench.ringers.is_none() {
        bench.ringers = Some(Ringers::start(bench)?);
    }
    let Bench { ringers, thread, .. } = bench;
    let ringers = ringers.as_mut().context("two cells")?;
    let batch: u32 = match length {
        _ if sides[0] == "trip" => 1024,
        ..1024 => 131_072,
        1024..65_536 => 32_768,
        _ => 2048,
    };
    for index in 0..count + 1 {
        let begun = Instant::now();
        ringers.batch(thread, sides, batch.into(), length)?;
        if index > 0 {
            samples.push(nanoseconds(begun.elapsed()) / f64::from(batch));
        }
    }
    Ok(())
}
