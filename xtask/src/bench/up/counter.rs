//! Counts the requests that reach an engine, by standing between it and whoever asks.
//!
//! Bytes are passed on as they come, by two threads per connection: the other side notices nothing, and nothing of it
//! runs in the process that is measured.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

/// A port whose connections lead to an engine. It takes no more once it is dropped; those that are open end with either
/// side.
#[derive(Debug)]
pub(super) struct Counter {
    address: SocketAddr,
    tally: Arc<Mutex<Tally>>,
    closed: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Tally {
    /// By method and path, as in `GET /metrics`.
    requests: BTreeMap<String, u64>,
    /// A request was met whose end cannot be told, so that those behind it were not counted.
    lost: bool,
}

impl Counter {
    /// Before the engine at `address`.
    pub(super) fn before(address: &str) -> Result<Self> {
        let engine: SocketAddr = address.parse().with_context(|| format!("{address:?} is no address"))?;
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the counter")?;
        let address = listener.local_addr()?;
        let (tally, closed) = (Arc::<Mutex<Tally>>::default(), Arc::<AtomicBool>::default());
        thread::spawn({
            let (tally, closed) = (tally.clone(), closed.clone());
            move || {
                for client in listener.incoming() {
                    if closed.load(Ordering::SeqCst) {
                        return;
                    }
                    // One that fails is its client's loss, as with the engine itself.
                    let _ = client.and_then(|client| join(client, engine, tally.clone()));
                }
            }
        });
        Ok(Self { address, tally, closed })
    }

    /// Where it answers.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// What has come since it was last asked.
    pub(super) fn take(&self) -> Result<BTreeMap<String, u64>> {
        let Tally { requests, lost } = std::mem::take(&mut *lock(&self.tally));
        if lost {
            bail!("a request's length is not said in its head, so what came behind it was not counted");
        }
        Ok(requests)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        TcpStream::connect(self.address).ok();
    }
}

fn join(client: TcpStream, engine: SocketAddr, tally: Arc<Mutex<Tally>>) -> io::Result<()> {
    let engine = TcpStream::connect(engine)?;
    for stream in [&client, &engine] {
        stream.set_nodelay(true)?;
    }
    let (from_client, to_engine) = (client.try_clone()?, engine.try_clone()?);
    let mut reader = Reader::default();
    thread::spawn(move || pass_on(from_client, to_engine, |bytes| reader.feed(bytes, &mut lock(&tally))));
    thread::spawn(move || pass_on(engine, client, |_| ()));
    Ok(())
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        look(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Either end is the end of both directions. They fail where that is so already.
    to.shutdown(Shutdown::Write).ok();
    from.shutdown(Shutdown::Read).ok();
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finds the heads of requests in the bytes of one connection.
#[derive(Default)]
struct Reader {
    head: Vec<u8>,
    /// Bytes of a body that are still to come.
    body: usize,
    lost: bool,
}

impl Reader {
    fn feed(&mut self, mut bytes: &[u8], tally: &mut Tally) {
        while !bytes.is_empty() && !self.lost {
            if self.body > 0 {
                let skipped = self.body.min(bytes.len());
                self.body -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if self.head.ends_with(b"\r\n\r\n") {
                let head = std::mem::take(&mut self.head);
                self.count(&String::from_utf8_lossy(&head), tally);
            }
        }
    }

    fn count(&mut self, head: &str, tally: &mut Tally) {
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        *tally.requests.entry(format!("{method} {path}")).or_default() += 1;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                self.body = value.trim().parse().unwrap_or(0);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                (self.lost, tally.lost) = (true, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::Client;
    use super::*;

    const BYTES: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\nPOST /v1/load HTTP/1.1\r\ncontent-length: 4\r\n\r\n\
        GET GET /metrics?x=1 HTTP/1.1\r\n\r\n";

    #[test]
    fn requests_are_counted_by_path_however_the_bytes_are_cut() {
        for size in [1, 7, BYTES.len()] {
            let (mut reader, mut tally) = (Reader::default(), Tally::default());
            BYTES.chunks(size).for_each(|part| reader.feed(part, &mut tally));
            let expected = [("GET /metrics".to_owned(), 2), ("POST /v1/load".to_owned(), 1)];
            assert_eq!(tally.requests, BTreeMap::from(expected));
            assert!(!tally.lost);
        }
    }

    #[test]
    fn what_cannot_be_counted_is_said() {
        let (mut reader, mut tally) = (Reader::default(), Tally::default());
        reader.feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &mut tally);
        assert!(tally.lost);
    }

    #[test]
    fn the_answer_comes_through_and_the_request_is_counted() {
        let engine = TcpListener::bind("127.0.0.1:0").unwrap();
        let counter = Counter::before(&engine.local_addr().unwrap().to_string()).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = engine.accept().unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        });
        let mut client = Client::new(&counter.address()).unwrap();
        assert_eq!(client.get("/v1/models").unwrap().body, b"ok");
        server.join().unwrap();
        assert_eq!(counter.take().unwrap(), BTreeMap::from([("GET /v1/models".to_owned(), 1)]));
        assert!(counter.take().unwrap().is_empty(), "taken is taken");
    }
}
