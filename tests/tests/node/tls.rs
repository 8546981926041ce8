//! The API on TCP: who comes in, as whom, and that those who do not come in harm nobody.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use referee_tests::Ended;
use rustix::process::Signal;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, version};

use crate::authority::{Authority, Identity, Named};
use crate::http::{self, Answer};
use crate::node::{Node, configure};
use crate::processes::send;
use crate::{HOST_ERROR, REJECTED, SOON, acts, setup, text, wait_for};

const DESK: &str = "spiffe://desk.example/risk";
const POLICIES: &str = r#"
    @id("owner") @reason("root") permit (principal is User, action, resource) when { principal.uid == 0 };
    @id("desk") @reason("the desk calls")
    permit (principal == Client::"spiffe://desk.example/risk", action in [Action::"call", Action::"see"], resource == Deployment::"acts");
    @id("watcher") @reason("reads numbers")
    permit (principal, action == Action::"stats", resource) when { principal is Client && principal.name like "watch*.example.com" };
"#;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A node with its authority, and an authority of clients.
struct Office {
    node: Node,
    folder: tempfile::TempDir,
    servers: Authority,
    clients: Authority,
}

impl Office {
    fn open(more: &str) -> Office {
        let folder = tempfile::tempdir().expect("a folder");
        let (servers, clients) = (Authority::new(), Authority::new());
        let lines = furnish(folder.path(), &servers, &clients);
        let node = Node::with(&format!("{lines}{more}"));
        Office {
            node,
            folder,
            servers,
            clients,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self, name: &str, named: Named) -> Identity {
        self.clients.make(self.folder.path(), name, named)
    }

    /// The port, which the node says once it is ready.
    fn port(&self) -> u16 {
        let mut port = None;
        wait_for("the node says its port", || {
            let words = self.node.words();
            let (_, after) = words.rsplit_once("https 127.0.0.1:").unwrap_or_default();
            port = after.split_once('\n').and_then(|(digits, _)| digits.parse().ok());
            port.is_some()
        });
        port.expect("was waited for")
    }

    /// The command line by way of TCP.
    fn cli(&self, who: &Identity, arguments: &[&str]) -> Ended {
        let mut command = self.command(who, arguments);
        command.env("REFEREE_CA", self.path("servers.pem"));
        Ended::of(command.spawn().expect("starts")).expect("ends")
    }

    fn command(&self, who: &Identity, arguments: &[&str]) -> Command {
        let mut command = setup().program.command(arguments);
        command
            .env("REFEREE_HOST", format!("https://localhost:{}", self.port()))
            .env("REFEREE_CERT", &who.certificate)
            .env("REFEREE_KEY", &who.key);
        command
    }

    fn config(&self, who: Option<&Identity>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.path("servers.pem")).expect("is one");
        roots.add(authority).expect("is one");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13])
            .expect("is there")
            .with_root_certificates(roots);
        match who {
            None => config.with_no_client_auth(),
            Some(who) => {
                let certificate = CertificateDer::from_pem_file(&who.certificate).expect("is one");
                let key = PrivateKeyDer::from_pem_file(&who.key).expect("is one");
                config
                    .with_client_auth_cert(vec![certificate], key)
                    .expect("are a pair")
            }
        }
    }

    /// A connection on which nothing was said yet, not even the handshake.
    fn stream(&self, config: ClientConfig) -> Tls {
        let socket = self.plain();
        let name = ServerName::try_from("localhost").expect("is one");
        let connection = ClientConnection::new(Arc::new(config), name).expect("is set up");
        StreamOwned::new(connection, socket)
    }

    fn plain(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port())).expect("somebody listens");
        socket.set_read_timeout(Some(SOON)).expect("is set");
        socket.set_write_timeout(Some(SOON)).expect("is set");
        socket
    }

    /// One request on one connection, if it is let in.
    fn ask(&self, who: Option<&Identity>, method: &str, path: &str) -> std::io::Result<Answer> {
        let mut stream = self.stream(self.config(who));
        stream.write_all(http::head(method, path, &[], 0).as_bytes())?;
        http::answer(&mut stream)
    }

    #[track_caller]
    fn is_let_in(&self, who: &Identity) {
        let answer = self.ask(Some(who), "GET", "/health/live").expect("is let in");
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    #[track_caller]
    fn is_kept_out(&self, who: Option<&Identity>) {
        let answer = self.ask(who, "GET", "/health/live");
        assert!(answer.is_err(), "{answer:?}");
    }
}

/// Writes what a node on TCP needs, and gives the lines of its configuration.
fn furnish(folder: &Path, servers: &Authority, clients: &Authority) -> String {
    servers.write(&folder.join("servers.pem"));
    clients.write(&folder.join("clients.pem"));
    servers.make(folder, "node", Named::Dns("localhost"));
    fs::write(folder.join("api.cedar"), POLICIES).expect("is written");
    let path = |name: &str| text(&folder.join(name));
    format!(
        "api.policies = ['{}']\napi.tcp.address = '127.0.0.1:0'\napi.tcp.certificate = '{}'\napi.tcp.key = '{}'\napi.tcp.client_ca = '{}'\n",
        path("api.cedar"),
        path("node.pem"),
        path("node.key"),
        path("clients.pem")
    )
}

#[test]
fn a_client_may_do_what_policy_says_of_the_name_in_its_certificate() {
    let office = Office::open("");
    office.node.deploy(&acts(), "acts", &[]);
    let desk = office.client("desk", Named::Uri(DESK));
    let called = office.cli(&desk, &["call", "@acts", "arguments", "[7]"]);
    assert_eq!(
        (called.code, called.output().as_str()),
        (Some(0), "[7]\n"),
        "{}",
        called.errors()
    );
    assert_eq!(office.cli(&desk, &["ps", "acts"]).code, Some(0));
    for arguments in [["kill", "acts"], ["pause", "acts"], ["logs", "acts"]] {
        let refused = office.cli(&desk, &arguments);
        assert_eq!(refused.code, REJECTED, "{arguments:?}");
        let words = refused.errors();
        assert!(
            words.contains(DESK) && words.contains("[not-permitted]"),
            "{words}"
        );
    }
    // Changes that were refused are in the log, with who wanted them.
    let records = office.node.records();
    let denied = records
        .iter()
        .find(|record| record["op"] == "deny-kill")
        .expect("is recorded");
    assert_eq!(denied["detail"]["by"], format!("client:{DESK}"));
    let path = "/v1/stats";
    let answer = office.ask(Some(&desk), "GET", path).expect("is let in");
    answer.is(403, "rejected", "not-permitted");
    // Without a URI the DNS name counts, in small letters.
    let watcher = office.client("watcher", Named::Dns("Watcher.Example.COM"));
    let answer = office.ask(Some(&watcher), "GET", path).expect("is let in");
    assert_eq!(answer.status, 200, "{answer:?}");
    // Another URI that looks like it is another client.
    for uri in [
        "spiffe://desk.example/risk/",
        "spiffe://desk.example/Risk",
        "spiffe:watcher.example.com",
    ] {
        let other = office.client("other", Named::Uri(uri));
        let answer = office.ask(Some(&other), "POST", "/v1/deployments/acts/call/count");
        answer.expect("is let in").is(403, "rejected", "not-permitted");
    }
}

#[test]
fn whoever_has_no_certificate_of_the_authority_is_kept_out() {
    let office = Office::open("");
    let folder = office.folder.path();
    office.is_kept_out(None);
    let foreign = Authority::new().make(folder, "foreign", Named::Uri(DESK));
    office.is_kept_out(Some(&foreign));
    let of_servers = office.servers.make(folder, "of-servers", Named::Uri(DESK));
    office.is_kept_out(Some(&of_servers));
    let expired = office
        .clients
        .make_until(folder, "expired", Named::Uri(DESK), 2021);
    office.is_kept_out(Some(&expired));
    // Good, and says not who it is, or says it in two ways, or in one that would be another's.
    for named in [
        Named::Common("spiffe://desk.example/risk"),
        Named::Uris([DESK, "spiffe://desk.example/other"]),
        Named::Uri("watcher.example.com"),
        Named::Uri("spiffe://desk example"),
        Named::Dns("*.example.com"),
    ] {
        office.is_kept_out(Some(&office.client("nameless", named)));
    }
    office.is_let_in(&office.client("desk", Named::Uri(DESK)));
    // The command line says what it was.
    let refused = office.cli(&foreign, &["ps"]);
    assert_eq!(refused.code, HOST_ERROR);
    assert!(refused.errors().contains("alert"), "{}", refused.errors());
}

#[test]
fn nothing_older_than_tls_1_3_and_nothing_but_tls_is_spoken() {
    let office = Office::open("");
    let desk = office.client("desk", Named::Uri(DESK));
    let handshake = |version: &str| {
        let port = format!("127.0.0.1:{}", office.port());
        let mut command = Command::new("openssl");
        command.args(["s_client", "-brief", version, "-connect", &port]);
        command
            .arg("-cert")
            .arg(&desk.certificate)
            .arg("-key")
            .arg(&desk.key);
        let output = command.stdin(Stdio::null()).output().expect("openssl is there");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let new = handshake("-tls1_3");
    assert!(
        new.contains("CONNECTION ESTABLISHED") && new.contains("TLSv1.3"),
        "{new}"
    );
    let old = handshake("-tls1_2");
    assert!(!old.contains("CONNECTION ESTABLISHED"), "{old}");
    let mut plain = office.plain();
    plain
        .write_all(http::head("GET", "/health/live", &[], 0).as_bytes())
        .expect("is taken");
    let answer = http::answer(&mut plain);
    assert!(answer.is_err(), "{answer:?}");
    // HTTP/2 is agreed upon where the client has it.
    let mut config = office.config(Some(&desk));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut stream = office.stream(config);
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .expect("is let in");
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("answers");
    assert_eq!(stream.conn.alpn_protocol(), Some(b"h2".as_slice()));
    assert_eq!(head.get(3), Some(&4), "its first frame is SETTINGS: {head:?}");
}

#[test]
fn the_command_line_refuses_a_node_that_is_not_the_one() {
    let office = Office::open("");
    let desk = office.client("desk", Named::Uri(DESK));
    Authority::new().write(&office.path("foreign.pem"));
    let mut command = office.command(&desk, &["ps"]);
    command.env("REFEREE_CA", office.path("foreign.pem"));
    let refused = Ended::of(command.spawn().expect("starts")).expect("ends");
    assert_eq!(refused.code, HOST_ERROR);
    assert!(refused.errors().contains("certificate"), "{}", refused.errors());
    // Its certificate is for a name, not for the address.
    let mut command = office.command(&desk, &["ps"]);
    command
        .env("REFEREE_CA", office.path("servers.pem"))
        .env("REFEREE_HOST", format!("https://127.0.0.1:{}", office.port()));
    let refused = Ended::of(command.spawn().expect("starts")).expect("ends");
    assert_eq!(refused.code, HOST_ERROR);
    assert!(refused.errors().contains("certificate"), "{}", refused.errors());
    // What it is started with is looked at before anything is sent.
    let mut command = office.command(&desk, &["ps"]);
    command.env_remove("REFEREE_CA");
    let refused = Ended::of(command.spawn().expect("starts")).expect("ends");
    assert_eq!(refused.code, REJECTED);
    assert!(
        refused.errors().contains("--ca is missing"),
        "{}",
        refused.errors()
    );
    fs::set_permissions(&desk.key, fs::Permissions::from_mode(0o640)).expect("is ours");
    let refused = office.cli(&desk, &["ps"]);
    assert_eq!(refused.code, REJECTED);
    assert!(refused.errors().contains("chmod 600"), "{}", refused.errors());
}

#[test]
fn who_is_slow_is_sent_away_and_holds_nobody() {
    let office = Office::open("api.header_seconds = 1\n");
    let desk = office.client("desk", Named::Uri(DESK));
    let mut silent: Vec<TcpStream> = (0..20).map(|_| office.plain()).collect();
    let mut half_way = office.plain();
    half_way.write_all(b"\x16\x03\x01\x02\x00\x01").expect("is taken");
    office.is_let_in(&desk);
    assert_eq!(office.node.ask("GET", "/health/live", b"").status, 204);
    // Through the handshake, and then silent.
    let mut idle = office.stream(office.config(Some(&desk)));
    while idle.conn.is_handshaking() {
        idle.conn.complete_io(&mut idle.sock).expect("is let in");
    }
    silent.push(half_way);
    for mut stream in silent {
        assert!(
            matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)),
            "it is closed"
        );
    }
    assert!(matches!(idle.read(&mut [0; 64]), Ok(0) | Err(_)), "it is closed");
    office.is_let_in(&desk);
}

#[test]
fn connections_are_limited_apart_from_those_of_the_socket() {
    let office = Office::open("api.tcp.connections = 2\n");
    let desk = office.client("desk", Named::Uri(DESK));
    let held: Vec<TcpStream> = (0..2).map(|_| office.plain()).collect();
    wait_for("a third is sent away", || {
        office.ask(Some(&desk), "GET", "/health/live").is_err()
    });
    assert_eq!(office.node.ask("GET", "/health/live", b"").status, 204);
    drop(held);
    wait_for("their places are free", || {
        office.ask(Some(&desk), "GET", "/health/live").is_ok()
    });
}

#[test]
fn a_reload_takes_new_certificates_and_drops_no_connection() {
    let office = Office::open("");
    let old = office.client("old", Named::Uri(DESK));
    let mut open = office.stream(office.config(Some(&old)));
    let request = "GET /health/live HTTP/1.1\r\nhost: node\r\n\r\n";
    let mut asks = || {
        open.write_all(request.as_bytes()).expect("is open");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            open.read_exact(&mut byte).expect("answers");
            head.extend(byte);
        }
        assert!(
            head.starts_with(b"HTTP/1.1 204"),
            "{}",
            String::from_utf8_lossy(&head)
        );
    };
    asks();
    // Another authority of clients, and another certificate of the node's.
    let successor = Authority::new();
    let new = successor.make(office.folder.path(), "new", Named::Uri(DESK));
    successor.write(&office.path("clients.pem"));
    let servers = Authority::new();
    servers.make(office.folder.path(), "node", Named::Dns("localhost"));
    office.is_let_in(&old);
    office.is_kept_out(Some(&new));
    // A file that is no good leaves all as it was, by whichever way.
    let key = office.path("node.key");
    let mode = |mode: u32| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("is ours");
    mode(0o644);
    let refused = office.node.cli(&["reload"]);
    assert_eq!(refused.code, REJECTED);
    let words = refused.errors();
    assert!(
        words.contains("api.tcp.key") && words.contains("[tls-invalid]"),
        "{words}"
    );
    send(office.node.pid(), Signal::HUP);
    wait_for("the node hears it", || {
        office.node.words().contains("stay as they were")
    });
    office.is_let_in(&old);
    office.is_kept_out(Some(&new));
    mode(0o600);
    let reloaded = office.node.cli(&["reload"]);
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.errors());
    office.is_kept_out(Some(&new));
    servers.write(&office.path("servers.pem"));
    office.is_let_in(&new);
    office.is_kept_out(Some(&old));
    asks();
}

#[test]
fn files_that_are_no_good_are_refused_at_the_start() {
    let refused = |spoil: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().expect("a folder");
        let lines = furnish(folder.path(), &Authority::new(), &Authority::new());
        spoil(folder.path());
        fs::copy(setup().workshop.trust_store(), folder.path().join("trust.store")).expect("is copied");
        configure(folder.path(), &lines);
        let config = text(&folder.path().join("node.toml"));
        let mut command = setup().program.command(["serve", "--config", &config]);
        let ended = Ended::of(command.spawn().expect("starts")).expect("ends");
        assert_eq!(ended.code, REJECTED, "{}", ended.errors());
        ended.errors()
    };
    let mode = |folder: &Path, mode: u32| {
        fs::set_permissions(folder.join("node.key"), fs::Permissions::from_mode(mode)).expect("is ours");
    };
    for open in [0o604, 0o640, 0o660, 0o644] {
        let words = refused(&|folder| mode(folder, open));
        assert!(
            words.contains("api.tcp.key") && words.contains("chmod 600"),
            "{words}"
        );
    }
    let words = refused(&|folder| fs::write(folder.join("node.key"), "none").expect("is written"));
    assert!(words.contains("no private key"), "{words}");
    let words = refused(&|folder| {
        Authority::new().make(folder, "other", Named::Dns("localhost"));
        fs::rename(folder.join("other.key"), folder.join("node.key")).expect("is there");
    });
    assert!(words.contains("api.tcp.key"), "{words}");
    let words = refused(&|folder| fs::remove_file(folder.join("clients.pem")).expect("is there"));
    assert!(words.contains("api.tcp.client_ca"), "{words}");
    let words = refused(&|folder| fs::write(folder.join("node.pem"), "").expect("is written"));
    assert!(
        words.contains("api.tcp.certificate") && words.contains("no certificate"),
        "{words}"
    );
}
