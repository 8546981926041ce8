//! Somebody else changes the directory while the muscle uses it.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use muscle_abi::capability::call::{OPEN_CREATE, OPEN_WRITE};
use muscle_abi::frame::ErrorCode;

use super::rig::{Rig, read_write};

/// An outsider swaps a directory for a link to a secret place, as fast as it can; however often the muscle
/// tries, it never reads, writes, removes or makes anything there.
#[test]
fn swapping_a_directory_for_a_link_never_leads_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().canonicalize().expect("real");
    let (inside, outside) = (root.join("inside"), root.join("outside"));
    for path in [&inside, &outside, &inside.join("real")] {
        fs::create_dir(path).expect("made");
    }
    fs::write(inside.join("real/file"), b"public").expect("written");
    fs::write(outside.join("file"), b"secret").expect("written");
    symlink(&outside, inside.join("link")).expect("linked");
    let stop = AtomicBool::new(false);
    let (mut inner, mut denied) = (0u32, 0u32);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // real → door, door → real; link → door, door → link
                for name in ["real", "link"] {
                    let _ = fs::rename(inside.join(name), inside.join("door"));
                    std::hint::spin_loop();
                    let _ = fs::rename(inside.join("door"), inside.join(name));
                }
            }
        });
        let limits = crate::BrokerLimits {
            denials: u32::MAX,
            ..crate::BrokerLimits::default()
        };
        let bind = format!("dir=dir:{}:rw", inside.display());
        let mut rig = Rig::with(&[("dir", read_write(1 << 20, 1 << 20))], &[bind], b"", limits);
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until || (inner == 0 && Instant::now() < until + Duration::from_secs(20)) {
            let opened = rig.open("door/file", 0);
            match opened.code() {
                None => {
                    inner += 1;
                    let file = opened.number();
                    assert_eq!(rig.read(file, 0, 10).bytes(), b"public");
                    assert!(rig.close(file).is_null());
                }
                Some(ErrorCode::Denied) => denied += 1,
                Some(ErrorCode::NotFound | ErrorCode::Io) => {}
                Some(other) => panic!("{other:?}"),
            }
            rig.texts("files.mkdir", &["door/made"]);
            rig.texts("files.rename", &["door/made", "door/moved"]);
            rig.texts("files.remove", &["door/moved"]);
            let new = rig.open("door/new", OPEN_WRITE | OPEN_CREATE);
            if new.code().is_none() {
                let number = new.number();
                assert!(rig.write(number, 0, b"x").is_null());
                assert!(rig.close(number).is_null());
            }
            rig.texts("files.remove", &["door/new"]);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(
        inner > 0 && denied > 0,
        "the race was run from both sides: {inner} inside, {denied} refused"
    );
    let left: Vec<_> = fs::read_dir(&outside)
        .expect("there")
        .map(|entry| entry.expect("one").file_name())
        .collect();
    assert_eq!(left, ["file"]);
    assert_eq!(fs::read(outside.join("file")).expect("there"), b"secret");
}
