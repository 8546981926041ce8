//! What a check found, one line for each thing that must hold.

use std::fmt;

use serde::Serialize;

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was checked and holds.
    Holds,
    /// It was checked and does not hold.
    Fails,
    /// It could not be checked, because something before it does not hold.
    Unknown,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name for machines.
    pub check: &'static str,
    /// Whether it holds.
    pub verdict: Verdict,
    /// What was seen, and for a failure what was expected.
    pub detail: String,
}

/// Everything that was checked, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether everything holds and there was something to check.
    pub fn holds(&self) -> bool {
        let all = |finding: &Finding| finding.verdict == Verdict::Holds;
        !self.findings.is_empty() && self.findings.iter().all(all)
    }

    /// Names of the checks that fail.
    pub fn failures(&self) -> Vec<&'static str> {
        let fails = |finding: &&Finding| finding.verdict == Verdict::Fails;
        self.findings
            .iter()
            .filter(fails)
            .map(|finding| finding.check)
            .collect()
    }

    /// Adds a finding and gives the value on when it holds.
    pub fn note<T, E: fmt::Display>(
        &mut self,
        check: &'static str,
        result: Result<(T, String), E>,
    ) -> Option<T> {
        let (verdict, detail, value) = match result {
            Ok((value, detail)) => (Verdict::Holds, detail, Some(value)),
            Err(error) => (Verdict::Fails, error.to_string(), None),
        };
        self.findings.push(Finding {
            check,
            verdict,
            detail,
        });
        value
    }

    /// Adds what could not be checked for want of something earlier.
    pub fn unknown(&mut self, checks: &[&'static str], because: &str) {
        for check in checks {
            self.findings.push(Finding {
                check,
                verdict: Verdict::Unknown,
                detail: format!("not checked: {because}"),
            });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.check.len()).max();
        for finding in &self.findings {
            let verdict = match finding.verdict {
                Verdict::Holds => "holds",
                Verdict::Fails => "FAILS",
                Verdict::Unknown => "?",
            };
            writeln!(
                out,
                "{verdict:<6} {:<width$}  {}",
                finding.check,
                finding.detail,
                width = width.unwrap_or_default()
            )?;
        }
        Ok(())
    }
}
