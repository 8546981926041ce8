//! The one cell that the program runs in: its device, its connection to the host, its calls.

use alloc::vec::Vec;

use muscle_abi::channel::{LANE_FRAME_MAX, RPC_PORT};
use muscle_abi::frame::{ErrorCode, FrameError, HEADER_SIZE};

use crate::doorbell;
use crate::rpc::{CallError, IncomingCall, Rpc, answer_frame, call_frame};
use crate::vsock::{Bell, ConnectionId, Driver, VsockError};

/// The doorbells of the cell.
#[derive(Debug)]
pub struct Doorbells;

impl Bell for Doorbells {
    fn park(&mut self) {
        doorbell::park(0);
    }

    fn park_for_call(&mut self) {
        doorbell::ready();
    }

    fn yield_now(&mut self) {
        doorbell::yield_now();
    }
}

/// The device and the connection to the host's services.
#[derive(Debug)]
pub struct Link<B> {
    /// The device's driver, for connections of the muscle's own.
    pub driver: Driver<B>,
    host: Option<Host>,
    max_body: usize,
    /// The call that came by the lane and is not answered.
    by_lane: Option<u32>,
}

#[derive(Debug)]
struct Host {
    connection: ConnectionId,
    rpc: Rpc,
}

impl<B: Bell> Link<B> {
    /// A link over a device that is ready. Frames from the host may have `max_body` bytes.
    pub fn new(driver: Driver<B>, max_body: usize) -> Link<B> {
        Link {
            driver,
            host: None,
            max_body,
            by_lane: None,
        }
    }

    /// Calls the host and waits for its answer.
    ///
    /// # Errors
    /// What the host answered, or [`ErrorCode::Io`] when the connection is lost.
    pub fn call(&mut self, handle: u64, name: &str, payload: &[u8]) -> Result<Vec<u8>, CallError> {
        let id = self.host()?.rpc.start_call();
        if let Err(error) = self.send(id, handle, name, payload) {
            self.host()?.rpc.forget(id);
            return Err(error);
        }
        loop {
            if let Some(answer) = self.host()?.rpc.take_answer(id) {
                return answer;
            }
            self.take_in()?;
        }
    }

    /// Calls the host without waiting; the call reaches it at the next exit, whatever its cause.
    ///
    /// # Errors
    /// The first error that the host gave to an earlier posted call, or [`ErrorCode::Io`] when the connection is
    /// lost. The call is sent in the first case too.
    pub fn post(&mut self, handle: u64, name: &str, payload: &[u8]) -> Result<(), CallError> {
        let id = self.host()?.rpc.start_post();
        self.send(id, handle, name, payload)?;
        self.drain()?;
        match self.host()?.rpc.take_posted_error() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The next call of the host; waits for it.
    ///
    /// # Errors
    /// [`ErrorCode::Io`] when the connection is lost.
    pub fn next_call(&mut self) -> Result<IncomingCall, CallError> {
        self.driver.announce_lane();
        loop {
            if let Some(call) = self.host()?.rpc.take_call() {
                return Ok(call);
            }
            let mut frame = [0; LANE_FRAME_MAX];
            if let Some(length) = self.driver.take_from_lane(&mut frame) {
                let call = IncomingCall::of_frame(&frame[..length]).map_err(not_a_frame)?;
                self.by_lane = Some(call.id);
                return Ok(call);
            }
            if !self.drain()? {
                self.driver.park_for_call();
            }
        }
    }

    /// Answers a call of the host.
    ///
    /// # Errors
    /// [`ErrorCode::Io`] when the connection is lost.
    pub fn answer(&mut self, id: u32, answer: Result<Vec<u8>, CallError>) -> Result<(), CallError> {
        let connection = self.host()?.connection;
        let (header, payload) = answer_frame(id, answer);
        let by_lane = self.by_lane.take_if(|call| *call == id).is_some();
        if by_lane && self.driver.answer_by_lane(&[&header, &payload]) {
            return Ok(());
        }
        self.driver.write(connection, &[&header, &payload]).map_err(lost)
    }

    /// The connection to the host's services, made when it is first needed.
    fn host(&mut self) -> Result<&mut Host, CallError> {
        if self.host.is_none() {
            let connection = self.driver.connect(RPC_PORT).map_err(lost)?;
            self.host = Some(Host {
                connection,
                rpc: Rpc::new(self.max_body),
            });
        }
        self.host
            .as_mut()
            .ok_or_else(|| CallError::new(ErrorCode::Io, NO_HOST))
    }

    fn send(&mut self, id: u32, handle: u64, name: &str, payload: &[u8]) -> Result<(), CallError> {
        let connection = self.host()?.connection;
        let (header, name, payload): ([u8; HEADER_SIZE], _, _) = call_frame(id, handle, name, payload)?;
        self.driver
            .write(connection, &[&header, name.as_bytes(), payload])
            .map_err(lost)
    }

    /// Takes in what has arrived, waiting for at least something.
    fn take_in(&mut self) -> Result<(), CallError> {
        while !self.drain()? {
            self.driver.park();
        }
        Ok(())
    }

    /// Takes in what has arrived; whether that was anything.
    fn drain(&mut self) -> Result<bool, CallError> {
        let connection = self.host()?.connection;
        let mut any = false;
        let mut bytes = [0; CHUNK];
        while let Some(count) = self.driver.try_read(connection, &mut bytes).map_err(lost)? {
            if count == 0 {
                return Err(lost(VsockError::ShutDown));
            }
            any = true;
            let taken = self.host()?.rpc.take_in(&bytes[..count]);
            taken.map_err(not_a_frame)?;
        }
        Ok(any)
    }
}

fn lost(error: VsockError) -> CallError {
    CallError::new(ErrorCode::Io, alloc::format!("{NO_HOST}: {error}"))
}

fn not_a_frame(error: FrameError) -> CallError {
    CallError::new(ErrorCode::Io, alloc::format!("the host sent no frame: {error:?}"))
}

const NO_HOST: &str = "no connection to the host";
/// Bytes that are moved from a connection to the frame reader at a time.
const CHUNK: usize = 2048;

/// Runs `f` with the link of this cell.
///
/// # Errors
/// [`ErrorCode::Io`] outside a cell, when the device cannot be used, and when the link is in use already.
pub fn with<R>(f: impl FnOnce(&mut Link<Doorbells>) -> Result<R, CallError>) -> Result<R, CallError> {
    #[cfg(cell)]
    {
        live::with(f)
    }
    #[cfg(not(cell))]
    {
        drop(f);
        Err(CallError::new(
            ErrorCode::Io,
            "this program does not run in a cell",
        ))
    }
}

#[cfg(cell)]
pub(crate) use live::serve;

#[cfg(cell)]
mod live {
    use muscle_abi::boot::FLAG_DEVICE_READY;
    use muscle_abi::frame::ErrorCode;

    use super::{Doorbells, Link};
    use crate::rpc::{CallError, IncomingCall};
    use crate::single::Single;
    use crate::size::size;
    use crate::vsock::{Driver, Mmio, handshake};
    use crate::window::Window;
    use crate::{boot, console, doorbell, entries};

    static LINK: Single<Option<Link<Doorbells>>> = Single::new(None);

    pub(super) fn with<R>(
        f: impl FnOnce(&mut Link<Doorbells>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let mut link = LINK
            .borrow()
            .ok_or_else(|| CallError::new(ErrorCode::Io, "the link to the host is in use"))?;
        if link.is_none() {
            *link = Some(start()?);
        }
        match link.as_mut() {
            Some(link) => f(link),
            None => Err(CallError::new(ErrorCode::Io, "there is no device")),
        }
    }

    fn start() -> Result<Link<Doorbells>, CallError> {
        let info = boot::info().ok_or_else(|| CallError::new(ErrorCode::Io, "there is no boot block"))?;
        // SAFETY: the boot block names the register page of the vsock device.
        let mut registers = unsafe { Mmio::new(doorbell::pointer(info.vsock_va)) };
        let cid = if info.flags & FLAG_DEVICE_READY != 0 {
            info.cid
        } else {
            handshake(&mut registers, info.window_gpa)
                .map_err(|error| CallError::new(ErrorCode::Io, alloc::format!("{error}")))?
        };
        // SAFETY: the boot block names the window, which lives as long as the cell; this function runs once, so no
        // other `Window` exists. The mailbox, its first page, is used by `doorbell` and never by the driver.
        let window = unsafe {
            Window::new(
                doorbell::pointer(info.window_va),
                info.window_gpa,
                size(info.window_len),
            )
        };
        let max_body = size(info.heap_max) / 2;
        Ok(Link::new(Driver::new(window, cid, Doorbells), max_body))
    }

    /// Answers the host's calls for ever.
    pub(crate) fn serve() -> ! {
        loop {
            let call = match with(Link::next_call) {
                Ok(call) => call,
                Err(error) => doorbell::abort(&alloc::format!("{error}")),
            };
            let IncomingCall { id, name, payload } = call;
            let answer = match (entries::export(&name), payload) {
                (_, Err(error)) => Err(error),
                (Some(handler), Ok(payload)) => handler(&payload),
                (None, Ok(_)) => Err(CallError::new(
                    ErrorCode::UnknownFunction,
                    alloc::format!("this muscle exports no function `{name}`"),
                )),
            };
            console::flush();
            if let Err(error) = with(|link| link.answer(id, answer)) {
                doorbell::abort(&alloc::format!("{error}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use muscle_abi::frame::{FrameHeader, FrameKind};

    use super::*;
    use crate::vsock::mock::{Host as MockHost, pair};

    fn frame(kind: FrameKind, id: u32, name: &str, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            kind,
            id,
            handle: 0,
            name_len: u8::try_from(name.len()).expect("a short name"),
            payload_len: u32::try_from(payload.len()).expect("a small payload"),
        };
        [&header.to_bytes()[..], name.as_bytes(), payload].concat()
    }

    /// Takes every whole frame that the muscle has sent: kind, id, handle, name, payload.
    fn frames(host: &mut MockHost) -> Vec<(FrameKind, u32, u64, String, Vec<u8>)> {
        let mut all = Vec::new();
        for peer in host.peers.values_mut() {
            while let Some((header, rest)) = peer.inbox.split_first_chunk::<HEADER_SIZE>() {
                let header = FrameHeader::parse(header, 1 << 20).expect("is a frame");
                let Some((body, _)) = rest.split_at_checked(header.body_len()) else {
                    break;
                };
                let (name, payload) = body.split_at(usize::from(header.name_len));
                let name = String::from_utf8(name.to_vec()).expect("is text");
                all.push((header.kind, header.id, header.handle, name, payload.to_vec()));
                peer.inbox.drain(..HEADER_SIZE + header.body_len());
            }
        }
        all
    }

    fn answer(host: &mut MockHost, bytes: &[u8]) {
        let peer = host.peers.values_mut().next().expect("connected");
        peer.outbox.extend_from_slice(bytes);
    }

    /// Answers calls as a host does: `echo` with its payload, `first` after a call of its own, `no` with an error.
    fn serve_calls(host: &mut MockHost) {
        for (kind, id, handle, name, payload) in frames(host) {
            if kind != FrameKind::Call {
                continue;
            }
            match &name[..] {
                "echo" => answer(host, &frame(FrameKind::Return, id, "", &payload)),
                "handle" => answer(host, &frame(FrameKind::Return, id, "", &handle.to_le_bytes())),
                "first" => {
                    answer(host, &frame(FrameKind::Call, 77, "check", &[0x80]));
                    answer(host, &frame(FrameKind::Return, id, "", &[1]));
                }
                _ => {
                    let no = [0x82, 0x01, 0x62, b'n', b'o'];
                    answer(host, &frame(FrameKind::Error, id, "", &no));
                }
            }
        }
    }

    #[test]
    fn call_costs_one_exit_and_connecting_another() {
        let (driver, host) = pair(512 << 10);
        host.borrow_mut().act = Some(serve_calls);
        let mut link = Link::new(driver, 1 << 20);
        assert_eq!(link.call(5, "echo", &[1, 2, 3]), Ok(vec![1, 2, 3]));
        assert_eq!(host.borrow().parks, 2);
        assert_eq!(
            link.call(0x1_0000_0002, "handle", &[]),
            Ok(0x1_0000_0002_u64.to_le_bytes().to_vec())
        );
        assert_eq!(host.borrow().parks, 3);
        let large = vec![7; 190 << 10];
        assert_eq!(link.call(5, "echo", &large), Ok(large));
    }

    #[test]
    fn refusals_reach_the_caller_at_once_and_the_poster_later() {
        let (driver, host) = pair(512 << 10);
        host.borrow_mut().act = Some(serve_calls);
        let mut link = Link::new(driver, 1 << 20);
        let no = CallError::new(ErrorCode::Denied, "no");
        assert_eq!(link.call(5, "steal", &[]), Err(no.clone()));
        assert_eq!(link.post(5, "steal", &[]), Ok(()), "nobody waits");
        let exits = host.borrow().parks + host.borrow().yields;
        assert_eq!(exits, 2, "posting is no exit");
        assert_eq!(link.call(5, "echo", &[]), Ok(vec![]));
        assert_eq!(link.post(5, "echo", &[]), Err(no));
    }

    #[test]
    fn call_of_the_host_during_a_call_waits_and_is_then_answered() {
        let (driver, host) = pair(512 << 10);
        host.borrow_mut().act = Some(serve_calls);
        let mut link = Link::new(driver, 1 << 20);
        assert_eq!(link.call(5, "first", &[]), Ok(vec![1]));
        let call = link.next_call().expect("waited in line");
        assert_eq!((call.id, &*call.name), (77, "check"));
        link.answer(77, Ok(vec![0xF5])).expect("is sent");
        host.borrow_mut().act = None;
        link.driver.park();
        let sent = frames(&mut host.borrow_mut());
        assert_eq!(sent, [(FrameKind::Return, 77, 0, String::new(), vec![0xF5])]);
    }

    #[test]
    fn calls_by_the_lane_and_by_the_stream_come_in_their_order_and_are_answered_where_they_came_from() {
        let (driver, host) = pair(512 << 10);
        let mut link = Link::new(driver, 1 << 20);
        assert!(
            !host.borrow().answer_lane().1,
            "nothing is read before a call is waited for"
        );
        host.borrow_mut().act = Some(|host| {
            host.act = None;
            answer(host, &frame(FrameKind::Call, 1, "first", &[0x80]));
        });
        let call = link.next_call().expect("came by the stream");
        assert_eq!((call.id, &*call.name), (1, "first"));
        assert!(host.borrow().answer_lane().1, "said before the muscle parked");
        link.answer(1, Ok(vec![1])).expect("is sent");
        let parks = host.borrow().parks;
        // One is there whether the muscle is to poll or not.
        for (poll, id) in [(0, 2), (1, 3)] {
            host.borrow_mut().set_poll_word(poll);
            let call = frame(FrameKind::Call, id, "second", &[0x81, 5]);
            host.borrow_mut().call_by_lane(id + 70, &call);
            let call = link.next_call().expect("came by the lane");
            assert_eq!(
                (call.id, &*call.name, call.payload),
                (id, "second", Ok(vec![0x81, 5]))
            );
            link.answer(id, Ok(vec![7])).expect("is there");
            let wanted = frame(FrameKind::Return, id, "", &[7]);
            assert_eq!(host.borrow().answer_lane(), (id + 70, true, wanted));
        }
        assert_eq!(host.borrow().parks, parks, "no exit");
        // What does not fit goes by the stream.
        let call = frame(FrameKind::Call, 4, "third", &[0x80]);
        host.borrow_mut().call_by_lane(74, &call);
        assert_eq!(link.next_call().expect("came by the lane").id, 4);
        link.answer(4, Ok(vec![9; 500])).expect("is sent");
        assert_eq!(host.borrow().answer_lane().0, 73);
        host.borrow_mut().set_poll_word(0);
        link.driver.park();
        let sent: Vec<(u32, usize)> = frames(&mut host.borrow_mut())
            .into_iter()
            .map(|(_, id, _, _, payload)| (id, payload.len()))
            .collect();
        assert_eq!(sent, [(1, 1), (4, 500)]);
        // Whatever stands in the lane, it is no more than an error.
        for length in [u32::MAX, 400, 3] {
            let mut call = frame(FrameKind::Call, 5, "fourth", &[0x80]);
            call[..4].copy_from_slice(&length.to_le_bytes());
            host.borrow_mut().call_by_lane(length, &call);
            assert_eq!(link.next_call().expect_err("is no frame").code, ErrorCode::Io);
        }
    }

    #[test]
    fn host_that_goes_away_is_an_error_and_no_hang() {
        let (driver, host) = pair(512 << 10);
        host.borrow_mut().open_ports.clear();
        let mut link = Link::new(driver, 1 << 20);
        let error = link.call(5, "echo", &[]).expect_err("nobody is there");
        assert_eq!(error.code, ErrorCode::Io);
        assert!(error.message.contains("connection refused"), "{error}");
    }
}
