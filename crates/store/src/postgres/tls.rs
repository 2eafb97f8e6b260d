//! TLS for connections to the server: rustls, with as much checking as the address asks for.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{Roots, TlsMode};

/// Makes the TLS side of connections, or says why it cannot (the file of authorities is missing, or
/// holds none).
pub(crate) fn connector(mode: TlsMode, roots: &Roots) -> Result<MakeRustlsConnect, String> {
    // Named, since another library of the program may have made another one the process's default.
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let lenient = |trust| Arc::new(Lenient { trust, algorithms });
    let builder = match mode {
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(lenient(Trust::Anyone)),
        TlsMode::VerifyCa => {
            let known = Arc::new(authorities(roots)?);
            let known = WebPkiServerVerifier::builder_with_provider(known, provider)
                .build()
                .map_err(|error| error.to_string())?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(lenient(Trust::AnyName(known)))
        }
        TlsMode::VerifyFull => builder.with_root_certificates(authorities(roots)?),
    };
    let mut config = builder.with_no_client_auth();
    // Asked for by servers that speak TLS from the first byte; the others ignore it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn authorities(roots: &Roots) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let source = match roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            "among the system's (name a file with sslrootcert)".to_owned()
        }
        Roots::File(path) => {
            let path_shown = path.display();
            let fail = |error| format!("the certificates in {path_shown} can't be read: {error}");
            for certificate in CertificateDer::pem_file_iter(path).map_err(fail)? {
                store
                    .add(certificate.map_err(fail)?)
                    .map_err(|error| format!("a certificate in {path_shown}: {error}"))?;
            }
            format!("in {path_shown}")
        }
    };
    if store.is_empty() {
        return Err(format!("there is no certificate authority {source}"));
    }
    Ok(store)
}

/// How much of a certificate matters.
#[derive(Debug)]
enum Trust {
    /// Nothing: against those who listen, not against those who answer.
    Anyone,
    /// That a known authority gave it, whatever name it is for.
    AnyName(Arc<WebPkiServerVerifier>),
}

/// Asks less of a certificate than a web client does. That whoever answers has the certificate's
/// key is checked as always.
#[derive(Debug)]
struct Lenient {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::AnyName(known) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        // The name is looked at last: whoever fails by it has passed everything else.
        match known.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
