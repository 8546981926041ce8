//! `wasmtime-bench`: Wasmtime with its pooling allocator, measured as our rows are, floors in turns in the same run.
#![forbid(unsafe_code)]

#[path = "../../src/table.rs"]
mod table;

use std::hint::black_box;
use std::time::Instant;

use sha2::{Digest, Sha256};
use table::Measured;
use wasmtime::{
    Config, Engine, Instance, InstanceAllocationStrategy, Module, PoolingAllocationConfig, Result, Store,
    TypedFunc,
};

/// Rounds in which a row and its floor take turns.
const ROUNDS: usize = 10;
/// Calls between two looks at the clock, which takes longer than a call.
const BATCH: usize = 1000;
/// Bytes that are hashed, a quarter of those of the row `compute_sha256`.
const BYTES: usize = 4 << 20;
/// Where the module has its message and its digest.
const MESSAGE: usize = 0x1000;
const DIGEST: usize = 0x200;

fn main() -> Result<()> {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_core_instances(16)
        .total_memories(16)
        .max_memory_size(8 << 20);
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)?;
    let module = Module::new(&engine, include_str!("../sha256.wat"))?;

    table::head();
    for (row, what) in [
        (
            calls(&engine, &module)?,
            "empty call; floor: call of a function that the compiler does not know",
        ),
        (
            instances(&engine, &module)?,
            "new store, instance from the pool, first call, all dropped; no floor",
        ),
        (
            hashes(&engine, &module)?,
            "SHA-256 of 4 MiB, plain WebAssembly; floor: crate sha2, with the processor's instructions",
        ),
    ] {
        table::line(&row, what);
    }
    Ok(())
}

type Started = (Store<()>, Instance);

fn start(engine: &Engine, module: &Module) -> Result<Started> {
    let mut store = Store::new(engine, ());
    let instance = Instance::new(&mut store, module, &[])?;
    Ok((store, instance))
}

fn empty((store, instance): &mut Started) -> Result<TypedFunc<(), ()>> {
    instance.get_typed_func(store, "empty")
}

fn nanoseconds(begun: Instant, count: usize) -> f64 {
    begun.elapsed().as_secs_f64() * 1e9 / count as f64
}

#[inline(never)]
fn nothing() {}

fn calls(engine: &Engine, module: &Module) -> Result<Measured> {
    let mut started = start(engine, module)?;
    let function = empty(&mut started)?;
    let (mut samples, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..100 {
            let begun = Instant::now();
            for _ in 0..BATCH {
                function.call(&mut started.0, ())?;
            }
            samples.push(nanoseconds(begun, BATCH));
        }
        for _ in 0..100 {
            let begun = Instant::now();
            for _ in 0..BATCH {
                black_box(nothing as fn())();
            }
            floors.push(nanoseconds(begun, BATCH));
        }
    }
    Ok(Measured::of("wasmtime_call", samples, floors))
}

fn instances(engine: &Engine, module: &Module) -> Result<Measured> {
    let mut samples = Vec::new();
    for _ in 0..2000 {
        let begun = Instant::now();
        let mut started = start(engine, module)?;
        empty(&mut started)?.call(&mut started.0, ())?;
        drop(started);
        samples.push(nanoseconds(begun, 1));
    }
    Ok(Measured::of("wasmtime_start", samples, Vec::new()))
}

fn hashes(engine: &Engine, module: &Module) -> Result<Measured> {
    let message: Vec<u8> = (0..BYTES).map(|index| (index * 31 >> 3) as u8).collect();
    let mut padded = message.clone();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_be_bytes());

    let (mut store, instance) = start(engine, module)?;
    let function: TypedFunc<u32, ()> = instance.get_typed_func(&mut store, "sha256")?;
    let memory = instance
        .get_memory(&mut store, "memory")
        .expect("the module exports it");
    memory.write(&mut store, MESSAGE, &padded)?;
    let length = u32::try_from(padded.len())?;
    let (mut samples, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..5 {
            let begun = Instant::now();
            function.call(&mut store, length)?;
            samples.push(nanoseconds(begun, 1));
            let begun = Instant::now();
            let expected = Sha256::digest(black_box(&message));
            floors.push(nanoseconds(begun, 1));
            let digest: Vec<u8> = memory.data(&store)[DIGEST..DIGEST + 32]
                .chunks_exact(4)
                .flat_map(|word| word.iter().rev().copied())
                .collect();
            assert_eq!(digest, expected[..], "the module hashes otherwise");
        }
    }
    Ok(Measured::of("wasmtime_sha256", samples, floors))
}
