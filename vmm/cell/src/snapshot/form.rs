//! A snapshot as bytes.
//!
//! ```text
//!   "referee snapshot"  version u32
//!   bundle's SHA-256    layout seed    sizes: image boot stack heap resume, u64 each
//!   heap bytes u64      style u32   clock u8   context id u64   monotonic ns u64
//!   told u8             0 reads anew │ 1 the same: length u32, arguments
//!   device              receive 2 × u16   transmit 2 × u16   used u8   ports 2 × u32   credit 5 × u32   asked u8
//!   registers 18 × u64  vector state
//!   pages u32           each: guest-physical address u64, kind u8: 0 zero │ 1 with 4096 bytes
//! ```
//! Numbers are little-endian. Every byte means something, and none follows. Whoever reads takes no more memory than there are bytes, and
//! believes nothing: what a number may be is asked where it is used ([`Snapshot::template`]).

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use muscle_abi::boot::Style;
use referee_bundle::Digest;
use referee_hv::Frozen;
use referee_vsock::AtRest;
use thiserror::Error;

use super::{Snapshot, Told};
use crate::layout::{LayoutSeed, Sizes};
use crate::reset::{Kept, PAGE, Page};
use crate::spec::ClockAccess;

const MAGIC: &[u8; 16] = b"referee snapshot";
const VERSION: u32 = 1;

/// Why bytes are no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Damaged {
    /// They are something else.
    #[error("it does not begin as a snapshot does")]
    Magic,
    /// They are of another version of this program.
    #[error("it has version {0}, and this program reads version {VERSION}")]
    Version(u32),
    /// They end too soon.
    #[error("it ends before its {0}")]
    CutOff(&'static str),
    /// A number has no meaning.
    #[error("its {0} is none")]
    Meaning(&'static str),
    /// They go on after the end.
    #[error("{0} bytes follow it")]
    TooLong(usize),
}

impl Snapshot {
    /// Bytes that it has beside its pages, at most, without arguments.
    pub const OVERHEAD: u64 = 8 << 10;
    /// Bytes for each page of memory, at most.
    pub const PAGE: u64 = PAGE as u64 + 9;

    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&self.bundle.0)?;
        out.write_all(&self.seed)?;
        let Sizes {
            image,
            boot,
            stack,
            heap,
            resume,
        } = self.sizes;
        for size in [image, boot, stack, heap, resume, self.heap_bytes] {
            out.write_all(&size.to_le_bytes())?;
        }
        out.write_all(&(self.style as u32).to_le_bytes())?;
        out.write_all(&[match self.clock {
            ClockAccess::None => 0,
            ClockAccess::Coarse => 1,
            ClockAccess::Fine => 2,
        }])?;
        let monotonic = u64::try_from(self.monotonic.as_nanos()).unwrap_or(u64::MAX);
        out.write_all(&self.cid.to_le_bytes())?;
        out.write_all(&monotonic.to_le_bytes())?;
        match &self.told {
            Told::ReadsAnew => out.write_all(&[0])?,
            Told::TheSame(arguments) => {
                out.write_all(&[1])?;
                out.write_all(&length(arguments.len())?.to_le_bytes())?;
                out.write_all(arguments)?;
            }
        }
        let AtRest {
            receive,
            transmit,
            used_buffers,
            ports,
            credit,
            asked_credit,
        } = self.vsock;
        for index in [receive.0, receive.1, transmit.0, transmit.1] {
            out.write_all(&index.to_le_bytes())?;
        }
        out.write_all(&[used_buffers.into()])?;
        for number in [ports.0, ports.1].iter().chain(&credit) {
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(&[asked_credit.into()])?;
        for register in &self.registers {
            out.write_all(&register.to_le_bytes())?;
        }
        out.write_all(&*self.vectors)?;
        out.write_all(&length(self.pages.len())?.to_le_bytes())?;
        for (gpa, page) in self.pages.iter() {
            out.write_all(&gpa.to_le_bytes())?;
            match page {
                None => out.write_all(&[0])?,
                Some(page) => {
                    out.write_all(&[1])?;
                    out.write_all(&page.0)?;
                }
            }
        }
        Ok(())
    }

    /// The bytes of [`Snapshot::write_to`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let contents = self.pages.iter().filter(|(_, page)| page.is_some()).count();
        let arguments = match &self.told {
            Told::ReadsAnew => 0,
            Told::TheSame(arguments) => arguments.len(),
        };
        let mut bytes = Vec::with_capacity(4096 + arguments + self.pages.len() * 9 + contents * PAGE);
        // Memory takes everything; there are fewer than 2³² pages, and fewer bytes of arguments.
        let _ = self.write_to(&mut bytes);
        bytes
    }

    /// Reads what [`Snapshot::write_to`] wrote, or anything else.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot, Damaged> {
        let mut reader = Reader(bytes);
        if reader.array("name").ok().as_ref() != Some(MAGIC) {
            return Err(Damaged::Magic);
        }
        let version = reader.u32("version")?;
        if version != VERSION {
            return Err(Damaged::Version(version));
        }
        let bundle = Digest(reader.array("bundle")?);
        let seed: LayoutSeed = reader.array("layout")?;
        let mut size = || reader.u64("sizes");
        let sizes = Sizes {
            image: size()?,
            boot: size()?,
            stack: size()?,
            heap: size()?,
            resume: size()?,
        };
        let heap_bytes = size()?;
        let style = match reader.u32("style")? {
            style if style == Style::Command as u32 => Style::Command,
            style if style == Style::Reactor as u32 => Style::Reactor,
            _ => return Err(Damaged::Meaning("style")),
        };
        let clock = match reader.u8("clock")? {
            0 => ClockAccess::None,
            1 => ClockAccess::Coarse,
            2 => ClockAccess::Fine,
            _ => return Err(Damaged::Meaning("clock")),
        };
        let cid = reader.u64("context id")?;
        let monotonic = Duration::from_nanos(reader.u64("time")?);
        let told = match reader.u8("arguments")? {
            0 => Told::ReadsAnew,
            1 => {
                let length = reader.u32("arguments")?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Told::TheSame(reader.take(length, "arguments")?.to_vec())
            }
            _ => return Err(Damaged::Meaning("arguments")),
        };
        let vsock = device(&mut reader)?;
        let mut registers = [0; Frozen::REGISTERS];
        for register in &mut registers {
            *register = reader.u64("registers")?;
        }
        let vectors = Box::new(reader.array("vector registers")?);
        let pages = pages(&mut reader)?;
        match reader.0.len() {
            0 => Ok(Snapshot {
                bundle,
                seed,
                sizes,
                heap_bytes,
                style,
                clock,
                cid,
                told,
                monotonic,
                vsock,
                registers,
                vectors,
                pages: Arc::new(pages),
            }),
            more => Err(Damaged::TooLong(more)),
        }
    }
}

fn device(reader: &mut Reader<'_>) -> Result<AtRest, Damaged> {
    let what = "device";
    let mut index = || reader.array(what).map(u16::from_le_bytes);
    let (receive, transmit) = ((index()?, index()?), (index()?, index()?));
    let used_buffers = reader.flag(what)?;
    let ports = (reader.u32(what)?, reader.u32(what)?);
    let mut credit = [0; 5];
    for counter in &mut credit {
        *counter = reader.u32(what)?;
    }
    Ok(AtRest {
        receive,
        transmit,
        used_buffers,
        ports,
        credit,
        asked_credit: reader.flag(what)?,
    })
}

fn pages(reader: &mut Reader<'_>) -> Result<Vec<Kept>, Damaged> {
    let what = "pages";
    let count = usize::try_from(reader.u32(what)?).unwrap_or(usize::MAX);
    // Each has nine bytes at least.
    let mut pages = Vec::with_capacity(count.min(reader.0.len() / 9));
    for _ in 0..count {
        let gpa = reader.u64(what)?;
        let contents = match reader.flag(what)? {
            false => None,
            true => {
                let bytes = reader.take(PAGE, what)?;
                let mut page = Box::new(Page([0; PAGE]));
                page.0.copy_from_slice(bytes);
                Some(page)
            }
        };
        pages.push((gpa, contents));
    }
    Ok(pages)
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Damaged::CutOff(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Damaged> {
        let taken = self.take(N, what)?;
        taken.first_chunk().copied().ok_or(Damaged::CutOff(what))
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, Damaged> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, Damaged> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, Damaged> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn flag(&mut self, what: &'static str) -> Result<bool, Damaged> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Damaged::Meaning(what)),
        }
    }
}
