//! Taking a grant from a worker's cells, or having them have what is lent: when this comes back it is so, or there is no worker.

use std::time::Duration;

use referee_policy::Loan;
use tokio::sync::oneshot;

use super::{Worker, lock};
use crate::line::{Restriction, ToWorker};

/// How long a worker may take to say that a restriction is in force. It waits itself for uses that are under way, for less.
const RESTRICT_WITHIN: Duration = Duration::from_secs(4);

impl Worker {
    /// Has the worker put a restriction in force; one that does not in time, or cannot, is ended, and its calls with it.
    pub(crate) async fn restrict(&self, number: u64, restriction: &Restriction) {
        let restriction = restriction.clone();
        let slot = printable(&restriction.slot);
        self.change(number, &slot, ToWorker::Restrict { number, restriction })
            .await;
    }

    /// Has the worker put in force what is lent to a slot now, as [`Worker::restrict`].
    pub(crate) async fn lend(&self, number: u64, slot: &str, loan: Loan) {
        let order = ToWorker::Lend {
            number,
            slot: slot.to_owned(),
            loan,
        };
        self.change(number, slot, order).await;
    }

    async fn change(&self, number: u64, slot: &str, order: ToWorker) {
        let (told, hears) = oneshot::channel();
        lock(&self.restricting).insert(number, told);
        let asked = async {
            self.send(&order).await.ok()?;
            // Looked at again: one that ended before the number was entered has forgotten only those from before.
            if self.is_gone() {
                lock(&self.restricting).remove(&number);
            }
            hears.await.ok()
        };
        let told = tokio::time::timeout(RESTRICT_WITHIN, asked).await;
        lock(&self.restricting).remove(&number);
        let wrong = match told {
            Ok(Some(None)) => {
                self.restricted.send_replace(());
                return;
            }
            Ok(Some(Some(why))) => format!("did not change the grant of slot `{slot}`: {}", printable(&why)),
            Ok(None) => "closed its line when a grant was to be changed".to_owned(),
            Err(_) => format!("did not change the grant of slot `{slot}` in time"),
        };
        // What is not there any more has no grants.
        if !self.is_gone() {
            self.give_up(&wrong).await;
        }
    }

    /// Hears from the worker about a restriction.
    pub(super) fn restricted(&self, number: u64, failure: Option<String>) {
        if let Some(waiting) = lock(&self.restricting).remove(&number) {
            // Whoever asked may have stopped waiting, and ended it.
            let _ = waiting.send(failure);
        }
    }
}

/// A worker's words, or a client's, for the journal.
fn printable(text: &str) -> String {
    let shown = text.chars().take(256);
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
