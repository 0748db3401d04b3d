//! vLLM over HTTP.
//!
//! Facts about vLLM come from runs of 0.11.0 and 0.32.0, request by request. Between them an adapter that does not
//! load is a 400 or a 500, and the texts differ; the outcome here is the same.

mod listing;
mod metrics;
mod refusal;

use std::time::Duration;

use async_trait::async_trait;
use longshore_types::{AdapterName, Fault, Secret};
use reqwest::Client;

use crate::error::{Call, Error, Refusal};
use crate::http::{Answer, BaseUrl, Question};
use crate::port::{Engine, Models, Signals};
use crate::words::clean_path;

use refusal::{Said, refusal};

/// The most that a listing or the metrics may have. An entry of a listing has about 450 bytes; the metrics begin with
/// 50 KB and grow by a line with each combination of adapters ever seen.
const LARGE: usize = 16 << 20;

/// The most that is read of an answer to a load, an unload or a question for health: a sentence.
const SMALL: usize = 64 << 10;

/// Where one vLLM answers, and how long it may take.
#[derive(Clone, Debug)]
pub struct VllmConfig {
    /// Where its API begins.
    pub base_url: BaseUrl,
    /// Its own bearer token.
    pub api_key: Option<Secret>,
    /// For a listing, the metrics and its health, which it answers in milliseconds even while a load blocks it.
    pub call_timeout: Duration,
    /// For an unload.
    pub unload_timeout: Duration,
    /// For a load. One that takes longer goes on in the engine: the outcome is then unknown.
    pub load_timeout: Duration,
}

impl VllmConfig {
    /// The engine at `base_url`: no key, 2 s for a call, 5 s for an unload, 30 s for a load. How long a connection may
    /// take is the client's: see [`crate::http_client`].
    pub fn new(base_url: BaseUrl) -> Self {
        Self {
            base_url,
            api_key: None,
            call_timeout: Duration::from_secs(2),
            unload_timeout: Duration::from_secs(5),
            load_timeout: Duration::from_secs(30),
        }
    }
}

/// One vLLM engine.
///
/// A load asks for a listing before (a name that is taken is never asked for: 0.11.0 would load an adapter over the base
/// model) and, unless the engine says that it loaded, one after, and its health where nothing else tells. So it comes
/// back within `load_timeout` and three times `call_timeout`, an unload within `unload_timeout` and three times that.
///
/// `load_inplace` is never used: vLLM would read the files again at each use of the adapter.
#[derive(Clone, Debug)]
pub struct Vllm {
    client: Client,
    config: VllmConfig,
}

/// What a listing says of one name.
enum Held {
    /// It is a base model's.
    Base,
    /// An adapter has it, from this root.
    Adapter(String),
    /// Nothing has it.
    No,
}

impl Vllm {
    /// Speaks to the engine that `config` names, through `client`, which all engines may share.
    pub fn new(client: Client, config: VllmConfig) -> Self {
        Self { client, config }
    }

    async fn ask(&self, call: Call, body: Option<String>, key: Option<&Secret>) -> Result<Answer, Error> {
        let within = match call {
            Call::Models | Call::Metrics | Call::Health => self.config.call_timeout,
            Call::Load => self.config.load_timeout,
            Call::Unload => self.config.unload_timeout,
        };
        Question { client: &self.client, base: &self.config.base_url, call, body, key, within }.ask().await
    }

    /// As [`Self::ask`], for a question whose only good answer is 200.
    async fn get(&self, call: Call, key: Option<&Secret>) -> Result<Answer, Error> {
        let answer = self.ask(call, None, key).await?;
        match answer.status() {
            200 => Ok(answer),
            status => {
                let words = Said::read(answer, &self.secrets(key)).await?.words;
                Err(Error::Status { call, status, words })
            }
        }
    }

    /// Everything that must not be shown when the engine echoes it.
    fn secrets<'a>(&'a self, key: Option<&'a Secret>) -> Vec<&'a Secret> {
        self.config.api_key.iter().chain(key).collect()
    }

    /// An adapter's key is for its own load and unload; listings use it only where the engine has none of its own.
    fn reading_key<'a>(&'a self, key: Option<&'a Secret>) -> Option<&'a Secret> {
        self.config.api_key.as_ref().or(key)
    }

    fn writing_key<'a>(&'a self, key: Option<&'a Secret>) -> Option<&'a Secret> {
        key.or(self.config.api_key.as_ref())
    }

    async fn list(&self, key: Option<&Secret>) -> Result<Models, Error> {
        let answer = self.get(Call::Models, self.reading_key(key)).await?;
        listing::parse(&answer.bytes(LARGE).await?)
    }

    async fn scrape(&self) -> Result<Signals, Error> {
        let answer = self.get(Call::Metrics, self.reading_key(None)).await?;
        let mut scrape = metrics::Scrape::default();
        answer.read(LARGE, |chunk| scrape.feed(chunk)).await?;
        scrape.finish()
    }

    async fn held(&self, name: &AdapterName, key: Option<&Secret>) -> Result<Held, Error> {
        let models = self.list(key).await?;
        // First: in 0.11.0 an adapter can have a base model's name beside it.
        if models.base.iter().any(|model| model.id == name.as_str()) {
            return Ok(Held::Base);
        }
        let adapter = models.adapters.into_iter().find(|model| model.id == name.as_str());
        Ok(adapter.map_or(Held::No, |model| Held::Adapter(model.root)))
    }

    /// Whether it holds exactly that.
    async fn holds(&self, name: &AdapterName, path: &str, key: Option<&Secret>) -> Result<bool, Error> {
        let holder = match self.held(name, key).await? {
            Held::No => return Ok(false),
            Held::Adapter(root) if root == path => return Ok(true),
            Held::Adapter(root) => format!("an adapter that was loaded from {}", clean_path(&root, &self.secrets(key))),
            Held::Base => "a base model that the engine serves".to_owned(),
        };
        Err(Error::NameTaken { name: name.clone(), holder })
    }

    async fn try_load(&self, name: &AdapterName, path: &str, key: Option<&Secret>) -> Result<(), Error> {
        if self.holds(name, path, key).await? {
            return Ok(());
        }
        let body = serde_json::json!({ "lora_name": name.as_str(), "lora_path": path }).to_string();
        let Err(no) = self.change(Call::Load, body, key).await else { return Ok(()) };
        if matches!(no, No::Failed(Error::Connect { .. } | Error::Key)) {
            return Err(self.settle(Call::Load, no, None).await);
        }
        // Whatever came back, what the engine holds now outweighs it: a load that timed out may be done, and "already
        // loaded" does not say from where.
        match self.holds(name, path, key).await {
            Ok(true) => Ok(()),
            Err(taken @ Error::NameTaken { .. }) => Err(taken),
            listed => Err(self.settle(Call::Load, no, listed.err()).await),
        }
    }

    async fn try_unload(&self, name: &AdapterName, key: Option<&Secret>) -> Result<(), Error> {
        match self.held(name, key).await? {
            Held::No => return Ok(()),
            Held::Adapter(_) => {}
            // 0.11.0 would answer 200 where an adapter lies over the base model; whose doing that is, is not ours to say.
            Held::Base => {
                let holder = "a base model that the engine serves".to_owned();
                return Err(Error::NameTaken { name: name.clone(), holder });
            }
        }
        let body = serde_json::json!({ "lora_name": name.as_str() }).to_string();
        let Err(no) = self.change(Call::Unload, body, key).await else { return Ok(()) };
        match (self.held(name, key).await, no) {
            (Ok(Held::No), _) => Ok(()),
            (listed, no) => Err(self.settle(Call::Unload, no, listed.err()).await),
        }
    }

    /// Asks for a change. `Ok` only where the engine says in so many words that it did it.
    async fn change(&self, call: Call, body: String, key: Option<&Secret>) -> Result<(), No> {
        let answer = self.ask(call, Some(body), self.writing_key(key)).await?;
        let status = answer.status();
        let said = Said::read(answer, &self.secrets(key)).await?;
        // Both versions answer a bare text that begins so. Anything else with a 200 may come from something in between.
        if status == 200 && said.words.starts_with("Success") {
            return Ok(());
        }
        Err(No::Said(status, said))
    }

    /// What a change that was not confirmed, and that a listing did not confirm either, comes down to.
    async fn settle(&self, call: Call, no: No, listing: Option<Error>) -> Error {
        let unsettled = |source| Error::Unsettled { call, source: Box::new(source) };
        let (status, said) = match no {
            No::Failed(timeout @ Error::Timeout { .. }) => return unsettled(timeout),
            // A cut connection is retried as the engine's own end: a load that goes on nevertheless is then met as
            // "already loaded", which a listing resolves.
            No::Failed(error) => return error,
            No::Said(status, said) => (status, said),
        };
        match status {
            401 | 403 | 429 | 502 | 503 => Error::Status { call, status, words: said.words },
            // A gateway's timeout, or a success that is not the engine's.
            200..=299 | 504 => unsettled(Error::Status { call, status, words: said.words }),
            _ => match (refusal(status, &said), listing) {
                (Some(refusal), _) => {
                    let words = if refusal == Refusal::UpdatingOff { String::new() } else { said.words };
                    Error::Refused { call, refusal, words }
                }
                (None, Some(error)) => error,
                (None, None) if self.is_healthy().await => {
                    Error::Refused { call, refusal: Refusal::Other, words: said.words_or(status) }
                }
                (None, None) => Error::Unhealthy { call, words: said.words },
            },
        }
    }

    async fn is_healthy(&self) -> bool {
        self.get(Call::Health, self.reading_key(None)).await.is_ok()
    }
}

/// Why a change is not confirmed.
enum No {
    /// There was no answer.
    Failed(Error),
    /// There was this one.
    Said(u16, Said),
}

impl From<Error> for No {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

#[async_trait]
impl Engine for Vllm {
    async fn models(&self) -> Result<Models, Fault> {
        Ok(self.list(None).await?)
    }

    async fn signals(&self) -> Result<Signals, Fault> {
        Ok(self.scrape().await?)
    }

    async fn load(&self, name: &AdapterName, path: &str, key: Option<&Secret>) -> Result<(), Fault> {
        Ok(self.try_load(name, path, key).await?)
    }

    async fn unload(&self, name: &AdapterName, key: Option<&Secret>) -> Result<(), Fault> {
        Ok(self.try_unload(name, key).await?)
    }
}
