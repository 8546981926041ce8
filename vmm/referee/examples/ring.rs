//! Two muscles, each in a cell and on a thread of its own: `feeder` sends bytes to `digester` through memory that both see, and this
//! program sees none of them.
//!
//!     cargo run -p referee --example ring -- trust.store feeder.muscle digester.muscle 64

use std::error::Error;
use std::thread;
use std::time::Instant;

use referee::{CellThread, Config, Inputs, Referee};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trust_store, feeder, digester, mebibytes] = &arguments[..] else {
        return Err("ring TRUST_STORE FEEDER DIGESTER MEBIBYTES".into());
    };
    let total: u64 = mebibytes.parse::<u64>()? << 20;
    let referee = Referee::open(&Config::new(trust_store, "ring-audit.jsonl"))?;
    let mut feeder = referee.admit_file(feeder.as_ref())?.permit(&[])?;
    let mut digester = referee.admit_file(digester.as_ref())?.permit(&[])?;
    feeder.join_ring("out", &mut digester, "in")?;

    let mut sender = feeder.start(Inputs::default())?;
    let mut receiver = digester.start(Inputs::default())?;
    let receiving = thread::spawn(move || -> Result<(u64, String), String> {
        let thread = CellThread::enter().map_err(|error| error.to_string())?;
        receiver
            .call(&thread, "digest", &())
            .map_err(|error| error.to_string())
    });
    let thread = CellThread::enter()?;
    let begun = Instant::now();
    let sent: String = sender.call(&thread, "feed", &(total, 65_536))?;
    sender.call::<_, ()>(&thread, "finish", &())?;
    let (received, digest) = receiving.join().map_err(|_| "the receiver's thread panicked")??;
    println!(
        "sent {total} bytes with SHA-256 {sent}\ngot  {received} bytes with SHA-256 {digest} in {:?}",
        begun.elapsed()
    );
    Ok(())
}
