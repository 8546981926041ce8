//! What survives the service: deployments in a database, bundles as files named by their digest.
//!
//! The database is redb: one file, written copy-on-write with checksums, so that a crash at any point leaves the last
//! commit; in Rust, without a server or a C library. A deployment is acknowledged when its commit is on the disk.
//!
//! ```text
//!   STATE/node.redb            table `deployments`: name ─► JSON of Deployed
//!                              table `pipelines`: name ─► JSON of Pipeline
//!                              table `delegations`: JSON of the End that has something ─► JSON of Delegation
//!                              table `snapshots`: SHA-256 ─► JSON of KeptSnapshot
//!   STATE/bundles/HEX.muscle   written aside, flushed, renamed
//!   STATE/snapshots/HEX.snapshot   the same, for nobody but the node's user
//! ```

mod snapshots;

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::panic;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use referee_policy::Standings;
use serde::{Deserialize, Serialize};

use crate::delegation::{Delegation, End};
use crate::error::{NodeError, OrHost};
use crate::nursery::Assessment;
use crate::pipeline::Pipeline;
use crate::settings::Settings;

pub(crate) use snapshots::{Aside, KeptSnapshot, no_snapshot};

const DEPLOYMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("deployments");
const DELEGATIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("delegations");
const PIPELINES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("pipelines");

/// A deployment as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deployed {
    /// SHA-256 of the bundle, 64 hexadecimal digits.
    pub bundle: String,
    pub settings: Settings,
    /// What the bundle is and what was granted when it was deployed; a worker is granted what policy says when it is made.
    pub assessment: Assessment,
    /// One more with each deployment of this name.
    pub generation: u64,
    /// Seconds since 1970.
    pub deployed_at: u64,
    pub paused: bool,
    /// What was taken from its grants since it was deployed.
    #[serde(default)]
    pub standings: Standings,
}

/// The state directory.
#[derive(Debug)]
pub(crate) struct Store {
    database: Database,
    bundles: PathBuf,
    snapshots: PathBuf,
}

impl Store {
    /// Opens the directory, and makes what is missing.
    ///
    /// # Errors
    /// [`NodeError::Host`]; above all when another node has it open.
    pub(crate) fn open(directory: &Path) -> Result<Store, NodeError> {
        let doing = "opening the state directory";
        let bundles = directory.join("bundles");
        fs::create_dir_all(&bundles).or_host(doing)?;
        let snapshots = directory.join("snapshots");
        snapshots::make_folder(&snapshots).or_host(doing)?;
        let place = directory.join("node.redb");
        if !place.try_exists().or_host(doing)? {
            begin(directory, &place).or_host(doing)?;
        }
        let database = open_damaged_or_not(&place)
            .map_err(|error| NodeError::host(doing)(format!("{}: {error}", place.display())))?;
        Ok(Store {
            database,
            bundles,
            snapshots,
        })
    }

    /// All deployments, by name.
    ///
    /// # Errors
    /// [`NodeError::Host`] when the database cannot be read.
    pub(crate) fn deployments(&self) -> Result<Vec<(String, Deployed)>, NodeError> {
        let doing = "reading deployments";
        let read = self.database.begin_read().or_host(doing)?;
        let table = read.open_table(DEPLOYMENTS).or_host(doing)?;
        let mut all = Vec::new();
        for entry in table.iter().or_host(doing)? {
            let (name, value) = entry.or_host(doing)?;
            let deployed = serde_json::from_slice(value.value()).or_host("reading a deployment")?;
            all.push((name.value().to_owned(), deployed));
        }
        Ok(all)
    }

    /// Keeps a deployment, and what becomes of delegations by it; when this returns, all of it is on the disk.
    ///
    /// # Errors
    /// [`NodeError::Host`]; then everything is as it was.
    pub(crate) fn keep(&self, name: &str, deployed: &Deployed, rows: &[Row]) -> Result<(), NodeError> {
        let doing = "keeping a deployment";
        let bytes = serde_json::to_vec(deployed).or_host("keeping a deployment")?;
        let write = self.database.begin_write().or_host(doing)?;
        {
            let mut table = write.open_table(DEPLOYMENTS).or_host(doing)?;
            table.insert(name, bytes.as_slice()).or_host(doing)?;
        }
        put_rows(&write, rows)?;
        write.commit().or_host(doing)
    }

    /// Forgets a deployment, and keeps what becomes of delegations by it; when this returns, the disk has it so.
    ///
    /// # Errors
    /// As [`Store::keep`].
    pub(crate) fn forget(&self, name: &str, rows: &[Row]) -> Result<(), NodeError> {
        let doing = "forgetting a deployment";
        let write = self.database.begin_write().or_host(doing)?;
        {
            let mut table = write.open_table(DEPLOYMENTS).or_host(doing)?;
            table.remove(name).or_host(doing)?;
        }
        put_rows(&write, rows)?;
        write.commit().or_host(doing)
    }

    /// All delegations.
    ///
    /// # Errors
    /// [`NodeError::Host`] when the database cannot be read.
    pub(crate) fn delegations(&self) -> Result<Vec<(End, Delegation)>, NodeError> {
        let doing = "reading delegations";
        let read = self.database.begin_read().or_host(doing)?;
        let table = match read.open_table(DELEGATIONS) {
            // There has been none yet.
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other.or_host(doing)?,
        };
        let mut all = Vec::new();
        for entry in table.iter().or_host(doing)? {
            let (end, value) = entry.or_host(doing)?;
            let end = serde_json::from_str(end.value()).or_host(doing)?;
            all.push((end, serde_json::from_slice(value.value()).or_host(doing)?));
        }
        Ok(all)
    }

    /// Keeps what becomes of delegations; when this returns, the disk has it so.
    ///
    /// # Errors
    /// [`NodeError::Host`]; then they are as they were.
    pub(crate) fn keep_delegations(&self, rows: &[Row]) -> Result<(), NodeError> {
        if rows.is_empty() {
            return Ok(());
        }
        let doing = "keeping delegations";
        let write = self.database.begin_write().or_host(doing)?;
        put_rows(&write, rows)?;
        write.commit().or_host(doing)
    }

    /// All pipelines, by name.
    ///
    /// # Errors
    /// [`NodeError::Host`] when the database cannot be read.
    pub(crate) fn pipelines(&self) -> Result<Vec<(String, Pipeline)>, NodeError> {
        let doing = "reading pipelines";
        let read = self.database.begin_read().or_host(doing)?;
        let table = match read.open_table(PIPELINES) {
            // Nobody has defined one yet.
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other.or_host(doing)?,
        };
        let mut all = Vec::new();
        for entry in table.iter().or_host(doing)? {
            let (name, value) = entry.or_host(doing)?;
            let pipeline = serde_json::from_slice(value.value()).or_host("reading a pipeline")?;
            all.push((name.value().to_owned(), pipeline));
        }
        Ok(all)
    }

    /// Keeps a pipeline, or forgets it; when this returns, the disk has it so.
    ///
    /// # Errors
    /// [`NodeError::Host`]; then the pipeline is as it was.
    pub(crate) fn keep_pipeline(&self, name: &str, pipeline: Option<&Pipeline>) -> Result<(), NodeError> {
        let doing = "keeping a pipeline";
        let bytes = pipeline.map(serde_json::to_vec).transpose().or_host(doing)?;
        let write = self.database.begin_write().or_host(doing)?;
        {
            let mut table = write.open_table(PIPELINES).or_host(doing)?;
            match &bytes {
                Some(bytes) => table.insert(name, bytes.as_slice()).or_host(doing)?,
                None => table.remove(name).or_host(doing)?,
            };
        }
        write.commit().or_host(doing)
    }

    /// Keeps a bundle's bytes under their digest; when this returns, they are on the disk.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) fn keep_bundle(&self, digest: &str, bytes: &[u8]) -> Result<(), NodeError> {
        let place = self.bundle_path(digest);
        let write = || -> io::Result<()> {
            let aside = self.bundles.join(format!(".{digest}.new"));
            let mut file = File::create(&aside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&aside, &place)?;
            File::open(&self.bundles)?.sync_all()
        };
        write().or_host("keeping a bundle")
    }

    /// Opens a kept bundle.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] when there is none of this digest.
    pub(crate) fn bundle(&self, digest: &str) -> Result<File, NodeError> {
        File::open(self.bundle_path(digest)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NodeError::Rejected {
                name: "bundle-unknown".into(),
                message: format!("there is no bundle {digest} here; send it first"),
            },
            _ => NodeError::host("opening a bundle")(error),
        })
    }

    /// Removes a kept bundle, if it is there.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) fn forget_bundle(&self, digest: &str) -> Result<(), NodeError> {
        match fs::remove_file(self.bundle_path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(NodeError::host("forgetting a bundle")(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes bundles that no deployment needs.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) fn sweep(&self, needed: &[String]) -> Result<(), NodeError> {
        let doing = "removing bundles that are not needed";
        for entry in fs::read_dir(&self.bundles).or_host(doing)? {
            let entry = entry.or_host(doing)?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| name.strip_suffix(".muscle"));
            if digest.is_none_or(|digest| !needed.iter().any(|one| one == digest)) {
                fs::remove_file(entry.path()).or_host(doing)?;
            }
        }
        Ok(())
    }

    fn bundle_path(&self, digest: &str) -> PathBuf {
        self.bundles.join(format!("{digest}.muscle"))
    }
}

/// What a slot has by a delegation from here on, or that it has nothing.
pub(crate) type Row = (End, Option<Delegation>);

fn put_rows(write: &WriteTransaction, rows: &[Row]) -> Result<(), NodeError> {
    if rows.is_empty() {
        return Ok(());
    }
    let doing = "keeping delegations";
    let mut table = write.open_table(DELEGATIONS).or_host(doing)?;
    for (end, delegation) in rows {
        let key = serde_json::to_string(end).or_host(doing)?;
        let bytes = delegation
            .as_ref()
            .map(serde_json::to_vec)
            .transpose()
            .or_host(doing)?;
        match &bytes {
            Some(bytes) => table.insert(key.as_str(), bytes.as_slice()).or_host(doing)?,
            None => table.remove(key.as_str()).or_host(doing)?,
        };
    }
    Ok(())
}

/// Makes an empty database aside and puts it in place whole: a file that is there and holds none was damaged, and is not begun anew.
fn begin(directory: &Path, place: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let aside = directory.join(".node.redb.new");
    File::create(&aside)?;
    let database = Database::create(&aside)?;
    let write = database.begin_write()?;
    write.open_table(DEPLOYMENTS)?;
    write.commit()?;
    drop(database);
    fs::rename(&aside, place)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// Opens a database that may be damaged: redb believes some of what it reads before it looks at checksums, and panics at what it
/// does not expect, above all in debug builds, where it looks at more.
fn open_damaged_or_not(place: &Path) -> Result<Database, Box<dyn Error + Send + Sync>> {
    if cfg!(panic = "abort") {
        return open(place);
    }
    let hook = panic::take_hook();
    // Nobody else is at work yet, so this hides no other panic.
    panic::set_hook(Box::new(|_| {}));
    let opened = panic::catch_unwind(|| open(place));
    panic::set_hook(hook);
    opened.unwrap_or_else(|_| {
        Err("it is damaged; put a copy in its place, or remove it to begin with no deployments".into())
    })
}

/// Opens a database and looks at every checksum in it.
fn open(place: &Path) -> Result<Database, Box<dyn Error + Send + Sync>> {
    let mut database = Database::open(place)?;
    if !database.check_integrity()? {
        crate::report::problem(&format!("{} was damaged and is repaired", place.display()));
    }
    database.begin_read()?.open_table(DEPLOYMENTS)?;
    Ok(database)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployed(generation: u64) -> Deployed {
        Deployed {
            bundle: "ab".repeat(32),
            settings: Settings::default(),
            assessment: Assessment {
                name: "demo".into(),
                version: "1.0.0".into(),
                description: String::new(),
                publisher: "acme".into(),
                key_id: "cd".repeat(32),
                security_epoch: 0,
                exports: vec!["f".into()],
                memory_bytes: 1 << 20,
                cpu_ms: 10,
                deadline_ms: 10,
                granted: Vec::new(),
                channels: Vec::new(),
                waits: std::collections::BTreeMap::new(),
                decision: "{}".into(),
            },
            generation,
            deployed_at: 1,
            paused: false,
            standings: Standings::default(),
        }
    }

    #[test]
    fn what_was_kept_is_there_after_opening_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("opens");
        store.keep("a", &deployed(1), &[]).expect("kept");
        store.keep("b", &deployed(2), &[]).expect("kept");
        store.keep("a", &deployed(3), &[]).expect("kept");
        store.forget("b", &[]).expect("forgotten");
        assert!(Store::open(directory.path()).is_err(), "one node at a time");
        drop(store);
        let again = Store::open(directory.path()).expect("opens");
        assert_eq!(
            again.deployments().expect("read"),
            [("a".to_owned(), deployed(3))]
        );
    }

    #[test]
    fn a_change_and_what_ends_by_it_are_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("opens");
        assert_eq!(store.delegations().expect("read"), [], "there has been none");
        let delegation = Delegation {
            from: End::new("a", "books"),
            by: "to".into(),
            channel: "news".into(),
            narrowing: referee_policy::Narrowing::default(),
        };
        let row = |slot: &str, delegation| (End::new("b", slot), delegation);
        let begun = [
            row("lent", Some(delegation.clone())),
            row("time", Some(delegation.clone())),
        ];
        store.keep_delegations(&begun).expect("kept");
        store.keep("a", &deployed(1), &[row("lent", None)]).expect("kept");
        drop(store);
        let again = Store::open(directory.path()).expect("opens");
        assert_eq!(
            again.delegations().expect("read"),
            [(End::new("b", "time"), delegation)]
        );
        again.forget("a", &[row("time", None)]).expect("forgotten");
        assert_eq!(again.delegations().expect("read"), []);
        assert_eq!(again.deployments().expect("read"), []);
    }

    #[test]
    fn a_sweep_takes_what_nobody_needs() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("opens");
        let (kept, gone) = ("ab".repeat(32), "cd".repeat(32));
        for digest in [&kept, &gone] {
            store.keep_bundle(digest, b"bytes").expect("kept");
        }
        fs::write(directory.path().join("bundles/.torn.new"), b"by").expect("written");
        store.sweep(std::slice::from_ref(&kept)).expect("swept");
        assert!(store.bundle(&kept).is_ok());
        assert!(
            matches!(store.bundle(&gone), Err(NodeError::Rejected { name, .. }) if name == "bundle-unknown")
        );
        assert_eq!(
            fs::read_dir(directory.path().join("bundles"))
                .expect("there")
                .count(),
            1
        );
    }
}
