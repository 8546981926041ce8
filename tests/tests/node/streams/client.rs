//! A client of a stream that does each thing when it is told to, over HTTP/1.1.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::http::{Answer, connect};
use crate::node::Node;

/// A request of which the head was sent.
pub struct Client {
    line: UnixStream,
    answer: BufReader<UnixStream>,
}

/// How an answer ended in order.
#[derive(Debug)]
pub struct Trailers(Vec<(String, String)>);

impl Trailers {
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Outcome and, if it returned, the result.
    pub fn returned(&self) -> (Option<&str>, Option<&str>) {
        (self.get("referee-outcome"), self.get("referee-result"))
    }

    /// Outcome and name of the error.
    #[track_caller]
    pub fn failed(&self) -> (String, String) {
        let error = self.get("referee-error").unwrap_or_else(|| panic!("{self:?}"));
        let error: Value = serde_json::from_str(error).expect("is JSON");
        let outcome = self.get("referee-outcome").expect("has one").to_owned();
        assert_eq!(error["kind"], outcome.as_str());
        (outcome, error["name"].as_str().expect("is text").to_owned())
    }
}

pub fn path(name: &str, function: &str) -> String {
    format!("/v1/deployments/{name}/stream/{function}")
}

impl Client {
    /// One that wants to be told how the call ends.
    pub fn open(node: &Node, function: &str) -> Client {
        Client::with(node, &path("pipes", function), "te: trailers\r\n")
    }

    /// One with other headers.
    pub fn with(node: &Node, path: &str, headers: &str) -> Client {
        let mut line = connect(&node.socket()).expect("connects");
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: node\r\ntransfer-encoding: chunked\r\n{headers}\r\n");
        line.write_all(head.as_bytes()).expect("is sent");
        let answer = BufReader::new(line.try_clone().expect("a descriptor"));
        Client { line, answer }
    }

    /// The connection, to be written to elsewhere.
    pub fn line(&self) -> UnixStream {
        self.line.try_clone().expect("a descriptor")
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        send(&mut self.line, bytes).expect("is sent");
    }

    /// Says that the body is over.
    #[track_caller]
    pub fn finish(&mut self) {
        self.line.write_all(b"0\r\n\r\n").expect("is sent");
    }

    /// The answer's status and headers.
    pub fn head(&mut self) -> io::Result<Answer> {
        let status = self.text()?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let headers = self.fields()?;
        Ok(Answer {
            status: status.ok_or(io::ErrorKind::InvalidData)?,
            headers,
            body: Vec::new(),
        })
    }

    /// As [`Client::head`], of an answer that streams.
    #[track_caller]
    pub fn begins(&mut self) {
        let head = self.head().expect("is answered");
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    }

    /// The next piece of the body; none at its end.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = self.text()?;
        let length = usize::from_str_radix(&length, 16).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        if length == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; length + 2];
        self.answer.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Some(bytes))
    }

    /// Reads so many bytes of the body.
    #[track_caller]
    pub fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            bytes.extend(self.piece().expect("comes").expect("is not over"));
        }
        bytes
    }

    /// The rest of the body, and how the call ended.
    ///
    /// # Errors
    /// When it breaks off.
    pub fn rest(&mut self) -> io::Result<(Vec<u8>, Trailers)> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece()? {
            bytes.extend(piece);
        }
        Ok((bytes, Trailers(self.fields()?)))
    }

    /// A whole answer that is no stream.
    pub fn refusal(mut self) -> Answer {
        let mut answer = self.head().expect("is answered");
        let length = answer
            .header("content-length")
            .and_then(|length| length.parse().ok());
        answer.body = vec![0; length.expect("is not chunked")];
        self.answer.read_exact(&mut answer.body).expect("comes");
        answer
    }

    fn text(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.answer.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(text) => Ok(text.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.text()?;
            match line.split_once(": ") {
                Some((name, value)) => fields.push((name.to_ascii_lowercase(), value.to_owned())),
                None => return Ok(fields),
            }
        }
    }
}

/// Sends a piece of a body.
pub fn send(line: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    line.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
    line.write_all(bytes)?;
    line.write_all(b"\r\n")
}
