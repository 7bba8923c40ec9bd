//! One HTTP/1.1 request a connection, with bounds on its size and on the time it may take.
//!
//! tiny_http has no such bounds (0.12 reads headers of any length and keeps a thread for each silent connection), and
//! axum brings 44 crates; this is httparse and the standard library.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Bytes of request line and headers, at most: a browser sends a tenth of it.
const HEAD: usize = 8 << 10;
/// Headers, at most.
const HEADERS: usize = 64;
/// Bytes of a body, at most: a control takes 60.
const BODY: usize = 1 << 10;
/// Until the request must be there, and until a reader must have taken what is written.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a browser asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// Status code and sentence of a request that is refused before it is looked at.
pub(super) type Refusal = (u16, &'static str);

/// What is sent back.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The only value of a header; an error where there are several.
    pub(super) fn header(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut found = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        if found.next().is_some() { Err((400, "a header is there twice")) } else { Ok(value) }
    }

    /// The first value of a key in the query.
    pub(super) fn query(&self, key: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(own, _)| *own == key))
            .map(|(_, value)| value)
    }

    /// What the bytes so far say: the request without its body, and where the body begins; none where they are cut.
    fn of_head(bytes: &[u8]) -> Result<Option<(Self, usize)>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let end = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err((431, "too many headers")),
            Err(_) => return Err((400, "this is no HTTP request")),
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| (400, "a header is no text"));
        let headers = parsed.headers.iter().map(|header| Ok((header.name.to_owned(), text(header.value)?)));
        let request = Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            headers: headers.collect::<Result<_, Refusal>>()?,
            body: Vec::new(),
        };
        Ok(Some((request, end)))
    }

    /// Bytes of the body that the headers announce.
    fn length(&self) -> Result<usize, Refusal> {
        if self.header("transfer-encoding")?.is_some() {
            return Err((411, "a body needs a length"));
        }
        let length = self.header("content-length")?.map_or(Ok(0), str::parse);
        match length {
            Ok(length) if length <= BODY => Ok(length),
            Ok(_) => Err((413, "the body is too long")),
            Err(_) => Err((400, "the body's length is no number")),
        }
    }
}

/// Reads a request; the inner error is to be answered, the outer one is a connection that is cut or silent.
pub(super) fn read(stream: &mut TcpStream) -> std::io::Result<Result<Request, Refusal>> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let until = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let head = loop {
        match Request::of_head(&bytes) {
            Err(refusal) => return Ok(Err(refusal)),
            Ok(Some(found)) => break found,
            Ok(None) if bytes.len() >= HEAD => return Ok(Err((431, "the headers are too long"))),
            Ok(None) => more(stream, &mut bytes, HEAD, until)?,
        }
    };
    let (mut request, end) = head;
    let length = match request.length() {
        Ok(length) => length,
        Err(refusal) => return Ok(Err(refusal)),
    };
    while bytes.len() < end + length {
        more(stream, &mut bytes, end + length, until)?;
    }
    request.body = bytes[end..end + length].to_vec();
    Ok(Ok(request))
}

/// Some more bytes, `most` in all.
fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>, most: usize, until: Instant) -> std::io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    let mut part = [0; 1024];
    let room = part.len().min(most.saturating_sub(bytes.len()));
    match stream.read(&mut part[..room])? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        count => {
            bytes.extend_from_slice(&part[..count]);
            Ok(())
        }
    }
}

/// What every answer carries: nothing is kept, framed, or fetched from elsewhere, and no address is passed on.
const ALWAYS: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
Cross-Origin-Resource-Policy: same-origin\r\nContent-Security-Policy: default-src 'none'; script-src 'self'; \
style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
Connection: close\r\n";

impl Response {
    pub(super) fn new(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, kind, body: body.into() }
    }

    pub(super) fn refused((status, sentence): Refusal) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: format!("{sentence}\n").into() }
    }

    pub(super) fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{ALWAYS}\r\n",
            self.status,
            reason(self.status),
            self.kind,
            self.body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body)?;
        stream.flush()
    }
}

/// Begins a stream of server-sent events; a browser that loses it comes again after a second.
pub(super) fn begin_events(stream: &mut TcpStream) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{ALWAYS}\r\nretry: 1000\n\n");
    stream.write_all(head.as_bytes())
}

/// One event; the text has no line breaks.
pub(super) fn send_event(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(format!("data: {text}\n\n").as_bytes())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    /// What is read of a connection that sends these bytes and nothing more.
    fn read_of(bytes: &[u8]) -> std::io::Result<Result<Request, Refusal>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let bytes = bytes.to_vec();
        let sender = std::thread::spawn(move || {
            let _ = client.write_all(&bytes);
            let _ = client.shutdown(Shutdown::Write);
        });
        let read = read(&mut server);
        drop(server);
        sender.join().unwrap();
        read
    }

    #[test]
    fn a_request_is_read_with_its_query_and_body() {
        let text = b"POST /control?run=1&x= HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}tail";
        let request = read_of(text).unwrap().unwrap();
        assert_eq!((request.method.as_str(), request.body.as_slice()), ("POST", b"{}".as_slice()));
        assert_eq!(request.header("host"), Ok(Some("a")));
        assert_eq!(
            (request.query("run"), request.query("x"), request.query("y")),
            (Some("1"), Some(""), None)
        );
    }

    #[test]
    fn what_is_huge_or_no_request_is_answered_with_the_reason() {
        let status = |text: String| read_of(text.as_bytes()).unwrap().unwrap_err().0;
        assert_eq!(status(format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20))), 431);
        assert_eq!(status(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1))), 431);
        assert_eq!(status("GET / HTTP/1.1\r\nContent-Length: 1025\r\n\r\n".to_owned()), 413);
        assert_eq!(status("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned()), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()), 411);
        assert_eq!(
            status("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned()),
            400
        );
        assert_eq!(status("\u{7f}\r\n\r\n".to_owned()), 400);
    }

    #[test]
    fn what_is_cut_is_dropped() {
        for text in [
            "",
            "GET / HT",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{}",
        ] {
            assert!(read_of(text.as_bytes()).is_err(), "{text}");
        }
    }
}
