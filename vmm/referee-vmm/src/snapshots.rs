//! `snapshot` and `snapshots`: what a node keeps of its deployments' memory.

use hyper::Method;
use referee_node::client::{self, JSON, segment};
use referee_node::{SnapshotMade, SnapshotShown};

use crate::cli::{SnapshotArgs, SnapshotsArgs};
use crate::node::{one_line, reach, show, talk};

/// Has a deployment's memory kept.
///
/// # Errors
/// When the answer is none of the API.
pub fn keep(args: &SnapshotArgs) -> anyhow::Result<u8> {
    let host = &reach(&args.host)?;
    let path = format!("/v1/deployments/{}/snapshot", segment(&args.name));
    talk(async {
        let answer = client::ask(host, Method::POST, &path, JSON, Vec::new()).await?;
        Ok(show(&answer, |made: SnapshotMade| match args.json {
            true => one_line(&answer),
            false => format!("{}\n", made.snapshot),
        }))
    })
}

/// Lists what was kept, or gives one up.
///
/// # Errors
/// When the answer is none of the API.
pub fn snapshots(args: &SnapshotsArgs) -> anyhow::Result<u8> {
    let host = &reach(&args.host)?;
    if let Some(id) = &args.remove {
        let path = format!("/v1/snapshots/{}", segment(id));
        return talk(async {
            client::ask(host, Method::DELETE, &path, JSON, Vec::new()).await?;
            Ok(Ok(0))
        });
    }
    talk(async {
        let answer = client::ask(host, Method::GET, "/v1/snapshots", JSON, Vec::new()).await?;
        Ok(show(&answer, |all: Vec<SnapshotShown>| match args.json {
            true => one_line(&answer),
            false => table(&all),
        }))
    })
}

fn table(all: &[SnapshotShown]) -> String {
    let mut text = format!("{:64}  {:12}  {:>12}  OF\n", "SNAPSHOT", "BUNDLE", "BYTES");
    for one in all {
        let bundle: String = one.bundle.chars().take(12).collect();
        let used = match one.used_by.as_slice() {
            [] => String::new(),
            names => format!(", used by {}", names.join(" ")),
        };
        text.push_str(&format!(
            "{}  {bundle}  {:>12}  {}{used}\n",
            one.snapshot, one.bytes, one.deployment
        ));
    }
    text
}
