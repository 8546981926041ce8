//! Certificates for tests: an authority, and what it makes out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy)]
pub enum Named {
    Uri(&'static str),
    Uris([&'static str; 2]),
    Dns(&'static str),
    /// Only by the subject's common name.
    Common(&'static str),
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("is made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).expect("signs").pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Writes its own certificate.
    pub fn write(&self, path: &Path) {
        fs::write(path, &self.pem).expect("is written");
    }

    /// Makes out a certificate that is good today, and writes it as `NAME.pem` and `NAME.key`.
    pub fn make(&self, folder: &Path, name: &str, named: Named) -> Identity {
        self.make_until(folder, name, named, 2999)
    }

    /// The same, good until this year.
    pub fn make_until(&self, folder: &Path, name: &str, named: Named, year: i32) -> Identity {
        let key = KeyPair::generate().expect("is made");
        let mut params = CertificateParams::default();
        let uri = |uri: &str| SanType::URI(uri.try_into().expect("is ASCII"));
        match named {
            Named::Uri(one) => params.subject_alt_names.push(uri(one)),
            Named::Uris(both) => params.subject_alt_names.extend(both.map(uri)),
            Named::Dns(dns) => {
                let dns = SanType::DnsName(dns.try_into().expect("is ASCII"));
                params.subject_alt_names.push(dns);
            }
            Named::Common(common) => params.distinguished_name.push(DnType::CommonName, common),
        }
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        let identity = Identity {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        fs::write(&identity.certificate, certificate.pem()).expect("is written");
        // As one that is there already may be replaced.
        let _ = fs::remove_file(&identity.key);
        fs::write(&identity.key, key.serialize_pem()).expect("is written");
        fs::set_permissions(&identity.key, fs::Permissions::from_mode(0o600)).expect("is ours");
        identity
    }
}
