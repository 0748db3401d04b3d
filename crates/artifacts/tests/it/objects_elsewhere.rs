//! Object stores, on servers that other people have written: moto for S3, and emulators of the other two.
//!
//! They have to be installed first, so these are run only when they are asked for: `cargo xtask e2e clients`, or
//!
//! ```text
//! LONGSHORE_CLIENTS=1 cargo test -p longshore-artifacts --test it elsewhere -- --nocapture
//! ```

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_artifacts::{Artifacts, Credentials, Objects, Order, Setup, Source, Store};
use longshore_types::{ArtifactUrl, Secret};
use opendal::{Buffer, HttpBody, HttpTransport, HttpTransporter, OperationContext, Operator, services};
use reqsign_azure_storage::{RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};

use crate::adapter::WEIGHTS;
use crate::objects::{large, tls};
use crate::sources::{World, behaves};

/// Node takes seconds on a busy machine.
const STARTED_WITHIN: Duration = Duration::from_secs(60);
const BUCKET: &str = "bucket";
const ACCOUNT: &str = "adapters";
/// `longshore`, in Base64.
const KEY: &str = "bG9uZ3Nob3Jl";

/// A server that somebody else has written. It ends when the value is dropped.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Installs and starts it, where it is asked for.
    fn start(tool: &str, command: impl FnOnce(&Path, u16) -> Command) -> Option<Self> {
        let asked = std::env::var("LONGSHORE_CLIENTS").unwrap_or_default();
        if asked != "1" && !asked.split(',').any(|part| part == tool) {
            // The harness shows what is printed only of tests that fail. Without a place to say it, nobody listens.
            let _ = writeln!(std::io::stderr(), "NOT RUN: {tool} is started only with LONGSHORE_CLIENTS={tool}");
            return None;
        }
        tls();
        let root = install(tool);
        let dir = tempfile::tempdir().unwrap();
        // Another process could take the port in between; then the server says so and the test is run again.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = command(&root, port);
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut server = Self { child: command.spawn().unwrap(), port, _dir: dir };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let said = || fs::read_to_string(server._dir.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < STARTED_WITHIN, "{tool} does not answer: {}", said());
            assert!(server.child.try_wait().unwrap().is_none(), "{tool} has ended: {}", said());
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(server)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory that holds the tool.
fn install(tool: &str) -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients");
    let mut command = match tool {
        "azure" => Command::new(scripts.join("azure.sh")),
        _ => Command::new(scripts.join("setup.sh")),
    };
    if tool != "azure" {
        command.arg(tool);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap().into()
}

/// What the hand that changes objects sends with.
struct Plain;

impl HttpTransport for Plain {
    async fn fetch(&self, request: http::Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let (parts, body) = request.into_parts();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.request(parts.method, parts.uri.to_string()).headers(parts.headers);
        let answer = request.body(body.to_bytes()).send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = futures::stream::iter([Ok(Buffer::from(answer.bytes().await.unwrap()))]);
        let mut response = http::Response::new(HttpBody::new(body, None));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}

/// Waits for `future` from code that cannot.
fn wait<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| scope.spawn(|| runtime().block_on(future)).join().unwrap())
}

struct Elsewhere {
    _server: Server,
    scheme: &'static str,
    hand: Operator,
    setup: Setup,
    source: Arc<dyn Source>,
}

impl Elsewhere {
    fn new(server: Server, scheme: &'static str, builder: impl opendal::Builder, setup: Setup) -> Self {
        let source = match scheme {
            "s3" => Objects::s3(&setup),
            "gs" => Objects::gcs(&setup),
            _ => Objects::azure(&setup),
        };
        let context = OperationContext::new().with_http_transport(HttpTransporter::new(Plain));
        let hand = Operator::new(builder).unwrap().with_context(context);
        Self { _server: server, scheme, hand, setup, source: Arc::new(source.unwrap()) }
    }

    fn artifacts(&self, dir: &Path) -> Artifacts {
        Artifacts::new(Store::open(dir.join("store")).unwrap()).with_source(self.source.clone())
    }
}

impl World for Elsewhere {
    fn source(&self) -> Arc<dyn Source> {
        self.source.clone()
    }
    fn put(&self, files: &[(String, Vec<u8>)]) -> ArtifactUrl {
        let url = format!("{}://{BUCKET}/deep/a", self.scheme).parse().unwrap();
        for (name, bytes) in files {
            self.replace(&url, name, bytes);
        }
        url
    }
    fn replace(&self, _: &ArtifactUrl, name: &str, bytes: &[u8]) {
        let path = format!("deep/a/{name}");
        // One of the emulators keeps none of its own, and its client then cannot read what it says.
        let write = self.hand.write_with(&path, bytes.to_vec()).content_type("application/octet-stream");
        wait(write.into_future()).unwrap();
    }
    fn remove(&self, _: &ArtifactUrl, name: &str) {
        wait(self.hand.delete(&format!("deep/a/{name}"))).unwrap();
    }
    fn nothing(&self) -> ArtifactUrl {
        format!("{}://{BUCKET}/nothing/", self.scheme).parse().unwrap()
    }
}

/// What the shared suite does not ask: objects that come in parts, and buckets that are not there.
async fn reads_parts(world: &Elsewhere) {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = world.artifacts(dir.path());
    let adapter = large(1);
    let url = world.put(&adapter.files());
    let fetched = artifacts.fetch(&url, None).await.unwrap();
    assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), adapter.weights());
    let nothing = format!("{}://no-such-bucket/a/", world.scheme).parse().unwrap();
    let error = artifacts.fetch(&nothing, None).await.unwrap_err();
    assert_eq!(error.reason(), "ArtifactNotFound", "{error}");
}

async fn moto() -> Option<Elsewhere> {
    let server = Server::start("moto", |root, port| {
        let mut command = Command::new(root.join("bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        command
    })?;
    let put = reqwest::Client::new().put(format!("{}/{BUCKET}", server.url()));
    assert!(put.send().await.unwrap().status().is_success());
    let mut setup = Setup::default();
    setup.objects.s3.endpoint = Some(server.url());
    let keys = [("aws_access_key_id", "any"), ("aws_secret_access_key", "any")];
    setup.objects.credentials = Credentials::new(keys.map(|(name, value)| (name, Secret::new(value))));
    let builder = services::S3::default().bucket(BUCKET).endpoint(&server.url()).region("us-east-1");
    let builder = builder.access_key_id("any").secret_access_key("any").disable_config_load();
    Some(Elsewhere::new(server, "s3", builder, setup))
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_behaves_elsewhere_on_moto() {
    let Some(world) = moto().await else { return };
    behaves(&world).await;
    reads_parts(&world).await;
}

async fn gcs() -> Option<Elsewhere> {
    let server = Server::start("gcs", |root, port| {
        let mut command = Command::new(root.join("bin/gcp-storage-emulator"));
        command.args(["start", "--host", "127.0.0.1", "--port", &port.to_string(), "-M", "--default-bucket", BUCKET]);
        command
    })?;
    let mut setup = Setup::default();
    setup.objects.gcs.endpoint = Some(server.url());
    let builder = services::Gcs::default().bucket(BUCKET).endpoint(&server.url()).skip_signature();
    Some(Elsewhere::new(server, "gs", builder, setup))
}

#[tokio::test(flavor = "multi_thread")]
async fn google_cloud_storage_behaves_elsewhere_on_its_emulator() {
    let Some(world) = gcs().await else { return };
    behaves(&world).await;
    reads_parts(&world).await;
}

async fn azure() -> Option<Elsewhere> {
    let server = Server::start("azure", |root, port| {
        let mut command = Command::new(root.join("node_modules/.bin/azurite-blob"));
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--inMemoryPersistence"]);
        command.args(["--silent", "--disableTelemetry"]).env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"));
        command
    })?;
    let endpoint = format!("{}/{ACCOUNT}", server.url());
    // Containers are made by a request of their own.
    let request = http::Request::put(format!("{endpoint}/{BUCKET}?restype=container"));
    let request = request.header("x-ms-version", "2022-11-02").header("content-length", "0").body(()).unwrap();
    let mut parts = request.into_parts().0;
    let provider = StaticCredentialProvider::new_shared_key(ACCOUNT, KEY);
    Signer::new(Context::new(), provider, RequestSigner::new()).sign(&mut parts, None).await.unwrap();
    let put = reqwest::Client::new().put(parts.uri.to_string()).headers(parts.headers).send().await.unwrap();
    assert!(put.status().is_success(), "{put:?}");

    let mut setup = Setup::default();
    (setup.objects.azure.account, setup.objects.azure.endpoint) = (Some(ACCOUNT.into()), Some(endpoint.clone()));
    setup.objects.credentials = Credentials::new([("azure_storage_key", Secret::new(KEY))]);
    let builder = services::Azblob::default().container(BUCKET).endpoint(&endpoint);
    let builder = builder.account_name(ACCOUNT).account_key(KEY);
    Some(Elsewhere::new(server, "az", builder, setup))
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_blob_storage_behaves_elsewhere_on_its_emulator() {
    let Some(world) = azure().await else { return };
    behaves(&world).await;
    reads_parts(&world).await;

    // It checks keys.
    let dir = tempfile::tempdir().unwrap();
    let url = world.put(&large(1).files());
    let mut setup = world.setup.clone();
    for (credentials, advice) in [("d3Jvbmc=", "check that it is valid"), ("", "give credentials")] {
        setup.objects.credentials = Credentials::new([("azure_storage_key", Secret::new(credentials))]);
        let source = Arc::new(Objects::azure(&setup).unwrap());
        let artifacts = Artifacts::new(Store::open(dir.path().join("store")).unwrap()).with_source(source);
        let error = artifacts.fulfil(&Order::public(url.clone())).await.unwrap_err();
        assert_eq!(error.reason(), "AccessDenied", "{error}");
        assert!(error.to_string().contains(advice), "{error}");
    }
}
