//! Drives the scheduler through machines that are not there, says how well it did, and draws `docs/scheduling-*.svg`.

mod scenarios;
mod world;

use std::time::Instant;
fn main() {
    let f = scenarios::fairness(7);
    println!("worst {} bound {}", f.worst_error_ms(), f.bound);
    for s in f.samples.iter().step_by(10) {
        println!("{:?} {:?} {:?} {:?}", s.at, s.rate, s.ideal, s.error_ms);
    }
    for p in [100, 200, 300, 500] {
        for seed in [1, 2] {
            let d = scenarios::deadlines(seed, p, 20_000);
            println!(
                "{p} jobs {} missed {} promised {} max {:?}",
                d.jobs,
                d.missed,
                d.promised,
                d.responses.iter().rposition(|n| *n > 0)
            );
        }
    }
    let t = Instant::now();
    let m = scenarios::million(3, 1_000_000);
    let e = t.elapsed();
    println!(
        "{:?} calls {} {} per s; promised {} rt {} sim time {:?}",
        e,
        m.world.calls,
        m.world.calls as f64 / e.as_secs_f64(),
        m.promised,
        m.real_time.len(),
        m.world.now
    );
    println!(
        "missed {} of {}",
        m.world.outcomes().map(|o| o.missed).sum::<u64>(),
        m.real_time.iter().map(|t| m.world.outcome(*t).jobs).sum::<u64>()
    );
    for t in m.endless.iter().step_by(7).take(30) {
        let o = m.world.outcome(*t);
        println!("{t} held {} wait {} ", o.held, o.longest_wait);
    }
    println!("{}", m.world.scheduler.measured_cost());
}
