//! The comment lines at the top of a guest's file.
//!
//! ```text
//!   # Rule: what must not be possible.             any other words are for people
//!   # expect: fault page-fault vector=14           how it ends, on every kind of KVM; a second line is another way
//!   # expect-npt: exit 99                          … where there is nested paging
//!   # expect-tcg: exit 98                          … and QEMU emulates the processor
//!   # slots: console=console:input dir=files:rw:65536:8 clock=clock:coarse random=random args=args
//!   #        serial=pio:0x3f8-0x3ff door=listen:2000 out=connect:2000 offered=functions:one+other
//!   #        ring=ring:send:4096
//!   #        to=channel:send:BYTES:MESSAGES ask=channel:request:BYTES:MESSAGES from=channel:receive:BYTES:FUNCTION
//!   #        lent=files:rw:65536:8@from time=clock:coarse@@from   delegated over the slot `from`; and to be delegated on
//!   # bind: dir=dir:{}/dir:rw                      {} is the folder of the trial
//!   # files: dir/inside=text     # link: dir/out=../secret     made in that folder beforehand
//!   # socket: out                                a Unix socket there at which nobody listens
//!   # limits: memory=1048576 stack=65536 deadline_ms=200 cpu_ms=200
//!   # style: reactor     # exports: f     # call: f []
//!   # on: node                                     nothing but a node can run it: only tests of the node do
//!   # run: --max-output-bytes 4096                 more options
//!   # stdout: hello\n     # stdout-at-most: 65536     # stderr: ignored | clean
//! ```

use anyhow::{Context, bail};
use muscle_abi::boot::Style;
use muscle_abi::ring::Role;
use referee_bundle::{CapabilityRequest, ChannelRole, ClockGrade, Delegated, FilesAccess, Manifest, Slot};

use crate::expectation::{Expectation, number, words};
use crate::flavour::Flavour;

/// Everything a guest's file says about it.
#[derive(Debug, Clone)]
pub struct Header {
    expected: Vec<Expectation>,
    expected_npt: Vec<Expectation>,
    expected_tcg: Vec<Expectation>,
    /// Slots of the manifest.
    pub slots: Vec<Slot>,
    /// `--bind` options.
    pub bindings: Vec<String>,
    /// Files to make, with their text.
    pub files: Vec<(String, String)>,
    /// Links to make, with where they point.
    pub links: Vec<(String, String)>,
    /// Unix sockets to make, at which nobody listens.
    pub sockets: Vec<String>,
    /// Function and arguments, for a reactor.
    pub call: Option<(String, String)>,
    /// More options.
    pub options: Vec<String>,
    /// Whether only a node can run it.
    pub on_node: bool,
    /// What may be printed.
    pub streams: Streams,
    limits: Vec<(String, u64)>,
    style: Style,
    exports: Vec<String>,
}

/// What a guest may print.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Streams {
    /// The whole of standard output.
    pub stdout: Vec<u8>,
    /// Instead: any standard output of at most this many bytes.
    pub stdout_at_most: Option<usize>,
    /// Whether standard error may hold more than the report.
    pub more_stderr: bool,
    /// Whether that may hold any byte.
    pub any_stderr: bool,
}

impl Header {
    /// Reads the lines at the top of a file.
    ///
    /// # Errors
    /// Names the line that is not understood; an expectation must be there.
    pub fn parse(source: &str) -> anyhow::Result<Header> {
        let mut header = Header {
            expected: Vec::new(),
            expected_npt: Vec::new(),
            expected_tcg: Vec::new(),
            slots: Vec::new(),
            bindings: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            sockets: Vec::new(),
            call: None,
            options: Vec::new(),
            on_node: false,
            streams: Streams::default(),
            limits: Vec::new(),
            style: Style::Command,
            exports: Vec::new(),
        };
        for line in source.lines().take_while(|line| line.starts_with('#')) {
            let Some((key, value)) = line.trim_start_matches('#').trim().split_once(": ") else {
                continue;
            };
            let ends = match key {
                "expect" => &mut header.expected,
                "expect-npt" => &mut header.expected_npt,
                "expect-tcg" => &mut header.expected_tcg,
                _ => {
                    header.take(key, value).with_context(|| line.to_owned())?;
                    continue;
                }
            };
            ends.push(Expectation::parse(value).with_context(|| line.to_owned())?);
        }
        if header.expected.is_empty() {
            bail!("there is no line `# expect: …`");
        }
        header.slots.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(header)
    }

    /// How the guest may end on this kind of KVM: one way, unless processors differ.
    pub fn expected(&self, flavour: Flavour) -> &[Expectation] {
        let special: &[&[Expectation]] = match flavour {
            Flavour::EmulatedNestedPaging => &[&self.expected_tcg, &self.expected_npt],
            Flavour::NestedPaging => &[&self.expected_npt],
            Flavour::Pvm => &[],
        };
        let said = special.iter().find(|ends| !ends.is_empty()).copied();
        said.unwrap_or(&self.expected)
    }

    /// The end of a ring that the guest has: such a guest runs beside another one, in a program that joins them.
    pub fn ring(&self) -> Option<(&str, Role, u64)> {
        self.slots.iter().find_map(|slot| match slot.request {
            CapabilityRequest::Ring { role, bytes } => Some((slot.name.as_str(), role, bytes)),
            _ => None,
        })
    }

    /// The manifest of a guest of this name, without its image.
    pub fn manifest(&self, name: &str) -> Manifest {
        let mut manifest = cargo_muscle::empty_manifest(name);
        manifest.slots = self.slots.clone();
        manifest.style = self.style;
        manifest.exports = self.exports.clone();
        manifest.limits.memory_bytes = 1 << 20;
        manifest.limits.stack_bytes = 64 << 10;
        for (limit, value) in &self.limits {
            match limit.as_str() {
                "memory" => manifest.limits.memory_bytes = *value,
                "stack" => manifest.limits.stack_bytes = *value,
                "cpu_ms" => manifest.limits.cpu_ms = Some(*value),
                _ => manifest.limits.deadline_ms = Some(*value),
            }
        }
        manifest
    }

    fn take(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        let pair = |text: &str| -> anyhow::Result<(String, String)> {
            let (left, right) = text
                .split_once('=')
                .with_context(|| format!("`{text}` has no ="))?;
            Ok((left.to_owned(), right.to_owned()))
        };
        match key {
            "slots" => {
                self.slots = words(value)
                    .iter()
                    .map(|word| slot(word))
                    .collect::<anyhow::Result<_>>()?
            }
            "bind" => self.bindings.push(value.to_owned()),
            "files" => self.files.push(pair(value)?),
            "link" => self.links.push(pair(value)?),
            "socket" => self.sockets.push(value.to_owned()),
            "run" => self.options.extend(words(value)),
            "exports" => self.exports = words(value),
            "on" if value == "node" => self.on_node = true,
            "style" if value == "reactor" => self.style = Style::Reactor,
            "call" => {
                let (function, arguments) = value.split_once(' ').context("a call has arguments")?;
                self.call = Some((function.to_owned(), arguments.to_owned()));
            }
            "limits" => {
                for word in words(value) {
                    let (limit, text) = pair(&word)?;
                    if !["memory", "stack", "cpu_ms", "deadline_ms"].contains(&limit.as_str()) {
                        bail!("there is no limit `{limit}`");
                    }
                    self.limits
                        .push((limit, number(&text).context("a limit is a number")?));
                }
            }
            "stdout" => self.streams.stdout = value.replace("\\n", "\n").into_bytes(),
            "stdout-at-most" => self.streams.stdout_at_most = Some(value.parse()?),
            "stderr" if value == "clean" => self.streams.more_stderr = true,
            "stderr" if value == "ignored" => {
                self.streams.more_stderr = true;
                self.streams.any_stderr = true;
            }
            "style" | "stderr" => bail!("`{value}` is not understood"),
            _ => {}
        }
        Ok(())
    }
}

/// Reads `NAME=KIND:ARGUMENTS`.
fn slot(text: &str) -> anyhow::Result<Slot> {
    let (name, request) = text.split_once('=').context("a slot is NAME=KIND")?;
    let (request, delegated) = match request.split_once('@') {
        None => (request, None),
        Some((request, from)) => {
            let (onward, from) = (from.starts_with('@'), from.trim_start_matches('@').to_owned());
            (request, Some(Delegated { from, onward }))
        }
    };
    let parts: Vec<&str> = request.split(':').collect();
    let number_at = |index: usize| -> anyhow::Result<u64> {
        parts
            .get(index)
            .and_then(|part| number(part))
            .with_context(|| format!("`{request}` lacks a number"))
    };
    let request = match parts.as_slice() {
        ["console"] => CapabilityRequest::Console { input: false },
        ["console", "input"] => CapabilityRequest::Console { input: true },
        ["args"] => CapabilityRequest::Args,
        ["random"] => CapabilityRequest::Random,
        ["attest"] => CapabilityRequest::Attest,
        ["state", _] => CapabilityRequest::State {
            max_bytes: number_at(1)?,
        },
        ["clock", "coarse"] => CapabilityRequest::Clock {
            grade: ClockGrade::Coarse,
        },
        ["clock", "fine"] => CapabilityRequest::Clock {
            grade: ClockGrade::Fine,
        },
        ["files", access @ ("ro" | "rw"), _, _] => CapabilityRequest::Files {
            access: if *access == "rw" {
                FilesAccess::ReadWrite
            } else {
                FilesAccess::Read
            },
            max_bytes: number_at(2)?,
            max_files: u32::try_from(number_at(3)?)?,
        },
        ["listen", _] => CapabilityRequest::VsockListen {
            port: u32::try_from(number_at(1)?)?,
        },
        ["connect", _] => CapabilityRequest::VsockConnect {
            port: u32::try_from(number_at(1)?)?,
        },
        ["ring", role @ ("send" | "receive"), _] => CapabilityRequest::Ring {
            role: match *role {
                "send" => Role::Send,
                _ => Role::Receive,
            },
            bytes: number_at(2)?,
        },
        ["functions", names] => CapabilityRequest::Functions {
            names: names.split('+').map(str::to_owned).collect(),
        },
        ["channel", role @ ("send" | "request"), _, _] => CapabilityRequest::Channel {
            role: match *role {
                "send" => ChannelRole::Send {
                    max_messages: number_at(3)?,
                },
                _ => ChannelRole::Request {
                    max_messages: number_at(3)?,
                },
            },
            max_bytes: number_at(2)?,
        },
        ["channel", "receive", _, function] => CapabilityRequest::Channel {
            role: ChannelRole::Receive {
                function: (*function).to_owned(),
            },
            max_bytes: number_at(2)?,
        },
        ["pio", range] => {
            let (first, last) = range.split_once('-').context("ports are FIRST-LAST")?;
            let port = |text: &str| {
                number(text)
                    .and_then(|port| u16::try_from(port).ok())
                    .context("no port")
            };
            CapabilityRequest::Pio {
                first: port(first)?,
                last: port(last)?,
            }
        }
        _ => bail!("`{request}` is no capability"),
    };
    Ok(Slot {
        name: name.to_owned(),
        request,
        delegated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_line_that_it_documents() {
        let header = Header::parse(
            "# Rule: none.\n# expect: exit 0\n# expect-npt: exit 1\n# expect-tcg: exit 2\n# slots: c=console:input p=pio:0x3f8-0x3ff f=files:rw:65536:8\n\
             # bind: f=dir:{}/d:rw\n# files: d/a=x\n# link: d/b=a\n# socket: s\n# limits: deadline_ms=200\n# style: reactor\n# call: f [1]\n\
             # run: --deadline-ms 5\n# stdout: a\\n\n# stderr: clean\n.include \"muscle.inc\"\n# style: none\n",
        )
        .expect("is understood");
        assert_eq!(header.expected(Flavour::Pvm), &[Expectation::Exit(vec![0])]);
        assert_eq!(
            header.expected(Flavour::NestedPaging),
            &[Expectation::Exit(vec![1])]
        );
        assert_eq!(
            header.expected(Flavour::EmulatedNestedPaging),
            &[Expectation::Exit(vec![2])]
        );
        assert_eq!(header.slots.len(), 3);
        assert_eq!(header.sockets, ["s"]);
        assert_eq!(header.streams.stdout, b"a\n");
        assert_eq!(header.call, Some(("f".into(), "[1]".into())));
        let manifest = header.manifest("a.b");
        assert_eq!(
            (manifest.limits.deadline_ms, manifest.style),
            (Some(200), Style::Reactor)
        );
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for bad in [
            "# Rule: x\n",
            "# expect: nothing\n",
            "# expect: exit 0\n# slots: a=b\n",
            "# expect: exit 0\n# limits: x=1\n",
        ] {
            assert!(Header::parse(bad).is_err(), "{bad}");
        }
    }
}
