//! Calls by the lane: the same calls, in the same order with everything else; and what muscles do with the lane that no muscle should.

use std::io::{self, Write};
use std::sync::atomic::AtomicUsize;

use referee::{Output, OutputWriter};

use super::*;

/// How many of its calls came by the lane, as `hot/lanes` counts them.
fn by_lane(cell: &mut Cell, thread: &CellThread) -> u32 {
    cell.call(thread, "lane", &()).expect("answers")
}

#[test]
fn a_call_by_the_lane_is_the_call_that_it_would_have_been() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    let mut cell = host.start("hot", "lanes", LONG, &hot);
    let until = Instant::now() + Duration::from_secs(60);
    let mut calls = 0;
    // Every size from nothing to more than fits, with the lane and the queues in turns.
    for length in (0..500).cycle() {
        let text = "x".repeat(length);
        let echoed: (String,) = cell.call(&thread, "echo", &(&text,)).expect("answers");
        assert_eq!(echoed.0, text, "call {calls}");
        calls += 1;
        if calls >= 2000 {
            assert_eq!(count(&mut cell, &thread).expect("answers"), calls);
            let by_lane = by_lane(&mut cell, &thread);
            assert!(by_lane <= calls, "{by_lane} of {calls}");
            if by_lane > 200 && calls - by_lane > 200 {
                break;
            }
            calls += 2;
        }
        assert!(Instant::now() < until, "too few went by the lane");
    }
}

#[test]
fn no_call_by_the_lane_is_lost_when_the_cell_cools_at_any_moment() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    let mut cell = host.start("hot", "lanes", Duration::from_micros(100), &hot);
    for calls in 0..10_000u32 {
        assert_eq!(count(&mut cell, &thread).expect("answers"), calls);
        if calls % 16 == 0 {
            let until = Instant::now() + Duration::from_micros(u64::from(calls % 400));
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
    }
    assert!(by_lane(&mut cell, &thread) > 0, "none went by the lane");
}

/// Counts the lines that are written to it.
struct Lines(Arc<AtomicUsize>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.0.fetch_add(lines, Ordering::SeqCst);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_muscle_said_before_it_answered_by_the_lane_is_there_when_the_answer_is() {
    let _alone = alone();
    let console = r#"@id("console") permit (principal, action == Action::"console", resource);"#;
    let (host, hot, thread) = (Host::new(Some(&format!("{SPIN}{console}"))), hot(), thread_here());
    let said = Arc::new(AtomicUsize::new(0));
    let mut inputs = Inputs::default();
    inputs.console.out = Output::Writer(OutputWriter(Box::new(Lines(Arc::clone(&said)))));
    let permit = host.permit("hot", "lane-says", LONG);
    let mut cell = permit.start(inputs).expect("starts");
    cell.keep_hot(&hot).expect("may be hot");
    let until = Instant::now() + Duration::from_secs(60);
    let mut went = 0;
    while went < 300 {
        // It says a line for each call by the lane, this one not yet counted.
        let before = by_lane(&mut cell, &thread);
        let lines = said.load(Ordering::SeqCst);
        went = usize::try_from(before).expect("few");
        assert!(
            lines == went || lines == went + 1,
            "{lines} lines after {went} calls"
        );
        assert!(Instant::now() < until, "too few went by the lane");
    }
}

#[test]
fn a_muscle_that_breaks_a_rule_of_the_lane_is_ended_for_it() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    for (name, fault) in [
        ("lane-wrong-id", "unexpected-answer"),
        ("lane-too-long", "frame"),
        ("lane-calls", "frame"),
        ("lane-kind", "frame"),
        ("lane-swallows", "parked-for-ever"),
        ("lane-deaf", "parked-for-ever"),
    ] {
        let mut cell = host.start("hot", name, LONG, &hot);
        let until = Instant::now() + Duration::from_secs(60);
        let error = loop {
            assert!(Instant::now() < until, "{name} never came to it");
            if let Err(error) = count(&mut cell, &thread) {
                break error;
            }
        };
        let CallError::Fault(report) = &error else {
            panic!("{name}: {error:?}");
        };
        assert_eq!(report.fault.name(), fault, "{name}: {report:?}");
        assert!(cell.is_over(), "{name}");
    }
}

#[test]
fn a_muscle_that_scribbles_in_the_lanes_harms_itself_alone() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    let mut ends = 0;
    while ends < 20 {
        let mut cell = host.start("hot", "lane-scribbles", LONG, &hot);
        for _ in 0..MANY {
            match cell.call::<_, u32>(&thread, "count", &()) {
                Ok(_) | Err(CallError::Answer(_) | CallError::Function { .. }) => {}
                Err(error @ (CallError::Host(_) | CallError::Audit(_))) => {
                    panic!("the host failed: {error:?}")
                }
                Err(_) => break,
            }
        }
        ends += 1;
    }
    let mut other = host.start("hot", "lanes", LONG, &hot);
    heat(&mut other, &thread);
}
