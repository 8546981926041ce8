//! `Muscle.toml`: what an author writes, and the manifest that it becomes.

use muscle_abi::boot::Style;
use muscle_abi::ring::Role;
use referee_bundle::{
    Arch, CapabilityRequest, ChannelRole, ClockGrade, Delegated, FilesAccess, Limits, Manifest, Slot,
};
use serde::Deserialize;

use crate::error::Error;
use crate::units::bytes_from_text;

/// Reads the text of a `Muscle.toml`. The manifest's entry, segments and parts are empty until
/// [`crate::assemble`] fills them.
///
/// # Errors
/// [`Error::Settings`] with line and column, [`Error::Size`].
pub fn manifest_from_toml(text: &str) -> Result<Manifest, Error> {
    let settings: Settings = toml::from_str(text).map_err(|source| Error::Settings { source })?;
    settings.into_manifest()
}

/// A manifest without slots, for a command of this name, with 16 MiB of memory and 256 KiB of stack.
pub fn empty_manifest(name: &str) -> Manifest {
    Manifest {
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        security_epoch: 0,
        abi: muscle_abi::ABI_VERSION,
        arch: Arch::X86_64,
        style: Style::Command,
        entry: 0,
        segments: Vec::new(),
        parts: Vec::new(),
        slots: Vec::new(),
        limits: Limits {
            memory_bytes: MEMORY_BYTES,
            stack_bytes: STACK_BYTES,
            cpu_ms: None,
            deadline_ms: None,
        },
        exports: Vec::new(),
        description: String::new(),
    }
}

const MEMORY_BYTES: u64 = 16 << 20;
const STACK_BYTES: u64 = 256 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    muscle: MuscleSettings,
    #[serde(default)]
    limits: LimitSettings,
    #[serde(default, rename = "slot")]
    slots: Vec<SlotSetting>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MuscleSettings {
    name: String,
    version: String,
    #[serde(default)]
    security_epoch: u64,
    #[serde(default)]
    style: StyleSetting,
    #[serde(default)]
    description: String,
    #[serde(default)]
    exports: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum StyleSetting {
    #[default]
    Command,
    Reactor,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LimitSettings {
    memory: Option<Size>,
    stack: Option<Size>,
    cpu_ms: Option<u64>,
    deadline_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case")]
enum SlotSetting {
    Console {
        name: String,
        #[serde(default)]
        input: bool,
    },
    Args {
        name: String,
    },
    Env {
        name: String,
        variables: Vec<String>,
    },
    Clock {
        name: String,
        grade: GradeSetting,
        delegated: Option<DelegatedSetting>,
    },
    Random {
        name: String,
        delegated: Option<DelegatedSetting>,
    },
    Attest {
        name: String,
    },
    Functions {
        name: String,
        functions: Vec<String>,
    },
    State {
        name: String,
        max_bytes: Size,
    },
    Ring {
        name: String,
        role: SideSetting,
        size: Size,
    },
    Files {
        name: String,
        access: AccessSetting,
        max_bytes: Size,
        max_files: u32,
        delegated: Option<DelegatedSetting>,
    },
    VsockListen {
        name: String,
        port: u32,
    },
    VsockConnect {
        name: String,
        port: u32,
    },
    Pio {
        name: String,
        first: u16,
        last: u16,
    },
    Channel {
        name: String,
        role: RoleSetting,
        max_bytes: Size,
        max_messages: Option<u64>,
        function: Option<String>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelegatedSetting {
    from: String,
    #[serde(default)]
    onward: bool,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum RoleSetting {
    Send,
    Request,
    Receive,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum GradeSetting {
    Coarse,
    Fine,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SideSetting {
    Send,
    Receive,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AccessSetting {
    Read,
    ReadWrite,
}

impl Settings {
    fn into_manifest(self) -> Result<Manifest, Error> {
        let muscle = self.muscle;
        let mut slots: Vec<Slot> = self
            .slots
            .into_iter()
            .map(SlotSetting::into_slot)
            .collect::<Result<_, _>>()?;
        slots.sort_by(|left, right| left.name.cmp(&right.name));
        let mut exports = muscle.exports;
        exports.sort();
        Ok(Manifest {
            version: muscle.version,
            security_epoch: muscle.security_epoch,
            style: match muscle.style {
                StyleSetting::Command => Style::Command,
                StyleSetting::Reactor => Style::Reactor,
            },
            slots,
            limits: Limits {
                memory_bytes: bytes_or(self.limits.memory, MEMORY_BYTES)?,
                stack_bytes: bytes_or(self.limits.stack, STACK_BYTES)?,
                cpu_ms: self.limits.cpu_ms,
                deadline_ms: self.limits.deadline_ms,
            },
            exports,
            description: muscle.description,
            ..empty_manifest(&muscle.name)
        })
    }
}

impl SlotSetting {
    fn into_slot(self) -> Result<Slot, Error> {
        let mut lent = None;
        let (name, request) = match self {
            SlotSetting::Console { name, input } => (name, CapabilityRequest::Console { input }),
            SlotSetting::Args { name } => (name, CapabilityRequest::Args),
            SlotSetting::Env { name, mut variables } => {
                variables.sort();
                (name, CapabilityRequest::Env { names: variables })
            }
            SlotSetting::Clock {
                name,
                grade,
                delegated,
            } => {
                lent = delegated;
                let grade = match grade {
                    GradeSetting::Coarse => ClockGrade::Coarse,
                    GradeSetting::Fine => ClockGrade::Fine,
                };
                (name, CapabilityRequest::Clock { grade })
            }
            SlotSetting::Random { name, delegated } => {
                lent = delegated;
                (name, CapabilityRequest::Random)
            }
            SlotSetting::Attest { name } => (name, CapabilityRequest::Attest),
            SlotSetting::Functions { name, mut functions } => {
                functions.sort();
                (name, CapabilityRequest::Functions { names: functions })
            }
            SlotSetting::Ring { name, role, size } => {
                let role = match role {
                    SideSetting::Send => Role::Send,
                    SideSetting::Receive => Role::Receive,
                };
                let bytes = size.bytes()?;
                (name, CapabilityRequest::Ring { role, bytes })
            }
            SlotSetting::State { name, max_bytes } => {
                let max_bytes = max_bytes.bytes()?;
                (name, CapabilityRequest::State { max_bytes })
            }
            SlotSetting::Files {
                name,
                access,
                max_bytes,
                max_files,
                delegated,
            } => {
                lent = delegated;
                let access = match access {
                    AccessSetting::Read => FilesAccess::Read,
                    AccessSetting::ReadWrite => FilesAccess::ReadWrite,
                };
                let request = CapabilityRequest::Files {
                    access,
                    max_bytes: max_bytes.bytes()?,
                    max_files,
                };
                (name, request)
            }
            SlotSetting::VsockListen { name, port } => (name, CapabilityRequest::VsockListen { port }),
            SlotSetting::VsockConnect { name, port } => (name, CapabilityRequest::VsockConnect { port }),
            SlotSetting::Pio { name, first, last } => (name, CapabilityRequest::Pio { first, last }),
            SlotSetting::Channel {
                name,
                role,
                max_bytes,
                max_messages,
                function,
            } => {
                let role = match (role, max_messages, function) {
                    (RoleSetting::Send, Some(max_messages), None) => ChannelRole::Send { max_messages },
                    (RoleSetting::Request, Some(max_messages), None) => ChannelRole::Request { max_messages },
                    (RoleSetting::Receive, None, Some(function)) => ChannelRole::Receive { function },
                    _ => return Err(Error::Channel { slot: name }),
                };
                let max_bytes = max_bytes.bytes()?;
                (name, CapabilityRequest::Channel { role, max_bytes })
            }
        };
        Ok(Slot {
            name,
            request,
            delegated: lent.map(|DelegatedSetting { from, onward }| Delegated { from, onward }),
        })
    }
}

impl Size {
    fn bytes(self) -> Result<u64, Error> {
        match self {
            Size::Bytes(bytes) => Ok(bytes),
            Size::Text(text) => bytes_from_text(&text),
        }
    }
}

fn bytes_or(size: Option<Size>, default: u64) -> Result<u64, Error> {
    size.map_or(Ok(default), Size::bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
        [muscle]
        name = "com.example.all"
        version = "1.2.3"
        security_epoch = 4
        style = "reactor"
        description = "Everything there is"
        exports = ["score", "abs"]

        [limits]
        memory = "32 MiB"
        stack = 65536
        cpu_ms = 100
        deadline_ms = 5000

        [[slot]]
        name = "console"
        kind = "console"
        input = true

        [[slot]]
        name = "args"
        kind = "args"

        [[slot]]
        name = "asks"
        kind = "channel"
        role = "request"
        max_bytes = "4KiB"
        max_messages = 7

        [[slot]]
        name = "environment"
        kind = "env"
        variables = ["LANG", "HOME"]

        [[slot]]
        name = "input"
        kind = "files"
        access = "read"
        max_bytes = "1MiB"
        max_files = 3

        [[slot]]
        name = "link"
        kind = "vsock-connect"
        port = 1025

        [[slot]]
        name = "listen"
        kind = "vsock-listen"
        port = 1024

        [[slot]]
        name = "messages"
        kind = "channel"
        role = "receive"
        max_bytes = 1024
        function = "score"

        [[slot]]
        name = "noise"
        kind = "random"

        [[slot]]
        name = "ports"
        kind = "pio"
        first = 0x60
        last = 0x64

        [[slot]]
        name = "watch"
        kind = "clock"
        grade = "fine"
    "#;

    #[test]
    fn every_setting_reaches_the_manifest() {
        let manifest = manifest_from_toml(EXAMPLE).expect("good settings");
        assert_eq!(manifest.name, "com.example.all");
        assert_eq!((manifest.version.as_str(), manifest.security_epoch), ("1.2.3", 4));
        assert_eq!(manifest.style, Style::Reactor);
        assert_eq!(manifest.exports, ["abs", "score"]);
        assert_eq!(
            manifest.limits,
            Limits {
                memory_bytes: 32 << 20,
                stack_bytes: 65536,
                cpu_ms: Some(100),
                deadline_ms: Some(5000)
            }
        );
        let requests: Vec<_> = manifest.slots.iter().map(|slot| slot.request.clone()).collect();
        assert_eq!(
            requests,
            [
                CapabilityRequest::Args,
                CapabilityRequest::Channel {
                    role: ChannelRole::Request { max_messages: 7 },
                    max_bytes: 4096
                },
                CapabilityRequest::Console { input: true },
                CapabilityRequest::Env {
                    names: vec!["HOME".to_owned(), "LANG".to_owned()]
                },
                CapabilityRequest::Files {
                    access: FilesAccess::Read,
                    max_bytes: 1 << 20,
                    max_files: 3
                },
                CapabilityRequest::VsockConnect { port: 1025 },
                CapabilityRequest::VsockListen { port: 1024 },
                CapabilityRequest::Channel {
                    role: ChannelRole::Receive {
                        function: "score".to_owned()
                    },
                    max_bytes: 1024
                },
                CapabilityRequest::Random,
                CapabilityRequest::Pio {
                    first: 0x60,
                    last: 0x64
                },
                CapabilityRequest::Clock {
                    grade: ClockGrade::Fine
                },
            ]
        );
    }

    #[test]
    fn a_channel_has_what_its_role_takes_and_nothing_else() {
        let read = |more: &str| {
            manifest_from_toml(&format!(
                "[muscle]\nname = 'a'\nversion = '1'\n[[slot]]\nname = 'c'\nkind = 'channel'\nmax_bytes = 1\n{more}"
            ))
        };
        assert!(read("role = 'send'\nmax_messages = 1").is_ok());
        for more in [
            "role = 'send'",
            "role = 'send'\nmax_messages = 1\nfunction = 'f'",
            "role = 'request'\nfunction = 'f'",
            "role = 'receive'",
            "role = 'receive'\nmax_messages = 1\nfunction = 'f'",
        ] {
            assert!(
                matches!(read(more), Err(Error::Channel { slot }) if slot == "c"),
                "{more}"
            );
        }
        assert!(matches!(
            read("role = 'shout'\nmax_messages = 1"),
            Err(Error::Settings { .. })
        ));
    }

    #[test]
    fn a_slot_is_delegated_over_another() {
        let read = |slot: &str| {
            manifest_from_toml(&format!(
                "[muscle]\nname = 'a'\nversion = '1'\n[[slot]]\nname = 'c'\n{slot}\n"
            ))
        };
        for (kind, more, onward) in [
            ("kind = 'random'", "", false),
            ("kind = 'clock'\ngrade = 'fine'", ", onward = true", true),
            (
                "kind = 'files'\naccess = 'read'\nmax_bytes = 0\nmax_files = 0",
                ", onward = false",
                false,
            ),
        ] {
            let manifest = read(&format!("{kind}\ndelegated = {{ from = 'in'{more} }}")).expect(kind);
            let from = "in".to_owned();
            assert_eq!(
                manifest.slots[0].delegated,
                Some(Delegated { from, onward }),
                "{kind}"
            );
        }
        // Other kinds have no such setting.
        for kind in ["kind = 'args'", "kind = 'vsock-connect'\nport = 2000"] {
            let refused = read(&format!("{kind}\ndelegated = {{ from = 'in' }}"));
            assert!(matches!(refused, Err(Error::Settings { .. })), "{kind}");
        }
    }

    #[test]
    fn unknown_settings_are_refused() {
        let muscle = "[muscle]\nname = 'a'\nversion = '1'\n";
        assert!(manifest_from_toml(muscle).is_ok());
        for more in [
            "nmae = 'b'",
            "[limits]\nmemroy = 1",
            "[[slot]]\nname = 'x'\nkind = 'args'\nport = 1",
            "[[slot]]\nname = 'x'\nkind = 'console'\ninputs = true",
            "[[slot]]\nname = 'x'\nkind = 'everything'",
            "[[slot]]\nkind = 'args'",
            "[other]",
        ] {
            let text = format!("{muscle}{more}\n");
            assert!(
                matches!(manifest_from_toml(&text), Err(Error::Settings { .. })),
                "{text}"
            );
        }
    }
}
