//! Object stores: S3, Google Cloud Storage and Azure Blob Storage.
//!
//! A reference stands for all objects directly below a prefix, or for one archive. Objects are read by their entity tags, so
//! that no two versions of one are ever put together, and under no path but the last part of their key.

mod azure;
mod failure;
mod gcs;
pub(crate) mod options;
mod place;
mod read;
mod s3;
mod session;
mod wire;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::future::try_join_all;
use longshore_types::Scheme;
use opendal::layers::{ConcurrentLimitLayer, RetryLayer, TimeoutLayer, TracingLayer};
use opendal::{Builder, HttpTransporter, Metadata, OperationContext, Operator};
use tokio::sync::Semaphore;

use super::{Fingerprint, Setup, Source};
use crate::digest::{CONFIG, FileKind};
use crate::error::{Defect, Error};
use crate::http::Http;
use crate::origin::Origin;
use crate::source::local::MAX_FILES;
use crate::store::staging::Staging;
use crate::verify::defect::shown;
use options::ObjectOptions;
use place::Place;
use read::Object;
use session::Why;
use wire::Wire;

/// Names looked at below one prefix. Training directories have some hundred.
const MAX_NAMES: usize = 10_000;
/// Names in one answer: the most that S3 and Google give, and a fifth of Azure's most.
const PAGE: usize = 1000;
/// Prefixes below the one that was named that are looked into for an adapter.
const LOOKED_INTO: usize = 8;
/// One request, with what has to be asked for before it can be signed.
const REQUEST: Duration = Duration::from_secs(60);
/// The longest that nothing may come.
const IDLE: Duration = Duration::from_secs(30);
/// Further tries of one request, with 0.2, 0.4, 0.8 and 1.6 s between them: a store that throttles lets up within seconds.
const RETRIES: usize = 4;
/// The first wait between two tries.
const WAIT: Duration = Duration::from_millis(200);
/// Requests of one store at once. Sixteen fetches with eight parts each would be twice as many; they share the memory that
/// parts take, which is for fewer.
const REQUESTS: usize = 64;

/// Adapters in one kind of object store. Credentials have these names:
///
/// - S3: `aws_access_key_id`, `aws_secret_access_key`, `aws_session_token`; `aws_region`, `aws_endpoint_url`,
///   `aws_s3_force_path_style`
/// - Google Cloud Storage: `gcp_service_account_json`
/// - Azure: `azure_storage_account` and one of `azure_storage_key` and `azure_sas_token`, or
///   `azure_storage_connection_string`
///
/// An endpoint that comes with credentials is no more trusted than a URL: it is reached where any URL could be, and what this
/// process has of its own is not shown to it.
#[derive(Clone)]
pub struct Objects(Arc<Inner>);

struct Inner {
    kind: Kind,
    options: ObjectOptions,
    http: Http,
    metadata: Option<reqwest::Client>,
    /// Parts that may be in memory ahead of their turn.
    ahead: Arc<Semaphore>,
    requests: ConcurrentLimitLayer,
}

#[derive(Debug)]
enum Kind {
    S3(s3::Process),
    Gcs(gcs::Process),
    Azure(azure::Process),
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").field("kind", &self.0.kind).finish_non_exhaustive()
    }
}

/// A client for one bucket.
struct Built {
    operator: Operator,
    /// What tells it from every other bucket, endpoint included.
    identity: String,
    /// Where it says why it has nothing to show; none where it need not.
    why: Option<Why>,
}

impl Objects {
    /// `s3://`. A TLS provider must have been installed.
    ///
    /// # Errors
    /// What is wrong with `setup`, or [`Error::Source`] where a client cannot be made.
    pub fn s3(setup: &Setup) -> Result<Self, Error> {
        let [s3, _, _] = Self::every(&Http::new(setup.reach.clone())?, &setup.objects)?;
        Ok(s3)
    }

    /// `gs://` and `gcs://`, likewise.
    ///
    /// # Errors
    /// As [`Objects::s3`].
    pub fn gcs(setup: &Setup) -> Result<Self, Error> {
        let [_, gcs, _] = Self::every(&Http::new(setup.reach.clone())?, &setup.objects)?;
        Ok(gcs)
    }

    /// `az://`, likewise.
    ///
    /// # Errors
    /// As [`Objects::s3`].
    pub fn azure(setup: &Setup) -> Result<Self, Error> {
        let [_, _, azure] = Self::every(&Http::new(setup.reach.clone())?, &setup.objects)?;
        Ok(azure)
    }

    /// All three, which share memory.
    pub(crate) fn every(http: &Http, options: &ObjectOptions) -> Result<[Self; 3], Error> {
        let ahead = Arc::new(Semaphore::new(read::AHEAD));
        let metadata = options.instance_credentials.then(wire::metadata_client).transpose()?;
        let one = |kind| {
            let (options, http, metadata) = (options.clone(), http.clone(), metadata.clone());
            let requests = ConcurrentLimitLayer::new(REQUESTS);
            Self(Arc::new(Inner { kind, options, http, metadata, ahead: ahead.clone(), requests }))
        };
        let s3 = Kind::S3(s3::Process::new(options)?);
        let gcs = Kind::Gcs(gcs::Process::new(options));
        let azure = Kind::Azure(azure::Process::new(options));
        Ok([one(s3), one(gcs), one(azure)])
    }

    fn open(&self, origin: &Origin) -> Result<Bucket, Error> {
        let Inner { kind, options, http, metadata, ahead, requests } = &*self.0;
        let place = Place::parse(&origin.url)?;
        let wire = Wire::new(http.clone(), metadata.clone());
        let credentials = &origin.credentials;
        let Built { operator, identity, why } = match kind {
            Kind::S3(process) => s3::open(credentials, options, process, &place, wire)?,
            Kind::Gcs(process) => gcs::open(credentials, options, process, &place, wire)?,
            Kind::Azure(process) => azure::open(credentials, options, process, &place, wire)?,
        };
        let operator = operator
            .layer(TimeoutLayer::new().with_timeout(REQUEST).with_io_timeout(IDLE))
            .layer(requests.clone())
            .layer(RetryLayer::new().with_max_times(RETRIES).with_min_delay(WAIT).with_jitter())
            .layer(TracingLayer::new());
        Ok(Bucket { operator, place, identity, why, ahead: ahead.clone() })
    }
}

/// A client that sends by `wire`.
fn operator(builder: impl Builder, wire: Wire) -> Result<Operator, Error> {
    let operator = Operator::new(builder).map_err(|error| failure::meaning(&error, "the object store", None))?;
    let context = OperationContext::new().with_http_transport(HttpTransporter::new(wire));
    Ok(operator.with_context(context))
}

/// One bucket, and what is meant in it.
struct Bucket {
    operator: Operator,
    place: Place,
    identity: String,
    why: Option<Why>,
    ahead: Arc<Semaphore>,
}

/// One object.
struct Found {
    /// What it is called below its prefix.
    name: String,
    key: String,
    size: u64,
    /// Its entity tag, as conditions take it.
    tag: Option<String>,
    /// Google's number for a version, which is the better condition where there is one.
    version: Option<String>,
    modified: Option<String>,
}

impl Found {
    fn new(name: &str, key: &str, metadata: &Metadata) -> Self {
        let tag =
            metadata.etag().filter(|tag| !tag.is_empty() && !tag.starts_with("W/")).map(|tag| match tag.as_bytes() {
                [b'"', .., b'"'] => tag.to_owned(),
                _ => format!("\"{tag}\""),
            });
        Self {
            name: name.to_owned(),
            key: key.to_owned(),
            size: metadata.content_length(),
            tag,
            version: metadata.version().map(str::to_owned),
            modified: metadata.last_modified().map(|time| time.to_string()),
        }
    }
}

/// What is directly below a prefix.
#[derive(Default)]
struct Listing {
    /// Kept files: the configuration first and the weights next, so that what is wrong by its headers is refused before the
    /// rest is read.
    files: Vec<Found>,
    passed_over: Vec<String>,
    below: Vec<String>,
}

impl Bucket {
    fn shown(&self, key: &str) -> String {
        self.place.shown(key)
    }

    fn failed(&self, error: &opendal::Error, key: &str) -> Error {
        failure::meaning(error, &self.shown(key), self.why.as_ref())
    }

    /// Looks at one object, which takes the right to read it: listing takes another one.
    async fn look(&self, name: &str, key: &str) -> Result<Found, Error> {
        let metadata = self.operator.stat(key).await.map_err(|error| self.failed(&error, key))?;
        Ok(Found::new(name, key, &metadata))
    }

    async fn list(&self) -> Result<Listing, Error> {
        let prefix = self.place.key.as_str();
        let failed = |error: opendal::Error| self.failed(&error, prefix);
        let path = if prefix.is_empty() { "/" } else { prefix };
        let mut entries = self.operator.lister_with(path).limit(PAGE).await.map_err(failed)?;
        let (mut listing, mut count, mut seen) = (Listing::default(), 0, 0);
        while let Some(entry) = entries.try_next().await.map_err(failed)? {
            seen += 1;
            if seen > MAX_NAMES + 1 {
                let problem = format!("{} holds more than {MAX_NAMES} names", self.shown(prefix));
                return Err(Defect::TooLarge { problem }.into());
            }
            // The prefix may be an object itself: a console's way to show a folder.
            let Some(name) = entry.path().strip_prefix(prefix).filter(|name| !matches!(*name, "" | "/")) else {
                continue;
            };
            count += 1;
            if let Some(name) = name.strip_suffix('/') {
                listing.below.push(name.to_owned());
                continue;
            }
            match FileKind::of(name) {
                // The client would read another key: it trims.
                Some(_) if name.contains('/') || name.trim() != name || name.chars().any(char::is_control) => {
                    return Err(Defect::FileName { name: shown(name) }.into());
                }
                Some(_) => listing.files.push(Found::new(name, entry.path(), entry.metadata())),
                None => listing.passed_over.push(name.to_owned()),
            }
            if listing.files.len() > MAX_FILES {
                return Err(Defect::TooLarge { problem: format!("it has more than {MAX_FILES} files") }.into());
            }
        }
        // It has a place among the requests, of which the next needs one.
        drop(entries);
        if count == 0 {
            return Err(self.nothing().await);
        }
        listing.files.sort_by(|a, b| (FileKind::of(&a.name), &a.name).cmp(&(FileKind::of(&b.name), &b.name)));
        listing.passed_over.sort_unstable();
        Ok(listing)
    }

    /// Why there is nothing below a prefix: people also name one of the files.
    async fn nothing(&self) -> Error {
        let key = self.place.key.trim_end_matches('/');
        let what = self.shown(&self.place.key);
        if key.is_empty() || self.operator.stat(key).await.is_err() {
            return Error::NotFound { what };
        }
        let what = format!("{what} (but {} does: name the prefix that holds {CONFIG}, or an archive)", self.shown(key));
        Error::NotFound { what }
    }

    /// The listing, each file of which has something to tell its versions by, if the store has that at all. `all` says that
    /// every file is looked at, which proves that it may be read.
    async fn listed(&self, all: bool) -> Result<Listing, Error> {
        let mut listing = self.list().await?;
        let looked = listing.files.iter_mut().map(async |file| {
            // Some stores list without tags.
            let untold = file.tag.is_none() && file.version.is_none();
            if all || untold {
                let now = self.look(&file.name, &file.key).await.map_err(failure::gone_since)?;
                if untold {
                    *file = now;
                }
            }
            Ok::<(), Error>(())
        });
        try_join_all(looked).await?;
        Ok(listing)
    }

    /// Everything that tells one state of the adapter from another.
    fn fingerprint<'f>(&self, files: impl IntoIterator<Item = &'f Found>, passed_over: &[String]) -> Fingerprint {
        let (mut text, mut settled) = (format!("{}\n", self.identity), true);
        for Found { key, size, tag, version, modified, .. } in files {
            settled &= tag.is_some() || version.is_some();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key}\0{size}\0{tag:?}\0{version:?}\0{modified:?}");
        }
        // A pickle beside the weights decides which refusal is given.
        for name in passed_over.iter().filter(|name| FileKind::is_pickle(name)) {
            let _ = writeln!(text, "{name}");
        }
        Fingerprint::new(text, settled)
    }

    async fn read(&self, file: &Found) -> Result<Object, Error> {
        let mut reader = self.operator.reader_with(&file.key);
        let native = self.operator.info().capability();
        reader = match (&file.version, &file.tag) {
            (Some(version), _) if native.read_with_if_version_match => reader.if_version_match(version),
            (_, Some(tag)) if native.read_with_if_match => reader.if_match(tag),
            _ => reader,
        };
        let reader = reader.await.map_err(|error| self.failed(&error, &file.key))?;
        Ok(Object::new(reader, self.shown(&file.key), self.why.clone(), file.size, self.ahead.clone()))
    }

    /// Where there seems to be an adapter, if not here: people name the prefix of a training run, and the adapter is in one
    /// of its checkpoints.
    async fn hint(&self, listing: &Listing) -> Option<String> {
        if listing.files.iter().any(|file| file.name == CONFIG) {
            return None;
        }
        for name in listing.below.iter().take(LOOKED_INTO) {
            let prefix = format!("{}{name}/", self.place.key);
            if self.operator.stat(&format!("{prefix}{CONFIG}")).await.is_ok() {
                return Some(format!("; there is one in {}: name that prefix", self.shown(&prefix)));
            }
        }
        None
    }
}

#[async_trait]
impl Source for Objects {
    fn schemes(&self) -> &'static [Scheme] {
        match self.0.kind {
            Kind::S3(_) => &[Scheme::S3],
            Kind::Gcs(_) => &[Scheme::Gcs],
            Kind::Azure(_) => &[Scheme::Azure],
        }
    }

    fn takes(&self) -> &'static str {
        match self.0.kind {
            Kind::S3(_) => "s3:// prefixes and archives",
            Kind::Gcs(_) => "gs:// and gcs:// prefixes and archives",
            Kind::Azure(_) => "az:// prefixes and archives",
        }
    }

    async fn fingerprint(&self, origin: &Origin) -> Result<Fingerprint, Error> {
        let bucket = self.open(origin)?;
        if bucket.place.is_archive {
            let archive = bucket.look("", &bucket.place.key).await?;
            return Ok(bucket.fingerprint([&archive], &[]));
        }
        let listing = bucket.listed(true).await?;
        Ok(bucket.fingerprint(&listing.files, &listing.passed_over))
    }

    async fn fetch(&self, origin: &Origin, mut staging: Staging) -> Result<Staging, Error> {
        let bucket = self.open(origin)?;
        if bucket.place.is_archive {
            let archive = bucket.look("", &bucket.place.key).await?;
            staging.found_at(bucket.fingerprint([&archive], &[]));
            staging.progress().expect(archive.size);
            let object = bucket.read(&archive).await?;
            return staging.receive_archive(&bucket.shown(&archive.key), object).await;
        }
        let listing = bucket.listed(false).await?;
        staging.found_at(bucket.fingerprint(&listing.files, &listing.passed_over));
        for name in &listing.passed_over {
            staging.passed_over(name);
        }
        if let Some(hint) = bucket.hint(&listing).await {
            staging.hint(hint);
        }
        staging.progress().expect(listing.files.iter().map(|file| file.size).sum());
        for file in &listing.files {
            let object = bucket.read(file).await?;
            staging = staging.receive_file(&file.name, Some(file.size), None, &bucket.shown(&file.key), object).await?;
        }
        Ok(staging)
    }
}
