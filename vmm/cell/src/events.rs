//! What happens on the channel, and who takes care of it: the RPC service, or an outside socket where a
//! grant allows one.

use muscle_abi::channel::RPC_PORT;
use muscle_abi::frame::FrameKind;
use referee_vsock::{Event, Vsock};

use crate::doorman::Notice;
use crate::error::{CellError, Halt};
use crate::host::Host;
use crate::rpc::{Rpc, Serve};
use crate::sockets::Sockets;

/// The host as the RPC service sees it.
pub(crate) struct Served<'a>(pub &'a mut dyn Host);

impl Serve for Served<'_> {
    fn serve(
        &mut self,
        handle: u64,
        name: &str,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<FrameKind, Halt> {
        Ok(self.0.call(handle, name, payload, reply)?)
    }
}

/// Deals with one event of the device.
pub(crate) fn handle(
    event: Event,
    vsock: &mut Vsock,
    rpc: &mut Rpc,
    sockets: &mut Sockets,
    host: &mut dyn Host,
) -> Result<(), Halt> {
    match event {
        Event::Request {
            conn,
            host_port: RPC_PORT,
            ..
        } => {
            rpc.attach(conn)?;
            vsock.accept(conn);
        }
        Event::Request { conn, host_port, .. } => {
            match host.connect_out(host_port).map_err(CellError::from)? {
                Some(path) => sockets.open(conn, host_port, path),
                None => vsock.refuse(conn),
            }
        }
        Event::Connected { conn } => sockets.connected(conn),
        Event::PeerShutdown { conn, shut } => {
            if rpc.connection() == Some(conn) {
                vsock.close(conn);
                rpc.detach();
            } else {
                sockets.peer_shut(conn, shut);
            }
        }
        Event::Closed { conn, .. } => {
            if rpc.connection() == Some(conn) {
                rpc.detach();
            } else if sockets.has(conn) {
                sockets.closed(vsock, conn);
            }
        }
        // Bytes are moved by `Rpc::service` and `Sockets::service`, which look at every connection.
        Event::Readable { .. } | Event::Writable { .. } => {}
    }
    Ok(())
}

/// Deals with one notice of the doorman.
pub(crate) fn take_notice(
    notice: Notice,
    vsock: &mut Vsock,
    sockets: &mut Sockets,
    host: &mut dyn Host,
) -> Result<(), Halt> {
    match notice {
        Notice::Arrived { token, port, guest } => {
            let granted = host.connect_in(port).map_err(CellError::from)?;
            sockets.arrive(vsock, token, port, guest, granted);
        }
        Notice::Opened { token, guest } => sockets.opened(vsock, token, Some(guest)),
        Notice::Refused { token } => sockets.opened(vsock, token, None),
        Notice::Ready { token } => sockets.ready(token),
        Notice::Stop => {}
    }
    Ok(())
}
