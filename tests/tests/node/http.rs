//! A client of few words: one request on one connection, byte for byte as a test wants it.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::SOON;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Kind and name of the error, with the status.
    pub fn refusal(&self) -> (u16, String, String) {
        let body = self.json();
        let part = |name: &str| {
            let part = body.pointer(&format!("/error/{name}")).and_then(Value::as_str);
            part.unwrap_or_else(|| panic!("no {name}: {body}")).to_owned()
        };
        (self.status, part("kind"), part("name"))
    }

    pub fn message(&self) -> String {
        let body = self.json();
        let message = body.pointer("/error/message").and_then(Value::as_str);
        message.unwrap_or_default().to_owned()
    }

    /// Whether it is this refusal.
    #[track_caller]
    pub fn is(&self, status: u16, kind: &str, name: &str) {
        let expected = (status, kind.to_owned(), name.to_owned());
        assert_eq!(self.refusal(), expected, "{}", self.message());
    }

    /// The body of an answer that is good.
    #[track_caller]
    pub fn good(self) -> Vec<u8> {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }
}

/// A connection that waits for nothing for ever.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))?;
    Ok(stream)
}

/// A request's head, with the length of its body.
pub fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {length}\r\n\r\n"));
    head
}

/// Sends a request and reads the answer to its end.
pub fn ask(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = connect(socket)?;
    stream.write_all(head(method, path, headers, body.len()).as_bytes())?;
    // Who refuses a body need not read it.
    let _ = stream.write_all(body);
    answer(stream)
}

/// Reads an answer to its end. The node may close a connection whose request it did not read whole, so what came counts.
pub fn answer(mut stream: impl io::Read) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if bytes.is_empty() => Err(error),
        _ => parse(&bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into()),
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut answer = Answer {
        status,
        headers,
        body: bytes.get(end + 4..)?.to_vec(),
    };
    match answer.header("content-length").map(str::parse::<usize>) {
        Some(length) if length != Ok(answer.body.len()) => return None,
        _ => {}
    }
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = chunks(&answer.body)?;
    }
    Some(answer)
}

/// The pieces of a chunked body, which must have its end (RFC 9112, 7.1).
fn chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(rest.get(..line)?).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + length)?);
        rest = rest.get(line + 2 + length + 2..)?;
    }
}
