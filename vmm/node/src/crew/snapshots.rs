//! A snapshot that a worker is asked for: it comes in pieces, of which there are no more than its muscle has memory for.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Worker, lock};
use crate::error::NodeError;
use crate::line::{NotKept, SNAPSHOT_PIECE_MAX, ToWorker};

/// A snapshot on its way.
#[derive(Debug)]
pub(super) struct Taking {
    pieces: mpsc::Sender<Vec<u8>>,
    /// Bytes that may still come.
    left: u64,
    told: oneshot::Sender<Option<NotKept>>,
}

impl Worker {
    /// Has the worker keep the muscle of its one cell, which must run no call, and passes on what comes: no more than `most` bytes. When nobody takes the
    /// pieces any more they are lost, and it goes on.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] says what stands against it; [`NodeError::WorkerGone`], also when it does not say in time.
    pub(crate) async fn keep(
        &self,
        most: u64,
        pieces: mpsc::Sender<Vec<u8>>,
        within: Duration,
    ) -> Result<(), NodeError> {
        // Nor may it be moving the cell's memory away.
        let _alone = self.asking.lock().await;
        let (told, hears) = oneshot::channel();
        *lock(&self.taking) = Some(Taking {
            pieces,
            left: most,
            told,
        });
        let asked = async {
            self.send(&ToWorker::Keep).await?;
            // Looked at again: one that ended before has forgotten only what it was asked for then.
            if self.is_gone() {
                *lock(&self.taking) = None;
            }
            hears.await.map_err(|_| self.gone())
        };
        let told = tokio::time::timeout(within, asked).await;
        *lock(&self.taking) = None;
        match told {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(refused))) => Err(rejected(refused)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.give_up("did not give the snapshot in time").await),
        }
    }

    /// Passes a piece on. Whoever writes it may take its time, and nothing else is heard of the worker meanwhile.
    ///
    /// # Errors
    /// What no worker does.
    pub(super) async fn take_piece(&self, bytes: Vec<u8>) -> Result<(), &'static str> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let pieces = {
            let mut taking = lock(&self.taking);
            let Some(taking) = taking.as_mut() else {
                return Err("sent a snapshot that nobody asked for");
            };
            if bytes.is_empty() || bytes.len() > SNAPSHOT_PIECE_MAX {
                return Err("sent a snapshot in other pieces than workers do");
            }
            taking.left = taking
                .left
                .checked_sub(length)
                .ok_or("sent more of a snapshot than its muscle has memory")?;
            taking.pieces.clone()
        };
        // Whoever wanted it may have no room for it.
        let _ = pieces.send(bytes).await;
        Ok(())
    }

    /// Hears that the snapshot is whole, or why there is none.
    ///
    /// # Errors
    /// What no worker does.
    pub(super) fn kept(&self, refused: Option<NotKept>) -> Result<(), &'static str> {
        let taking = lock(&self.taking).take();
        let taking = taking.ok_or("spoke of a snapshot that nobody asked for")?;
        // Whoever asked may have stopped waiting.
        let _ = taking.told.send(refused);
        Ok(())
    }
}

/// Most bytes of a worker's words.
const WORDS_MAX: usize = 1024;

fn rejected(refused: NotKept) -> NodeError {
    let (name, mut message) = match refused {
        NotKept::NoCell => return no_cell(),
        NotKept::Unsound(why) => (
            "snapshot-unsound",
            format!("the muscle cannot be kept as it stands: {why}"),
        ),
        NotKept::Over(why) => (
            "snapshot-no-cell",
            format!("the cell ended when it was to be kept: {why}"),
        ),
    };
    message.truncate(message.floor_char_boundary(WORDS_MAX));
    NodeError::Rejected {
        name: name.into(),
        message,
    }
}

/// What is said where there is no memory to be kept.
pub(crate) fn no_cell() -> NodeError {
    NodeError::Rejected {
        name: "snapshot-no-cell".into(),
        message: "no cell of the deployment is there: none was called since its worker started, or it ended"
            .into(),
    }
}
