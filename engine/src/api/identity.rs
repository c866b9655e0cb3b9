//! Who a party is, and whom it accepts.

use super::{Error, Result};
use crate::service::identity::{self, Settings, create_certificate};
use std::path::{Path, PathBuf};

/// A certificate with its key, and the peers that are accepted: by the SHA-256 fingerprint of their certificate, or by the authority
/// that signed it. Without either nobody is accepted.
#[derive(Clone, Debug)]
pub struct Identity(Settings);

impl Identity {
    /// Files of a certificate (PEM, perhaps a chain) and its key. They are read when a connection is made or a server begins.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self(Settings {
            certificate: certificate.into(),
            key: key.into(),
            fingerprints: Vec::new(),
            fingerprint_file: None,
            authority: None,
            name: None,
        })
    }

    /// Makes a key and a self-signed certificate for a name, valid for 825 days: `certificate.pem` and `key.pem` in a folder, where nothing
    /// is overwritten. Returns the identity and the fingerprint that the other party has to know.
    ///
    /// # Errors
    /// The name cannot stand in a certificate, or a file is there already or cannot be written.
    pub fn create(name: &str, folder: impl AsRef<Path>) -> Result<(Self, String)> {
        const DAYS: u32 = 825;
        let new = create_certificate(name, folder.as_ref(), DAYS)?;
        Ok((Self::new(new.certificate, new.key), new.fingerprint.to_string()))
    }

    /// Accepts the peer whose certificate has this SHA-256 fingerprint: 64 hexadecimal digits. May be called again for others.
    ///
    /// # Errors
    /// It is no fingerprint.
    pub fn accept(mut self, fingerprint: &str) -> Result<Self> {
        self.0.fingerprints.push(fingerprint.parse().map_err(Error::input)?);
        Ok(self)
    }

    /// Accepts the peers whose fingerprints are in a file, one a line.
    pub fn accept_listed(mut self, file: impl Into<PathBuf>) -> Self {
        self.0.fingerprint_file = Some(file.into());
        self
    }

    /// Accepts peers with a certificate of the authorities in a file (PEM).
    pub fn accept_authority(mut self, file: impl Into<PathBuf>) -> Self {
        self.0.authority = Some(file.into());
        self
    }

    /// The name that such a certificate has to have. Default: at a client the name in the server's address; at a server any.
    pub fn expect_name(mut self, name: impl Into<String>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    pub(super) fn load(&self) -> Result<identity::Identity> {
        Ok(identity::Identity::load(&self.0)?)
    }
}
