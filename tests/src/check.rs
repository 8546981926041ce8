//! What was demanded against what happened, to the last byte that was printed.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;

use crate::expectation::{Expectation, FaultExpectation, number};
use crate::header::Streams;
use crate::program::Ended;

const FAULT: i32 = 102;
const TIME_LIMIT: i32 = 103;

/// Compares exit code, report and output with what was expected, and tells which of the expected ends it was.
///
/// # Errors
/// Says what differs.
pub fn check<'e>(
    expected: &'e [Expectation],
    streams: &Streams,
    ended: &Ended,
) -> anyhow::Result<&'e Expectation> {
    let mut result = Err(anyhow!("nothing was expected"));
    for one in expected {
        result = check_one(one, streams, ended).map(|()| one);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn check_one(expected: &Expectation, streams: &Streams, ended: &Ended) -> anyhow::Result<()> {
    let told = || {
        format!(
            "code {:?}, signal {:?}\n{}",
            ended.code,
            ended.signal,
            ended.errors()
        )
    };
    check_output(streams, ended).with_context(told)?;
    match expected {
        Expectation::Exit(codes) => {
            let code = ended.code.and_then(|code| u8::try_from(code).ok());
            ensure!(
                code.is_some_and(|code| codes.contains(&code)),
                "exit {codes:?} was expected: {}",
                told()
            );
            ensure!(
                streams.more_stderr || ended.stderr.is_empty(),
                "no word was expected: {}",
                told()
            );
            Ok(())
        }
        Expectation::Fault(fault) => {
            let report = report(streams, ended).with_context(told)?;
            check_report(fault, &report).with_context(told)?;
            let time = fault
                .names
                .iter()
                .any(|name| name == "deadline" || name == "cpu-limit");
            let code = if time { TIME_LIMIT } else { FAULT };
            ensure!(
                ended.code == Some(code),
                "exit code {code} was expected: {}",
                told()
            );
            Ok(())
        }
    }
}

/// Verifies the log, and that it tells of this fault and of no other.
///
/// # Errors
/// Says which record is missing, superfluous or broken.
pub fn check_audit(log: &Path, fault: Option<&[String]>) -> anyhow::Result<()> {
    let summary = referee_audit::verify(log).context("does not verify")?;
    let text = fs::read_to_string(log)?;
    let records = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()?;
    ensure!(
        summary.head.records == records.len() as u64,
        "{} records, {} lines",
        summary.head.records,
        records.len()
    );
    let of_kind = |kind: &str| -> Vec<&Value> {
        records
            .iter()
            .filter(|record| record.get("kind").and_then(Value::as_str) == Some(kind))
            .collect()
    };
    ensure!(of_kind("start").len() == 1, "one start was expected:\n{text}");
    ensure!(of_kind("end").len() == 1, "one end was expected:\n{text}");
    let faults = of_kind("fault");
    match (fault, faults.as_slice()) {
        (None, []) => Ok(()),
        (Some(names), [record]) => {
            let name = record
                .pointer("/detail/fault")
                .and_then(Value::as_str)
                .unwrap_or_default();
            ensure!(
                names.iter().any(|expected| expected == name),
                "a record of {names:?} was expected: {record}"
            );
            Ok(())
        }
        (fault, found) => bail!("{fault:?} was expected, the log has {found:?}"),
    }
}

fn check_output(streams: &Streams, ended: &Ended) -> anyhow::Result<()> {
    match streams.stdout_at_most {
        Some(most) => ensure!(
            ended.stdout.len() <= most,
            "{} bytes of output",
            ended.stdout.len()
        ),
        None => ensure!(ended.stdout == streams.stdout, "it printed {:?}", ended.output()),
    }
    let command = ended
        .errors()
        .chars()
        .find(|character| character.is_control() && *character != '\n');
    ensure!(
        streams.any_stderr || command.is_none(),
        "control character {command:?} reached standard error"
    );
    Ok(())
}

/// The report: the only line on standard error, or the last where others are allowed.
fn report(streams: &Streams, ended: &Ended) -> anyhow::Result<Value> {
    let text = ended.errors();
    let mut lines = text.lines().rev();
    let last = lines.next().context("there is no report")?;
    ensure!(
        streams.more_stderr || lines.next().is_none(),
        "more than the report was printed"
    );
    serde_json::from_str(last).context("the report is not JSON")
}

/// Compares a fault's report with what was expected.
///
/// # Errors
/// Says what differs.
pub fn check_report(expected: &FaultExpectation, report: &Value) -> anyhow::Result<()> {
    let text = |pointer: &str| report.pointer(pointer).and_then(Value::as_str);
    let count = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64);
    ensure!(
        text("/outcome") == Some("fault"),
        "the outcome is {:?}",
        text("/outcome")
    );
    let name = text("/fault").unwrap_or_default();
    ensure!(
        expected.names.iter().any(|one| one == name),
        "{:?} was expected, not {name}",
        expected.names
    );
    same("vector", expected.vector, count("/vector"))?;
    same("error code", expected.error, count("/error_code"))?;
    same("address", expected.address, text("/address").and_then(number))?;
    same("region", expected.region.as_deref(), text("/location/region"))?;
    same("side", expected.side.as_deref(), text("/location/side"))?;
    same("distance", expected.distance, count("/location/distance"))?;
    let message = text("/message").unwrap_or_default();
    let words = expected.message.as_deref().unwrap_or_default();
    ensure!(message.contains(words), "`{words}` was expected in `{message}`");
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: Option<T>,
    found: Option<T>,
) -> anyhow::Result<()> {
    ensure!(
        expected.is_none() || expected == found,
        "{what} {expected:?} was expected, not {found:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, stderr: &str) -> Ended {
        Ended {
            code: Some(code),
            signal: None,
            stdout: Vec::new(),
            stderr: stderr.as_bytes().to_vec(),
        }
    }

    fn verdict(expected: &str, code: i32, stderr: &str) -> bool {
        let expected = Expectation::parse(expected).expect("is understood");
        check(&[expected], &Streams::default(), &ended(code, stderr)).is_ok()
    }

    const REPORT: &str = r#"{"outcome":"fault","fault":"page-fault","vector":14,"error_code":4,"address":"0x10",
        "location":{"region":"stack","side":"below","distance":8},"message":"not mapped"}"#;

    #[test]
    fn an_exit_is_its_code_and_silence() {
        assert!(verdict("exit 7", 7, ""));
        assert!(!verdict("exit 7", 8, ""));
        assert!(!verdict("exit 7", 7, "warning\n"));
        assert!(!verdict("exit 7", 102, &REPORT.replace('\n', "")));
    }

    #[test]
    fn a_fault_is_every_part_of_its_report() {
        let report = REPORT.replace('\n', "");
        let good = "fault page-fault vector=14 error=0x4 address=0x10 region=stack side=below distance=8 message=mapped";
        assert!(verdict(good, 102, &report));
        assert!(!verdict(good, 103, &report));
        assert!(!verdict(good, 102, &format!("{report}\nmore")));
        assert!(!verdict(good, 102, "\u{1b}"));
        for (from, to) in [
            ("=0x4", "=0x6"),
            ("vector=14", "vector=13"),
            ("0x10", "0x11"),
            ("=stack", "=heap"),
            ("below", "above"),
        ] {
            assert!(!verdict(&good.replace(from, to), 102, &report), "{from} {to}");
        }
        assert!(!verdict(&good.replace("=8", "=9"), 102, &report));
        assert!(!verdict(&good.replace("page-fault", "port"), 102, &report));
        assert!(!verdict("fault deadline", 103, &report));
    }
}
