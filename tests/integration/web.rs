//! HTTP in a few lines, so that tests send and see the very bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::support::PATIENCE;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a field that stands there once; `None`: it does not stand there.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice");
        value
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A connection that is kept.
pub(crate) struct Web<S>(BufReader<S>);

impl Web<UnixStream> {
    pub(crate) fn connect(socket: &Path) -> Web<UnixStream> {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Web(BufReader::new(stream))
    }
}

impl Web<TcpStream> {
    pub(crate) fn connect_tcp(port: u16) -> Web<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Web(BufReader::new(stream))
    }
}

impl<S: Read + Write> Web<S> {
    /// Sends a request with those header lines, each with its line break, and no body.
    pub(crate) fn get(&mut self, target: &str, lines: &str) -> Answer {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"))
    }

    /// As [`Web::get`], with a token.
    pub(crate) fn get_as(&mut self, target: &str, token: &str) -> Answer {
        self.get(target, &format!("Authorization: Bearer {token}\r\n"))
    }

    /// Posts a form.
    pub(crate) fn post(&mut self, target: &str, form: &[u8]) -> Answer {
        self.post_as(target, "application/x-www-form-urlencoded", form)
    }

    /// Posts a body of that type.
    pub(crate) fn post_as(&mut self, target: &str, content_type: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(head.as_bytes());
        // A server that has said no already may not take the rest.
        let _ = self.0.get_mut().write_all(body);
        self.answer().unwrap()
    }

    /// Sends these bytes, and reads one answer.
    pub(crate) fn ask(&mut self, request: &str) -> Answer {
        self.send(request.as_bytes());
        self.answer().unwrap()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// Reads the next answer; `None`: the connection was closed instead.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let mut line = String::new();
        if self.0.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let code = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut fields = Vec::new();
        loop {
            let mut line = Vec::new();
            self.0.read_until(b'\n', &mut line).unwrap();
            let line = String::from_utf8(line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { code, fields, body: String::new() };
        let bytes = answer.field("content-length").map_or(0, |len| len.parse().unwrap());
        let mut body = vec![0; bytes];
        self.0.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        Some(answer)
    }
}
