//! The node's configuration: a TOML file in which every key has a default and an unknown one is refused.

mod memory;
mod side_channels;
mod tpm;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use referee_trace::Endpoint;
use serde::{Deserialize, Serialize};

use crate::error::NodeError;
use crate::memory::HostMemory;
use crate::settings::SHARES_MAX;
use crate::turns::Turns;

pub use memory::Memory;
pub use side_channels::SideChannels;
pub use tpm::Tpm;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The signed trust store: who may sign what.
    pub trust_store: PathBuf,
    /// Policy files and folders; when there are none, the policies compiled into the program.
    pub policies: Vec<PathBuf>,
    /// Directory of deployments and bundles; made when it is not there.
    pub state: PathBuf,
    /// How long calls that run may go on when the node is told to end, in seconds.
    pub drain_seconds: u64,
    /// The API.
    pub api: Api,
    /// The audit log.
    pub audit: Audit,
    /// Cells and their calls.
    pub cells: Cells,
    /// How much memory cells may have.
    pub memory: Memory,
    /// The host's TPM, if bundles are measured into it before they run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<Tpm>,
    /// What is done against side channels.
    pub side_channels: SideChannels,
    /// Messages between deployments.
    pub channels: Channels,
    /// Snapshots of muscles.
    pub snapshots: Snapshots,
    /// Whose turn it is, and for how long.
    pub scheduling: Scheduling,
    /// Where Prometheus finds the node's figures.
    pub metrics: Metrics,
    /// When the node says that it is not well.
    pub health: Health,
    /// When a deployment counts as behaving otherwise than it used to.
    pub anomalies: Anomalies,
    /// Where traces of calls go.
    pub traces: Traces,
    /// What publishers may have, by their names in the trust store; those that are not named have the defaults.
    pub tenants: BTreeMap<String, TenantShare>,
}

/// The API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// The Unix socket. A socket that the service manager hands over takes its place.
    pub socket: PathBuf,
    /// Its mode, octal: who may connect at all.
    pub mode: String,
    /// Policy files and folders about who may do what through the API; when there are none, root and the node's own user may do
    /// everything and nobody else anything.
    pub policies: Vec<PathBuf>,
    /// Connections at once.
    pub connections: usize,
    /// Seconds within which a request's head must arrive.
    pub header_seconds: u64,
    /// Seconds within which a request's body must arrive.
    pub body_seconds: u64,
    /// Largest arguments of a call, in bytes.
    pub call_bytes: usize,
    /// Bytes of all requests' bodies that may be in memory at once.
    pub bodies_bytes: usize,
    /// Calls at once whose input and output are streams; each may take 512 KiB of memory for what is on its way.
    pub streams: usize,
    /// Seconds for which a stream's client may let the muscle wait, for input or for room for its output.
    pub stream_idle_seconds: u64,
    /// The API for other hosts, if it is there for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
}

/// The API for other hosts: TLS 1.3 on TCP, for clients that have a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// Where it listens, as `0.0.0.0:8443`.
    pub address: SocketAddr,
    /// The node's certificate with those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM; a file that nobody but its owner may read.
    pub key: PathBuf,
    /// Certificates of the authority that clients' certificates are of, PEM.
    pub client_ca: PathBuf,
    /// Connections at once, beside those of the Unix socket.
    #[serde(default = "tcp_connections")]
    pub connections: usize,
}

fn tcp_connections() -> usize {
    256
}

/// Where Prometheus finds the node's figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// The TCP address on which `/metrics` and `/health` are answered, over plain HTTP, to whoever connects; none: nowhere but on the API.
    /// A socket that the service manager hands over takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Whether `listen` may be an address that other machines reach.
    pub beyond_loopback: bool,
}

/// When the node says that it is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// The file systems of the state and of the audit log are nearly full when less than this is free, in bytes.
    pub free_bytes: u64,
}

/// When a deployment counts as behaving otherwise than it used to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Anomalies {
    /// How often each deployment is compared with what is usual of it, in milliseconds; 0: never.
    pub window_ms: u64,
}

/// Where traces of calls go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// A collector that takes OTLP over plain HTTP, as `http://127.0.0.1:4318`; none: no call is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The part of all calls that is traced, 0 to 1, beside those whose caller traces them.
    pub sample: f64,
}

impl Traces {
    /// The collector, if there is one.
    ///
    /// # Errors
    /// [`NodeError::Config`] when it is none.
    pub(crate) fn endpoint(&self) -> Result<Option<Endpoint>, NodeError> {
        let endpoint = self.endpoint.as_deref().map(str::parse::<Endpoint>).transpose();
        endpoint.map_err(|error| {
            let text = self.endpoint.as_deref().unwrap_or_default();
            NodeError::Config(format!("traces.endpoint `{text}` {error}"))
        })
    }
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// The file; made when it is not there.
    pub file: PathBuf,
    /// Whether each record is on the disk before its act is answered, not only in the file.
    pub sync: bool,
    /// Bytes that a worker may have recorded each second, with room for a burst of eight seconds; 0: any. Beyond that it is ended.
    pub bytes_per_second: u64,
    /// Bytes that a worker may have recorded for each call; 0: any. Beyond that it is ended.
    pub bytes_per_call: u64,
}

/// Cells and their calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cells {
    /// Calls that run at once on this host; 0: as many as it has processors.
    pub slots: usize,
    /// Calls of one deployment that may wait; one more is refused.
    pub queue: usize,
    /// Deployments at once.
    pub deployments: usize,
    /// Largest bundle, in bytes.
    pub bundle_bytes: u64,
    /// Seconds after which a worker without calls ends.
    pub idle_seconds: u64,
    /// Seconds after the end of a call's turn after which a worker that does not say what came of it is ended. Acts of capabilities, on
    /// slow disks too, are within that.
    pub stuck_seconds: u64,
    /// Bytes of each deployment's output that are kept for `logs`.
    pub log_bytes: usize,
    /// Bytes that one life of a cell may write to its console.
    pub output_bytes: u64,
    /// Refuse to run where a layer of confinement cannot be had, instead of naming it in the audit log.
    pub require_confinement: bool,
}

/// Messages between deployments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Channels {
    /// Messages of one sender that may wait at one receiver; one more is refused as busy.
    pub queue: usize,
    /// Bytes of those messages.
    pub queue_bytes: usize,
    /// The longest that a request waits for its answer, in milliseconds; its call's deadline may be sooner.
    pub request_ms: u64,
}

/// Snapshots of muscles, which are in the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Snapshots {
    /// Bytes of all of them; one that has no room is not made.
    pub max_bytes: u64,
    /// How many there may be; 0: none are made.
    pub max_count: usize,
}

impl Default for Snapshots {
    fn default() -> Snapshots {
        Snapshots {
            max_bytes: 16 << 30,
            max_count: 256,
        }
    }
}

/// Whose turn it is, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scheduling {
    /// The shortest turn, in microseconds.
    pub slice_min_us: u64,
    /// The longest turn, in microseconds.
    pub slice_max_us: u64,
    /// The most that a switch from one call to another costs on this host; real-time promises count with it.
    pub preemption_cost_us: u64,
    /// The most that a call runs on after it should have stopped; real-time promises count with it.
    pub stop_latency_us: u64,
    /// The part of each slot, in percent, that may be promised to real-time deployments.
    pub real_time_percent: u32,
}

/// What a publisher may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantShare {
    /// Its weight among publishers, 1 to 1,000,000.
    pub shares: u32,
    /// The most time that its calls may have, if there is such a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<TenantCap>,
    /// The part of the whole host, in percent, that its real-time deployments may reserve.
    pub real_time_percent: u32,
    /// Bytes that its cells and workers may have at once, if there is such a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The part of the last-level cache that its workers have: a percentage as `25%`, or a mask as `0x0f`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
}

/// A limit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantCap {
    /// So much, in milliseconds,
    pub quota_ms: u64,
    /// in each so much; of one slot, so that a quota above it is more than one slot.
    pub period_ms: u64,
}

impl Default for Channels {
    fn default() -> Channels {
        Channels {
            queue: 64,
            queue_bytes: 4 << 20,
            request_ms: 10_000,
        }
    }
}

impl Default for Health {
    fn default() -> Health {
        Health {
            free_bytes: 256 << 20,
        }
    }
}

impl Default for Anomalies {
    fn default() -> Anomalies {
        Anomalies { window_ms: 10_000 }
    }
}

impl Default for Traces {
    fn default() -> Traces {
        Traces {
            endpoint: None,
            sample: 0.01,
        }
    }
}

impl Default for Scheduling {
    fn default() -> Scheduling {
        Scheduling {
            slice_min_us: 500,
            slice_max_us: 10_000,
            preemption_cost_us: 500,
            stop_latency_us: 1_000,
            real_time_percent: 70,
        }
    }
}

impl Default for TenantShare {
    fn default() -> TenantShare {
        TenantShare {
            shares: 100,
            cap: None,
            real_time_percent: 0,
            memory_bytes: None,
            cache: None,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            trust_store: "/etc/referee/trust.store".into(),
            policies: Vec::new(),
            state: "/var/lib/referee".into(),
            drain_seconds: 10,
            api: Api::default(),
            audit: Audit::default(),
            cells: Cells::default(),
            memory: Memory::default(),
            tpm: None,
            side_channels: SideChannels::default(),
            channels: Channels::default(),
            snapshots: Snapshots::default(),
            scheduling: Scheduling::default(),
            metrics: Metrics::default(),
            health: Health::default(),
            anomalies: Anomalies::default(),
            traces: Traces::default(),
            tenants: BTreeMap::new(),
        }
    }
}

impl Default for Api {
    fn default() -> Api {
        Api {
            socket: DEFAULT_SOCKET.into(),
            mode: "0660".into(),
            policies: Vec::new(),
            connections: 512,
            header_seconds: 10,
            body_seconds: 60,
            call_bytes: 8 << 20,
            bodies_bytes: 256 << 20,
            streams: 64,
            stream_idle_seconds: 30,
            tcp: None,
        }
    }
}

/// Where the API is when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/referee/api.sock";

impl Default for Audit {
    fn default() -> Audit {
        Audit {
            file: "/var/log/referee/audit.jsonl".into(),
            sync: false,
            bytes_per_second: 16 << 20,
            bytes_per_call: 256 << 20,
        }
    }
}

impl Default for Cells {
    fn default() -> Cells {
        Cells {
            slots: 0,
            queue: 256,
            deployments: 4096,
            bundle_bytes: 64 << 20,
            idle_seconds: 300,
            stuck_seconds: 30,
            log_bytes: 256 << 10,
            output_bytes: 64 << 20,
            require_confinement: false,
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`NodeError::Config`] with file, line and key.
    pub fn read(path: &Path) -> Result<Config, NodeError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| NodeError::Config(format!("cannot read {}: {error}", path.display())))?;
        Config::parse(&text).map_err(|error| NodeError::Config(format!("{}: {error}", path.display())))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`NodeError::Config`] with line and key.
    pub fn parse(text: &str) -> Result<Config, NodeError> {
        let config: Config =
            toml::from_str(text).map_err(|error| NodeError::Config(error.to_string().trim_end().into()))?;
        config.check()?;
        Ok(config)
    }

    /// The configuration as a file that says the same on this host, with every default, and what is derived from the host as figures.
    ///
    /// # Errors
    /// None that a configuration gives rise to.
    pub fn to_toml(&self) -> Result<String, NodeError> {
        toml::to_string_pretty(&self.with_figures()).map_err(|error| NodeError::Config(error.to_string()))
    }

    /// With what is derived from the host.
    fn with_figures(&self) -> Config {
        let mut whole = self.clone();
        whole.memory.budget_bytes = self.memory.budget_on(&HostMemory::look());
        whole
    }

    /// The socket's mode.
    pub(crate) fn socket_mode(&self) -> Result<u32, NodeError> {
        u32::from_str_radix(&self.api.mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| {
                NodeError::Config(format!(
                    "api.mode `{}` is no octal mode such as 0660",
                    self.api.mode
                ))
            })
    }

    fn check(&self) -> Result<(), NodeError> {
        self.socket_mode()?;
        for (name, tenant) in &self.tenants {
            if tenant.shares == 0 || tenant.shares > SHARES_MAX || tenant.real_time_percent > 100 {
                return Err(NodeError::Config(format!(
                    "tenants.{name}: shares must be 1 to {SHARES_MAX}, real_time_percent at most 100"
                )));
            }
        }
        if let Some(address) = self.metrics.listen
            && !address.ip().is_loopback()
            && !self.metrics.beyond_loopback
        {
            return Err(NodeError::Config(format!(
                "metrics.listen {address} is not of the loopback, and whoever reaches it may read: set metrics.beyond_loopback = true if that is meant"
            )));
        }
        if self.anomalies.window_ms != 0 && !WINDOW_MS.contains(&self.anomalies.window_ms) {
            return Err(NodeError::Config(format!(
                "anomalies.window_ms must be 0 (never) or {} to {}",
                WINDOW_MS.start(),
                WINDOW_MS.end()
            )));
        }
        self.memory.check()?;
        self.tpm.as_ref().map_or(Ok(()), Tpm::check)?;
        side_channels::check(&self.tenants)?;
        self.traces.endpoint()?;
        if !(0.0..=1.0).contains(&self.traces.sample) {
            return Err(NodeError::Config("traces.sample must be 0 to 1".into()));
        }
        // Those of one slot are as good or bad as those of many.
        Turns::new(self, 1)?;
        let bundle_bytes = usize::try_from(self.cells.bundle_bytes).unwrap_or(usize::MAX);
        let largest = bundle_bytes.max(self.api.call_bytes);
        let at_least_one = [
            ("api.connections", self.api.connections),
            (
                "api.tcp.connections",
                self.api.tcp.as_ref().map_or(1, |tcp| tcp.connections),
            ),
            ("api.call_bytes", self.api.call_bytes),
            ("api.streams", self.api.streams),
            (
                "api.stream_idle_seconds",
                usize::try_from(self.api.stream_idle_seconds).unwrap_or(usize::MAX),
            ),
            ("cells.queue", self.cells.queue),
            ("channels.queue", self.channels.queue),
            ("channels.queue_bytes", self.channels.queue_bytes),
            ("cells.deployments", self.cells.deployments),
            (
                "cells.stuck_seconds",
                usize::try_from(self.cells.stuck_seconds).unwrap_or(usize::MAX),
            ),
        ];
        match at_least_one.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(NodeError::Config(format!("{key} must be at least 1"))),
            None if self.api.bodies_bytes < largest => Err(NodeError::Config(format!(
                "api.bodies_bytes has no room for one body of {largest} bytes"
            ))),
            None if self.api.call_bytes > CALL_BYTES_MAX => Err(NodeError::Config(format!(
                "api.call_bytes is larger than a call can be: {CALL_BYTES_MAX}"
            ))),
            None => Ok(()),
        }
    }
}

/// What a comparison may be made of, in milliseconds.
const WINDOW_MS: std::ops::RangeInclusive<u64> = 50..=3_600_000;

/// A call's frame may be 16 MiB; the function's name is in it too.
const CALL_BYTES_MAX: usize = (16 << 20) - 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        let printed = Config::default().to_toml().expect("plain data");
        assert_eq!(
            Config::parse(&printed).expect("is valid"),
            Config::default().with_figures()
        );
        assert_eq!(Config::parse("").expect("is valid"), Config::default());
        let text = "[api.tcp]\naddress = '[::1]:8443'\ncertificate = 'a'\nkey = 'b'\nclient_ca = 'c'";
        let with_tcp = Config::parse(text).expect("is valid");
        assert_eq!(
            Config::parse(&with_tcp.to_toml().expect("plain data")).expect("is valid"),
            with_tcp.with_figures()
        );
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        for (text, key) in [("stat = \"/x\"", "stat"), ("[cells]\nslot = 3", "slot")] {
            let error = Config::parse(text).expect_err("unknown").to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }

    #[test]
    fn metrics_are_beyond_the_loopback_only_where_that_is_said() {
        for text in [
            "listen = \"127.0.0.1:9464\"",
            "listen = \"[::1]:0\"",
            "listen = \"0.0.0.0:9464\"\nbeyond_loopback = true",
        ] {
            let config = Config::parse(&format!("[metrics]\n{text}")).expect(text);
            let printed = config.to_toml().expect("plain data");
            assert_eq!(Config::parse(&printed).expect("is valid"), config.with_figures());
        }
    }

    #[test]
    fn values_without_sense_are_refused() {
        for text in [
            "[api]\nmode = \"9\"",
            "[api]\nmode = \"7777\"",
            "[api]\nconnections = 0",
            "[api]\ncall_bytes = 999999999",
            "[api]\nbodies_bytes = 1000000",
            "[api]\nstreams = 0",
            "[api]\nstream_idle_seconds = 0",
            "[metrics]\nlisten = \"0.0.0.0:9464\"",
            "[metrics]\nlisten = \"[::]:9464\"",
            "[metrics]\nlisten = \"localhost\"",
            "[anomalies]\nwindow_ms = 49",
            "[traces]\nendpoint = \"https://collector\"",
            "[traces]\nsample = 1.5",
            "[traces]\nsample = nan",
            "[tenants.acme]\nshares = 0",
            "[tenants.acme]\nreal_time_percent = 101",
            "[scheduling]\nslice_min_us = 0",
            "[scheduling]\nreal_time_percent = 96",
            "[cells]\nqueue = 0",
            "[channels]\nqueue = 0",
            "[channels]\nqueue_bytes = 0",
            "[api.tcp]\naddress = '127.0.0.1:1'",
            "[api.tcp]\naddress = 'localhost'\ncertificate = 'a'\nkey = 'b'\nclient_ca = 'c'",
            "[api.tcp]\naddress = '127.0.0.1:1'\ncertificate = 'a'\nkey = 'b'\nclient_ca = 'c'\nconnections = 0",
        ] {
            assert!(matches!(Config::parse(text), Err(NodeError::Config(_))), "{text}");
        }
    }
}
