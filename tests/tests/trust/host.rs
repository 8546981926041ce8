//! A host with a software TPM of its own, and the hands of whoever is root there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use referee_attest::{AttestError, Attester, Bundle, Component, Open, Registers, Reply, Request};
use referee_evidence::{Evidence, Reference, Report, check, from_hex};
use referee_tests::Program;

/// A nonce of some verifier.
pub const NONCE: [u8; 32] = [0xA5; 32];
/// NV index of the counter.
pub const COUNTER: u32 = 0x0180_0100;

/// The programs under test.
pub struct Programs {
    pub vmm: Program,
    pub tpm: Program,
    pub verify: Program,
}

pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    let built = |name| Program::built(name).expect("builds");
    PROGRAMS.get_or_init(|| Programs {
        tpm: built("referee-tpm"),
        verify: built("referee-verify"),
        vmm: built("referee-vmm"),
    })
}

/// A host.
pub struct Host {
    folder: tempfile::TempDir,
    pub open: Open,
}

impl Host {
    /// With a new TPM; nothing is measured or sealed.
    pub fn new() -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let component = |(name, seed): (&str, u8)| Component {
            name: name.into(),
            digest: [seed; 32],
        };
        let open = Open {
            tpm: format!("swtpm:{}", folder.path().join("tpm").display()),
            state: Some(folder.path().join("state")),
            registers: Registers {
                identity: 14,
                muscles: 13,
                allow_resettable: false,
            },
            counter: COUNTER,
            components: [("vmm", 1), ("policy", 2), ("trust", 3)].map(component).into(),
            trust_version: 1,
        };
        Host { folder, open }
    }

    /// With its first key, and one bundle that has run.
    pub fn ready() -> Host {
        let host = Host::new();
        host.ask(&Request::Init { replace: false })
            .expect("is initialised");
        host.ask(&measure(bundle("first", 7))).expect("is measured");
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn tpm_directory(&self) -> PathBuf {
        self.path("tpm")
    }

    pub fn session(&self) -> Attester {
        Attester::start(programs().tpm.path(), self.open.clone(), Duration::from_secs(60)).expect("opens")
    }

    pub fn ask(&self, request: &Request) -> Result<Reply, AttestError> {
        self.session().ask(request)
    }

    /// The name by which a request is refused.
    pub fn refused(&self, request: &Request) -> String {
        match self.ask(request) {
            Err(AttestError::Failed { name, .. }) => name,
            Err(AttestError::Rejected { rule, .. }) => rule.name().to_owned(),
            other => panic!("should be refused: {other:?}"),
        }
    }

    pub fn evidence(&self, nonce: &[u8]) -> Evidence {
        evidence_of(&mut self.session(), nonce)
    }

    pub fn reference(&self) -> Reference {
        reference_of(&mut self.session())
    }

    /// Epoch and instance key.
    pub fn keys(&self) -> (u64, String) {
        match self.ask(&Request::Status).expect("has a state") {
            Reply::Status {
                epoch, instance_key, ..
            } => (epoch, instance_key),
            other => panic!("{other:?}"),
        }
    }

    /// A running TPM for somebody with other tools.
    pub fn tools(&self) -> Tools {
        Tools::new(&self.tpm_directory())
    }
}

/// The TPM in the hands of whoever has `tpm2-tools`; it goes to sleep as Referee leaves it.
pub struct Tools {
    process: std::process::Child,
    tcti: String,
}

impl Tools {
    fn new(directory: &Path) -> Tools {
        let socket = directory.join("other.sock");
        let control = directory.join("other.sock.ctrl");
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-state"])
            .arg("--tpmstate")
            .arg(format!("dir={}", directory.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", control.display()))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("swtpm starts");
        while !(socket.exists() && control.exists()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Tools {
            process,
            tcti: format!("swtpm:path={}", socket.display()),
        }
    }

    /// Where the TPM is.
    pub fn socket(&self) -> &Path {
        Path::new(self.tcti.trim_start_matches("swtpm:path="))
    }

    fn output(&self, program: &str, arguments: &[&str]) -> std::process::Output {
        Command::new(program)
            .args(arguments)
            .env("TPM2TOOLS_TCTI", &self.tcti)
            .output()
            .expect("tpm2-tools are installed")
    }

    /// Whether it succeeds.
    pub fn try_run(&self, program: &str, arguments: &[&str]) -> bool {
        self.output(program, arguments).status.success()
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.output(program, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {text}{errors}");
        text
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        self.run("tpm2_shutdown", &[]);
        let _ = self.process.kill();
        let _ = self.process.wait();
        for name in ["other.sock", "other.sock.ctrl"] {
            let _ = std::fs::remove_file(self.socket().with_file_name(name));
        }
    }
}

pub fn evidence_of(session: &mut Attester, nonce: &[u8]) -> Evidence {
    let request = Request::Evidence {
        nonce: referee_evidence::to_hex(nonce),
        spoke: BTreeMap::new(),
        audit_head: None,
    };
    match session.ask(&request).expect("gives evidence") {
        Reply::Bytes { bytes } => {
            Evidence::parse(&from_hex(&bytes).expect("is hexadecimal")).expect("is evidence")
        }
        other => panic!("{other:?}"),
    }
}

pub fn reference_of(session: &mut Attester) -> Reference {
    match session.ask(&Request::Reference).expect("writes itself down") {
        Reply::Text { text } => Reference::parse(&text).expect("is a reference"),
        other => panic!("{other:?}"),
    }
}

pub fn bundle(name: &str, seed: u8) -> Bundle {
    Bundle {
        muscle: format!("{name} 1.0.0"),
        digest: [seed; 32],
        signer: [9; 32],
        epoch: 1,
    }
}

/// What a verifier finds.
pub fn checked(evidence: &Evidence, reference: &Reference) -> Report {
    check(&evidence.to_bytes(), &NONCE, reference)
}

/// Checks that exactly this one thing is wrong.
pub fn assert_fails(report: &Report, check: &str) {
    assert_eq!(report.failures(), [check], "\n{report}");
    assert!(!report.holds());
}

pub fn measure(bundle: Bundle) -> Request {
    Request::Measure {
        bundle,
        to_be_signed: false,
    }
}
