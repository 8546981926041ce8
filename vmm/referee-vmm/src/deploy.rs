//! `deploy`, of one bundle or of all that a file names; and `pipeline`.

use std::path::Path;

use anyhow::Context;
use hyper::Method;
use referee::{Digest, ReadLimits, StartError, read_bundle};
use referee_node::client::{self, ClientError, Host, JSON, segment};
use referee_node::{Deploy, DeploymentFile, DeploymentState, Pipeline, Settings, Shown, ShownPipeline};

use crate::cli::{DeployArgs, PipelineAction};
use crate::ending::rejected;
use crate::inspect::write_out;
use crate::node::{of_node, one_line, reach, show, talk};

/// A bundle as it is sent.
struct Parcel {
    bytes: Vec<u8>,
    digest: String,
}

impl Parcel {
    fn read(bundle: &Path) -> anyhow::Result<Parcel> {
        // The node says how large a bundle may be; whoever sends it has it on the disk already.
        let limits = ReadLimits {
            bundle_bytes: u64::MAX,
            ..ReadLimits::default()
        };
        let bytes = read_bundle(bundle, &limits)
            .map_err(StartError::from)
            .with_context(|| format!("bundle {}", bundle.display()))?;
        Ok(Parcel {
            digest: Digest::of(&bytes).to_string(),
            bytes,
        })
    }

    async fn deploy(
        self,
        host: &Host,
        name: &str,
        settings: Settings,
        reset_grants: bool,
    ) -> Result<Vec<u8>, ClientError> {
        let wanted = Deploy {
            bundle: self.digest,
            settings,
            reset_grants,
        };
        // Plain data: there is nothing in it that JSON has no form for.
        let body = serde_json::to_vec(&wanted).unwrap_or_default();
        let path = format!("/v1/bundles/{}", wanted.bundle);
        client::ask(host, Method::PUT, &path, "application/octet-stream", self.bytes).await?;
        let path = format!("/v1/deployments/{}", segment(name));
        client::ask(host, Method::PUT, &path, JSON, body).await
    }
}

/// Sends a bundle and deploys it, or all that a file names.
///
/// # Errors
/// When a bundle or the file cannot be read.
pub fn deploy(args: &DeployArgs) -> anyhow::Result<u8> {
    let host = &reach(&args.host)?;
    let Some(bundle) = &args.bundle else {
        return match &args.file {
            Some(file) => deploy_all(host, file, args.reset_grants),
            // clap wants one of them.
            None => Err(anyhow::anyhow!("neither a bundle nor --file is named")),
        };
    };
    let parcel = Parcel::read(bundle)?;
    let stem = bundle.file_stem().unwrap_or_default().to_string_lossy();
    let name = args.name.as_deref().unwrap_or(&stem);
    let settings = Settings {
        bindings: args.bindings.clone(),
        cells: args.cells,
        ahead: args.ahead,
        fresh: !args.keep_memory,
        deadline_ms: args.deadline_ms,
        cpu_ms: args.cpu_ms,
        release_ms: args.release_ms,
        priority: args.priority,
        snapshot: args.snapshot.clone(),
    };
    talk(async {
        let answer = parcel.deploy(host, name, settings, args.reset_grants).await?;
        Ok(show(&answer, |shown: Shown| match args.json {
            true => one_line(&answer),
            false => deployed(&shown),
        }))
    })
}

fn deployed(shown: &Shown) -> String {
    let paused = match shown.state {
        DeploymentState::Paused => {
            "it is paused, as it was before: `referee-vmm resume` lets it take calls\n"
        }
        DeploymentState::Idle | DeploymentState::Ready => "",
    };
    format!(
        "{} is deployed: {} by {}, generation {}; functions: {}\n{paused}",
        shown.name,
        shown.muscle,
        shown.publisher,
        shown.generation,
        shown.exports.join(" ")
    )
}

/// Deploys one after another, and then defines the pipelines; what is refused ends it, and what was done before stays.
fn deploy_all(host: &Host, file: &Path, reset_grants: bool) -> anyhow::Result<u8> {
    let file = DeploymentFile::read(file).map_err(of_node)?;
    // All are read before the first is sent: a path that is wrong changes nothing.
    let mut parcels = Vec::new();
    for (name, wanted) in file.deployments {
        parcels.push((name, Parcel::read(&wanted.bundle)?, wanted.settings));
    }
    talk(async {
        for (name, parcel, settings) in parcels {
            let answer = parcel.deploy(host, &name, settings, reset_grants).await?;
            let printed = show(&answer, |shown: Shown| deployed(&shown));
            if printed.is_err() {
                return Ok(printed);
            }
        }
        for (name, pipeline) in &file.pipelines {
            define(host, name, pipeline).await?;
            let printed = write_out(format!("{name} is defined: {}\n", steps(&pipeline.steps)).as_bytes());
            if printed.is_err() {
                return Ok(printed);
            }
        }
        Ok(Ok(0))
    })
}

async fn define(host: &Host, name: &str, pipeline: &Pipeline) -> Result<(), ClientError> {
    let path = format!("/v1/pipelines/{}", segment(name));
    // Plain data: there is nothing in it that JSON has no form for.
    let body = serde_json::to_vec(pipeline).unwrap_or_default();
    client::ask(host, Method::PUT, &path, JSON, body).await.map(drop)
}

fn steps(steps: &[referee_node::Step]) -> String {
    let words: Vec<String> = steps
        .iter()
        .map(|step| format!("{}/{}", step.deployment, step.function))
        .collect();
    words.join(" | ")
}

/// `pipeline ls`, `define`, `call`, `remove`.
///
/// # Errors
/// When the answer is none of the API.
pub fn pipeline(action: &PipelineAction) -> anyhow::Result<u8> {
    match action {
        PipelineAction::Ls(args) => {
            let host = &reach(args)?;
            talk(async {
                let answer = client::ask(host, Method::GET, "/v1/pipelines", JSON, Vec::new()).await?;
                Ok(show(&answer, |all: Vec<ShownPipeline>| {
                    all.iter()
                        .map(|one| format!("{} = {}\n", one.name, steps(&one.steps)))
                        .collect()
                }))
            })
        }
        PipelineAction::Define { host, name, steps } => {
            let pipeline = steps
                .parse::<Pipeline>()
                .map_err(|error| rejected("steps-invalid", error.to_string()))?;
            let host = &reach(host)?;
            talk(async { define(host, name, &pipeline).await.map(|()| Ok(0)) })
        }
        PipelineAction::Call {
            host,
            name,
            arguments,
        } => {
            let body = match arguments.as_str() {
                "-" => std::io::read_to_string(std::io::stdin()).context("standard input")?,
                text => text.to_owned(),
            };
            let host = &reach(host)?;
            let path = format!("/v1/pipelines/{}/call", segment(name));
            talk(async {
                let answer = client::ask(host, Method::POST, &path, JSON, body.into_bytes()).await?;
                Ok(write_out(&answer).and_then(|_| write_out(b"\n")))
            })
        }
        PipelineAction::Remove(args) => {
            let host = &reach(&args.host)?;
            let path = format!("/v1/pipelines/{}", segment(&args.name));
            talk(async {
                client::ask(host, Method::DELETE, &path, JSON, Vec::new()).await?;
                Ok(Ok(0))
            })
        }
    }
}
