//! The node's processes, as `/proc` shows them.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait_for;

/// Children of a process that are no zombies.
pub fn children(of: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{of}/task")) else {
        return Vec::new();
    };
    let lists = threads
        .filter_map(Result::ok)
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut all: Vec<u32> = lists
        .flat_map(|list| {
            let pids: Vec<u32> = list
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect();
            pids
        })
        .filter(|pid| is_alive(*pid))
        .collect();
    all.sort_unstable();
    all
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(state(&stat), None | Some('Z' | 'X'))
}

/// The state in a line of `stat`: it follows the name, which may hold anything and is in parentheses (proc_pid_stat(5)).
fn state(stat: &str) -> Option<char> {
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next())
}

/// Stops a process, and comes back when none of its threads goes on: on a busy host some of them do for a while.
pub fn stop(pid: u32) {
    send(pid, Signal::STOP);
    wait_for("it is stopped", || {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            return true;
        };
        let mut stats = threads
            .filter_map(Result::ok)
            .filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
        stats.all(|stat| matches!(state(&stat), None | Some('T' | 't' | 'Z' | 'X')))
    });
}

/// How often threads of a process have come to a processor or left it.
pub fn switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let statuses = threads
        .filter_map(Result::ok)
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let of_thread = |status: String| -> u64 {
        let lines = status
            .lines()
            .filter_map(|line| line.split_once("ctxt_switches:"));
        lines
            .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
            .sum()
    };
    statuses.map(of_thread).sum()
}

/// CPU time that a process has used, in ticks of the kernel's clock.
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // User and system time are the fields 14 and 15; the state is the third.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum()
}

pub fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("is a process");
    // It may have ended by itself.
    let _ = kill_process(pid, signal);
}
