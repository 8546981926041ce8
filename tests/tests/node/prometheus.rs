//! A real Prometheus scrapes a real node while a muscle faults: the alert fires, and every query of the dashboard has an answer.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::acts;
use crate::health::{connect, watched};
use crate::http::{Answer, answer, head};
use crate::node::Node;

/// Within which an alert must fire: it looks back for a minute at most, and holds back for 15 s.
const ALERT_WITHIN: Duration = Duration::from_secs(90);

/// A running Prometheus, ended with the test.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn scraping(target: SocketAddr) -> Prometheus {
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("is free");
        let address = free.local_addr().expect("has one");
        drop(free);
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n  - job_name: referee\n    static_configs: [{{targets: ['{target}']}}]\n",
            package("prometheus/referee.rules.yml").display()
        );
        fs::write(folder.path().join("prometheus.yml"), config).expect("is written");
        let said = fs::File::create(folder.path().join("said")).expect("is made");
        let child = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                folder.path().join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .expect("Prometheus is installed");
        Prometheus {
            child,
            address,
            _folder: folder,
        }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = std::net::TcpStream::connect(self.address).ok()?;
        stream.write_all(head("GET", path, &[], 0).as_bytes()).ok()?;
        let answer: Answer = answer(stream).ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    /// The result of a query; none when it cannot be asked yet.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let coded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={coded}"))?;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer.pointer("/data/result")?.as_array().cloned()
    }

    /// Alerts that fire, by name, with what they are about.
    fn firing(&self) -> Vec<(String, Value)> {
        let alerts = self.get("/api/v1/alerts").unwrap_or_default();
        let alerts = alerts.pointer("/data/alerts").and_then(Value::as_array).cloned();
        let firing = alerts
            .unwrap_or_default()
            .into_iter()
            .filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| {
                let name = alert.pointer("/labels/alertname").and_then(Value::as_str);
                (name.unwrap_or_default().to_owned(), alert["labels"].clone())
            })
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn package(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts/package")
        .join(name)
}

/// The dashboard's queries, as Grafana asks them when everything is chosen.
fn queries() -> Vec<(String, String)> {
    let dashboard = fs::read(package("grafana/referee.json")).expect("is there");
    let dashboard: Value = serde_json::from_slice(&dashboard).expect("is JSON");
    let panels = dashboard["panels"].as_array().expect("has some").clone();
    let mut all = Vec::new();
    for panel in panels {
        for target in panel["targets"].as_array().expect("has some") {
            let query = target["expr"].as_str().expect("is one");
            let query = query
                .replace("$__rate_interval", "30s")
                .replace("$instance", ".*")
                .replace("$deployment", ".*");
            assert!(!query.contains('$'), "{query}");
            all.push((panel["title"].to_string(), query));
        }
    }
    assert!(all.len() >= 20, "{}", all.len());
    all
}

fn is_figure(series: &Value) -> bool {
    let value = series.pointer("/value/1").and_then(Value::as_str);
    value
        .and_then(|value| value.parse::<f64>().ok())
        .is_some_and(f64::is_finite)
}

/// Good calls, and one in three that breaks a rule.
fn load(node: &Node) {
    for function in ["count", "log", "fault"] {
        node.call("bad", function, "[]");
        node.call("good", "count", "[]");
    }
    node.call("good", "refuse", "[]");
}

#[test]
#[ignore = "needs Prometheus: scripts/test-metrics.sh runs it"]
fn the_alert_fires_while_a_muscle_faults_and_every_query_of_the_dashboard_has_data() {
    let (node, address) = watched("");
    node.deploy(&acts(), "good", &[]);
    node.deploy(&acts(), "bad", &[]);
    drop(connect(address));
    let prometheus = Prometheus::scraping(address);
    let began = Instant::now();
    let fired = loop {
        assert!(
            began.elapsed() < ALERT_WITHIN,
            "no alert: {:?}",
            prometheus.firing()
        );
        load(&node);
        let fired = prometheus.firing();
        if fired.iter().any(|(name, _)| name == "RefereeMuscleFaults") {
            break fired;
        }
        // Prometheus looks once a second; there is no hurry.
        thread::sleep(Duration::from_millis(100));
    };
    // It is about the one that faults, and nothing else is said.
    for (name, labels) in &fired {
        assert_eq!(
            (name.as_str(), &labels["deployment"]),
            ("RefereeMuscleFaults", &"bad".into()),
            "{fired:?}"
        );
    }
    for (panel, query) in queries() {
        let result = prometheus.query(&query).expect("is answered");
        assert!(result.iter().any(is_figure), "{panel}: {query}: {result:?}");
    }
    let targets = prometheus.get("/api/v1/targets").expect("is answered");
    assert_eq!(
        targets.pointer("/data/activeTargets/0/lastError"),
        Some(&"".into()),
        "{targets}"
    );
}
