//! A cell that is hot at times: when it is heated, how a call passes without an exit, how it cools.

use std::sync::Arc;
use std::time::{Duration, Instant};

use referee_hv::VcpuThread;

use crate::cell::{LoadedCell, Stop};
use crate::error::{CellError, Halt};
use crate::hot::{HOT_CALL, Home, Hot, HotThread, PollWord};
use crate::layout::WINDOW_GPA;

/// What polling for an answer came to.
enum Polled {
    Answered,
    /// Somebody wants the thread.
    Kicked,
    /// The muscle stopped, or takes long.
    InVain,
}

/// How often the rings are looked at between two looks at the clock.
const LOOKS: u32 = 64;

impl LoadedCell {
    /// Lets the cell use a hot thread: while calls follow each other within `idle`, they need no exit. It is used only where that is of use
    /// ([`HotThread::is_useful`]) and by one cell at a time; nothing changes for a call but its time. CPU time of the thread is charged to the
    /// cell when it cools, and what the caller spends with polling at once.
    ///
    /// # Errors
    /// [`CellError`]; the cell must be dropped.
    pub fn allow_hot(&mut self, thread: &HotThread, idle: Duration) -> Result<(), CellError> {
        self.cool()?;
        let window = self.machine.vm.view(|start| start == WINDOW_GPA);
        self.hot = Some(Hot::new(thread, idle, PollWord(Arc::new(window))));
        Ok(())
    }

    /// Whether the cell's processor is with a hot thread, so that the next call needs no exit if it comes soon.
    pub fn is_hot(&self) -> bool {
        self.hot
            .as_ref()
            .is_some_and(|hot| hot.is_lent() && !hot.is_back())
    }

    /// Has the processor back from a hot thread, if one has it.
    ///
    /// # Errors
    /// [`CellError`]; the cell must be dropped.
    pub fn cool(&mut self) -> Result<(), CellError> {
        match self.hot.as_mut().filter(|hot| hot.is_lent()) {
            Some(hot) => {
                let home = hot.recall()?;
                self.settle_in(home)
            }
            None => Ok(()),
        }
    }

    /// Lends the processor of a muscle that has just answered and parked, if that is worth it.
    pub(crate) fn heat(&mut self, begun: Instant, now: Instant) -> Result<(), CellError> {
        if let Some(hot) = &mut self.hot
            && self.machine.vsock.has_prepared_queue()
            && hot.is_due(begun, now)
            && let Err(refused) = hot.lend(self.machine.vcpu.take()?)
        {
            self.machine.vcpu.put(*refused);
        }
        Ok(())
    }

    /// Performs a call that was begun while the cell is hot. `None` when it goes on in the usual way: the cell is cold, or
    /// the call takes too long, or the muscle stopped for something.
    pub(crate) fn run_hot(
        &mut self,
        thread: &VcpuThread,
        entered: Instant,
        budget: Option<Duration>,
    ) -> Result<Option<Stop>, CellError> {
        if !self.hot.as_ref().is_some_and(Hot::is_lent) {
            return Ok(None);
        }
        let polled = self.poll(thread, entered, budget);
        let now = Instant::now();
        self.cpu_used += now.saturating_duration_since(entered);
        match polled {
            Ok(Polled::Answered) => {
                if let Some(hot) = &mut self.hot {
                    hot.served();
                }
                return Ok(Some(Stop::Parked { until: None }));
            }
            Ok(Polled::Kicked) => {
                let begun = self.started.unwrap_or(entered);
                if self.limit_reached(begun, now, self.cpu_used).is_none() {
                    return Ok(Some(Stop::Preempted));
                }
                // It is said when the processor is back.
            }
            Ok(Polled::InVain) | Err(Halt::Interrupted) => {}
            Err(Halt::Fault(fault)) => {
                self.cool()?;
                return Ok(Some(self.faulted(fault)));
            }
            Err(Halt::Host(error)) => return Err(error),
        }
        self.cool().map(|()| None)
    }

    /// Puts the call into the rings and waits for its answer.
    fn poll(
        &mut self,
        thread: &VcpuThread,
        entered: Instant,
        budget: Option<Duration>,
    ) -> Result<Polled, Halt> {
        let until = entered + budget.unwrap_or(HOT_CALL).min(HOT_CALL);
        // A socket may have something for the muscle, too.
        if self.sockets.any() || !self.rpc.send_by_lane(&self.view) {
            self.pump()?;
            // A call that was preempted here may have been answered meanwhile.
            if self.rpc.has_answer() {
                return Ok(Polled::Answered);
            }
        }
        if let Some(hot) = &self.hot {
            hot.called();
        }
        loop {
            for _ in 0..LOOKS {
                if self.look()? {
                    return Ok(Polled::Answered);
                }
                if self.hot.as_ref().is_none_or(Hot::is_back) {
                    return Ok(Polled::InVain);
                }
                std::hint::spin_loop();
            }
            if thread.take_kick() {
                return Ok(Polled::Kicked);
            }
            if self.sockets.is_stopped() || Instant::now() >= until {
                return Ok(Polled::InVain);
            }
        }
    }

    /// Looks into lane and rings, and acts on what is there; whether the open call is answered.
    fn look(&mut self) -> Result<bool, Halt> {
        let answered = self.rpc.is_answered_by_lane(&self.view);
        match self.machine.vsock.is_offered(&self.view) {
            true => {
                self.pump()?;
            }
            false if answered => self.rpc.take_from_lane(&self.view)?,
            false => {}
        }
        Ok(self.rpc.has_answer())
    }

    fn settle_in(&mut self, home: Home) -> Result<(), CellError> {
        self.machine.vcpu.put(home.vcpu);
        self.cpu_before += home.cpu;
        self.unsettled = Some(home.stopped?);
        self.may_have_missed = true;
        Ok(())
    }
}
