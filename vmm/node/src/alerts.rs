//! Deployments that behave otherwise than they used to, said in the journal and the audit log ([`crate::anomaly`] finds them).

use std::time::{Duration, Instant};

use referee_audit::Value;
use tokio::time::MissedTickBehavior;

use crate::anomaly::Change;
use crate::deployment::Deployment;
use crate::node::Node;
use crate::report;

impl Node {
    /// Compares each deployment with what is usual of it, for as long as the service lives.
    pub(crate) async fn compare(&self) {
        let window = Duration::from_millis(self.config().anomalies.window_ms);
        if window.is_zero() {
            return;
        }
        let mut ticks = tokio::time::interval(window);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let passed = last.elapsed();
            last = Instant::now();
            for deployment in self.deployments() {
                for change in deployment.compare(passed) {
                    self.tell(&deployment, &change);
                }
            }
        }
    }

    /// Says in journal and audit log that a deployment behaves otherwise, or no longer does.
    fn tell(&self, deployment: &Deployment, change: &Change) {
        let name = &deployment.name;
        let (op, anomaly) = match change {
            Change::Begins(anomaly) => ("alert", anomaly),
            Change::Ends(anomaly) => ("alert-over", anomaly),
        };
        let reason = &anomaly.reason;
        match change {
            Change::Begins(_) => {
                report::problem(&format!("{name} behaves otherwise than it used to: {reason}"))
            }
            Change::Ends(_) => report::notice(&format!("{name} behaves as usual: {reason}")),
        }
        let detail = [
            ("by", Value::Text("node")),
            ("deployment", Value::Text(name)),
            ("bundle", Value::Text(&deployment.deployed.bundle)),
            ("signal", Value::Text(anomaly.signal.name())),
            ("reason", Value::Text(reason)),
        ];
        if let Err(error) = self.record(op, &detail) {
            report::problem(&error.with_causes());
        }
    }
}
