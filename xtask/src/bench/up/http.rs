//! As much HTTP/1.1 as a bench needs: one connection that is kept, one request at a time.
//!
//! A client library would have threads and pools of its own, which are not what is to be measured.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// For connecting, and for each read and write.
const BOUND: Duration = Duration::from_secs(20);

/// One server, and a connection to it as soon as it was asked something.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; fails for any other status than 200.
    pub(super) fn json(&self) -> Result<Value> {
        if self.status != 200 {
            bail!("answered {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        serde_json::from_slice(&self.body).context("the answer is no JSON")
    }
}

impl Client {
    /// Of the server at `address`, `IP:port`. Does not connect yet.
    pub(super) fn new(address: &str) -> Result<Self> {
        let address = address.parse().with_context(|| format!("{address:?} is no address"))?;
        Ok(Self { address, connection: None })
    }

    pub(super) fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask("GET", path, "")
    }

    pub(super) fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.ask("POST", path, &body.to_string())
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let address = self.address;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n\
             {body}",
            body.len()
        );
        let failed = || format!("{method} http://{address}{path}");
        // A server may have closed a connection that was idle; then it has not seen the request.
        if let Some(answer) = self.connection.take().and_then(|kept| self.exchange(kept, &request).ok()) {
            return Ok(answer);
        }
        let fresh = connect(address).with_context(failed)?;
        self.exchange(fresh, &request).with_context(failed)
    }

    fn exchange(&mut self, mut connection: BufReader<TcpStream>, request: &str) -> io::Result<Answer> {
        connection.get_mut().write_all(request.as_bytes())?;
        let answer = read_answer(&mut connection)?;
        if answer.headers.get("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")) {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, BOUND)?;
    // Else each small request could wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(BOUND))?;
    stream.set_write_timeout(Some(BOUND))?;
    Ok(BufReader::new(stream))
}

fn read_answer(from: &mut impl BufRead) -> io::Result<Answer> {
    let first = read_line(from)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| malformed(&first))?;
    let mut headers = BTreeMap::new();
    loop {
        let line = read_line(from)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        loop {
            let line = read_line(from)?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(|_| malformed(&line))?;
            read_exactly(from, size, &mut body)?;
            read_line(from)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = headers.get("content-length") {
        let length = length.parse().map_err(|_| malformed(length))?;
        read_exactly(from, length, &mut body)?;
    }
    Ok(Answer { status, headers, body })
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

fn read_exactly(from: &mut impl BufRead, size: u64, into: &mut Vec<u8>) -> io::Result<()> {
    if from.take(size).read_to_end(into)? as u64 == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn malformed(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is not HTTP"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn bodies_end_where_their_length_or_their_last_chunk_says() {
        let mut text = &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Y: z\r\n\r\n{}HTTP/1.1 404 No\r\n\
            transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"[..];
        let first = read_answer(&mut text).unwrap();
        assert_eq!((first.status, first.headers["x-y"].as_str(), first.body.as_slice()), (200, "z", &b"{}"[..]));
        assert!(first.json().unwrap().is_object());
        let second = read_answer(&mut text).unwrap();
        assert_eq!((second.status, second.body.as_slice()), (404, &b"abcd"[..]));
        assert!(second.json().is_err());
        assert!(read_answer(&mut text).is_err(), "there is no third");
        assert!(read_answer(&mut &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"[..]).is_err());
    }

    #[test]
    fn a_connection_is_kept_and_made_anew_where_the_server_has_closed_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::new(&listener.local_addr().unwrap().to_string()).unwrap();
        let server = thread::spawn(move || {
            for answers in [2, 1] {
                let (stream, _) = listener.accept().unwrap();
                let mut stream = BufReader::new(stream);
                for _ in 0..answers {
                    while !read_line(&mut stream).unwrap().is_empty() {}
                    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").unwrap();
                }
            }
        });
        for _ in 0..3 {
            assert_eq!(client.get("/").unwrap().body, b"x");
        }
        server.join().unwrap();
    }
}
