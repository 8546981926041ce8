//! The log in another process's keeping: a cell's process sends its records over a line and waits until they are taken.
//!
//! So a process that a muscle might take over can add records about its own cells and do nothing else to the log.
//!
//! ```text
//!   request   length u32 LE │ postcard of Request       cell's process ─► keeper
//!   reply     status u8 │ records u64 LE │ hash 32       keeper ─► cell's process; where the log stands
//! ```
//! One request is under way at a time, so the replies need no number.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use crate::error::AuditError;
use crate::record::{Event, Hash, Head, Kind, MAX_RECORD, Value};

/// Most bytes of a request, its length not counted: a record of the largest size, with room for what JSON leaves out.
pub const MAX_REQUEST: usize = 4 * MAX_RECORD;
/// Bytes of a reply.
pub const REPLY_SIZE: usize = 1 + 8 + 32;
const TAKEN: u8 = 0;
const NOT_TAKEN: u8 = 1;

/// What a cell's process asks of the log's keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Append this.
    #[serde(borrow)]
    Record(SentRecord<'a>),
    /// Have everything so far on the disk.
    Sync,
}

/// A record on its way; who may say what is for the keeper to check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentRecord<'a> {
    /// The cell that it is about.
    pub cell: &'a str,
    /// The muscle, `name version`.
    pub muscle: &'a str,
    /// As in [`Event`].
    pub kind: Kind,
    /// As in [`Event`].
    pub capability: Option<&'a str>,
    /// As in [`Event`].
    pub slot: Option<&'a str>,
    /// As in [`Event`].
    pub op: Option<&'a str>,
    /// As in [`Event`].
    #[serde(borrow)]
    pub detail: Vec<(&'a str, Value<'a>)>,
}

impl<'a> SentRecord<'a> {
    /// The record as an event.
    pub fn event(&self) -> Event<'_> {
        Event {
            kind: self.kind,
            capability: self.capability,
            slot: self.slot,
            op: self.op,
            detail: &self.detail,
        }
    }

    pub(crate) fn new(cell: &'a str, muscle: &'a str, event: &Event<'a>) -> SentRecord<'a> {
        SentRecord {
            cell,
            muscle,
            kind: event.kind,
            capability: event.capability,
            slot: event.slot,
            op: event.op,
            detail: event.detail.to_vec(),
        }
    }
}

impl<'a> Request<'a> {
    /// Reads a request's bytes, the length before them left out.
    ///
    /// # Errors
    /// When they are no request, or more than one.
    pub fn decode(bytes: &'a [u8]) -> Result<Request<'a>, NotARequest> {
        match postcard::take_from_bytes(bytes) {
            Ok((request, [])) => Ok(request),
            _ => Err(NotARequest),
        }
    }
}

/// Bytes that are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a request to the keeper of an audit log")]
pub struct NotARequest;

/// The keeper's reply: whether what was asked is done, and where the log stands.
pub fn reply(done: bool, head: Head) -> [u8; REPLY_SIZE] {
    let mut bytes = [0; REPLY_SIZE];
    let (status, rest) = bytes.split_at_mut(1);
    status.fill(if done { TAKEN } else { NOT_TAKEN });
    let (records, hash) = rest.split_at_mut(8);
    records.copy_from_slice(&head.records.to_le_bytes());
    hash.copy_from_slice(&head.hash.0);
    bytes
}

/// The cell's process's end.
#[derive(Debug)]
pub(crate) struct Line {
    stream: UnixStream,
    frame: Vec<u8>,
    head: Head,
    /// A request was cut short: what comes next on the line is not known.
    broken: bool,
}

impl Line {
    pub(crate) fn new(stream: UnixStream) -> Line {
        Line {
            stream,
            frame: Vec::new(),
            head: Head::EMPTY,
            broken: false,
        }
    }

    /// Where the log stood at the last reply.
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// Asks, and waits for the reply.
    ///
    /// # Errors
    /// [`AuditError::Line`] when the keeper is gone; [`AuditError::NotTaken`] when it could not do it.
    pub(crate) fn ask(&mut self, request: &Request<'_>) -> Result<(), AuditError> {
        if self.broken {
            return Err(AuditError::Line(io::ErrorKind::BrokenPipe.into()));
        }
        self.frame.clear();
        self.frame.extend_from_slice(&[0; 4]);
        self.frame = postcard::to_extend(request, std::mem::take(&mut self.frame))
            .map_err(|_| AuditError::Line(io::ErrorKind::InvalidInput.into()))?;
        let length = self.frame.len() - 4;
        let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_REQUEST);
        let Some(prefix) = prefix else {
            return Err(AuditError::Line(io::ErrorKind::InvalidInput.into()));
        };
        if let Some(front) = self.frame.get_mut(..4) {
            front.copy_from_slice(&prefix.to_le_bytes());
        }
        let mut reply = [0; REPLY_SIZE];
        self.broken = true;
        // `write_all` and `read_exact` go on after a signal, which here is only ever a kick meant for the guest.
        self.stream
            .write_all(&self.frame)
            .and_then(|()| self.stream.read_exact(&mut reply))
            .map_err(AuditError::Line)?;
        self.broken = false;
        let [status, rest @ ..] = reply;
        let (records, hash) = rest.split_at(8);
        self.head = Head {
            records: records.try_into().map_or(0, u64::from_le_bytes),
            hash: Hash(hash.try_into().unwrap_or_default()),
        };
        match status {
            TAKEN => Ok(()),
            _ => Err(AuditError::NotTaken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AuditLog, AuditSink, Options};

    /// A keeper that takes so many requests, and then says no once.
    fn keep(mut stream: UnixStream, taken: usize) -> std::thread::JoinHandle<AuditLog> {
        std::thread::spawn(move || {
            let mut log = AuditLog::in_memory(Options::default());
            for number in 0..=taken {
                let mut prefix = [0; 4];
                stream.read_exact(&mut prefix).expect("a request");
                let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(prefix)).expect("small")];
                stream.read_exact(&mut bytes).expect("whole");
                let done = number < taken;
                if let (true, Request::Record(record)) = (done, Request::decode(&bytes).expect("a request")) {
                    log.append(record.cell, record.muscle, &record.event())
                        .expect("in memory");
                }
                stream.write_all(&reply(done, log.head())).expect("heard");
            }
            log
        })
    }

    #[test]
    fn a_record_over_a_line_is_the_record_that_would_have_been_written() {
        let detail = [
            ("bytes", Value::Number(3)),
            ("flag", Value::Flag(true)),
            ("handle", Value::Bits(0x10)),
            ("path", Value::Guest(b"\xff\n")),
            ("why", Value::Text("because")),
        ];
        let event = Event {
            kind: Kind::Use,
            capability: Some("files"),
            slot: Some("input"),
            op: Some("files.read"),
            detail: &detail,
        };
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let keeper = keep(theirs, 2);
        let sink = AuditSink::over(ours, "c1", "demo 1.0.0");
        sink.record(&event).expect("taken");
        sink.sync().expect("taken");
        assert_eq!(sink.head().records, 1);
        assert!(matches!(sink.record(&event), Err(AuditError::NotTaken)));
        let log = keeper.join().expect("no panic");
        assert_eq!(sink.head(), log.head());

        let line = String::from_utf8(log.memory().expect("in memory").to_vec()).expect("JSON");
        for part in [
            r#""cell":"c1","muscle":"demo 1.0.0","kind":"use","capability":"files","slot":"input","op":"files.read""#,
            r#""detail":{"bytes":3,"flag":true,"handle":"0x10","path":{"bytes":2,"sha256":""#,
            r#""why":"because""#,
        ] {
            assert!(line.contains(part), "{line}");
        }
        assert!(
            matches!(sink.record(&event), Err(AuditError::Line(_))),
            "nobody keeps it"
        );
    }

    #[test]
    fn a_record_that_is_too_large_is_refused_and_the_line_goes_on() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let keeper = keep(theirs, 1);
        let sink = AuditSink::over(ours, "c1", "demo 1.0.0");
        let long = "x".repeat(MAX_REQUEST);
        let detail = [("text", Value::Text(&long))];
        let large = Event::of_cell(Kind::Fault, &detail);
        assert!(matches!(sink.record(&large), Err(AuditError::Line(_))));
        sink.record(&Event::of_cell(Kind::Start, &[])).expect("taken");
        assert!(sink.sync().is_err());
        keeper.join().expect("no panic");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_over_a_line_is_a_request_or_none(bytes: Vec<u8>) {
            if let Ok(request) = Request::decode(&bytes) {
                // A request has one form, so that nothing can be hidden behind it.
                let again = postcard::to_stdvec(&request).expect("has a form");
                proptest::prop_assert!(again.len() <= bytes.len());
            }
        }
    }
}
