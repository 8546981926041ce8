//! Which namespaces a child gets.

use std::fmt;

/// A set of Linux namespaces (`namespaces(7)`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u8);

impl Namespaces {
    /// No namespace: a plain fork.
    pub const NONE: Self = Self(0);
    /// Host and domain name.
    pub const UTS: Self = Self(1);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(2);
    /// Network devices, addresses, routes and abstract Unix sockets.
    pub const NET: Self = Self(4);
    /// Process numbers.
    pub const PID: Self = Self(8);
    /// Mounts.
    pub const MOUNT: Self = Self(16);
    /// User and group numbers, and capabilities over the other namespaces.
    pub const USER: Self = Self(32);
    /// Every namespace above.
    pub const ALL: Self = Self(63);

    /// Every single namespace with its name and clone flag.
    const EACH: [(Self, &'static str, libc::c_int); 6] = [
        (Self::USER, "user", libc::CLONE_NEWUSER),
        (Self::MOUNT, "mount", libc::CLONE_NEWNS),
        (Self::PID, "pid", libc::CLONE_NEWPID),
        (Self::NET, "net", libc::CLONE_NEWNET),
        (Self::IPC, "ipc", libc::CLONE_NEWIPC),
        (Self::UTS, "uts", libc::CLONE_NEWUTS),
    ];

    /// Returns the namespaces that are in `self`, in `other`, or in both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the namespaces of `self` that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Says whether all of `other` is in `self`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the names of the namespaces in the set: "user", "mount", "pid", "net", "ipc", "uts".
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::EACH
            .into_iter()
            .filter(move |(one, ..)| self.contains(*one))
            .map(|(_, name, _)| name)
    }

    pub(crate) fn clone_flags(self) -> libc::c_int {
        Self::EACH
            .iter()
            .filter(|(one, ..)| self.contains(*one))
            .fold(0, |flags, (_, _, flag)| flags | flag)
    }

    /// Returns every proper subset, larger ones first, and among equals the one that keeps the more
    /// protective namespaces (the higher bits).
    pub(crate) fn lesser(self) -> Vec<Self> {
        let mut subsets: Vec<Self> = (0..self.0).filter(|bits| bits & !self.0 == 0).map(Self).collect();
        subsets.sort_by_key(|set| std::cmp::Reverse((set.0.count_ones(), set.0)));
        subsets
    }
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
