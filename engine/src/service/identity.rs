//! Who a party is and whom it accepts: certificates of TLS 1.3.
//!
//! Both sides present a certificate (mutual TLS). A peer's is accepted if its SHA-256 fingerprint is on a list, as
//! with keys of SSH, or if an authority on another list signed it, as in any public-key infrastructure. A certificate that has expired
//! is accepted in neither case. The fingerprint is that of the whole certificate (DER), which `sirnn certificate new` prints.

use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::{CryptoProvider, ring as provider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName, OtherError,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What is wrong with a certificate, a key or a list.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct IdentityError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

fn about<E: fmt::Display>(path: &Path) -> impl Fn(E) -> IdentityError {
    |what| IdentityError { path: path.into(), what: what.to_string() }
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate (DER).
    pub fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    /// 64 hexadecimal digits, with or without colons between bytes, perhaps behind `sha256:`.
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("'{s}' is not a SHA-256 fingerprint: 64 hexadecimal digits");
        let digits = s.strip_prefix("sha256:").or_else(|| s.strip_prefix("SHA256:")).unwrap_or(s).replace(':', "");
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// Where a party's identity and those it accepts are written down.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Certificate chain, PEM, the party's own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Peers that are accepted.
    pub fingerprints: Vec<Fingerprint>,
    /// More of them: one a line; `#` begins a comment.
    pub fingerprint_file: Option<PathBuf>,
    /// Authorities (PEM) whose certificates are accepted.
    pub authority: Option<PathBuf>,
    /// The name in a certificate of an authority. A client expects that of the server's address unless it says
    /// otherwise; a server accepts any.
    pub name: Option<String>,
}

/// An identity that was read, as TLS needs it.
#[derive(Clone)]
pub struct Identity {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint)
    }
}

impl Identity {
    /// Reads it.
    ///
    /// # Errors
    /// A file cannot be read or is not what it should be, or nobody would be accepted.
    pub fn load(settings: &Settings) -> Result<Self, IdentityError> {
        let Settings { certificate, key, fingerprint_file, authority, .. } = settings;
        let chain = certificates(certificate)?;
        let own = Fingerprint::of(&chain[0]);
        check_dates(&chain[0], UnixTime::now())
            .map_err(|e| about(certificate)(format!("the certificate is of no use: {e:?}")))?;
        let private = || PrivateKeyDer::from_pem_file(key).map_err(|e| about(key)(format!("no private key: {e}")));
        let mut fingerprints = settings.fingerprints.clone();
        if let Some(file) = fingerprint_file {
            let text = std::fs::read_to_string(file).map_err(about(file))?;
            for (i, line) in text.lines().enumerate() {
                let line = line.split('#').next().unwrap_or_default().trim();
                if !line.is_empty() {
                    fingerprints.push(line.parse().map_err(|e| about(file)(format!("line {}: {e}", i + 1)))?);
                }
            }
        }
        let name = settings.name.as_ref().map(|name| ServerName::try_from(name.clone())).transpose();
        let name = name.map_err(|_| about(certificate)("the name that a peer should have is none".to_string()))?;
        let crypto = Arc::new(provider::default_provider());
        let (mut servers, mut clients) = (None, None);
        if let Some(file) = authority {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(about(file))?;
            }
            let roots = Arc::new(roots);
            let built = WebPkiServerVerifier::builder_with_provider(roots.clone(), crypto.clone()).build();
            servers = Some(built.map_err(about(file))?);
            let built = WebPkiClientVerifier::builder_with_provider(roots, crypto.clone()).build();
            clients = Some(built.map_err(about(file))?);
        }
        if fingerprints.is_empty() && authority.is_none() {
            return Err(about(certificate)("nobody would be accepted: name a fingerprint or an authority".to_string()));
        }
        let verifier =
            Arc::new(Verifier { fingerprints, servers, clients, name: name.clone(), crypto: crypto.clone() });
        let unusable = about::<rustls::Error>(key);
        let tls13 = &[&rustls::version::TLS13];
        let mut client = ClientConfig::builder_with_provider(crypto.clone())
            .with_protocol_versions(tls13)
            .map_err(&unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_auth_cert(chain.clone(), private()?)
            .map_err(&unusable)?;
        let mut server = ServerConfig::builder_with_provider(crypto)
            .with_protocol_versions(tls13)
            .map_err(&unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, private()?)
            .map_err(&unusable)?;
        // Every connection proves who it is anew.
        client.resumption = Resumption::disabled();
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { server: Arc::new(server), client: Arc::new(client), name, fingerprint: own })
    }

    /// This party's own fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// TLS of a server.
    ///
    /// # Errors
    /// None that is expected.
    pub fn accept(&self) -> Result<rustls::Connection, rustls::Error> {
        Ok(ServerConnection::new(self.server.clone())?.into())
    }

    /// TLS of a client that connected to a host.
    ///
    /// # Errors
    /// The host is no name.
    pub fn connect(&self, host: &str) -> Result<rustls::Connection, rustls::Error> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_string())
                .map_err(|_| rustls::Error::General(format!("'{host}' is not a host's name")))?,
        };
        Ok(ClientConnection::new(self.client.clone(), name)?.into())
    }
}

/// The certificates in a PEM file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(about(path)("there is no certificate in it")),
        Err(e) => Err(about(path)(format!("no certificate: {e}"))),
    }
}

fn parse(certificate: &CertificateDer<'_>) -> Result<(i64, i64, Vec<String>), rustls::Error> {
    let bad = |_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(bad)?;
    let names = parsed.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_string()),
        _ => None,
    };
    let validity = parsed.validity();
    let names = names.into_iter().flatten().filter_map(name).collect();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp(), names))
}

fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (from, until, _) = parse(certificate)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    match now {
        _ if now < from => Err(CertificateError::NotValidYet.into()),
        _ if now > until => Err(CertificateError::Expired.into()),
        _ => Ok(()),
    }
}

/// Who a certificate (DER) says that it is: its names, or its fingerprint if it has none.
pub fn describe(certificate: &[u8]) -> String {
    let names = parse(&CertificateDer::from(certificate)).map(|(_, _, names)| names).unwrap_or_default();
    match &names[..] {
        [] => Fingerprint::of(certificate).to_string(),
        names => sirnn_backends::transport::printable(&names.join(" ")),
    }
}

/// Accepts peers.
#[derive(Debug)]
struct Verifier {
    fingerprints: Vec<Fingerprint>,
    servers: Option<Arc<WebPkiServerVerifier>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    name: Option<ServerName<'static>>,
    crypto: Arc<CryptoProvider>,
}

impl Verifier {
    /// By fingerprint, or as an authority's certificate.
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
        by_authority: impl FnOnce() -> Option<Result<(), rustls::Error>>,
    ) -> Result<(), rustls::Error> {
        let found = Fingerprint::of(certificate);
        if self.fingerprints.contains(&found) {
            return check_dates(certificate, now);
        }
        by_authority().unwrap_or_else(|| {
            let what = format!("the peer's certificate has the fingerprint {found}, which is not accepted here");
            Err(CertificateError::Other(OtherError(Arc::new(std::io::Error::other(what)))).into())
        })
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.crypto.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, now, || {
            let authority = self.servers.as_ref()?;
            let verified = authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            Some(verified.map(drop))
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, now, || {
            let verified = self.clients.as_ref()?.verify_client_cert(end_entity, intermediates, now);
            let named = |_| match &self.name {
                Some(name) => verify_server_name(&ParsedCertificate::try_from(end_entity)?, name),
                None => Ok(()),
            };
            Some(verified.and_then(named))
        })?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// A new key and a self-signed certificate.
pub struct NewCertificate {
    /// PEM.
    pub certificate: String,
    /// PEM, secret.
    pub key: String,
    /// Of the certificate.
    pub fingerprint: Fingerprint,
}

/// Makes a key and a certificate for a name (of a host, an address or anything else), valid from a time on.
///
/// # Errors
/// The name cannot stand in a certificate, or there is no randomness.
pub fn new_certificate(name: &str, from: SystemTime, valid: Duration) -> Result<NewCertificate, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new([name.to_string()])?;
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters.not_before = from.into();
    parameters.not_after = (from + valid).into();
    let certificate = parameters.self_signed(&key)?;
    let fingerprint = Fingerprint::of(certificate.der());
    Ok(NewCertificate { certificate: certificate.pem(), key: key.serialize_pem(), fingerprint })
}

/// Files of a new key and certificate.
#[derive(Clone, Debug)]
pub struct NewFiles {
    /// The certificate (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM), readable by its owner alone.
    pub key: PathBuf,
    /// Of the certificate: what the other party has to know.
    pub fingerprint: Fingerprint,
}

/// Makes a key and a self-signed certificate, `key.pem` and `certificate.pem` in a folder. Nothing there is overwritten.
///
/// # Errors
/// The name cannot stand in a certificate, or a file is there already or cannot be written.
pub fn create_certificate(name: &str, folder: &Path, days: u32) -> Result<NewFiles, IdentityError> {
    const DAY: Duration = Duration::from_secs(86_400);
    // Clocks differ: it is valid since an hour ago.
    let from = SystemTime::now() - DAY / 24;
    let new = new_certificate(name, from, DAY * days)
        .map_err(|e| about(folder)(format!("no certificate can be made for '{name}': {e}")))?;
    std::fs::create_dir_all(folder).map_err(about(folder))?;
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
    for (path, mode, content) in [(&key, 0o600, &new.key), (&certificate, 0o644, &new.certificate)] {
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), mode);
        let mut file = options.open(path).map_err(about(path))?;
        file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(about(path))?;
    }
    Ok(NewFiles { certificate, key, fingerprint: new.fingerprint })
}
