//! What the operator ties a slot to: `--bind NAME=dir:/path:ro`.
//!
//! A path becomes absolute and free of links before policy sees it ([`Binding::resolve`]), and is opened later
//! without following any link, so that what policy judged is what is opened.

use std::ffi::OsString;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use referee_bundle::FilesAccess;

/// One `--bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The slot's name.
    pub slot: String,
    /// The real thing.
    pub bound: Bound,
}

/// A real thing of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// `dir:PATH:ro` or `dir:PATH:rw`.
    Directory {
        /// Where it is.
        path: PathBuf,
        /// What may be done there at most.
        access: FilesAccess,
    },
    /// `unix:PATH`: a Unix socket.
    Socket {
        /// Where it is, or will be.
        path: PathBuf,
    },
    /// `serial:stdout` or `serial:file:PATH`: a serial port.
    Serial {
        /// Where its output goes.
        to: SerialTo,
    },
    /// `channel:NAME`: a channel of the node.
    Channel {
        /// Its name, see [`is_channel_name`].
        name: String,
    },
    /// `ring:NAME`: a ring of the node, whose other end another deployment has.
    Ring {
        /// Its name, of the same form as a channel's.
        name: String,
    },
}

/// Where a serial port's output goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SerialTo {
    /// The VMM's standard output.
    Stdout,
    /// A file, made when it is not there and appended to.
    File(PathBuf),
}

/// Why a `--bind` is none. All of these are usage errors.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// There is no `=`.
    #[error(
        "`{text}` is no binding: write NAME=dir:PATH:ro, NAME=unix:PATH, NAME=serial:stdout, NAME=channel:CHANNEL or NAME=ring:RING"
    )]
    NoName {
        /// What was given.
        text: String,
    },
    /// The thing is of no known kind.
    #[error(
        "`{text}` is nothing to bind: write dir:PATH:ro, dir:PATH:rw, unix:PATH, serial:stdout, serial:file:PATH, channel:CHANNEL or ring:RING"
    )]
    UnknownThing {
        /// What was given.
        text: String,
    },
    /// A directory without rights.
    #[error("`{text}` does not say what may be done there: end it in :ro or :rw")]
    NoAccess {
        /// What was given.
        text: String,
    },
    /// A channel's or ring's name that is none.
    #[error(
        "`{name}` is no {kind}'s name: it has 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit"
    )]
    ChannelName {
        /// `channel` or `ring`.
        kind: &'static str,
        /// What was given.
        name: String,
    },
    /// The path is empty.
    #[error("the path of `{slot}` is empty")]
    EmptyPath {
        /// The slot.
        slot: String,
    },
    /// The path is not UTF-8, so that no policy could speak of it.
    #[error("the path of `{slot}` is not UTF-8: {path:?}")]
    NotUtf8 {
        /// The slot.
        slot: String,
        /// The path.
        path: PathBuf,
    },
    /// The path leads nowhere.
    #[error("cannot find {path} for `{slot}`")]
    Unresolved {
        /// The slot.
        slot: String,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Binding {
    /// Reads `NAME=THING`. Looks at no file.
    ///
    /// # Errors
    /// [`BindingError`] but for `Unresolved`.
    pub fn parse(text: &str) -> Result<Binding, BindingError> {
        let (slot, thing) = text.split_once('=').ok_or_else(|| BindingError::NoName {
            text: text.to_owned(),
        })?;
        if slot.is_empty() {
            return Err(BindingError::NoName {
                text: text.to_owned(),
            });
        }
        let path = |path: &str| match path {
            "" => Err(BindingError::EmptyPath {
                slot: slot.to_owned(),
            }),
            path => Ok(PathBuf::from(path)),
        };
        let bound = match thing.split_once(':') {
            Some(("dir", rest)) => {
                let (folder, access) = match rest.rsplit_once(':') {
                    Some((folder, "ro")) => (folder, FilesAccess::Read),
                    Some((folder, "rw")) => (folder, FilesAccess::ReadWrite),
                    _ => {
                        return Err(BindingError::NoAccess {
                            text: thing.to_owned(),
                        });
                    }
                };
                Bound::Directory {
                    path: path(folder)?,
                    access,
                }
            }
            Some(("unix", rest)) => Bound::Socket { path: path(rest)? },
            Some(("channel", name)) if is_channel_name(name) => Bound::Channel {
                name: name.to_owned(),
            },
            Some(("ring", name)) if is_channel_name(name) => Bound::Ring {
                name: name.to_owned(),
            },
            Some((kind @ ("channel" | "ring"), name)) => {
                return Err(BindingError::ChannelName {
                    kind: if kind == "ring" { "ring" } else { "channel" },
                    name: name.to_owned(),
                });
            }
            Some(("serial", "stdout")) => Bound::Serial { to: SerialTo::Stdout },
            Some(("serial", rest)) => match rest.strip_prefix("file:") {
                Some(file) => Bound::Serial {
                    to: SerialTo::File(path(file)?),
                },
                None => {
                    return Err(BindingError::UnknownThing {
                        text: thing.to_owned(),
                    });
                }
            },
            _ => {
                return Err(BindingError::UnknownThing {
                    text: thing.to_owned(),
                });
            }
        };
        Ok(Binding {
            slot: slot.to_owned(),
            bound,
        })
    }

    /// Makes the path absolute and follows its links. The last part of a socket's or file's path need not be
    /// there yet.
    ///
    /// # Errors
    /// [`BindingError::Unresolved`], [`BindingError::NotUtf8`].
    pub fn resolve(mut self) -> Result<Binding, BindingError> {
        let slot = self.slot.clone();
        let path = match &mut self.bound {
            Bound::Directory { path, .. } => {
                *path = std::fs::canonicalize(&path).map_err(|source| BindingError::Unresolved {
                    slot: slot.clone(),
                    path: path.clone(),
                    source,
                })?;
                path
            }
            Bound::Socket { path }
            | Bound::Serial {
                to: SerialTo::File(path),
            } => {
                *path = canonical_but_for_last(path).map_err(|source| BindingError::Unresolved {
                    slot: slot.clone(),
                    path: path.clone(),
                    source,
                })?;
                path
            }
            Bound::Serial { to: SerialTo::Stdout } | Bound::Channel { .. } | Bound::Ring { .. } => {
                return Ok(self);
            }
        };
        match path.to_str() {
            Some(_) => Ok(self),
            None => Err(BindingError::NotUtf8 {
                slot,
                path: path.clone(),
            }),
        }
    }
}

impl Bound {
    /// What kind of thing it is, as `--bind` names it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Bound::Directory { .. } => "dir",
            Bound::Socket { .. } => "unix",
            Bound::Serial { .. } => "serial",
            Bound::Channel { .. } => "channel",
            Bound::Ring { .. } => "ring",
        }
    }

    /// The path as text, when it is absolute and has no `.`, `..`, double slash or bytes that are not text; a channel's or
    /// ring's name if it is one.
    pub(crate) fn plain_path(&self) -> Option<&str> {
        let path = match self {
            Bound::Directory { path, .. } | Bound::Socket { path } => path,
            Bound::Serial {
                to: SerialTo::File(path),
            } => path,
            Bound::Serial { to: SerialTo::Stdout } => return Some("stdout"),
            Bound::Channel { name } | Bound::Ring { name } => return is_channel_name(name).then_some(name),
        };
        let text = path.to_str()?;
        (path.is_absolute() && is_plain(path, text)).then_some(text)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Directory { path, access } => {
                let rights = match access {
                    FilesAccess::Read => "ro",
                    FilesAccess::ReadWrite => "rw",
                };
                write!(f, "dir:{}:{rights}", path.display())
            }
            Bound::Socket { path } => write!(f, "unix:{}", path.display()),
            Bound::Serial { to: SerialTo::Stdout } => f.write_str("serial:stdout"),
            Bound::Serial {
                to: SerialTo::File(path),
            } => write!(f, "serial:file:{}", path.display()),
            Bound::Channel { name } => write!(f, "channel:{name}"),
            Bound::Ring { name } => write!(f, "ring:{name}"),
        }
    }
}

/// Whether this can be a channel's or ring's name: 1 to 64 of `a-z 0-9 . _ -`, a letter or digit first.
pub fn is_channel_name(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=64).contains(&name.len())
        && name.bytes().next().is_some_and(first)
        && name
            .bytes()
            .all(|byte| first(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// Whether a path is the same text again when its components are put together anew.
fn is_plain(path: &Path, text: &str) -> bool {
    let mut again = OsString::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => {
                again.push("/");
                again.push(name);
            }
            Component::Prefix(_) | Component::CurDir | Component::ParentDir => return false,
        }
    }
    text == "/" || again.to_str() == Some(text)
}

fn canonical_but_for_last(path: &Path) -> std::io::Result<PathBuf> {
    if let Ok(found) = std::fs::canonicalize(path) {
        return Ok(found);
    }
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A link that leads nowhere would be followed when the file is made.
    if path.symlink_metadata().is_ok() {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    Ok(std::fs::canonicalize(folder)?.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_reads_and_prints_as_it_was_written() {
        for text in [
            "dir:/srv/in:ro",
            "dir:/srv/a:b:rw",
            "unix:/run/x.sock",
            "serial:stdout",
            "serial:file:/tmp/o",
            "channel:desk.orders",
            "ring:desk.in",
        ] {
            let binding = Binding::parse(&format!("in={text}")).expect("a binding");
            assert_eq!(
                (binding.slot.as_str(), binding.bound.to_string().as_str()),
                ("in", text)
            );
        }
    }

    #[test]
    fn each_mistake_has_its_own_refusal() {
        let error = |text: &str| Binding::parse(text).expect_err("no binding");
        assert!(matches!(error("dir:/srv"), BindingError::NoName { .. }));
        assert!(matches!(error("=dir:/srv:ro"), BindingError::NoName { .. }));
        assert!(matches!(error("in=/srv"), BindingError::UnknownThing { .. }));
        assert!(matches!(
            error("in=serial:/srv"),
            BindingError::UnknownThing { .. }
        ));
        assert!(matches!(error("in=dir:/srv"), BindingError::NoAccess { .. }));
        assert!(matches!(error("in=dir:/srv:rx"), BindingError::NoAccess { .. }));
        assert!(matches!(error("in=dir::ro"), BindingError::EmptyPath { .. }));
        assert!(matches!(error("in=unix:"), BindingError::EmptyPath { .. }));
        for name in ["", "-a", "A", "a/b", "a b", &"a".repeat(65)] {
            for kind in ["channel", "ring"] {
                let error = error(&format!("in={kind}:{name}"));
                let told = error.to_string();
                assert!(matches!(error, BindingError::ChannelName { .. }), "{name}");
                assert!(told.contains(kind), "{told}");
            }
        }
    }

    #[test]
    fn resolving_follows_links_so_that_policy_sees_the_real_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("real").join("real");
        std::fs::create_dir(&real).expect("made");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        let parse = |thing: String| {
            Binding::parse(&format!("a={thing}"))
                .expect("a binding")
                .resolve()
        };
        let bound = parse(format!("dir:{}:ro", link.display())).expect("found").bound;
        assert_eq!(bound.plain_path(), real.to_str());
        let bound = parse(format!("unix:{}/../link/new.sock", link.display()))
            .expect("found")
            .bound;
        assert_eq!(bound.plain_path(), real.join("new.sock").to_str());
        let missing = parse(format!("dir:{}/nowhere:ro", link.display()));
        assert!(matches!(missing, Err(BindingError::Unresolved { .. })));
        std::os::unix::fs::symlink("/nowhere/at/all", folder.path().join("dangling")).expect("linked");
        let dangling = parse(format!("serial:file:{}/dangling", folder.path().display()));
        assert!(matches!(dangling, Err(BindingError::Unresolved { .. })));
    }

    #[test]
    fn a_path_with_dots_or_without_a_root_is_not_plain() {
        for path in ["srv", "/srv/../etc", "/srv/./in", "/srv//in", "/srv/"] {
            assert_eq!(Bound::Socket { path: path.into() }.plain_path(), None, "{path}");
        }
        assert_eq!(Bound::Socket { path: "/".into() }.plain_path(), Some("/"));
    }
}
