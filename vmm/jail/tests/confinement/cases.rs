//! The cases. Each panics, and so fails, when a property does not hold.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use referee_jail::{
    Confinement, DirectoryGrant, Filter, JailConfig, JailError, Jailed, Layer, LayerState, LimitConfig,
    OnViolation, Origin, Removal, Require, SocketMount, confine,
};

use referee_hv::process::{Child, ChildExit, ForkError, Forked, Namespaces, exit_now, fork_into};

type Case = (&'static str, fn());

pub(crate) const ALL: &[Case] = &[
    (
        "every_layer_holds_where_all_namespaces_are_allowed",
        every_layer_holds,
    ),
    ("namespaces_differ_from_those_of_the_parent", namespaces_differ),
    (
        "kernel_reports_no_capability_and_no_new_privileges",
        status_shows_confinement,
    ),
    ("old_root_is_not_visible_and_new_root_is_read_only", root_is_empty),
    ("granted_socket_is_reachable_by_name", socket_is_reachable),
    ("refuses_a_socket_mount_that_is_no_socket", socket_mount_checked),
    ("refuses_a_socket_name_that_is_a_path", socket_name_checked),
    ("nothing_is_above_a_granted_directory", directories_cut_off),
    (
        "directory_that_is_not_the_granted_one_is_refused",
        moved_directory_refused,
    ),
    ("descriptors_not_kept_are_closed", descriptors_closed),
    ("limits_are_in_force", limits_in_force),
    ("no_network_interface_is_up", network_is_down),
    (
        "missing_namespaces_are_reported_and_can_be_required",
        missing_namespaces,
    ),
    ("seccomp_mode_is_filter", seccomp_is_on),
    ("forbidden_call_kills_the_process", forbidden_call_kills),
    (
        "forbidden_call_in_the_io_thread_kills_the_process",
        forbidden_call_in_io_thread_kills,
    ),
    ("executable_memory_is_refused", executable_memory_kills),
    ("files_calls_are_allowed_only_with_a_files_grant", files_filter),
    ("filter_without_an_entry_kills_at_that_call", removal_kills),
    ("log_filter_does_not_kill", log_filter),
    ("confinement_with_two_threads_is_refused", two_threads_refused),
    ("fork_with_two_threads_is_refused", fork_refuses_threads),
    ("child_dies_with_its_parent", dies_with_parent),
    ("exit_status_and_signal_come_back", exit_status),
    ("stop_signal_reaches_the_child", stop_signal_forwarded),
    (
        "child_that_ignores_the_stop_signal_is_killed",
        stop_signal_escalates,
    ),
    ("dropped_child_is_killed_and_reaped", drop_reaps),
    ("pthread_number_is_right_after_the_fork", thread_number),
];

/// Forks, confines the child with these descriptors kept beside standard error, and runs `act` in it.
fn in_jail(
    namespaces: Namespaces,
    require: Require,
    sockets: &[SocketMount],
    keep: &[RawFd],
    act: impl FnOnce(&Child, Jailed),
) -> ChildExit {
    let origin = Origin::capture().expect("there is a /proc");
    match fork_into(namespaces).expect("a fork") {
        Forked::Parent(child) => child.wait(Duration::from_secs(5)).expect("wait"),
        Forked::Child(child) => {
            let stderr = std::io::stderr();
            let mut keep = keep.to_vec();
            keep.push(stderr.as_raw_fd());
            let limits = LimitConfig {
                more_descriptors: 8,
                threads: 4,
                file_bytes: None,
            };
            let config = JailConfig {
                origin,
                keep: &keep,
                sockets,
                directories: &[],
                limits,
                require,
            };
            act(&child, confine(&config).expect("confinement"));
            exit_now(0)
        }
    }
}

fn in_full_jail(keep: &[RawFd], act: impl FnOnce(&Child, Jailed)) {
    let exit = in_jail(Namespaces::ALL, Require::All, &[], keep, act);
    assert_eq!(exit, ChildExit::Code(0));
}

/// Opens /proc as a directory, to look through it at this process from inside an empty root.
fn proc_directory() -> OwnedFd {
    rustix::fs::open("/proc", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).expect("/proc opens")
}

fn every_layer_holds() {
    in_full_jail(&[], |_, jailed| {
        let confinement: &Confinement = jailed.confinement();
        assert_eq!(confinement.layers.len(), 16, "{confinement}");
        assert!(confinement.is_complete(), "{confinement}");
        let json = serde_json::to_value(confinement).expect("the report is plain data");
        assert_eq!(json["layers"][0][0], "user-namespace");
        assert_eq!(json["layers"][0][1]["state"], "held");
    });
}

fn namespaces_differ() {
    let names = ["user", "mnt", "pid", "net", "ipc", "uts"];
    let inode = |proc: &OwnedFd, pid: &str, name: &str| {
        rustix::fs::statat(proc, format!("{pid}/ns/{name}"), rustix::fs::AtFlags::empty()).map(|s| s.st_ino)
    };
    let proc = proc_directory();
    let before = names.map(|name| inode(&proc, "self", name).expect("own namespaces"));
    match fork_into(Namespaces::ALL).expect("a fork") {
        Forked::Child(_) => std::thread::sleep(Duration::from_secs(60)),
        Forked::Parent(child) => {
            assert_eq!(child.namespaces(), Namespaces::ALL);
            let pid = child.pid().to_string();
            for (name, before) in names.iter().zip(before) {
                // Another user's namespaces cannot be looked at; the child's are its own user's.
                let after = inode(&proc, &pid, name).expect("the child's namespaces");
                assert_ne!(before, after, "namespace {name}");
            }
        }
    }
}

/// Returns the value of a field of /proc/self/status, which `proc` shows.
fn status_field(proc: &OwnedFd, pid: i32, field: &str) -> String {
    let flags = rustix::fs::OFlags::RDONLY;
    let file = rustix::fs::openat(proc, format!("{pid}/status"), flags, rustix::fs::Mode::empty());
    let mut text = String::new();
    File::from(file.expect("status opens"))
        .read_to_string(&mut text)
        .expect("status is text");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("status has {field}"))
        .trim()
        .to_owned()
}

/// Runs `act` in a full jail; meanwhile the parent looks at the child, once `act` has said that it is ready.
fn looked_at(act: impl FnOnce(Jailed) + 'static, look: impl FnOnce(&OwnedFd, i32)) {
    let proc = proc_directory();
    let (ready_read, ready_write) = std::io::pipe().expect("a pipe");
    let origin = Origin::capture().expect("there is a /proc");
    match fork_into(Namespaces::ALL).expect("a fork") {
        Forked::Parent(child) => {
            drop(ready_write);
            let mut byte = [0];
            (&ready_read).read_exact(&mut byte).expect("the child gets ready");
            look(&proc, child.pid());
        }
        Forked::Child(_) => {
            let stderr = std::io::stderr();
            let keep = [ready_write.as_raw_fd(), stderr.as_raw_fd()];
            let limits = LimitConfig {
                more_descriptors: 8,
                threads: 4,
                file_bytes: None,
            };
            let config = JailConfig {
                origin,
                keep: &keep,
                sockets: &[],
                directories: &[],
                limits,
                require: Require::All,
            };
            act(confine(&config).expect("confinement"));
            (&ready_write).write_all(b"!").expect("the parent listens");
            // Waits to be killed by a call that both filters allow.
            let never = std::sync::Mutex::new(());
            let locked = never.lock().expect("the lock is new");
            drop(std::sync::Condvar::new().wait(locked));
            exit_now(1);
        }
    }
}

fn status_shows_confinement() {
    looked_at(drop, |proc, pid| {
        for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status_field(proc, pid, field), "0000000000000000", "{field}");
        }
        assert_eq!(status_field(proc, pid, "NoNewPrivs"), "1");
    });
}

fn seccomp_is_on() {
    for filter in [
        Filter::Vcpu { files: false },
        Filter::Vcpu { files: true },
        Filter::Io,
    ] {
        looked_at(
            move |jailed| {
                assert!(
                    filter
                        .program()
                        .install(&jailed)
                        .expect("a filter")
                        .instructions()
                        > 20
                )
            },
            |proc, pid| assert_eq!(status_field(proc, pid, "Seccomp"), "2"),
        );
    }
}

fn root_is_empty() {
    in_full_jail(&[], |_, _| {
        let names: Vec<_> = std::fs::read_dir("/").expect("a root").collect();
        assert!(names.is_empty(), "{names:?}");
        assert_eq!(std::env::current_dir().expect("a directory"), PathBuf::from("/"));
        let error = File::create("/file").expect_err("the root is read-only");
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        let above: Vec<_> = std::fs::read_dir("/..").expect("a root").collect();
        assert!(above.is_empty(), "{above:?}");
        assert_eq!(rustix::system::uname().nodename(), c"cell");
    });
}

/// A directory for sockets that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("referee-jail-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a scratch directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn socket_is_reachable() {
    let scratch = Scratch::new();
    let source = scratch.0.join("outside.sock");
    let listener = UnixListener::bind(&source).expect("a socket");
    let sockets = [SocketMount {
        source,
        name: "service".to_owned(),
    }];
    let exit = in_jail(Namespaces::ALL, Require::All, &sockets, &[], |_, jailed| {
        assert_eq!(jailed.confinement().sockets, ["service"]);
        Filter::Io.program().install(&jailed).expect("a filter");
        let mut stream = UnixStream::connect("/service").expect("the socket is there");
        stream.set_nonblocking(true).expect("FIONBIO");
        stream.write_all(b"hello").expect("bytes go out");
    });
    assert_eq!(exit, ChildExit::Code(0));
    let mut text = String::new();
    listener
        .accept()
        .expect("the child connected")
        .0
        .read_to_string(&mut text)
        .expect("text");
    assert_eq!(text, "hello");
}

fn directories_cut_off() {
    let scratch = Scratch::new();
    for name in ["in", "out"] {
        std::fs::create_dir(scratch.0.join(name)).expect("a directory");
        std::fs::write(scratch.0.join(name).join("file"), name).expect("a file");
    }
    let input = File::open(scratch.0.join("in")).expect("a directory");
    let path_only = rustix::fs::open(
        scratch.0.join("out"),
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
    );
    let output = path_only.expect("a directory");
    let origin = Origin::capture().expect("there is a /proc");
    match fork_into(Namespaces::ALL).expect("a fork") {
        Forked::Parent(child) => {
            assert_eq!(
                child.wait(Duration::from_secs(5)).expect("wait"),
                ChildExit::Code(0)
            );
        }
        Forked::Child(_) => {
            use rustix::fs::{Mode, OFlags, openat};
            let config = JailConfig {
                origin,
                keep: &[2, input.as_raw_fd(), output.as_raw_fd()],
                sockets: &[],
                directories: &[
                    DirectoryGrant {
                        descriptor: input.as_fd(),
                        read_only: true,
                    },
                    DirectoryGrant {
                        descriptor: output.as_fd(),
                        read_only: false,
                    },
                ],
                limits: LimitConfig {
                    more_descriptors: 8,
                    threads: 4,
                    file_bytes: None,
                },
                require: Require::All,
            };
            let jailed = confine(&config).expect("confinement");
            assert_eq!(
                jailed.confinement().state(Layer::GrantedDirectories),
                LayerState::Held
            );
            let read = |directory: BorrowedFd<'_>, name: &str| {
                let mut text = String::new();
                let file = openat(directory, name, OFlags::RDONLY, Mode::empty())?;
                File::from(file).read_to_string(&mut text).map(|_| text)
            };
            assert_eq!(read(input.as_fd(), "file").expect("the input is readable"), "in");
            assert_eq!(
                read(output.as_fd(), "file").expect("the output is readable"),
                "out"
            );
            // Up from a granted directory there is the empty root, and nothing of the host.
            for directory in [input.as_fd(), output.as_fd()] {
                let above = openat(
                    directory,
                    "../../../..",
                    OFlags::RDONLY | OFlags::DIRECTORY,
                    Mode::empty(),
                );
                let names: Vec<String> = rustix::fs::Dir::read_from(above.expect("there is a root"))
                    .expect("it is a directory")
                    .map(|entry| {
                        entry
                            .expect("an entry")
                            .file_name()
                            .to_string_lossy()
                            .into_owned()
                    })
                    .filter(|name| name != "." && name != "..")
                    .collect();
                assert!(names.iter().all(|name| name.starts_with("files:")), "{names:?}");
            }
            let create = OFlags::WRONLY | OFlags::CREATE;
            let refused = openat(&input, "new", create, Mode::RUSR);
            assert_eq!(refused.expect_err("a grant to read").raw_os_error(), libc::EROFS);
            openat(&output, "new", create, Mode::RUSR).expect("a grant to write");
            exit_now(0);
        }
    }
    assert!(scratch.0.join("out/new").exists());
}

fn moved_directory_refused() {
    let scratch = Scratch::new();
    let place = scratch.0.join("place");
    std::fs::create_dir(&place).expect("a directory");
    let granted = File::open(&place).expect("a directory");
    let origin = Origin::capture().expect("there is a /proc");
    match fork_into(Namespaces::ALL).expect("a fork") {
        Forked::Parent(child) => {
            assert_eq!(
                child.wait(Duration::from_secs(5)).expect("wait"),
                ChildExit::Code(0)
            );
        }
        Forked::Child(_) => {
            // Gone, and another one made in its place: the one that was granted cannot be found any more.
            std::fs::remove_dir(&place).expect("it is empty");
            std::fs::create_dir(&place).expect("a directory");
            let directories = [DirectoryGrant {
                descriptor: granted.as_fd(),
                read_only: true,
            }];
            let config = JailConfig {
                origin,
                keep: &[2, granted.as_raw_fd()],
                sockets: &[],
                directories: &directories,
                limits: LimitConfig {
                    more_descriptors: 8,
                    threads: 4,
                    file_bytes: None,
                },
                require: Require::All,
            };
            let error = confine(&config).expect_err("a refusal");
            assert!(
                matches!(
                    error,
                    JailError::NotHeld {
                        layer: Layer::GrantedDirectories,
                        ..
                    }
                ),
                "{error}"
            );
            exit_now(0);
        }
    }
}

/// Confines a child with these sockets and returns 0 if `expected` accepts the error.
fn refused(sockets: &[SocketMount], expected: fn(&JailError) -> bool) {
    let origin = Origin::capture().expect("there is a /proc");
    match fork_into(Namespaces::ALL).expect("a fork") {
        Forked::Parent(child) => {
            assert_eq!(
                child.wait(Duration::from_secs(5)).expect("wait"),
                ChildExit::Code(0)
            );
        }
        Forked::Child(_) => {
            let stderr = std::io::stderr();
            let limits = LimitConfig {
                more_descriptors: 8,
                threads: 4,
                file_bytes: None,
            };
            let keep = [stderr.as_raw_fd()];
            let config = JailConfig {
                origin,
                keep: &keep,
                sockets,
                directories: &[],
                limits,
                require: Require::All,
            };
            let error = confine(&config).expect_err("a refusal");
            assert!(expected(&error), "{error}");
            exit_now(0);
        }
    }
}

fn socket_mount_checked() {
    let scratch = Scratch::new();
    let file = scratch.0.join("file");
    File::create(&file).expect("a file");
    for source in [file, scratch.0.clone()] {
        refused(
            &[SocketMount {
                source,
                name: "x".to_owned(),
            }],
            |error| matches!(error, JailError::NotASocket { .. }),
        );
    }
    let source = scratch.0.join("missing");
    refused(
        &[SocketMount {
            source,
            name: "x".to_owned(),
        }],
        |error| matches!(error, JailError::Socket { errno, .. } if errno.raw_os_error() == libc::ENOENT),
    );
}

fn socket_name_checked() {
    for name in ["", ".", "..", "a/b", "/a", "a\0b", "x".repeat(65).as_str()] {
        let sockets = [SocketMount {
            source: PathBuf::from("/dev/null"),
            name: name.to_owned(),
        }];
        refused(&sockets, |error| {
            matches!(error, JailError::SocketName { index: 0 })
        });
    }
}

fn descriptors_closed() {
    let open: Vec<File> = (0..50)
        .map(|_| File::open("/dev/null").expect("a file"))
        .collect();
    let kept = &open[25];
    in_full_jail(&[kept.as_raw_fd()], |_, jailed| {
        let closed = &jailed.confinement().closed_descriptors;
        // Standard input and output are still there, but lead nowhere.
        assert!(closed.starts_with(&[0, 1]), "{closed:?}");
        let null = rustix::fs::fstat(std::io::stdin()).expect("standard input is open");
        assert_eq!(null.st_rdev, rustix::fs::makedev(1, 3));
        assert_eq!(
            rustix::fs::fstat(std::io::stdout())
                .expect("standard output is open")
                .st_rdev,
            null.st_rdev
        );
        for file in &open {
            let is_open = rustix::io::fcntl_getfd(file).is_ok();
            assert_eq!(
                is_open,
                file.as_raw_fd() == kept.as_raw_fd(),
                "descriptor {}",
                file.as_raw_fd()
            );
            assert_eq!(closed.contains(&file.as_raw_fd()), !is_open);
        }
    });
}

fn limits_in_force() {
    let is_root = rustix::process::geteuid().is_root();
    in_full_jail(&[], |_, jailed| {
        use rustix::process::{Resource, getrlimit};
        // Standard error is 2, so numbers 3 to 10 are free.
        assert_eq!(getrlimit(Resource::Nofile).maximum, Some(11));
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(getrlimit(Resource::Memlock).maximum, Some(0));
        let mut files = Vec::new();
        let error = loop {
            match File::open("/") {
                Ok(file) => files.push(file),
                Err(error) => break error,
            }
        };
        assert_eq!((files.len(), error.raw_os_error()), (8, Some(libc::EMFILE)));
        assert!(
            jailed
                .confinement()
                .limits
                .iter()
                .any(|limit| limit.resource == "threads" && limit.value == 4)
        );
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let stopped = std::sync::Arc::new(std::sync::Mutex::new(stopped));
        let threads: Vec<_> = (0..8)
            .map_while(|_| {
                let stopped = std::sync::Arc::clone(&stopped);
                std::thread::Builder::new()
                    .spawn(move || drop(stopped.lock().map(|s| s.recv())))
                    .ok()
            })
            .collect();
        // The kernel does not limit the host's root.
        let expected = if is_root { 8 } else { 3 };
        assert_eq!(threads.len(), expected);
        drop(stop);
    });
}

fn network_is_down() {
    in_full_jail(&[], |_, _| {
        let error = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| std::net::TcpStream::connect(listener.local_addr()?))
            .expect_err("not even loopback is up");
        assert!(
            matches!(
                error.raw_os_error(),
                Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL)
            ),
            "{error}"
        );
    });
}

fn missing_namespaces() {
    let exit = in_jail(Namespaces::NONE, Require::Available, &[], &[], |child, jailed| {
        assert_eq!(child.namespaces, Namespaces::NONE);
        let confinement = jailed.confinement();
        let missing = LayerState::Refused(libc::ENOSYS);
        for layer in [
            Layer::UserNamespace,
            Layer::EmptyRoot,
            Layer::HostName,
            Layer::ThreadLimit,
        ] {
            assert_eq!(confinement.state(layer), missing, "{layer}");
        }
        for layer in [Layer::NoCapabilities, Layer::NoNewPrivileges, Layer::Descriptors] {
            assert_eq!(confinement.state(layer), LayerState::Held, "{layer}");
        }
        assert!(!confinement.is_complete());
        assert!(std::fs::exists("/proc/self").expect("the old root is still there"));
    });
    assert_eq!(exit, ChildExit::Code(0));

    let origin = Origin::capture().expect("there is a /proc");
    match fork_into(Namespaces::ALL.without(Namespaces::NET)).expect("a fork") {
        Forked::Parent(child) => {
            assert_eq!(
                child.wait(Duration::from_secs(5)).expect("wait"),
                ChildExit::Code(0)
            );
        }
        Forked::Child(_) => {
            let limits = LimitConfig {
                more_descriptors: 8,
                threads: 4,
                file_bytes: None,
            };
            let config = JailConfig {
                origin,
                keep: &[],
                sockets: &[],
                directories: &[],
                limits,
                require: Require::All,
            };
            let error = confine(&config).expect_err("the network namespace is missing");
            assert!(
                matches!(
                    error,
                    JailError::NotHeld {
                        layer: Layer::NetworkNamespace,
                        ..
                    }
                ),
                "{error}"
            );
            exit_now(0);
        }
    }
}

/// Confines a child, puts it under a filter, lets it act, and returns how it ended; 0 if `act` came back.
fn under_filter(filter: Filter, removals: &[&str], violation: OnViolation, act: impl FnOnce()) -> ChildExit {
    let removals: Vec<Removal> = removals
        .iter()
        .map(|text| text.parse().expect("a removal"))
        .collect();
    let program = filter.program_with(&removals, violation).expect("a program");
    in_jail(Namespaces::ALL, Require::All, &[], &[], |_, jailed| {
        program.install(&jailed).expect("a filter");
        act();
    })
}

/// Makes a call that no filter allows.
fn change_directory() {
    let _ = rustix::process::chdir("/");
}

const KILLED: ChildExit = ChildExit::Signal(libc::SIGSYS);
const VCPU: Filter = Filter::Vcpu { files: false };
const VCPU_FILES: Filter = Filter::Vcpu { files: true };

fn forbidden_call_kills() {
    for filter in [VCPU, VCPU_FILES, Filter::Io] {
        assert_eq!(
            under_filter(filter, &[], OnViolation::Kill, || ()),
            ChildExit::Code(0)
        );
        assert_eq!(
            under_filter(filter, &[], OnViolation::Kill, change_directory),
            KILLED
        );
    }
    // An ioctl that is not one of KVM's.
    let act = || {
        let _ = rustix::io::ioctl_fionread(std::io::stderr());
    };
    assert_eq!(under_filter(VCPU, &[], OnViolation::Kill, act), KILLED);
    // A socket that is not a Unix socket.
    let act = || drop(std::net::UdpSocket::bind("127.0.0.1:0"));
    assert_eq!(under_filter(Filter::Io, &[], OnViolation::Kill, act), KILLED);
    // A signal that is not the kick.
    let act = || {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    };
    assert_eq!(under_filter(Filter::Io, &[], OnViolation::Kill, act), KILLED);
}

fn forbidden_call_in_io_thread_kills() {
    let exit = in_jail(Namespaces::ALL, Require::All, &[], &[], |_, jailed| {
        let jailed = &jailed;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                Filter::Io.program().install(jailed).expect("a filter");
                let _ = rustix::process::chdir("/");
            });
        });
    });
    assert_eq!(exit, KILLED);
}

fn executable_memory_kills() {
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
    #[allow(unsafe_code, reason = "the test maps memory of its own")]
    fn map(protection: ProtFlags) -> *mut std::ffi::c_void {
        // SAFETY: an anonymous mapping at an address that the kernel chooses disturbs nothing.
        unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), 4096, protection, MapFlags::PRIVATE) }
            .expect("a mapping")
    }
    #[allow(unsafe_code, reason = "the test changes memory of its own")]
    fn make_executable(page: *mut std::ffi::c_void) {
        // SAFETY: the page was mapped by `map` and nothing refers to it.
        let _ = unsafe { rustix::mm::mprotect(page, 4096, MprotectFlags::READ | MprotectFlags::EXEC) };
    }
    let plain = || {
        let _ = map(ProtFlags::READ | ProtFlags::WRITE);
    };
    // The I/O thread maps nothing at all.
    for (filter, maps) in [(VCPU, ChildExit::Code(0)), (Filter::Io, KILLED)] {
        assert_eq!(under_filter(filter, &[], OnViolation::Kill, plain), maps);
        let act = || {
            let _ = map(ProtFlags::READ | ProtFlags::EXEC);
        };
        assert_eq!(under_filter(filter, &[], OnViolation::Kill, act), KILLED);
        let act = || make_executable(map(ProtFlags::READ | ProtFlags::WRITE));
        assert_eq!(under_filter(filter, &[], OnViolation::Kill, act), KILLED);
    }
}

fn files_filter() {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    let open = || {
        drop(rustix::fs::openat2(
            CWD,
            "none",
            OFlags::PATH,
            Mode::empty(),
            ResolveFlags::BENEATH,
        ))
    };
    assert_eq!(under_filter(VCPU, &[], OnViolation::Kill, open), KILLED);
    assert_eq!(
        under_filter(VCPU_FILES, &[], OnViolation::Kill, open),
        ChildExit::Code(0)
    );
    // Not even with a files grant by a call that cannot be told to stay beneath a directory.
    let open = || drop(rustix::fs::openat(CWD, "none", OFlags::PATH, Mode::empty()));
    assert_eq!(under_filter(VCPU_FILES, &[], OnViolation::Kill, open), KILLED);
}

fn removal_kills() {
    let act = || {
        let _ = rustix::rand::getrandom(&mut [0u8; 8][..], rustix::rand::GetRandomFlags::empty());
    };
    assert_eq!(
        under_filter(VCPU, &[], OnViolation::Kill, act),
        ChildExit::Code(0)
    );
    assert_eq!(
        under_filter(VCPU, &["vcpu:getrandom"], OnViolation::Kill, act),
        KILLED
    );
    assert_eq!(
        under_filter(VCPU, &["io:read", "vcpu:getrandom#0"], OnViolation::Kill, act),
        KILLED
    );
    // Not even the exit is allowed any more.
    assert_eq!(
        under_filter(VCPU, &["vcpu:exit_group"], OnViolation::Kill, || ()),
        KILLED
    );
}

fn log_filter() {
    assert_eq!(
        under_filter(VCPU, &[], OnViolation::Log, change_directory),
        ChildExit::Code(0)
    );
}

fn two_threads_refused() {
    let origin = Origin::capture().expect("there is a /proc");
    match fork_into(Namespaces::ALL).expect("a fork") {
        Forked::Parent(child) => {
            assert_eq!(
                child.wait(Duration::from_secs(5)).expect("wait"),
                ChildExit::Code(0)
            );
        }
        Forked::Child(_) => {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let _other = std::thread::spawn(move || stopped.recv());
            let limits = LimitConfig {
                more_descriptors: 8,
                threads: 4,
                file_bytes: None,
            };
            let config = JailConfig {
                origin,
                keep: &[],
                sockets: &[],
                directories: &[],
                limits,
                require: Require::Available,
            };
            let error = confine(&config).expect_err("a refusal");
            assert!(matches!(error, JailError::Threads { threads: 2 }), "{error}");
            drop(stop);
            exit_now(0);
        }
    }
}

fn fork_refuses_threads() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || stopped.recv());
    let error = fork_into(Namespaces::NONE).expect_err("a refusal");
    assert!(matches!(error, ForkError::Threads { count: 2 }), "{error}");
    drop(stop);
    assert!(other.join().is_ok());
}

fn dies_with_parent() {
    // Three generations: this process, a parent that is killed, and its child, which holds the pipe open.
    let (mut end_read, end_write) = std::io::pipe().expect("a pipe");
    match fork_into(Namespaces::NONE).expect("a fork") {
        Forked::Child(_) => match fork_into(Namespaces::ALL).expect("a fork") {
            Forked::Child(_) => loop {
                (&end_write).write_all(b"!").expect("somebody listens");
                std::thread::sleep(Duration::from_millis(20));
            },
            Forked::Parent(_grandchild) => loop {
                std::thread::sleep(Duration::from_secs(60));
            },
        },
        Forked::Parent(parent) => {
            drop(end_write);
            end_read.read_exact(&mut [0; 3]).expect("the grandchild lives");
            parent.send(libc::SIGKILL).expect("kill");
            assert_eq!(
                parent.wait(Duration::from_secs(5)).expect("wait"),
                ChildExit::Signal(libc::SIGKILL)
            );
            // The end of the pipe comes only when the grandchild is gone.
            end_read.read_to_end(&mut Vec::new()).expect("the end");
        }
    }
}

fn exit_status() {
    for code in [0u8, 1, 99, 255] {
        match fork_into(Namespaces::ALL).expect("a fork") {
            Forked::Child(_) => exit_now(code),
            Forked::Parent(child) => {
                let exit = child.wait(Duration::from_secs(5)).expect("wait");
                assert_eq!(exit, ChildExit::Code(code.into()));
            }
        }
    }
}

fn stop_signal_forwarded() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        match fork_into(Namespaces::ALL).expect("a fork") {
            Forked::Child(child) => {
                let stop = child.stop_signals().expect("a descriptor");
                let mut polled = [rustix::event::PollFd::new(&stop, rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut polled, None).expect("poll");
                let got = stop.take().expect("a signal");
                exit_now(if got == Some(signal) { 7 } else { 8 });
            }
            Forked::Parent(child) => {
                send_self(signal);
                assert_eq!(
                    child.wait(Duration::from_secs(5)).expect("wait"),
                    ChildExit::Code(7)
                );
            }
        }
    }
}

fn send_self(signal: i32) {
    let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
    rustix::process::kill_process(rustix::process::getpid(), signal).expect("kill");
}

fn stop_signal_escalates() {
    match fork_into(Namespaces::ALL).expect("a fork") {
        Forked::Child(_) => loop {
            std::hint::spin_loop();
        },
        Forked::Parent(child) => {
            send_self(libc::SIGTERM);
            let start = Instant::now();
            let exit = child.wait(Duration::from_millis(200)).expect("wait");
            assert_eq!(exit, ChildExit::Signal(libc::SIGKILL));
            assert!(
                start.elapsed() >= Duration::from_millis(200),
                "{:?}",
                start.elapsed()
            );
            assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        }
    }
}

fn drop_reaps() {
    match fork_into(Namespaces::ALL).expect("a fork") {
        Forked::Child(_) => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        Forked::Parent(child) => {
            let path = format!("/proc/{}", child.pid());
            assert!(std::fs::exists(&path).expect("/proc"));
            drop(child);
            assert!(!std::fs::exists(&path).expect("/proc"), "a zombie is left");
        }
    }
}

fn thread_number() {
    match fork_into(Namespaces::ALL).expect("a fork") {
        Forked::Child(_) => {
            // pthread_kill of this thread uses the number that the C library keeps; signal 0 asks if it is there.
            #[allow(unsafe_code, reason = "only the C library knows the number it keeps")]
            // SAFETY: pthread_self takes nothing and cannot fail.
            let this = unsafe { libc::pthread_self() };
            let other = std::thread::spawn(move || {
                #[allow(unsafe_code, reason = "as above")]
                // SAFETY: the thread that `this` names waits for this one to end.
                let found = unsafe { libc::pthread_kill(this, 0) };
                found
            });
            exit_now(u8::from(other.join().expect("a thread") != 0));
        }
        Forked::Parent(child) => {
            assert_eq!(
                child.wait(Duration::from_secs(5)).expect("wait"),
                ChildExit::Code(0)
            );
        }
    }
}
