//! The service, and its clients: each command is one request to the API.

use std::io::Write;

use anyhow::{Context, anyhow};
use hyper::Method;
use referee_node::client::{self, ClientError, Credentials, Host, JSON, segment};
use referee_node::{Config, DeploymentState, ErrorKind, LogLine, NodeError, RingShown, Shown};

use crate::cli::{CallArgs, ConfigAction, HostArgs, LogsArgs, NamedArgs, PsArgs, ServeArgs};
use crate::ending::{self, rejected};
use crate::inspect::write_out;

/// Runs the service until a stop signal.
///
/// # Errors
/// When it cannot start.
pub fn serve(args: &ServeArgs) -> anyhow::Result<u8> {
    referee_node::serve(read(args)?).map_err(of_node)?;
    Ok(0)
}

/// `config print`, `config openapi`.
///
/// # Errors
/// [`referee::StartError::Rejected`] with file, line and key.
pub fn config(action: &ConfigAction) -> anyhow::Result<u8> {
    match action {
        ConfigAction::Print(args) => write_out(read(args)?.to_toml().map_err(of_node)?.as_bytes()),
        ConfigAction::Openapi => write_out(referee_node::document().as_bytes()),
    }
}

fn read(args: &ServeArgs) -> anyhow::Result<Config> {
    match &args.config {
        None => Ok(Config::default()),
        Some(path) => Config::read(path).map_err(of_node),
    }
}

/// A node's refusal or failure as this program's.
pub fn of_node(error: NodeError) -> anyhow::Error {
    match error {
        NodeError::Config(message) => rejected("config-invalid", message).into(),
        NodeError::Rejected { name, message } => anyhow!(NodeRejection { name, message }),
        other => other.into(),
    }
}

/// A refusal whose name came from elsewhere.
#[derive(Debug)]
pub struct NodeRejection {
    /// A stable name for machines.
    pub name: String,
    message: String,
}

impl std::fmt::Display for NodeRejection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for NodeRejection {}

/// Lists deployments.
///
/// # Errors
/// When the answer is none of the API.
pub fn ps(args: &PsArgs) -> anyhow::Result<u8> {
    let host = &reach(&args.host)?;
    match &args.name {
        Some(name) => talk(async {
            let path = format!("/v1/deployments/{}", segment(name));
            let answer = client::ask(host, Method::GET, &path, JSON, Vec::new()).await?;
            Ok(show(&answer, |shown: Shown| match args.json {
                true => one_line(&answer),
                false => whole(&shown),
            }))
        }),
        None => talk(async {
            let answer = client::ask(host, Method::GET, "/v1/deployments", JSON, Vec::new()).await?;
            Ok(show(&answer, |all: Vec<Shown>| match args.json {
                true => one_line(&answer),
                false => table(&all),
            }))
        }),
    }
}

/// Prints what the muscles of a deployment wrote.
///
/// # Errors
/// When the answer is none of the API.
pub fn logs(args: &LogsArgs) -> anyhow::Result<u8> {
    let path = format!(
        "/v1/deployments/{}/logs?follow={}",
        segment(&args.name),
        args.follow
    );
    let host = reach(&args.host)?;
    let mut rest = Vec::new();
    talk(async {
        let mut code = 0;
        client::follow(&host, &path, |bytes| {
            rest.extend_from_slice(bytes);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if print_log_line(&line).is_err() {
                    code = ending::HOST_ERROR;
                    return false;
                }
            }
            true
        })
        .await?;
        Ok(Ok(code))
    })
}

fn print_log_line(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match serde_json::from_slice::<LogLine>(bytes) {
        Ok(line) => {
            for text in line.text.lines() {
                writeln!(out, "{:>6} {} {text}", line.call, line.stream)?;
            }
        }
        // What the node says of the stream itself.
        Err(_) => out.write_all(bytes)?,
    }
    out.flush()
}

/// One request that has no answer but its status.
///
/// # Errors
/// None but those of the terminal.
pub fn act(method: Method, args: &NamedArgs, verb: &str) -> anyhow::Result<u8> {
    let mut path = format!("/v1/deployments/{}", segment(&args.name));
    if !verb.is_empty() {
        path.push('/');
        path.push_str(verb);
    }
    request(&args.host, method, &path)
}

/// Has the node read trust store and policies again.
///
/// # Errors
/// None but those of the terminal.
pub fn reload(args: &HostArgs) -> anyhow::Result<u8> {
    request(args, Method::POST, "/v1/reload")
}

fn request(args: &HostArgs, method: Method, path: &str) -> anyhow::Result<u8> {
    let host = reach(args)?;
    talk(async {
        client::ask(&host, method, path, JSON, Vec::new()).await?;
        Ok(Ok(0))
    })
}

/// Calls a function of a deployment and prints its result as JSON.
///
/// # Errors
/// None but those of the terminal.
pub fn call(host: &HostArgs, name: &str, args: &CallArgs) -> anyhow::Result<u8> {
    let body = match args.arguments.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()).context("standard input")?,
        text => text.to_owned(),
    };
    let path = format!(
        "/v1/deployments/{}/call/{}",
        segment(name),
        segment(&args.function)
    );
    let host = reach(host)?;
    talk(async {
        let answer = client::call(&host, &path, body.into_bytes(), args.retry.unwrap_or(0)).await?;
        Ok(write_out(&answer).and_then(|_| write_out(b"\n")))
    })
}

/// What a call of a bundle is told that is to be made again.
pub fn no_node_to_retry() -> anyhow::Error {
    let message = "--retry is for calls of a deployment, written @NAME: a node makes them again";
    rejected("retry-without-node", message).into()
}

/// What a call of a bundle is told that is to stream.
pub fn no_node_to_stream() -> anyhow::Error {
    let message = "--stream is for calls of a deployment, written @NAME; `run` gives a command its standard input and output";
    rejected("stream-without-node", message).into()
}

/// The node that is meant.
pub fn reach(args: &HostArgs) -> anyhow::Result<Host> {
    let credentials = Credentials {
        certificate: args.cert.clone(),
        key: args.key.clone(),
        authority: args.ca.clone(),
    };
    Host::new(&args.host, &credentials).map_err(|error| rejected("host-invalid", error.to_string()).into())
}

/// Runs one exchange with the node and gives the exit code, that of the error if the node says no.
///
/// # Errors
/// When there is no answer, or it is none of the API.
pub fn talk(exchange: impl Future<Output = Result<anyhow::Result<u8>, ClientError>>) -> anyhow::Result<u8> {
    match runtime()?.block_on(exchange) {
        Ok(code) => code,
        Err(ClientError::Refused { body, .. }) => Ok(refused(&body.error)),
        Err(error) => Err(error.into()),
    }
}

/// What a client runs on.
///
/// # Errors
/// When the host has no descriptors left.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a client")
}

/// Prints the node's refusal and gives its exit code.
pub fn refused(error: &referee_node::Explanation) -> u8 {
    let message: String = error
        .message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let (label, code) = match error.kind {
        ErrorKind::Function => ("error", 1),
        ErrorKind::Fault => ("fault", ending::FAULT),
        ErrorKind::Time => ("fault", ending::TIME_LIMIT),
        ErrorKind::Rejected => ("rejected", ending::REJECTED),
        ErrorKind::Busy | ErrorKind::Draining => ("busy", ending::HOST_ERROR),
        ErrorKind::HostError => ("host error", ending::HOST_ERROR),
    };
    eprintln!("{label}: {message} [{}]", error.name);
    code
}

/// Prints an answer as a text, and gives the exit code.
///
/// # Errors
/// When the answer is none of the API.
pub fn show<T: serde::de::DeserializeOwned>(
    answer: &[u8],
    text: impl FnOnce(T) -> String,
) -> anyhow::Result<u8> {
    let value = serde_json::from_slice(answer).context("the node's answer is none of this API's")?;
    write_out(text(value).as_bytes())
}

/// An answer as it came, on a line of its own.
pub fn one_line(answer: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(answer).into_owned();
    text.push('\n');
    text
}

fn whole(shown: &Shown) -> String {
    let mut text = table(std::slice::from_ref(shown));
    for ring in &shown.rings {
        let RingShown {
            slot,
            ring,
            role,
            bytes,
        } = ring;
        text.push_str(&format!("ring: {slot} is to {role} by {ring}, {bytes} bytes\n"));
    }
    for anomaly in &shown.anomalies {
        text.push_str(&format!("alert: {}\n", anomaly.reason));
    }
    if let Some(decision) = &shown.decision {
        let pretty = serde_json::to_string_pretty(decision).unwrap_or_default();
        text.push_str(&format!("\npolicy, when it was deployed:\n{pretty}\n"));
    }
    text
}

pub fn state(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::Idle => "idle",
        DeploymentState::Ready => "ready",
        DeploymentState::Paused => "paused",
    }
}

fn table(all: &[Shown]) -> String {
    let head = [
        "NAME",
        "STATE",
        "MUSCLE",
        "PUBLISHER",
        "GEN",
        "RUNNING",
        "WAITING",
        "CALLS",
        "FAULTS",
        "ALERTS",
        "BUNDLE",
    ]
    .map(str::to_owned);
    let rows = all.iter().map(|shown| {
        [
            shown.name.clone(),
            state(shown.state).to_owned(),
            shown.muscle.clone(),
            shown.publisher.clone(),
            shown.generation.to_string(),
            format!("{}/{}", shown.running, shown.settings.cells),
            shown.waiting.to_string(),
            shown.counted.calls.to_string(),
            shown.counted.faults.to_string(),
            match shown.anomalies.as_slice() {
                [] => "-".to_owned(),
                some => {
                    let names: Vec<&str> = some.iter().map(|one| one.signal.name()).collect();
                    names.join(",")
                }
            },
            shown.bundle.chars().take(12).collect(),
        ]
    });
    let rows: Vec<[String; 11]> = std::iter::once(head).chain(rows).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0);
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
