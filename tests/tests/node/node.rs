//! A node under test: started in a folder of its own, and looked over when it is gone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use referee_tests::Ended;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::processes::{children, is_alive, send};
use crate::{setup, text, wait_for};

/// A running node. When it is dropped, it must end in order, leave no process behind and a log that tells of an end for each start.
pub struct Node {
    folder: tempfile::TempDir,
    /// A program and its arguments that become the service.
    wrapper: Vec<String>,
    supervisor: Child,
    /// Whether it was killed, or its log full, so that nobody could record what was under way.
    crashed: bool,
    /// Whether its end was looked at by the test.
    ended: bool,
}

/// A call that somebody else waits for.
pub type Calling = JoinHandle<std::io::Result<Answer>>;

impl Node {
    /// Starts one with every default that a test does not mind.
    pub fn start() -> Node {
        Node::with("")
    }

    /// Starts one with more lines of configuration, as `cells.queue = 1`.
    pub fn with(more: &str) -> Node {
        Node::through(&[], more)
    }

    /// Starts one by another program, which is to execute what its last arguments are.
    pub fn through(wrapper: &[&str], more: &str) -> Node {
        let folder = tempfile::Builder::new()
            .prefix("referee-node-")
            .tempdir()
            .expect("a folder");
        fs::copy(setup().workshop.trust_store(), folder.path().join("trust.store")).expect("is copied");
        configure(folder.path(), more);
        let wrapper: Vec<String> = wrapper.iter().map(|&word| word.to_owned()).collect();
        let supervisor = spawn_through(&wrapper, folder.path());
        let node = Node {
            folder,
            wrapper,
            supervisor,
            crashed: false,
            ended: false,
        };
        node.is_ready();
        node
    }

    /// Starts it again, where it was, after [`Node::crash`] or [`Node::stop`].
    pub fn again(&mut self) {
        self.supervisor = spawn_through(&self.wrapper, self.folder.path());
        self.ended = false;
        self.is_ready();
    }

    fn is_ready(&self) {
        wait_for("the node is ready", || {
            assert!(is_alive(self.pid()), "it did not start: {}", self.words());
            http::ask(&self.socket(), "GET", "/health/ready", &[], b"").is_ok_and(|ready| ready.status == 204)
        });
    }

    /// Kills the supervisor, and waits until nothing of the node is left.
    pub fn crash(&mut self) {
        let family = self.family();
        self.crashed = true;
        self.ended = true;
        self.supervisor.kill().expect("is ours");
        self.supervisor.wait().expect("is ours");
        wait_for("nursery and workers go with their supervisor", || {
            !family.iter().any(|pid| is_alive(*pid))
        });
    }

    /// Says that its log was full: a cell's end may have been one of the records that it did not take.
    pub fn log_was_full(&mut self) {
        self.crashed = true;
    }

    /// Asks it to end, and gives how it did.
    pub fn stop(&mut self) -> ExitStatus {
        send(self.pid(), Signal::TERM);
        self.await_end()
    }

    /// Waits for its end.
    pub fn await_end(&mut self) -> ExitStatus {
        self.ended = true;
        let mut status = None;
        wait_for("the node ends", || {
            status = self.supervisor.try_wait().expect("is ours");
            status.is_some()
        });
        status.expect("has one")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("api.sock")
    }

    pub fn pid(&self) -> u32 {
        self.supervisor.id()
    }

    pub fn nursery(&self) -> u32 {
        let all = children(self.pid());
        assert_eq!(all.len(), 1, "the supervisor's only child is the nursery");
        all.first().copied().expect("has one")
    }

    pub fn workers(&self) -> Vec<u32> {
        children(self.pid()).into_iter().flat_map(children).collect()
    }

    /// Nursery and workers.
    fn family(&self) -> Vec<u32> {
        let mut all = children(self.pid());
        all.extend(self.workers());
        all
    }

    /// What the service said on standard error, of this life and those before.
    pub fn words(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// A command line that talks to this node.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = setup().program.command(arguments);
        command.env("REFEREE_HOST", self.socket());
        command
    }

    pub fn cli(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).spawn().expect("starts")).expect("ends")
    }

    /// Deploys by the command line, which must succeed.
    #[track_caller]
    pub fn deploy(&self, bundle: &Path, name: &str, more: &[&str]) {
        let bundle = text(bundle);
        let mut arguments = vec!["deploy", &bundle, "--name", name];
        arguments.extend(more);
        let ended = self.cli(&arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.errors());
    }

    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        http::ask(
            &self.socket(),
            method,
            path,
            &[("content-type", "application/json")],
            body,
        )
        .unwrap_or_else(|error| panic!("{method} {path}: {error}: {}", self.words()))
    }

    /// Calls with arguments in JSON.
    pub fn call(&self, name: &str, function: &str, arguments: &str) -> Answer {
        self.ask("POST", &call_path(name, function), arguments.as_bytes())
    }

    /// Calls from a thread of its own.
    pub fn calling(&self, name: &str, function: &str, arguments: &str) -> Calling {
        let (socket, path) = (self.socket(), call_path(name, function));
        let arguments = arguments.as_bytes().to_vec();
        thread::spawn(move || http::ask(&socket, "POST", &path, &[], &arguments))
    }

    /// A deployment as the API shows it.
    #[track_caller]
    pub fn shown(&self, name: &str) -> Value {
        let answer = self.ask("GET", &format!("/v1/deployments/{name}"), b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub fn counted(&self, name: &str, what: &str) -> u64 {
        let shown = self.shown(name);
        let counted = shown.pointer(&format!("/counted/{what}")).and_then(Value::as_u64);
        counted.unwrap_or_else(|| panic!("no {what}: {shown}"))
    }

    /// Waits until so many calls of a deployment have a cell, and as many pieces of calls have run; so it is for one without calls before.
    pub fn wait_until_running(&self, name: &str, calls: u64) {
        wait_for("calls run", || {
            let shown = self.shown(name);
            let slices = shown.pointer("/counted/slices").and_then(Value::as_u64);
            shown["running"] == json!(calls) && slices >= Some(calls)
        });
    }

    /// The log's records, which must hold together.
    pub fn records(&self) -> Vec<Value> {
        let log = self.path("audit.jsonl");
        referee_audit::verify(&log).expect("verifies");
        let text = fs::read_to_string(log).expect("is there");
        let records = text.lines().map(serde_json::from_str);
        records.collect::<Result<_, _>>().expect("is JSON")
    }

    /// The records that are whole by now, of a log that is being written to.
    pub fn records_so_far(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("audit.jsonl")).expect("is there");
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Records of changes: what was done to which deployment.
    pub fn managed(&self) -> Vec<(String, String)> {
        let records = self.records();
        let managed = records.iter().filter(|record| record["kind"] == "manage");
        let word = |record: &Value, at: &str| {
            let word = record.pointer(at).and_then(Value::as_str);
            word.unwrap_or_default().to_owned()
        };
        managed
            .map(|record| (word(record, "/op"), word(record, "/detail/deployment")))
            .collect()
    }

    /// Each cell that began is over once, unless nobody was left to say so.
    #[track_caller]
    pub fn check_log(&self) {
        let mut cells: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for record in self.records() {
            let entry = cells.entry(record["cell"].to_string()).or_default();
            match record["kind"].as_str() {
                Some("start") => entry.0 += 1,
                Some("end") => entry.1 += 1,
                _ => {}
            }
        }
        cells.remove("\"\"");
        for (cell, counts) in cells {
            let in_order = counts == (1, 1) || self.crashed && counts == (1, 0);
            assert!(
                in_order,
                "cell {cell} has {counts:?} starts and ends: {}",
                self.words()
            );
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.supervisor.kill();
            let _ = self.supervisor.wait();
            eprintln!("the node said: {}", self.words());
            return;
        }
        if !self.ended {
            let family = self.family();
            let status = self.stop();
            assert_eq!(status.code(), Some(0), "{status}: {}", self.words());
            let left: Vec<u32> = family.into_iter().filter(|pid| is_alive(*pid)).collect();
            assert!(left.is_empty(), "{left:?} outlive the node");
            assert!(!self.socket().exists(), "the socket is left");
        }
        self.check_log();
    }
}

pub fn call_path(name: &str, function: &str) -> String {
    format!("/v1/deployments/{name}/call/{function}")
}

/// Writes the configuration.
pub fn configure(folder: &Path, more: &str) {
    let path = |name: &str| text(&folder.join(name));
    let lines = format!(
        "trust_store = '{}'\nstate = '{}'\napi.socket = '{}'\naudit.file = '{}'\n{more}\n",
        path("trust.store"),
        path("state"),
        path("api.sock"),
        path("audit.jsonl")
    );
    fs::write(folder.join("node.toml"), lines).expect("is written");
}

/// Starts the service in a folder; what it says is appended to a file there.
pub fn spawn(folder: &Path) -> Child {
    spawn_through(&[], folder)
}

fn spawn_through(wrapper: &[String], folder: &Path) -> Child {
    let errors = File::options()
        .create(true)
        .append(true)
        .open(folder.join("stderr"))
        .expect("opens");
    let config = text(&folder.join("node.toml"));
    let service = setup().program.command(["serve", "--config", &config]);
    let mut command = match wrapper.split_first() {
        None => service,
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments);
            command.arg(service.get_program()).args(service.get_args());
            for (name, value) in service.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command.stdin(Stdio::null());
            command
        }
    };
    command.stdout(Stdio::null()).stderr(errors);
    command.spawn().expect("starts")
}
