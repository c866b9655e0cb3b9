//! TLS 1.3 records around the bytes of a socket.
//!
//! Records are at most 16 KiB of our bytes and 22 bytes of their own.

use super::socket::Socket;
use crate::Error;
use rustls::{AlertDescription, CertificateError, Connection};
use std::io::{ErrorKind, Read, Write};

/// Plain bytes that are sealed at a time.
const PIECE: usize = 256 << 10;

/// Sealed bytes that are read at a time.
const READ: usize = 256 << 10;

/// A TLS connection; who it is with is for its configuration to say.
pub(super) struct Tls {
    connection: Connection,
    sealed: Vec<u8>,
    received: Vec<u8>,
    /// The part of `received` that was not opened yet.
    rest: std::ops::Range<usize>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// What [`Tls::read`] found.
pub(super) enum Found {
    Bytes(usize),
    /// Nothing yet, but the peer did something.
    Progress,
    /// Nothing.
    Nothing,
    /// The end.
    End,
}

impl Tls {
    pub(super) fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(None);
        Self { connection, sealed: Vec::new(), received: vec![0; READ], rest: 0..0 }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        self.connection.peer_certificates()?.first().map(|c| &c[..])
    }

    /// Sends what TLS itself has to say.
    pub(super) fn push(&mut self, socket: &mut Socket) -> Result<(), Error> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.sealed)?;
        }
        if !self.sealed.is_empty() {
            socket.push(&self.sealed)?;
            self.sealed.clear();
        }
        Ok(())
    }

    /// Seals and sends.
    pub(super) fn send(&mut self, socket: &mut Socket, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(PIECE) {
            self.connection.writer().write_all(piece)?;
            self.push(socket)?;
        }
        Ok(())
    }

    /// Says that nothing more will come.
    pub(super) fn end(&mut self, socket: &mut Socket) {
        self.connection.send_close_notify();
        // The peer may be gone; then nobody needs to know.
        let _ = self.push(socket);
    }

    /// Opens what is there.
    pub(super) fn read(&mut self, socket: &mut Socket, out: &mut [u8]) -> Result<Found, Error> {
        if !out.is_empty() {
            match self.connection.reader().read(out) {
                Ok(0) => return Ok(Found::End),
                Ok(n) => return Ok(Found::Bytes(n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Ok(Found::End),
            }
        }
        if self.rest.is_empty() {
            match socket.read(&mut self.received)? {
                None => return Ok(Found::Nothing),
                Some(n) => self.rest = 0..n,
            }
        }
        // At the end of the stream this is empty, which rustls takes as such.
        let mut sealed = &self.received[self.rest.clone()];
        let before = sealed.len();
        self.connection.read_tls(&mut sealed)?;
        self.rest.start += before - sealed.len();
        if let Err(e) = self.connection.process_new_packets() {
            // The alert that says why.
            let _ = self.push(socket);
            return Err(Error::Tls(describe(&e)));
        }
        self.push(socket)?;
        if before == 0 {
            return if self.is_handshaking() { Err(Error::Closed("TLS was being set up")) } else { Ok(Found::End) };
        }
        Ok(Found::Progress)
    }
}

/// A TLS error as a line for a person.
fn describe(error: &rustls::Error) -> String {
    use AlertDescription as Alert;
    match error {
        rustls::Error::InvalidMessage(_) => "the peer does not speak TLS, or its messages are damaged".into(),
        rustls::Error::DecryptError => "a message was changed on its way: its seal is broken".into(),
        rustls::Error::NoCertificatesPresented => "the peer presented no certificate".into(),
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::AccessDenied => {
                "the peer does not accept this party's certificate: it is not among those that it knows".into()
            }
            Alert::CertificateExpired => {
                "the peer does not accept this party's certificate: it has expired, or is not valid yet".into()
            }
            Alert::CertificateRequired => "the peer requires a certificate".into(),
            Alert::ProtocolVersion => "the peer does not speak TLS 1.3".into(),
            Alert::BadRecordMac | Alert::DecryptError => "the peer got a message that was changed on its way".into(),
            other => format!("the peer ended the connection: {other:?}"),
        },
        rustls::Error::InvalidCertificate(e) => match e {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the peer's certificate has expired".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the peer's certificate is not valid yet".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the peer's certificate is for another name".into()
            }
            CertificateError::UnknownIssuer => "no accepted authority signed the peer's certificate".into(),
            CertificateError::Other(e) => e.to_string(),
            other => format!("the peer's certificate is invalid: {other:?}"),
        },
        other => other.to_string(),
    }
}
