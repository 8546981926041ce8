//! `audit show`: records of a node's log, as they stand.

use std::io::Write as _;

use referee_node::client::{self, ClientError, Host};

use crate::cli::ShowArgs;
use crate::ending;
use crate::node::{reach, talk};

/// Most records that a node gives at once to somebody who does not follow.
const AT_ONCE: u64 = 10_000;

/// Prints records, asking again as long as there are more and more are wanted.
///
/// # Errors
/// When the node cannot be reached, or its answer breaks off.
pub fn show(args: &ShowArgs) -> anyhow::Result<u8> {
    let host = reach(&args.host)?;
    talk(async {
        let (mut after, mut left) = (args.after, args.limit);
        loop {
            let mut printer = Printer::default();
            let limit = match left {
                None if args.follow => None,
                left => Some(left.map_or(AT_ONCE, |left| left.min(AT_ONCE))),
            };
            ask(&host, after, limit, args.follow, &mut printer).await?;
            left = left.map(|left| left.saturating_sub(printer.records));
            let last = printer.last_seq();
            let is_all = printer.records < limit.unwrap_or(u64::MAX) || left == Some(0);
            if printer.code != 0 || is_all || last.is_none() {
                return Ok(Ok(printer.code));
            }
            after = last;
        }
    })
}

async fn ask(
    host: &Host,
    after: Option<u64>,
    limit: Option<u64>,
    follow: bool,
    printer: &mut Printer,
) -> Result<(), ClientError> {
    let mut path = format!("/v1/audit?follow={follow}");
    for (name, value) in [("after", after), ("limit", limit)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={value}"));
        }
    }
    client::follow(host, &path, |bytes| printer.take(bytes)).await
}

/// Prints what comes, and keeps the last line.
#[derive(Default)]
struct Printer {
    records: u64,
    /// The last whole line, and what follows it.
    last: Vec<u8>,
    rest: Vec<u8>,
    code: u8,
}

impl Printer {
    fn take(&mut self, bytes: &[u8]) -> bool {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.records += 1;
                self.last = std::mem::take(&mut self.rest);
            }
        }
        let mut out = std::io::stdout().lock();
        // Whoever reads may have seen enough.
        if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
            self.code = ending::HOST_ERROR;
        }
        self.code == 0
    }

    fn last_seq(&self) -> Option<u64> {
        let record: serde_json::Value = serde_json::from_slice(&self.last).ok()?;
        record.get("seq")?.as_u64()
    }
}
