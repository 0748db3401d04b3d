//! Counts the listings that reach an engine, by standing between it and whoever asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How a listing begins. A client sends a head in one piece, and no listing has a body.
const LISTING: &[u8] = b"GET /v1/models ";

/// A port whose connections lead to an engine, while this lives.
pub(super) struct Relay {
    listings: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Relay {
    /// From `listen` to the engine at `engine`.
    pub(super) async fn start(listen: SocketAddr, engine: SocketAddr) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap_or_else(|error| panic!("{listen}: {error}"));
        let listings = Arc::new(AtomicU64::new(0));
        let count = listings.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    // What fails is its client's loss, as with the engine itself.
                    let Ok(engine) = TcpStream::connect(engine).await else { return };
                    let _ = client.set_nodelay(true).and_then(|()| engine.set_nodelay(true));
                    let (from_client, to_client) = client.into_split();
                    let (from_engine, to_engine) = engine.into_split();
                    tokio::select! {
                        () = pass(from_client, to_engine, |piece| {
                            let starts = piece.windows(LISTING.len()).filter(|window| *window == LISTING).count();
                            count.fetch_add(starts as u64, Ordering::Relaxed);
                        }) => {}
                        () = pass(from_engine, to_client, |_| {}) => {}
                    }
                });
            }
        });
        Self { listings, task }
    }

    /// How many have come so far.
    pub(super) fn listings(&self) -> u64 {
        self.listings.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut look: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        look(&buffer[..count]);
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
