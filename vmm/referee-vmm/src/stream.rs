//! `call @NAME FUNCTION --stream`: standard input and output of this program become the muscle's.

use std::io::{self, Read, Write};

use anyhow::Context;
use referee_node::client::{self, segment};
use tokio::sync::mpsc;

use crate::cli::{CallArgs, HostArgs};
use crate::ending::rejected;
use crate::node::{reach, talk};

/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// Calls a function of a deployment with a stream in and a stream out.
///
/// # Errors
/// [`referee::StartError::Rejected`] when the arguments are to be read where the input is; those of standard output.
pub fn call(host: &HostArgs, name: &str, args: &CallArgs) -> anyhow::Result<u8> {
    if args.arguments == "-" {
        return Err(rejected(
            "arguments-and-input",
            "with --stream standard input is the muscle's: write the arguments on the command line",
        )
        .into());
    }
    let path = format!(
        "/v1/deployments/{}/stream/{}?arguments={}",
        segment(name),
        segment(&args.function),
        segment(&args.arguments)
    );
    let host = reach(host)?;
    let mut written = Ok(());
    talk(async {
        let take = |bytes: &[u8]| {
            let mut out = io::stdout().lock();
            written = out.write_all(bytes).and_then(|()| out.flush());
            written.is_ok()
        };
        let result = client::stream(&host, &path, standard_input(), take).await?;
        if let Some(result) = result.filter(|result| result != "null") {
            eprintln!("{result}");
        }
        Ok(match written {
            // As when it is written whole: who closed it has what they wanted.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
            _ => Ok(0),
        })
    })
}

/// Standard input, read by a thread of its own, which the program does not wait for at its end.
fn standard_input() -> client::StreamInput {
    let (read, comes) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut bytes = vec![0; CHUNK];
            let piece = match input.read(&mut bytes) {
                Ok(0) => return,
                Ok(count) => {
                    bytes.truncate(count);
                    Ok(bytes)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_over = piece.is_err();
            // The call may be over.
            if read.blocking_send(piece).is_err() || is_over {
                return;
            }
        }
    });
    comes
}
