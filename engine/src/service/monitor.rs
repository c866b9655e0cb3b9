//! `/metrics`, `/healthz` and `/readyz` over HTTP: for Prometheus and for whoever watches over the process.
//!
//! Answers one small request per connection; never a secret. It belongs on an address that the public does not reach.

use super::ServiceError;
use super::server::Controller;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Longest request.
const MAX_REQUEST: usize = 8 << 10;
/// Longest time for a request or an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Answers at an address, in a thread of its own, until the process ends. Returns where that is.
///
/// # Errors
/// Those of the socket.
pub fn start(address: impl ToSocketAddrs, server: Controller) -> Result<SocketAddr, ServiceError> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("monitor".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who asks too slowly gets nothing, and must not hold the others up for long.
            let _ = serve(stream, &server);
        }
    })?;
    Ok(address)
}

fn serve(mut stream: TcpStream, server: &Controller) -> std::io::Result<()> {
    let end = Instant::now() + TIMEOUT;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut request = Vec::new();
    let path = loop {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 1024];
        let n = stream.read(&mut piece)?;
        request.extend_from_slice(&piece[..n]);
        match path(&request) {
            Some(path) => break path,
            None if n == 0 || request.len() > MAX_REQUEST || Instant::now() >= end => return Ok(()),
            None => {}
        }
    };
    let (status, kind, body) = match path.as_str() {
        "GET /metrics" => ("200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", server.metrics()),
        "GET /healthz" => ("200 OK", "text/plain", "ok\n".into()),
        "GET /readyz" if server.is_ready() => ("200 OK", "text/plain", "ok\n".into()),
        "GET /readyz" => ("503 Service Unavailable", "text/plain", "shutting down\n".into()),
        _ => ("404 Not Found", "text/plain", "there are /metrics, /healthz and /readyz\n".into()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Method and path of a complete request; nothing sensible for one that is malformed.
fn path(request: &[u8]) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => {
            let path = parsed.path.unwrap_or_default().split('?').next().unwrap_or_default();
            Some(format!("{} {path}", parsed.method.unwrap_or_default()))
        }
        Err(_) => Some(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn requests_are_read() {
        assert_eq!(path(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"), Some("GET /metrics".into()));
        assert_eq!(path(b"GET /metrics HTTP/1.1\r\nHost"), None);
        assert_eq!(path(b"\x16\x03\x01 nonsense"), Some(String::new()));
    }
}
