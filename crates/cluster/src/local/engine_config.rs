//! Engines as the command line and the engines file name them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use longshore_artifacts::StoreView;
use longshore_types::{Address, EngineId, EngineKind, Namespace, Secret};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::problems::Problem;

/// The most that a file with a key may have: no bearer token is longer than what servers allow a header to be.
const KEY_LIMIT: u64 = 16 << 10;

/// One engine that the local driver looks after.
///
/// On the command line it is `URL[,key=value…]`, such as `http://127.0.0.1:8001,label.tier=gold,store=/mnt/store`, with
/// the keys `name`, `namespace`, `kind`, `store`, `api-key-file`, `max-loras`, `max-cpu-loras`, `max-lora-rank` and
/// `label.<key>`. An engines file is a YAML list of the same things:
///
/// ```yaml
/// - url: http://127.0.0.1:8001   # needed; host:port is enough
///   name: left                   # host:port where absent
///   namespace: default
///   kind: vllm                   # vllm, sglang or simulated
///   labels: {tier: gold}
///   store: /mnt/store            # where this engine sees the store, if elsewhere
///   apiKeyFile: left.key         # beside this file, unless absolute
///   maxLoras: 4
///   maxCpuLoras: 16
///   maxLoraRank: 64
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Only objects of this namespace may use it (I7).
    pub namespace: Namespace,
    /// What it is called.
    pub name: String,
    /// Where it answers.
    pub address: Address,
    /// Which software it is.
    pub kind: EngineKind,
    /// Labels that selectors are held against. `model.aibrix.ai/name` is added from what the engine reports.
    pub labels: BTreeMap<String, String>,
    /// Where it sees our store, if not where we do.
    pub store_alias: Option<StoreView>,
    /// Its bearer token.
    pub api_key: Option<Secret>,
    /// Adapters per batch, where the engine does not report it.
    pub max_loras: Option<u32>,
    /// Adapters that it holds in host memory; a hard number.
    pub max_cpu_loras: Option<u32>,
    /// The largest rank that it takes.
    pub max_lora_rank: Option<u32>,
}

/// Why a text does not name an engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidEngine {
    /// The part that is wrong.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl InvalidEngine {
    fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into() }
    }
}

impl EngineConfig {
    /// The engine at `url`, `http://host:port` or `host:port`, in the namespace `default`.
    ///
    /// # Errors
    /// [`InvalidEngine`] when that is no such URL.
    pub fn new(url: &str) -> Result<Self, InvalidEngine> {
        let address = address(url)?;
        Ok(Self {
            namespace: Namespace::default_namespace(),
            name: address.authority(),
            address,
            kind: EngineKind::Vllm,
            labels: BTreeMap::new(),
            store_alias: None,
            api_key: None,
            max_loras: None,
            max_cpu_loras: None,
            max_lora_rank: None,
        })
    }

    /// What identifies it.
    pub fn id(&self) -> EngineId {
        EngineId::new(self.namespace.clone(), &self.name)
    }

    /// Where its API begins: `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address.authority())
    }
}

/// As on the command line. A file that is named for the key is read at once.
impl FromStr for EngineConfig {
    type Err = InvalidEngine;
    fn from_str(text: &str) -> Result<Self, InvalidEngine> {
        let mut parts = text.split(',');
        let mut entry = Entry { url: parts.next().unwrap_or_default().to_owned(), ..Entry::default() };
        for part in parts {
            let (key, value) =
                part.split_once('=').ok_or_else(|| InvalidEngine::new(part, "write key=value behind each comma"))?;
            if key != "url" && value.is_empty() {
                return Err(InvalidEngine::new(key, "has no value"));
            }
            entry.set(key, value)?;
        }
        entry.check(Path::new(""))
    }
}

/// One engine as it is written down.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    url: String,
    name: Option<String>,
    namespace: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    store: Option<String>,
    api_key_file: Option<PathBuf>,
    max_loras: Option<u32>,
    max_cpu_loras: Option<u32>,
    max_lora_rank: Option<u32>,
}

impl Entry {
    fn set(&mut self, key: &str, value: &str) -> Result<(), InvalidEngine> {
        let number =
            || value.parse().map(Some).map_err(|_| InvalidEngine::new(key, format!("{value:?} is not a whole number")));
        match key {
            "name" => self.name = Some(value.to_owned()),
            "namespace" => self.namespace = Some(value.to_owned()),
            "kind" => self.kind = Some(value.to_owned()),
            "store" => self.store = Some(value.to_owned()),
            "api-key-file" => self.api_key_file = Some(value.into()),
            "max-loras" => self.max_loras = number()?,
            "max-cpu-loras" => self.max_cpu_loras = number()?,
            "max-lora-rank" => self.max_lora_rank = number()?,
            _ => match key.strip_prefix("label.") {
                Some(label) if !label.is_empty() => {
                    self.labels.insert(label.to_owned(), value.to_owned());
                }
                _ => {
                    let known = "name, namespace, kind, store, api-key-file, max-loras, max-cpu-loras, max-lora-rank";
                    return Err(InvalidEngine::new(key, format!("is not known; known are {known} and label.<key>")));
                }
            },
        }
        Ok(())
    }

    /// The engine, with relative paths taken from `directory`.
    fn check(self, directory: &Path) -> Result<EngineConfig, InvalidEngine> {
        let mut engine = EngineConfig::new(&self.url)?;
        if let Some(name) = self.name {
            if name.is_empty() || name.len() > 253 || !name.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
                return Err(InvalidEngine::new("name", "1 to 253 printable ASCII characters without spaces and '/'"));
            }
            engine.name = name;
        }
        if let Some(namespace) = self.namespace {
            engine.namespace =
                Namespace::new(&namespace).map_err(|invalid| InvalidEngine::new("namespace", invalid.to_string()))?;
        }
        if let Some(kind) = self.kind {
            engine.kind = [EngineKind::Vllm, EngineKind::Sglang, EngineKind::Simulated]
                .into_iter()
                .find(|known| known.as_str() == kind)
                .ok_or_else(|| InvalidEngine::new("kind", format!("{kind:?}: expected vllm, sglang or simulated")))?;
        }
        if let Some(store) = self.store {
            let view = StoreView::new(&store).map_err(|error| InvalidEngine::new("store", error.to_string()))?;
            engine.store_alias = Some(view);
        }
        if let Some(file) = self.api_key_file {
            let file = directory.join(file);
            let key = read_key_file(&file).map_err(|error| {
                let message = format!("cannot read the key in {}: {error}", file.display());
                InvalidEngine::new("apiKeyFile", message)
            })?;
            engine.api_key = Some(key);
        }
        engine.labels = self.labels;
        (engine.max_loras, engine.max_cpu_loras) = (self.max_loras, self.max_cpu_loras);
        engine.max_lora_rank = self.max_lora_rank;
        Ok(engine)
    }
}

/// Reads a bearer token from a file. White space around it is left out.
///
/// # Errors
/// What the system says, and `InvalidData` for a file that is empty, over 16 KiB or holds more than one word.
pub fn read_key_file(path: &Path) -> io::Result<Secret> {
    let mut text = String::new();
    fs::File::open(path)?.take(KEY_LIMIT + 1).read_to_string(&mut text)?;
    let key = text.trim();
    let invalid = |message| Err(io::Error::new(io::ErrorKind::InvalidData, message));
    if text.len() as u64 > KEY_LIMIT {
        return invalid("it is over 16 KiB");
    }
    if key.is_empty() {
        return invalid("it is empty");
    }
    if !key.bytes().all(|b| b.is_ascii_graphic()) {
        return invalid("a key is one word of printable ASCII characters");
    }
    Ok(Secret::new(key))
}

/// Reads an engines file. What is wrong with one entry takes nothing from the others.
///
/// # Errors
/// The problem, where the file is no list at all.
pub(super) fn parse_list(path: &Path, text: &str) -> Result<(Vec<EngineConfig>, Vec<Problem>), Box<Problem>> {
    const REASON: &str = "InvalidEngine";
    // A file with nothing but comments is an empty list.
    let entries: Option<Vec<Spanned<Entry>>> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().and_then(|location| usize::try_from(location.line()).ok()).filter(|line| *line > 0);
        let words = error.without_snippet().to_string();
        let words = words.lines().next().unwrap_or("not a list").to_owned();
        let message = format!("{words}; expected a list of engines, each with a url");
        Box::new(Problem::file(path, REASON, message).at(line))
    })?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let (mut engines, mut problems): (Vec<EngineConfig>, _) = (Vec::new(), Vec::new());
    for Spanned { value: entry, referenced, .. } in entries.unwrap_or_default() {
        let line = usize::try_from(referenced.line()).ok().filter(|line| *line > 0);
        match entry.check(directory) {
            Ok(engine) if engines.iter().any(|other| other.id() == engine.id()) => {
                let message = format!("there is another engine called {:?} further up: give one a name", engine.name);
                problems.push(Problem::file(path, REASON, message).at(line));
            }
            Ok(engine) => engines.push(engine),
            Err(InvalidEngine { field, message }) => {
                problems.push(Problem { field: Some(field), ..Problem::file(path, REASON, message).at(line) });
            }
        }
    }
    Ok((engines, problems))
}

/// The address in `http://host:port`, `host:port` or either with an IPv6 address in brackets.
fn address(url: &str) -> Result<Address, InvalidEngine> {
    let invalid = |message: &str| Err(InvalidEngine::new("url", format!("{url:?}: {message}")));
    let rest = match url.split_once("://") {
        None => url,
        Some(("http", rest)) => rest,
        Some(("https", _)) => return invalid("engines are spoken to over http; put https before the router instead"),
        Some(_) => return invalid("expected http://host:port"),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        // What stands before it may be a password, so the text is not shown.
        return Err(InvalidEngine::new("url", "it names a user: an engine's key goes into a file, api-key-file=PATH"));
    }
    if authority.contains(['/', '?', '#']) {
        return invalid("nothing may follow the port, since requests are forwarded to http://host:port");
    }
    let Some((host, port)) = authority.rsplit_once(':') else { return invalid("expected http://host:port") };
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => Some(host).filter(|host| {
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }),
    };
    let Some(host) = host else { return invalid("the host is a name, an IPv4 address or an IPv6 address in brackets") };
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Address::new(host, port)),
        _ => invalid("the port is a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> EngineConfig {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_url_alone_names_an_engine() {
        for (text, name, url) in [
            ("http://127.0.0.1:8001", "127.0.0.1:8001", "http://127.0.0.1:8001"),
            ("http://gpu-1.lan:80/", "gpu-1.lan:80", "http://gpu-1.lan:80"),
            ("localhost:8000", "localhost:8000", "http://localhost:8000"),
            ("http://[::1]:8000", "[::1]:8000", "http://[::1]:8000"),
        ] {
            let engine = parsed(text);
            assert_eq!((engine.name.as_str(), engine.url().as_str()), (name, url), "{text}");
            assert_eq!(engine.namespace.as_str(), "default");
        }
    }

    #[test]
    fn everything_can_be_said_on_the_command_line() {
        let engine = parsed(
            "http://h:1,name=left,namespace=team-b,kind=sglang,store=/mnt/store,label.tier=gold,label.a/b=c=d,\
             max-loras=4,max-cpu-loras=16,max-lora-rank=64",
        );
        assert_eq!(engine.id(), EngineId::new(Namespace::new("team-b").unwrap(), "left"));
        assert_eq!(engine.kind, EngineKind::Sglang);
        assert_eq!(engine.store_alias.as_ref().unwrap().prefix(), "/mnt/store");
        assert_eq!(engine.labels, [("tier", "gold"), ("a/b", "c=d")].map(|(k, v)| (k.into(), v.into())).into());
        assert_eq!((engine.max_loras, engine.max_cpu_loras, engine.max_lora_rank), (Some(4), Some(16), Some(64)));
    }

    #[test]
    fn what_names_no_engine_says_which_part_is_wrong() {
        for (text, field) in [
            ("", "url"),
            ("127.0.0.1", "url"),
            ("https://h:1", "url"),
            ("http://h:0", "url"),
            ("http://h:65536", "url"),
            ("http://::1:8000", "url"),
            ("http://h:1/v1", "url"),
            ("http://:1", "url"),
            ("h:1,name", "name"),
            ("h:1,name=a/b", "name"),
            ("h:1,namespace=B", "namespace"),
            ("h:1,kind=tgi", "kind"),
            ("h:1,store=relative", "store"),
            ("h:1,max-loras=-1", "max-loras"),
            ("h:1,label.=x", "label."),
            ("h:1,colour=red", "colour"),
            ("h:1,api-key-file=/nonexistent/key", "apiKeyFile"),
        ] {
            assert_eq!(text.parse::<EngineConfig>().unwrap_err().field, field, "{text}");
        }
    }

    #[test]
    fn i8_a_password_in_a_url_and_a_key_in_a_file_are_not_shown() {
        let error = "http://user:hunter2@h:1".parse::<EngineConfig>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key"), "hunter2\n").unwrap();
        let text = "- url: h:1\n  apiKeyFile: key\n";
        let (engines, problems) = parse_list(&directory.path().join("engines.yaml"), text).unwrap();
        assert_eq!(problems, []);
        assert_eq!(engines[0].api_key.as_ref().unwrap().expose(), "hunter2");
        assert!(!format!("{engines:?}").contains("hunter2"));
        fs::write(directory.path().join("key"), "hunter2 two words").unwrap();
        let (_, problems) = parse_list(&directory.path().join("engines.yaml"), text).unwrap();
        assert!(!problems[0].to_string().contains("hunter2"), "{}", problems[0]);
    }

    #[test]
    fn a_file_lists_engines_and_one_bad_entry_takes_nothing_from_the_others() {
        let text = "\
- url: http://h:1
  labels: {tier: gold}
- url: https://h:2
- url: h:1
- url: h:1
  name: other
  maxLoras: 2
";
        let (engines, problems) = parse_list(Path::new("/etc/engines.yaml"), text).unwrap();
        let names: Vec<_> = engines.iter().map(|engine| engine.name.as_str()).collect();
        assert_eq!(names, ["h:1", "other"]);
        assert_eq!(engines[0].labels["tier"], "gold");
        assert_eq!(engines[1].max_loras, Some(2));
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(shown[0].starts_with("/etc/engines.yaml:3: url: \"https://h:2\""), "{shown:?}");
        assert!(shown[1].starts_with("/etc/engines.yaml:4: there is another engine called \"h:1\""), "{shown:?}");
        assert_eq!(shown.len(), 2);
    }

    #[test]
    fn a_file_that_is_no_list_is_one_problem_with_its_line() {
        for (text, line) in [("url: h:1\n", 1), ("- url: h:1\n- url: h:2\n  colour: red\n", 3), ("- [", 1)] {
            let problem = parse_list(Path::new("e.yaml"), text).unwrap_err();
            assert_eq!(problem.line, Some(line), "{text:?}: {problem}");
        }
        assert_eq!(parse_list(Path::new("e.yaml"), "# none yet\n").unwrap(), (vec![], vec![]));
    }
}
