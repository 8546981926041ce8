//! The operations that a muscle may name.

use muscle_abi::capability::{CapabilityKind, call};

macro_rules! operations {
    ($($variant:ident = $name:ident of $kind:ident,)*) => {
        /// An operation of a capability.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Op {
            $(#[doc = concat!("[`call::", stringify!($name), "`].")] $variant,)*
        }

        impl Op {
            /// Every operation.
            pub const ALL: &[Op] = &[$(Op::$variant),*];

            /// The operation of this name.
            pub fn from_name(name: &str) -> Option<Op> {
                match name {
                    $(call::$name => Some(Op::$variant),)*
                    _ => None,
                }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Op::$variant => call::$name,)*
                }
            }

            /// The kind of grant that it needs.
            pub const fn kind(self) -> CapabilityKind {
                match self {
                    $(Op::$variant => CapabilityKind::$kind,)*
                }
            }
        }
    };
}

operations! {
    ConsoleOut = CONSOLE_OUT of Console,
    ConsoleErr = CONSOLE_ERR of Console,
    ConsoleIn = CONSOLE_IN of Console,
    ConsoleLog = CONSOLE_LOG of Console,
    ClockNow = CLOCK_NOW of Clock,
    RandomFill = RANDOM_FILL of Random,
    AttestEvidence = ATTEST_EVIDENCE of Attest,
    StateLoad = STATE_LOAD of State,
    StateSave = STATE_SAVE of State,
    FunctionsCall = FUNCTIONS_CALL of Functions,
    ChannelSend = CHANNEL_SEND of Channel,
    ChannelRequest = CHANNEL_REQUEST of Channel,
    ChannelDelegate = CHANNEL_DELEGATE of Channel,
    ChannelUndelegate = CHANNEL_UNDELEGATE of Channel,
    FilesOpen = FILES_OPEN of Files,
    FilesRead = FILES_READ of Files,
    FilesWrite = FILES_WRITE of Files,
    FilesTruncate = FILES_TRUNCATE of Files,
    FilesClose = FILES_CLOSE of Files,
    FilesStat = FILES_STAT of Files,
    FilesList = FILES_LIST of Files,
    FilesRemove = FILES_REMOVE of Files,
    FilesRename = FILES_RENAME of Files,
    FilesMkdir = FILES_MKDIR of Files,
}
