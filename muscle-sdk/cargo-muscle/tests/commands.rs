//! The author's tool as it is at the shell: real keys, a real build of a tiny program, every command's good way
//! and its common mistakes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder in which commands run.
struct Desk(TempDir);

impl Desk {
    fn new() -> Desk {
        Desk(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cargo-muscle"))
            .args(arguments)
            .current_dir(self.path())
            .env_remove("MUSCLE_SDK")
            .env_remove("RUSTFLAGS")
            .env("CARGO_TARGET_DIR", self.path().join("target"))
            .output()
            .expect("starts")
    }

    /// Runs a command that must succeed; gives its standard output.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Runs a command that must fail; gives its exit code and standard error.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        let code = output.status.code().expect("ends by itself");
        (code, String::from_utf8(output.stderr).expect("UTF-8"))
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path().join(name))
            .expect("is there")
            .permissions()
            .mode()
            & 0o777
    }

    /// A desk with keys, a trust store, and the folder `tiny` of a program that needs no SDK.
    fn ready() -> Desk {
        let desk = Desk::new();
        desk.ok(&["keygen", "me"]);
        desk.ok(&["keygen", "root"]);
        desk.ok(&[
            "trust",
            "init",
            "trust.store",
            "--root-key",
            "root.key",
            "--expires",
            "365d",
        ]);
        desk.ok(&[
            "trust",
            "add-publisher",
            "trust.store",
            "--name",
            "example",
            "--key",
            "me.pub",
            "--scope",
            "tiny",
            "--expires",
            "30d",
            "--root-key",
            "root.key",
        ]);
        desk.write("tiny/Cargo.toml", PACKAGE);
        desk.write("tiny/Muscle.toml", SETTINGS);
        desk.write("tiny/src/main.rs", PROGRAM);
        desk
    }
}

const PACKAGE: &str = "
[package]
name = 'tiny'
version = '0.1.0'
edition = '2024'
[profile.release]
panic = 'abort'
[workspace]
";

const SETTINGS: &str = "
[muscle]
name = 'tiny'
version = '1.2.3'
security_epoch = 7
[limits]
memory = '1MiB'
stack = '16KiB'
[[slot]]
name = 'console'
kind = 'console'
";

const PROGRAM: &str = r#"
#![no_std]
#![no_main]
use core::sync::atomic::{AtomicUsize, Ordering};

static CALLS: AtomicUsize = AtomicUsize::new(1);
static WORDS: [&str; 3] = ["one", "two", "three"];

#[used]
#[unsafe(link_section = "muscle_exports")]
static NAMES: [u8; 10] = *b"score\0abs\0";

#[unsafe(no_mangle)]
pub extern "C" fn _start(place: *mut usize) -> ! {
    let word = find_word(CALLS.fetch_add(1, Ordering::Relaxed));
    unsafe { place.write_volatile(word.as_ptr() as usize) };
    loop {}
}

#[inline(never)]
fn find_word(index: usize) -> &'static str {
    core::hint::black_box(&WORDS)[index % WORDS.len()]
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
"#;

#[test]
fn builds_signs_verifies_and_revokes() {
    let desk = Desk::ready();
    // Built from below the folder, as `cargo muscle` is called by cargo.
    let said = desk.ok(&["muscle", "build", "--folder", "tiny"]);
    assert!(
        said.contains("tiny.muscle") && said.contains("not signed"),
        "{said}"
    );
    assert_eq!(desk.mode("tiny.muscle"), 0o644);
    let (code, error) = desk.fails(&["verify", "tiny.muscle", "--trust", "trust.store"]);
    assert_eq!(code, 101);
    assert!(error.contains("(unsigned)"), "{error}");

    desk.ok(&["sign", "--key", "me.key", "tiny.muscle"]);
    let said = desk.ok(&["verify", "tiny.muscle", "--trust", "trust.store"]);
    assert!(
        said.starts_with("tiny 1.2.3 is good: signed by example"),
        "{said}"
    );

    let shown: Value = serde_json::from_str(&desk.ok(&["inspect", "--json", "tiny.muscle"])).expect("JSON");
    assert_eq!(shown["name"], "tiny");
    assert_eq!(shown["security_epoch"], 7);
    assert_eq!(shown["exports"], serde_json::json!(["abs", "score"]));
    assert_eq!(shown["limits"]["memory_bytes"], 1 << 20);
    assert_eq!(
        shown["slots"][0]["request"],
        serde_json::json!({ "kind": "console", "input": false })
    );
    assert_eq!(shown["signatures"].as_array().map(Vec::len), Some(1));
    assert_eq!(shown["parts"][0]["kind"], "image");
    assert!(shown["symbols"].as_u64() >= Some(2), "{shown}");
    let bundle = fs::read(desk.path().join("tiny.muscle")).expect("a bundle");
    let digest = referee_bundle::Digest::of(&bundle).to_string();
    assert_eq!(shown["digest"], digest);
    assert!(desk.ok(&["inspect", "tiny.muscle"]).contains(&digest));

    // One flipped bit.
    let mut flipped = bundle.clone();
    *flipped.last_mut().expect("a byte") ^= 1;
    fs::write(desk.path().join("flipped.muscle"), flipped).expect("a file");
    let (code, error) = desk.fails(&["verify", "flipped.muscle", "--trust", "trust.store"]);
    assert_eq!(
        (code, error.contains("(part-digest-mismatch)")),
        (101, true),
        "{error}"
    );

    // Later than the key is good.
    let (code, error) = desk.fails(&["verify", "tiny.muscle", "--trust", "trust.store", "--at", "31d"]);
    assert_eq!((code, error.contains("(signer-expired)")), (101, true), "{error}");

    fs::copy(desk.path().join("trust.store"), desk.path().join("second.store")).expect("a copy");
    desk.ok(&[
        "trust",
        "revoke-bundle",
        "second.store",
        "tiny.muscle",
        "--root-key",
        "root.key",
    ]);
    let (code, error) = desk.fails(&["verify", "tiny.muscle", "--trust", "second.store"]);
    assert_eq!((code, error.contains("(bundle-revoked)")), (101, true), "{error}");

    desk.ok(&[
        "trust",
        "revoke-key",
        "trust.store",
        "me.pub",
        "--root-key",
        "root.key",
    ]);
    let (code, error) = desk.fails(&["verify", "tiny.muscle", "--trust", "trust.store"]);
    assert_eq!((code, error.contains("(signer-revoked)")), (101, true), "{error}");
    let shown: Value =
        serde_json::from_str(&desk.ok(&["trust", "show", "--json", "trust.store"])).expect("JSON");
    assert_eq!(shown["version"], 3);
    assert_eq!(
        shown["revoked_keys"][0],
        shown["publishers"][0]["keys"][0]["key_id"]
    );
}

#[test]
fn the_image_is_stripped_and_backtraces_still_have_names() {
    let desk = Desk::ready();
    desk.ok(&["build", "--folder", "tiny", "--key", "me.key", "-o", "out.muscle"]);
    let bytes = fs::read(desk.path().join("out.muscle")).expect("a bundle");
    let limits = referee_bundle::ReadLimits::default();
    let bundle = referee_bundle::UnverifiedBundle::parse(&bytes, &limits).expect("well-formed");
    let image = bundle.part(referee_bundle::PartKind::Image).expect("an image");
    let linked =
        fs::read(desk.path().join("target/x86_64-unknown-linux-gnu/release/tiny")).expect("the program");
    assert!(image.len() < linked.len());

    // What is loaded is byte for byte what was linked, but for the ELF header.
    let before = referee_bundle::ElfImage::parse(&linked, &limits).expect("a good program");
    let after = referee_bundle::ElfImage::parse(image, &limits).expect("a good image");
    assert_eq!(before, after);
    assert!(!before.relocations.is_empty());
    for segment in &before.segments {
        let start = usize::try_from(segment.file_offset).expect("small");
        let end = start + usize::try_from(segment.file_size).expect("small");
        let skip = start.max(64).min(end);
        assert_eq!(linked[skip..end], image[skip..end]);
    }
    let symbols = bundle.part(referee_bundle::PartKind::Symbols).expect("symbols");
    let table = referee_bundle::SymbolTable::parse(symbols).expect("a good table");
    assert_eq!(table.lookup(bundle.manifest().entry), Some(("_start", 0)));
    assert!(!String::from_utf8_lossy(image).contains("find_word"));
    let text = String::from_utf8_lossy(symbols).into_owned();
    // The name without the hash that the compiler adds.
    assert!(text.contains("tiny::find_word"), "{text}");

    // Public tools read the image.
    fs::write(desk.path().join("image.elf"), image).expect("a file");
    let readelf = Command::new("readelf")
        .args(["--wide", "--segments", "--sections", "image.elf"])
        .current_dir(desk.path())
        .output()
        .expect("binutils, which the linker is part of");
    let shown = String::from_utf8_lossy(&readelf.stdout).into_owned();
    assert!(
        readelf.status.success() && readelf.stderr.is_empty(),
        "{readelf:?}"
    );
    assert!(
        shown.contains(".text") && shown.contains(".rela.dyn") && !shown.contains(".symtab"),
        "{shown}"
    );
}

#[test]
fn the_same_sources_give_the_same_bundle() {
    let desk = Desk::ready();
    desk.ok(&[
        "build",
        "--folder",
        "tiny",
        "--key",
        "me.key",
        "-o",
        "first.muscle",
    ]);
    let moved = Desk::new();
    for file in ["Cargo.toml", "Muscle.toml", "src/main.rs"] {
        let text = fs::read_to_string(desk.path().join("tiny").join(file)).expect("a file");
        moved.write(&format!("elsewhere/{file}"), &text);
    }
    fs::copy(desk.path().join("me.key"), moved.path().join("me.key")).expect("a copy");
    moved.ok(&[
        "build",
        "--folder",
        "elsewhere",
        "--key",
        "me.key",
        "-o",
        "second.muscle",
    ]);
    let first = fs::read(desk.path().join("first.muscle")).expect("a bundle");
    let second = fs::read(moved.path().join("second.muscle")).expect("a bundle");
    assert!(first == second, "the folder's path is in the bundle");
}

#[test]
fn keygen_makes_a_private_key_for_its_owner_alone() {
    let desk = Desk::new();
    let said = desk.ok(&["keygen", "me"]);
    assert_eq!((desk.mode("me.key"), desk.mode("me.pub")), (0o600, 0o644));
    let before = fs::read(desk.path().join("me.key")).expect("a key");
    for taken in ["me.key", "me.pub"] {
        let (code, error) = desk.fails(&["keygen", "me"]);
        assert_eq!(code, 1);
        assert!(error.contains(&format!("{taken} exists already")), "{error}");
        fs::rename(desk.path().join(taken), desk.path().join(format!("old.{taken}"))).expect("renames");
    }
    assert_eq!(fs::read(desk.path().join("old.me.key")).expect("a key"), before);

    // OpenSSL reads both, and finds the same public key in both.
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(desk.path())
            .output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    assert_eq!(
        openssl(&["pkey", "-in", "old.me.key", "-pubout"]),
        openssl(&["pkey", "-pubin", "-in", "old.me.pub", "-pubout"])
    );
    // And what OpenSSL makes is a key here.
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "theirs.key"]);
    desk.ok(&[
        "trust",
        "init",
        "t",
        "--root-key",
        "theirs.key",
        "--expires",
        "2100-01-01",
    ]);
    assert!(said.contains("key id "), "{said}");
}

#[test]
fn a_trust_store_of_two_root_keys_needs_both() {
    let desk = Desk::new();
    for name in ["a", "b", "me"] {
        desk.ok(&["keygen", name]);
    }
    let said = desk.ok(&[
        "trust",
        "init",
        "t",
        "--root-key",
        "a.key",
        "--root-pub",
        "b.pub",
        "--threshold",
        "2",
        "--expires",
        "1d",
    ]);
    assert!(said.contains("1 of 2 signatures; sign it"), "{said}");
    let (code, error) = desk.fails(&["verify", "missing.muscle", "--trust", "t"]);
    assert_eq!(
        (code, error.contains("(root-signatures)")),
        (101, true),
        "{error}"
    );
    let (code, error) = desk.fails(&["trust", "sign", "t", "--root-key", "me.key"]);
    assert_eq!((code, error.contains("is no root key")), (1, true), "{error}");
    let said = desk.ok(&["trust", "sign", "t", "--root-key", "b.key"]);
    assert!(said.contains("version 1, 2 of 2 signatures\n"), "{said}");
    // A change takes the signatures off and makes the next version.
    let said = desk.ok(&[
        "trust",
        "add-publisher",
        "t",
        "--name",
        "me",
        "--key",
        "me.pub",
        "--scope",
        "com.me.*",
        "--expires",
        "1d",
    ]);
    assert!(said.contains("version 2, 0 of 2 signatures"), "{said}");
    // The trust store is never made anew by mistake.
    let (code, error) = desk.fails(&["trust", "init", "t", "--root-key", "a.key", "--expires", "1d"]);
    assert_eq!((code, error.contains("t exists already")), (1, true), "{error}");
    assert!(desk.ok(&["trust", "show", "t"]).contains("may sign com.me.*"));
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    let desk = Desk::ready();
    let expect = |arguments: &[&str], code: i32, text: &str| {
        let (found, error) = desk.fails(arguments);
        assert!(
            found == code && error.contains(text),
            "{arguments:?}: {found} {error}"
        );
    };
    expect(
        &["sign", "--key", "me.pub", "x.muscle"],
        1,
        "me.pub holds no private key",
    );
    expect(&["sign", "--key", "none.key", "x.muscle"], 1, "none.key");
    expect(&["inspect", "none.muscle"], 101, "none.muscle cannot be read");
    expect(&["inspect", "me.key"], 101, "(wrong-magic)");
    expect(&["inspect", "/dev/zero"], 101, "not a regular file");
    expect(&["new", "x/y", "--sdk", "."], 1, "is no name for a muscle");
    expect(&["new", "hello"], 1, "MUSCLE_SDK");
    expect(&["new", "hello", "--sdk", "."], 1, "is no SDK");
    expect(&["trust", "revoke-key", "trust.store", "nobody"], 1, "no key id");
    expect(
        &["trust", "revoke-bundle", "trust.store", "nothing"],
        1,
        "no digest",
    );
    expect(
        &[
            "trust",
            "init",
            "u",
            "--root-key",
            "root.key",
            "--expires",
            "soon",
        ],
        1,
        "`soon`: not a time",
    );
    expect(
        &[
            "trust",
            "init",
            "u",
            "--root-key",
            "root.key",
            "--threshold",
            "2",
            "--expires",
            "1d",
        ],
        101,
        "(root-threshold)",
    );
    expect(&["build", "--folder", "nowhere"], 1, "nowhere: ");
    desk.write("tiny/Muscle.toml", &SETTINGS.replace("memory =", "memroy ="));
    expect(&["build", "--folder", "tiny"], 1, "memroy");
    desk.write("tiny/Muscle.toml", &SETTINGS.replace("'tiny'", "'../tiny'"));
    expect(&["build", "--folder", "tiny"], 101, "(name-invalid)");
    // A program of the host is no muscle.
    let host = env!("CARGO_BIN_EXE_cargo-muscle");
    expect(
        &["build", "--elf", host, "--settings", "tiny/Muscle.toml"],
        101,
        "(elf-interpreter)",
    );
}

#[test]
fn new_writes_a_muscle_that_builds() {
    let desk = Desk::ready();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
    let sdk = sdk.to_str().expect("UTF-8");
    for (name, flags, exports) in [
        ("com.example.hello", &[][..], serde_json::json!([])),
        ("adder", &["--reactor"], serde_json::json!(["add"])),
    ] {
        desk.ok(&[&["new", name, "--sdk", sdk], flags].concat());
        let folder = name.rsplit('.').next().expect("a label");
        desk.ok(&["build", "--folder", folder, "--key", "me.key"]);
        let shown = desk.ok(&["inspect", "--json", &format!("{name}.muscle")]);
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["exports"], exports);
        let (code, error) = desk.fails(&["new", name, "--sdk", sdk]);
        assert_eq!((code, error.contains("exists already")), (1, true), "{error}");
    }
}

#[test]
fn the_check_by_hand_in_the_documents_works() {
    let document = include_str!("../../../docs/bundle-format.md");
    let (_, script) = document.split_once("```bash\n").expect("a script");
    let (script, _) = script.split_once("```\n").expect("its end");
    let desk = Desk::ready();
    desk.ok(&[
        "build",
        "--folder",
        "tiny",
        "--key",
        "me.key",
        "-o",
        "hello.muscle",
    ]);
    let check = |folder: &str| {
        let folder = desk.path().join(folder);
        let output = Command::new("bash")
            .args(["-c", script])
            .current_dir(folder)
            .output();
        let output = output.expect("bash is installed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    };
    let bundle = fs::read(desk.path().join("hello.muscle")).expect("a bundle");
    let mut flipped = bundle.clone();
    *flipped.last_mut().expect("a byte") ^= 1;
    let mut renamed = bundle.clone();
    let at = bundle
        .windows(4)
        .position(|bytes| bytes == b"tiny")
        .expect("the name");
    renamed[at] = b'T';
    for (folder, bundle) in [("good", bundle), ("flipped", flipped), ("renamed", renamed)] {
        fs::create_dir(desk.path().join(folder)).expect("a folder");
        fs::write(desk.path().join(folder).join("hello.muscle"), bundle).expect("a bundle");
        fs::copy(
            desk.path().join("me.pub"),
            desk.path().join(folder).join("me.pub"),
        )
        .expect("a key");
    }
    let (good, said) = check("good");
    assert!(
        good && said.contains("Signature Verified Successfully") && said.contains("padding is zero"),
        "{said}"
    );
    assert_eq!(said.matches("-: OK").count(), 2, "{said}");
    let (good, said) = check("flipped");
    assert!(!good && said.contains("-: FAILED"), "{said}");
    let (good, said) = check("renamed");
    assert!(!good && said.contains("Signature Verification Failure"), "{said}");
}
