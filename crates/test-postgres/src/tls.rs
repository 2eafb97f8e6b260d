//! A certificate for a server, by an authority of its own.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Makes them, in PEM form.
pub(crate) fn write(directory: &Path, name: &str) -> Files {
    let mut authority = CertificateParams::new([]).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let signed = authority.self_signed(&authority_key).expect("signed");
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new([name.to_owned()]).expect("a host's name");
    let certificate = server.signed_by(&key, &issuer).expect("signed");

    let file = |name: &str, text: String| {
        let path = directory.join(name);
        // PostgreSQL refuses a key that others may read.
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("written");
        path
    };
    Files {
        authority: file("authority.pem", signed.pem()),
        certificate: file("server.pem", certificate.pem()),
        key: file("server.key", key.serialize_pem()),
    }
}
