//! Where bundles are made, once for each content, and the trust store that they are checked by.
//!
//! Two test programs may work here at once: every file is made under a name of its own and then renamed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cargo_muscle::{PrivateKey, trust};
use referee_bundle::{Digest, NameScope, PublisherKey, UnixTime};

use crate::assemble::assemble;
use crate::guest::Guest;

/// A folder with bundles and a trust store, and where guests come from.
#[derive(Debug, Clone)]
pub struct Workshop {
    guests: PathBuf,
    folder: PathBuf,
    may_build: bool,
}

/// Seeds of the suite's keys. They sign nothing but guests of this suite.
const ROOT_SEED: [u8; 32] = [0x52; 32];
const PUBLISHER_SEED: [u8; 32] = [0x50; 32];
const STRANGER_SEED: [u8; 32] = [0x53; 32];

/// Counted up when something else is made of the same material, so that bundles of before are not taken for new ones.
const MAKING: u32 = 2;

impl Workshop {
    /// Takes the prepared folder of `REFEREE_TEST_BUNDLES`, or builds in `target`.
    ///
    /// # Errors
    /// When the trust store cannot be written.
    pub fn open(target: &Path) -> anyhow::Result<Workshop> {
        if let Some(prepared) = std::env::var_os("REFEREE_TEST_BUNDLES") {
            let folder = PathBuf::from(prepared);
            return Ok(Workshop {
                guests: folder.join("guests"),
                folder,
                may_build: false,
            });
        }
        Workshop::building_in(&target.join("hostile"))
    }

    /// A workshop that builds in `folder`.
    ///
    /// # Errors
    /// When the trust store cannot be written.
    pub fn building_in(folder: &Path) -> anyhow::Result<Workshop> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests");
        let workshop = Workshop {
            guests,
            folder: folder.to_owned(),
            may_build: true,
        };
        let store = workshop.signed(workshop.trust_draft()?)?;
        place(&workshop.trust_store(), &store)?;
        Ok(workshop)
    }

    /// Writes everything that a machine without a compiler needs into `target`.
    ///
    /// # Errors
    /// When a guest cannot be built or a file cannot be written.
    pub fn prepare(&self, target: &Path) -> anyhow::Result<usize> {
        let workshop = Workshop::building_in(target)?;
        let guests = Guest::all(&self.guests)?;
        for guest in &guests {
            workshop.bundle(guest)?;
            let copy = target.join("guests").join(&guest.group);
            fs::create_dir_all(&copy)?;
            fs::copy(&guest.path, copy.join(format!("{}.s", guest.name)))?;
        }
        Ok(guests.len())
    }

    /// Every guest.
    ///
    /// # Errors
    /// When a guest's file is not understood.
    pub fn guests(&self) -> anyhow::Result<Vec<Guest>> {
        Guest::all(&self.guests)
    }

    /// The guest of this group and name.
    ///
    /// # Errors
    /// When there is none.
    pub fn guest(&self, group: &str, name: &str) -> anyhow::Result<Guest> {
        Guest::read(&self.guests.join(group).join(format!("{name}.s")))
    }

    /// The trust store's file.
    pub fn trust_store(&self) -> PathBuf {
        self.folder.join("trust.store")
    }

    /// The guest's bundle, made when it is not there.
    ///
    /// # Errors
    /// When it cannot be assembled, or is not there and may not be.
    pub fn bundle(&self, guest: &Guest) -> anyhow::Result<PathBuf> {
        let name = guest.muscle_name();
        let file = self.folder.join(format!("{name}.muscle"));
        if !self.may_build {
            return Ok(file);
        }
        let mut material = Vec::new();
        for path in [
            &guest.path,
            &self.guests.join("muscle.inc"),
            &self.guests.join("channel.inc"),
            &self.guests.join("lend.inc"),
        ] {
            material.extend(fs::read(path).with_context(|| path.display().to_string())?);
        }
        material.extend(guest.header.manifest(&name).encode());
        let mark = format!("{MAKING} {}", Digest::of(&material));
        let mark_file = self.folder.join(format!("{name}.made-of"));
        let fresh = fs::read_to_string(&mark_file).is_ok_and(|found| found == mark);
        if !(fresh && file.is_file()) {
            place(&file, &self.build(guest)?)?;
            place(&mark_file, mark.as_bytes())?;
        }
        Ok(file)
    }

    /// The bytes of a guest's image.
    ///
    /// # Errors
    /// When it cannot be assembled.
    pub fn image(&self, guest: &Guest) -> anyhow::Result<Vec<u8>> {
        let scratch = tempfile::tempdir_in(&self.folder)?;
        let elf = scratch.path().join("image");
        assemble(&guest.path, &self.guests, &elf)?;
        Ok(fs::read(&elf)?)
    }

    /// A trust store in which the suite's publisher may sign the suite's guests, not signed yet.
    ///
    /// # Errors
    /// When the keys are refused.
    pub fn trust_draft(&self) -> anyhow::Result<Vec<u8>> {
        let draft = trust::init(
            vec![PrivateKey::from_seed(&ROOT_SEED).public_key()?],
            1,
            far_future(),
        )?;
        let key = PublisherKey {
            public_key: self.publisher().public_key()?,
            expires: far_future(),
        };
        let scope = NameScope::parse("hostile.*").context("is a scope")?;
        Ok(trust::add_publisher(&draft, "suite", vec![key], vec![scope])?)
    }

    /// Signs a draft of a trust store with the suite's root key.
    ///
    /// # Errors
    /// When the draft is malformed.
    pub fn signed(&self, draft: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        Ok(trust::sign(&draft, &PrivateKey::from_seed(&ROOT_SEED), &[])?)
    }

    /// The key that signs guests.
    pub fn publisher(&self) -> PrivateKey {
        PrivateKey::from_seed(&PUBLISHER_SEED)
    }

    /// A key that no trust store knows.
    pub fn stranger(&self) -> PrivateKey {
        PrivateKey::from_seed(&STRANGER_SEED)
    }

    fn build(&self, guest: &Guest) -> anyhow::Result<Vec<u8>> {
        let image = self.image(guest)?;
        let name = guest.muscle_name();
        let bundle =
            cargo_muscle::assemble(guest.header.manifest(&name), &image).with_context(|| name.clone())?;
        cargo_muscle::sign(&bundle, &self.publisher()).with_context(|| name)
    }
}

/// The year 2100, as the suite's stores and keys never expire.
fn far_future() -> UnixTime {
    UnixTime(4_102_444_800)
}

/// Puts a file in place in one step.
fn place(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    let scratch = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(scratch.path(), bytes)?;
    scratch
        .persist(path)
        .with_context(|| path.display().to_string())?;
    Ok(())
}
