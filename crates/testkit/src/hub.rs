//! A hub for models that answers as Hugging Face's does, and fails where it is told to.
//!
//! It has two ports. The hub itself knows repositories, revisions, listings and small files; large ones (LFS) it passes on to
//! the other, the CDN, by a signed link that may run out. What the Python client needs is there: it downloads from it,
//! and `tests/clients` holds it to that.
//!
//! ```
//! use longshore_testkit::hub::{At, FakeHub, Fault, Trouble};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let hub = FakeHub::start().await?;
//! hub.push("org/adapter", [("adapter_config.json", "{}"), ("adapter_model.safetensors", "...")]);
//! hub.fail(Fault::at(At::Cdn, Trouble::Cut(1)).on("adapter_model.safetensors"));
//! assert!(hub.url().starts_with("http://127.0.0.1:"));
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```

mod answer;
mod repo;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use repo::{File, Repo};

/// The branch that is meant where none is named.
const MAIN: &str = "main";
/// Entries on one page of a listing, as at Hugging Face.
const PAGE: usize = 1000;

/// A hub, running in this process. It ends when the value is dropped.
pub struct FakeHub {
    shared: Arc<Shared>,
    _servers: [AbortOnDropHandle<()>; 2],
}

/// Who may read a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    #[default]
    Public,
    /// Everybody may list it; its files are for tokens that were admitted.
    Gated,
    /// To everybody but tokens that were admitted it is as if it did not exist.
    Private,
}

/// Which of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The hub.
    Hub,
    /// Where it keeps large files.
    Cdn,
}

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// What a revision stands for.
    Revision,
    /// A page of a listing.
    Tree,
    /// HEAD of a file, at the hub.
    Head,
    /// GET of a file, at the hub.
    File,
    /// GET of a file, at the CDN.
    Cdn,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This status with a short text.
    Status(u16),
    /// 429 that asks for a wait of so many seconds.
    TooMany(u64),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// A page for people in the place of what was asked for, with 200.
    Html,
    /// The last bit of the body is another one.
    WrongBytes,
    /// This body in the place of the right one, with 200.
    Body(String),
    /// The signature in the link is refused, as when it has run out.
    Expired,
    /// The next page is said to be there.
    NextPage(String),
}

/// Something that goes wrong: once, unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Fault {
    at: At,
    name: String,
    times: usize,
    trouble: Trouble,
}

impl Fault {
    /// Goes wrong at the next such request.
    pub fn at(at: At, trouble: Trouble) -> Self {
        Self { at, name: String::new(), times: 1, trouble }
    }

    /// Only for paths that end with `name`.
    #[must_use]
    pub fn on(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// So often.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }
}

/// One request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where it came.
    pub server: Server,
    /// `GET`, `HEAD`, ...
    pub method: String,
    /// Its path, without query.
    pub path: String,
    /// What it shows to be let in.
    pub authorization: Option<String>,
    /// The part that it asks for.
    pub range: Option<String>,
}

/// What both ports share.
struct Shared {
    hub: SocketAddr,
    cdn: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    repos: BTreeMap<String, Repo>,
    /// What repositories are called now, by what they were called.
    moved: BTreeMap<String, String>,
    /// The repositories that each known token was admitted to.
    tokens: BTreeMap<String, BTreeSet<String>>,
    page: Option<usize>,
    faults: Vec<Fault>,
    log: Vec<Asked>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done by a test that fails in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn repo(&mut self, id: &str) -> &mut Repo {
        self.repos.entry(id.to_owned()).or_default()
    }

    /// What goes wrong with this request, if anything.
    fn trouble(&mut self, at: At, path: &str) -> Option<Trouble> {
        let fault =
            self.faults.iter_mut().find(|fault| fault.at == at && fault.times > 0 && path.ends_with(&fault.name))?;
        fault.times -= 1;
        Some(fault.trouble.clone())
    }
}

impl FakeHub {
    /// Starts an empty hub on two free ports of 127.0.0.1.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start() -> io::Result<Self> {
        let (hub, cdn) = (listen().await?, listen().await?);
        let shared = Shared { hub: hub.local_addr()?, cdn: cdn.local_addr()?, state: Mutex::default() };
        let shared = Arc::new(shared);
        let serve = |listener, server| {
            AbortOnDropHandle::new(tokio::spawn(serve::serve(Arc::clone(&shared), listener, server)))
        };
        let servers = [serve(hub, Server::Hub), serve(cdn, Server::Cdn)];
        Ok(Self { shared, _servers: servers })
    }

    /// Where the hub is: what `HF_ENDPOINT` would be set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.hub)
    }

    /// Where large files are.
    pub fn cdn(&self) -> String {
        format!("http://{}", self.shared.cdn)
    }

    /// Makes a commit of exactly these files on the branch `main` of `org/name`, which is made where it does not exist. The
    /// commit's name is what is returned.
    pub fn push<N: Into<String>, B: Into<Bytes>>(&self, repo: &str, files: impl IntoIterator<Item = (N, B)>) -> String {
        let files = files.into_iter().map(|(name, bytes)| (name.into(), File::new(bytes.into()))).collect();
        self.shared.lock().repo(repo).commit(MAIN, files)
    }

    /// Makes a commit in which one file is new or another, and the rest of `main` as it was.
    pub fn put(&self, repo: &str, path: &str, bytes: impl Into<Bytes>) -> String {
        let mut state = self.shared.lock();
        let repo = state.repo(repo);
        let mut files = repo.files(MAIN).cloned().unwrap_or_default();
        files.insert(path.to_owned(), File::new(bytes.into()));
        repo.commit(MAIN, files)
    }

    /// Makes a commit in which one file is no more.
    pub fn remove(&self, repo: &str, path: &str) -> String {
        let mut state = self.shared.lock();
        let repo = state.repo(repo);
        let mut files = repo.files(MAIN).cloned().unwrap_or_default();
        files.remove(path);
        repo.commit(MAIN, files)
    }

    /// Gives `commit` a name: a branch, a tag, or `refs/pr/1`.
    pub fn name(&self, repo: &str, name: &str, commit: &str) {
        self.shared.lock().repo(repo).heads.insert(name.to_owned(), commit.to_owned());
    }

    /// Calls it otherwise from now on; whoever asks for it by the old name is passed on.
    pub fn rename(&self, old: &str, new: &str) {
        let mut state = self.shared.lock();
        if let Some(repo) = state.repos.remove(old) {
            state.repos.insert(new.to_owned(), repo);
            state.moved.insert(old.to_owned(), new.to_owned());
        }
    }

    /// Says who may read it.
    pub fn restrict(&self, repo: &str, access: Access) {
        self.shared.lock().repo(repo).access = access;
    }

    /// Makes `token` known: one that is not is refused everywhere, as at Hugging Face.
    pub fn know(&self, token: &str) {
        self.shared.lock().tokens.entry(token.to_owned()).or_default();
    }

    /// Makes `token` known, and lets it read `repo`.
    pub fn admit(&self, token: &str, repo: &str) {
        self.shared.lock().tokens.entry(token.to_owned()).or_default().insert(repo.to_owned());
    }

    /// No token is known any more.
    pub fn revoke_all(&self) {
        self.shared.lock().tokens.clear();
    }

    /// Lists so many entries at a time.
    pub fn page(&self, entries: usize) {
        self.shared.lock().page = Some(entries.max(1));
    }

    /// Orders a fault; several are worked off in their order.
    pub fn fail(&self, fault: Fault) {
        self.shared.lock().faults.push(fault);
    }

    /// Whether every fault that was ordered has happened.
    pub fn has_failed(&self) -> bool {
        self.shared.lock().faults.iter().all(|fault| fault.times == 0)
    }

    /// Every request that came until now.
    pub fn log(&self) -> Vec<Asked> {
        self.shared.lock().log.clone()
    }
}

async fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}
