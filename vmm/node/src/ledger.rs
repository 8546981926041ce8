//! The audit log as workers reach it: each over a line of its own, about its own cells only.
//!
//! What a worker may have recorded, the supervisor checks: the muscle is the deployment's, a cell belongs to the worker that began it, and
//! one that is over has no more records, and there is a bound on how much it has recorded. When a worker is gone, the supervisor records the end of each cell that the worker did not.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use referee_audit::line::{MAX_REQUEST, REPLY_SIZE, Request, SentRecord, reply};
use referee_audit::{AuditSink, Event, Kind, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::deployment::{Counters, add};
use crate::error::{NodeError, OrHost};
use crate::flood::{Allowance, Beyond, Meter};

/// Most cells that a worker may have begun and not ended.
const CELLS_MAX: usize = 4096;
/// Most bytes of a cell's name.
const NAME_MAX: usize = 32;

/// One worker's part of the log.
#[derive(Debug)]
pub(crate) struct Ledger {
    audit: AuditSink,
    muscle: String,
    counters: Arc<Counters>,
    meter: Meter,
    /// Cells that began and are not over.
    cells: BTreeSet<String>,
}

/// Why a record is not taken. The worker is then out of order, and ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotItsOwn {
    #[error("it sent no request that the log's keeper knows")]
    Malformed,
    #[error("it has a record about another muscle")]
    Muscle,
    #[error("it has a record about a cell that it does not have")]
    Cell,
    #[error("it has a record of a kind that is not a worker's to make")]
    Kind,
    #[error("it has begun too many cells")]
    Cells,
    #[error("it has more recorded than audit.bytes_per_second = {0}")]
    Second(u64),
    #[error("it has more recorded than audit.bytes_per_call = {0}")]
    Call(u64),
}

impl Ledger {
    /// For a worker that runs `muscle`, as `name version`; refused uses are counted.
    pub(crate) fn new(
        audit: AuditSink,
        muscle: String,
        counters: Arc<Counters>,
        allowance: Allowance,
    ) -> Ledger {
        Ledger {
            audit,
            muscle,
            counters,
            meter: Meter::new(allowance, Instant::now()),
            cells: BTreeSet::new(),
        }
    }

    /// Takes records until the worker is gone or out of order, and then records the end of what is left of it.
    ///
    /// # Errors
    /// When the log takes no record, after which no worker should run.
    pub(crate) async fn keep(mut self, mut line: UnixStream) -> Result<Option<NotItsOwn>, NodeError> {
        let mut buffer = Vec::new();
        let out_of_order = loop {
            match self.next(&mut line, &mut buffer).await {
                Ok(None) => {}
                Ok(Some(wrong)) => break Some(wrong),
                // The worker is gone.
                Err(_) => break None,
            }
        };
        drop(line);
        if out_of_order.is_some() {
            add(&self.counters.workers_out_of_order, 1);
        }
        self.close()?;
        Ok(out_of_order)
    }

    async fn next(&mut self, line: &mut UnixStream, buffer: &mut Vec<u8>) -> io::Result<Option<NotItsOwn>> {
        let mut prefix = [0; 4];
        line.read_exact(&mut prefix).await?;
        let length = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
        if length > MAX_REQUEST {
            return Ok(Some(NotItsOwn::Malformed));
        }
        if let Err(beyond) = self.meter.count(length, Instant::now()) {
            return Ok(Some(match beyond {
                Beyond::Second(bytes) => NotItsOwn::Second(bytes),
                Beyond::Call(bytes) => NotItsOwn::Call(bytes),
            }));
        }
        buffer.resize(length, 0);
        line.read_exact(buffer).await?;
        let Ok(request) = Request::decode(buffer) else {
            return Ok(Some(NotItsOwn::Malformed));
        };
        let done = match request {
            Request::Sync => {
                let audit = self.audit.clone();
                tokio::task::spawn_blocking(move || audit.sync())
                    .await
                    .is_ok_and(|synced| synced.is_ok())
            }
            Request::Record(record) => match self.take(&record) {
                Ok(done) => done,
                Err(wrong) => return Ok(Some(wrong)),
            },
        };
        let answer: [u8; REPLY_SIZE] = reply(done, self.audit.head());
        line.write_all(&answer).await?;
        Ok(None)
    }

    /// Appends a record if it is this worker's to make; false when the log does not take it.
    fn take(&mut self, record: &SentRecord<'_>) -> Result<bool, NotItsOwn> {
        if record.muscle != self.muscle {
            return Err(NotItsOwn::Muscle);
        }
        match record.kind {
            Kind::Start => {
                if self.cells.len() >= CELLS_MAX {
                    return Err(NotItsOwn::Cells);
                }
                let is_name = (1..=NAME_MAX).contains(&record.cell.len())
                    && record.cell.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if !is_name || !self.cells.insert(record.cell.to_owned()) {
                    return Err(NotItsOwn::Cell);
                }
            }
            // About all cells of its muscle, as somebody who may has told it.
            Kind::Revoke | Kind::Narrow if record.cell.is_empty() => {}
            Kind::Grant
            | Kind::Use
            | Kind::Deny
            | Kind::Revoke
            | Kind::Narrow
            | Kind::Fault
            | Kind::Reset
            | Kind::End
            | Kind::Reject => {
                if !self.cells.contains(record.cell) {
                    return Err(NotItsOwn::Cell);
                }
            }
            Kind::Measure | Kind::Recover | Kind::Rotate | Kind::Manage | Kind::Key => {
                return Err(NotItsOwn::Kind);
            }
        }
        if record.kind == Kind::End {
            self.cells.remove(record.cell);
        }
        let taken = self
            .audit
            .for_cell(record.cell, record.muscle)
            .record(&record.event());
        if record.kind == Kind::Deny {
            add(&self.counters.denials, 1);
        }
        if taken.is_err() && record.kind == Kind::Start {
            // It has no beginning, so it has no end.
            self.cells.remove(record.cell);
        }
        if let Err(error) = &taken {
            crate::report::problem(&format!("the audit log takes no record: {error}"));
        }
        Ok(taken.is_ok())
    }

    /// Records the end of every cell that is not over.
    fn close(&mut self) -> Result<(), NodeError> {
        let detail = [
            ("how", Value::Text("host-error")),
            ("code", Value::Number(referee::record::HOST_ERROR.into())),
            ("message", Value::Text("the worker process is gone")),
        ];
        for cell in std::mem::take(&mut self.cells) {
            self.audit
                .for_cell(&cell, &self.muscle)
                .record(&Event::of_cell(Kind::End, &detail))
                .or_host("recording a cell's end")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use referee_audit::{AuditLog, Options};

    fn ledger() -> Ledger {
        let audit = AuditSink::new(AuditLog::in_memory(Options::default()), "", "");
        let allowance = Allowance {
            per_second: 0,
            per_call: 0,
            calls: Arc::default(),
        };
        Ledger::new(audit, "demo 1.0.0".into(), Arc::default(), allowance)
    }

    fn record(cell: &'static str, muscle: &'static str, kind: Kind) -> SentRecord<'static> {
        SentRecord {
            cell,
            muscle,
            kind,
            capability: None,
            slot: None,
            op: None,
            detail: Vec::new(),
        }
    }

    fn lines(ledger: &Ledger) -> Vec<serde_json::Value> {
        let bytes = ledger.audit.memory().expect("in memory");
        let text = String::from_utf8(bytes).expect("JSON");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    #[test]
    fn a_worker_speaks_of_its_own_cells_only() {
        let mut ledger = ledger();
        let demo = "demo 1.0.0";
        assert_eq!(ledger.take(&record("a", demo, Kind::Use)), Err(NotItsOwn::Cell));
        assert_eq!(ledger.take(&record("a", demo, Kind::Start)), Ok(true));
        assert_eq!(ledger.take(&record("a", demo, Kind::Use)), Ok(true));
        assert_eq!(ledger.take(&record("a", demo, Kind::Start)), Err(NotItsOwn::Cell));
        assert_eq!(
            ledger.take(&record("a", "other 1.0.0", Kind::Use)),
            Err(NotItsOwn::Muscle)
        );
        assert_eq!(
            ledger.take(&record("a", demo, Kind::Rotate)),
            Err(NotItsOwn::Kind)
        );
        assert_eq!(ledger.take(&record("", demo, Kind::Start)), Err(NotItsOwn::Cell));
        assert_eq!(
            ledger.take(&record("a\n", demo, Kind::Start)),
            Err(NotItsOwn::Cell)
        );
        assert_eq!(ledger.take(&record("a", demo, Kind::Deny)), Ok(true));
        assert_eq!(ledger.take(&record("b", demo, Kind::Deny)), Err(NotItsOwn::Cell));
        assert_eq!(ledger.counters.read().denials, 1, "only what it may say counts");
        assert_eq!(ledger.take(&record("a", demo, Kind::End)), Ok(true));
        assert_eq!(ledger.take(&record("a", demo, Kind::Use)), Err(NotItsOwn::Cell));
    }

    #[test]
    fn what_a_dead_worker_left_is_ended_in_the_log() {
        let mut ledger = ledger();
        for (cell, kind) in [("a", Kind::Start), ("b", Kind::Start), ("a", Kind::End)] {
            assert_eq!(ledger.take(&record(cell, "demo 1.0.0", kind)), Ok(true));
        }
        ledger.close().expect("in memory");
        let last = lines(&ledger).pop().expect("a line");
        assert_eq!((&last["cell"], &last["kind"]), (&"b".into(), &"end".into()));
        assert_eq!(last["detail"]["message"], "the worker process is gone");
        assert_eq!(lines(&ledger).len(), 4);
    }
}
