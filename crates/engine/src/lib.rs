//! Talk to inference engines: list what they hold, load, unload, read how busy they are.
//!
//! [`Engine`] is the port: four calls, each with a deadline of its own, each failing with a [`longshore_types::Fault`]
//! whose scope says who should try what again. [`Vllm`] speaks to vLLM over HTTP; [`FakeEngine`] is the one for tests
//! of the layers above, with hangs, faults and restarts on demand.
//!
//! What an engine *lists* outweighs what it *answers*: versions of vLLM differ in status and wording for one and the
//! same case, a load that timed out may still succeed, and "already loaded" says nothing about from where. So whatever
//! a listing can tell is never decided by a message.
//!
//! This crate deliberately knows no policy. It does not retry, does not queue (one load at a time per engine is the
//! caller's to keep), does not check adapters before it loads them, decides nothing by time, and logs nothing. No text
//! that it returns holds a secret.
//!
//! ```
//! use longshore_engine::{Engine, FakeEngine};
//! use longshore_types::AdapterName;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = FakeEngine::new("base");
//! let name: AdapterName = "sql".parse()?;
//!
//! engine.load(&name, "/adapters/one", None).await?;
//! engine.load(&name, "/adapters/one", None).await?; // it holds exactly that already
//!
//! let fault = engine.load(&name, "/adapters/two", None).await.unwrap_err();
//! assert_eq!(fault.reason, "NameTaken");
//! assert_eq!(engine.models().await?.adapters[0].root, "/adapters/one");
//! # Ok(())
//! # }
//! ```

mod error;
mod fake;
mod http;
mod port;
mod vllm;
mod words;

pub use error::{Call, ConnectFailure, Error, Refusal};
pub use fake::{FakeCall, FakeEngine, FakeOperation};
pub use http::{BaseUrl, CONNECT_TIMEOUT, http_client, http_client_with};
pub use port::{Engine, Model, Models, Signals};
pub use vllm::{Vllm, VllmConfig};
