//! `doctor`: what this host has and enforces, each with what to do about it. Guests of a few bytes are run to find
//! out; nothing is taken from a flag that can be observed.

use std::fs;
use std::path::Path;

use referee::host::{Kvm, observe, offered};
use referee_node::HostMemory;
use serde::Serialize;

use crate::ending;
use crate::inspect::{write_out, write_to};
use crate::terminal;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// Works, but something is weaker or slower than it could be.
    Weak,
    /// Cells cannot run, or not safely.
    Bad,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    found: String,
    advice: Option<String>,
}

/// Examines this host and prints what was found; the code is 0 when cells can run safely.
///
/// # Errors
/// When standard output fails.
pub fn examine(json: bool) -> anyhow::Result<u8> {
    let mut checks = Vec::new();
    let kvm = kvm(&mut checks);
    if let Some(kvm) = &kvm {
        flavour(&mut checks);
        observations(kvm, &mut checks);
    }
    namespaces(&mut checks);
    host(&mut checks);
    memory(&mut checks);
    side_channels(&mut checks);
    tpm(&mut checks);
    let bad = checks.iter().any(|check| check.state == State::Bad);
    if json {
        write_out((serde_json::to_string_pretty(&checks)? + "\n").as_bytes())?;
    } else {
        // Takes the colours out again where nobody sees them.
        write_to(anstream::stdout(), table(&checks, bad).as_bytes())?;
    }
    Ok(if bad { ending::HOST_ERROR } else { 0 })
}

fn kvm(checks: &mut Vec<Check>) -> Option<Kvm> {
    let path = Path::new("/dev/kvm");
    if !path.exists() {
        push(
            checks,
            "kvm",
            State::Bad,
            "no /dev/kvm",
            Some(
                "load the module (modprobe kvm_intel or kvm_amd), enable virtualization in the firmware, or, in a virtual machine, nested virtualization in its host",
            ),
        );
        return None;
    }
    match Kvm::open() {
        Ok(kvm) => {
            push(
                checks,
                "kvm",
                State::Ok,
                "/dev/kvm opens and has what every cell needs",
                None,
            );
            Some(kvm)
        }
        Err(error) => {
            let advice =
                "add yourself to the group that owns /dev/kvm (usermod -aG kvm $USER) and log in again";
            push(checks, "kvm", State::Bad, &error.to_string(), Some(advice));
            None
        }
    }
}

/// Which kind of KVM this is, by the module that serves it.
fn flavour(checks: &mut Vec<Check>) {
    let module = ["kvm_intel", "kvm_amd", "kvm_pvm"]
        .into_iter()
        .find(|name| Path::new("/sys/module").join(name).exists());
    let nested = fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| info.contains(" hypervisor "));
    let paging = match module {
        Some("kvm_intel") => flag("/sys/module/kvm_intel/parameters/ept"),
        Some("kvm_amd") => flag("/sys/module/kvm_amd/parameters/npt"),
        _ => false,
    };
    let found = format!(
        "{}, {}, {}",
        module.unwrap_or("built into the kernel"),
        if nested {
            "inside a virtual machine"
        } else {
            "on bare metal"
        },
        if paging { "nested paging" } else { "shadow paging" },
    );
    let advice = (!paging)
        .then_some("exits and first touches of memory cost many times more without nested paging (EPT, NPT)");
    push(
        checks,
        "flavour",
        if paging { State::Ok } else { State::Weak },
        &found,
        advice,
    );
}

fn flag(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| matches!(text.trim(), "Y" | "1"))
}

fn observations(kvm: &Kvm, checks: &mut Vec<Check>) {
    match observe(kvm) {
        Ok(observations) => {
            for seen in observations {
                let (state, advice) = match (seen.holds, seen.needed) {
                    (true, _) => (State::Ok, None),
                    (false, true) => (
                        State::Bad,
                        Some("do not run untrusted code on this host: a cell's isolation rests on this"),
                    ),
                    (false, false) => (
                        State::Weak,
                        Some(
                            "this host cannot deny it; cells stay isolated, but a muscle may learn more than granted",
                        ),
                    ),
                };
                let found = format!(
                    "{}: {}",
                    if seen.holds { "holds" } else { "does not hold" },
                    seen.meaning
                );
                push(checks, seen.name, state, &found, advice);
            }
        }
        Err(error) => push(
            checks,
            "probe",
            State::Bad,
            &error.to_string(),
            Some("a guest of a few bytes cannot be run; see the message"),
        ),
    }
}

fn namespaces(checks: &mut Vec<Check>) {
    let most: u64 = read_number("/proc/sys/user/max_user_namespaces").unwrap_or(0);
    let (state, advice) = if most > 0 {
        (State::Ok, None)
    } else {
        (
            State::Weak,
            Some("allow user namespaces (sysctl user.max_user_namespaces), or run as root"),
        )
    };
    push(
        checks,
        "namespaces",
        state,
        &format!("{most} user namespaces allowed"),
        advice,
    );
    let seccomp = fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("Seccomp:"));
    let (state, advice) = if seccomp {
        (State::Ok, None)
    } else {
        (
            State::Bad,
            Some("this kernel has no seccomp filters; nothing will run"),
        )
    };
    push(
        checks,
        "seccomp",
        state,
        if seccomp {
            "the kernel has filters"
        } else {
            "missing"
        },
        advice,
    );
}

fn host(checks: &mut Vec<Check>) {
    let thp = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let on = thp.contains("[always]") || thp.contains("[madvise]");
    push(
        checks,
        "huge-pages",
        if on { State::Ok } else { State::Weak },
        if on {
            "transparent huge pages can be had"
        } else {
            "off"
        },
        (!on).then_some("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
    );
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    push(checks, "cores", State::Ok, &format!("{cores}"), None);
    let files: Option<u64> = fs::read_to_string("/proc/self/limits").ok().and_then(|text| {
        text.lines()
            .find(|line| line.starts_with("Max open files"))?
            .split_whitespace()
            .nth(3)?
            .parse()
            .ok()
    });
    let enough = files.is_some_and(|files| files >= 1024);
    push(
        checks,
        "open-files",
        if enough { State::Ok } else { State::Weak },
        &files.map_or("unknown".into(), |files| format!("{files} for a process")),
        (!enough).then_some("raise the limit: ulimit -n 4096"),
    );
    let tpm = Path::new("/dev/tpmrm0").exists();
    push(
        checks,
        "tpm",
        if tpm { State::Ok } else { State::Weak },
        if tpm { "/dev/tpmrm0" } else { "none" },
        (!tpm).then_some("cells run without one; --tpm swtpm:DIR makes a program stand in, whose word counts for nothing against root"),
    );
}

/// What cells may have of this host's memory, and what becomes of those that nobody calls.
fn memory(checks: &mut Vec<Check>) {
    let found = HostMemory::look();
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    let limit = found.limit_bytes.map_or(String::new(), |bytes| {
        format!(", of which this control group may have {}", mebibytes(bytes))
    });
    let total = format!("{}{limit}", mebibytes(found.total_bytes));
    push(checks, "memory", State::Ok, &total, None);
    let (state, text, advice) = match found.has_swap() {
        true => (
            State::Ok,
            format!("{}: a node moves idle cells there", mebibytes(found.swap_bytes)),
            None,
        ),
        false => (
            State::Weak,
            "none: a node drops idle cells, and the next call makes others".to_owned(),
            Some(
                "add swap or zram, so that cells which keep their memory from call to call can be moved there; encrypt it, as it holds their secrets",
            ),
        ),
    };
    push(checks, "swap", state, &text, advice);
}

/// Whether bundles can be measured into a chip, without which nothing is proved to others.
fn tpm(checks: &mut Vec<Check>) {
    let path = "/dev/tpmrm0";
    let opened = fs::File::options().read(true).write(true).open(path);
    match opened {
        Ok(_) => push(checks, "tpm", State::Ok, path, None),
        Err(error) => push(
            checks,
            "tpm",
            State::Weak,
            &format!("{path}: {error}"),
            Some(
                "enable the TPM in the firmware and let this user open it (group tss), or name a software TPM: --tpm swtpm:DIR",
            ),
        ),
    }
}

/// What the kernel can do for workers against those who share a core or a cache with them.
fn side_channels(checks: &mut Vec<Check>) {
    for (defence, offer) in offered() {
        match offer {
            Ok(()) => push(checks, defence.name(), State::Ok, "this host has it", None),
            Err(why) => push(
                checks,
                defence.name(),
                State::Weak,
                &why.to_string(),
                Some(
                    "a node cannot have its workers defended so; do not run those with secrets beside those that attack",
                ),
            ),
        }
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn push(checks: &mut Vec<Check>, name: &str, state: State, found: &str, advice: Option<&str>) {
    checks.push(Check {
        name: name.into(),
        state,
        found: found.into(),
        advice: advice.map(Into::into),
    });
}

fn table(checks: &[Check], bad: bool) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let (style, state) = match check.state {
            State::Ok => (terminal::GOOD, "ok  "),
            State::Weak => (terminal::WEAK, "weak"),
            State::Bad => (terminal::BAD, "BAD "),
        };
        text.push_str(&format!(
            "{style}{state}{style:#}  {:width$}  {}\n",
            check.name, check.found
        ));
        if let Some(advice) = &check.advice {
            text.push_str(&format!("      {:width$}  → {advice}\n", ""));
        }
    }
    text.push_str(if bad {
        "\nThis host cannot run cells safely.\n"
    } else {
        "\nThis host can run cells.\n"
    });
    text
}
