//! A simulated engine that answers over HTTP as vLLM does, byte for byte where it matters.
//!
//! It reads adapters from disk and judges them as the real one does, keeps the same limits, blocks where the real one
//! blocks and dies where the real one dies. Where it differs from the real one, [`crate::contract`] finds it, and it is
//! the simulation that is wrong. Beyond that it can be told to fail: [`Faults`].
//!
//! Beside the engine's own paths its port has two for tests in other processes: `POST /sim/faults` takes a
//! [`FaultRequest`], `GET /sim/log` lists every load and unload with its outcome and life as [`LogEntry`].
//!
//! Every answer begins with the digest of the bytes that made it ([`Digest::short`](longshore_types::Digest::short)),
//! or with the base model's name.

mod adapter;
mod config;
mod control;
mod engine;
mod errors;
mod faults;
mod forms;
mod gauges;
mod generate;
mod http;
mod life;
mod manage;
mod metrics;
mod paths;
mod python;
mod serve;
mod stream;
mod text;
mod weights;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use adapter::digest;
pub use config::{SimConfig, Timing, Version};
pub use control::Control;
pub use faults::{Answer, FaultRequest, Faults, LogEntry, What};

use life::{Life, Log};
use serve::Port;

/// A simulated engine, running in this process. It ends when the value is dropped.
pub struct SimEngine {
    shared: Arc<Shared>,
}

/// What all lives of one engine share.
struct Shared {
    config: Arc<SimConfig>,
    port: Port,
    faults: watch::Sender<Faults>,
    listening: watch::Sender<bool>,
    log: Log,
    life: Mutex<Option<Current>>,
    /// Starts and ends of lives come one after the other.
    changing: tokio::sync::Mutex<u32>,
}

struct Current {
    life: Arc<Life>,
    server: Option<JoinHandle<()>>,
}

impl SimEngine {
    /// Starts the engine, with the adapters of its configuration loaded.
    ///
    /// # Errors
    /// Where it cannot listen, or an adapter of the configuration cannot be loaded.
    pub async fn start(config: SimConfig) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            port: Port::hold(config.listen)?,
            config: Arc::new(config),
            faults: watch::Sender::default(),
            listening: watch::Sender::new(false),
            log: Log::default(),
            life: Mutex::new(None),
            changing: tokio::sync::Mutex::new(0),
        });
        shared.restart().await?;
        Ok(Self { shared })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.shared.port.addr
    }

    /// `http://` and where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The handle for faults and for the log.
    pub fn control(&self) -> Control {
        Control { shared: Arc::clone(&self.shared) }
    }

    /// Ends the process, if it runs, and starts another on the same port. It has forgotten every adapter that was
    /// loaded over HTTP; faults stay as they are.
    ///
    /// # Errors
    /// As for [`SimEngine::start`].
    pub async fn restart(&self) -> io::Result<()> {
        self.shared.restart().await
    }

    /// Ends the process at once, as `kill -9` does. [`SimEngine::restart`] starts another.
    pub async fn kill(&self) {
        let _changing = self.shared.changing.lock().await;
        self.shared.end().await;
    }

    /// Ends it in order: new requests are refused with 500, those in flight are finished.
    pub async fn stop(self) {
        if let Some(life) = self.shared.life() {
            life.stop_taking_requests();
            tokio::select! {
                () = life.idle() => {}
                () = life.over.cancelled() => {}
            }
        }
        self.kill().await;
    }
}

impl Drop for SimEngine {
    fn drop(&mut self) {
        if let Some(life) = self.shared.life() {
            life.over.cancel();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        // The value is replaced whole.
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> Option<Arc<Life>> {
        self.lock().as_ref().map(|current| Arc::clone(&current.life))
    }

    async fn end(&self) {
        let server = self.lock().as_mut().and_then(|current| {
            current.life.over.cancel();
            current.server.take()
        });
        if let Some(server) = server {
            // A server that panicked has ended too.
            let _ = server.await;
        }
    }

    async fn restart(self: &Arc<Self>) -> io::Result<()> {
        let mut boot = self.changing.lock().await;
        self.end().await;
        *boot += 1;
        let begun =
            Life::begin(*boot, start_time(), Arc::clone(&self.config), self.faults.subscribe(), Arc::clone(&self.log));
        let life = begun.await.map_err(io::Error::other)?;
        let listener = self.port.listen()?;
        let server = serve::serve(Arc::clone(self), Arc::clone(&life), listener, self.listening.clone());
        let server = Some(tokio::spawn(server));
        *self.lock() = Some(Current { life, server });
        Ok(())
    }
}

/// The present time in the resolution of the real series, 10 ms, and later than that of any life before.
fn start_time() -> f64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = (gauges::unix_now() * 100.0) as u64;
    let before = LAST.fetch_max(now, Ordering::SeqCst);
    let mine = if before >= now { LAST.fetch_add(1, Ordering::SeqCst) + 1 } else { now };
    mine as f64 / 100.0
}
