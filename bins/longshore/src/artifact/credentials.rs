//! What sources are shown, from files and from the environment; never from the command line, which others can read.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use longshore_artifacts::Credentials;
use longshore_types::{Scheme, Secret};

use super::read_bounded;

/// What Kubernetes allows a Secret to hold.
const LARGEST: u64 = 1 << 20;
/// Names of one Secret. Real ones have up to ten.
const MAX_NAMES: usize = 64;
/// Which variables stand for which credential. Each is shown to sources of that kind alone.
const VARIABLES: [(Scheme, &str, &str); 4] = [
    (Scheme::HuggingFace, "HF_TOKEN", "huggingface_token"),
    (Scheme::S3, "AWS_ACCESS_KEY_ID", "aws_access_key_id"),
    (Scheme::S3, "AWS_SECRET_ACCESS_KEY", "aws_secret_access_key"),
    (Scheme::S3, "AWS_SESSION_TOKEN", "aws_session_token"),
];

/// What `path` holds; where none is named, what the environment holds for sources of this kind. The two are never mixed: a
/// key from one and a session from the other let nobody in.
pub fn of(path: Option<&Path>, scheme: Scheme) -> Result<Credentials> {
    match path {
        Some(path) => read(path).with_context(|| format!("--credentials {}", path.display())),
        None => Ok(from_environment(scheme, |name| std::env::var(name).ok())),
    }
}

fn from_environment(scheme: Scheme, variable: impl Fn(&str) -> Option<String>) -> Credentials {
    let of_scheme = VARIABLES.iter().filter(|(of, ..)| *of == scheme);
    Credentials::new(of_scheme.filter_map(|(_, name, credential)| Some((*credential, Secret::new(variable(name)?)))))
}

fn read(path: &Path) -> Result<Credentials> {
    let credentials = if path.is_dir() { read_dir(path)? } else { parse(&text(path)?)? };
    if credentials.is_empty() {
        bail!("it holds no credentials");
    }
    Ok(credentials)
}

/// A file for each name.
fn read_dir(dir: &Path) -> Result<Credentials> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A mounted Secret has `..data` and `..2024_05_01_…` beside its keys; `.dockerconfigjson` is a key.
        let Some(name) = entry.file_name().to_str().filter(|name| !name.starts_with("..")).map(str::to_owned) else {
            continue;
        };
        if !entry.path().is_file() {
            continue;
        }
        if entries.len() == MAX_NAMES {
            bail!("it holds more than {MAX_NAMES} files: is it a directory of credentials?");
        }
        let value = text(&entry.path()).with_context(|| name.clone())?;
        entries.push((name, Secret::new(value)));
    }
    Ok(Credentials::new(entries))
}

fn text(path: &Path) -> Result<String> {
    String::from_utf8(read_bounded(path, LARGEST)?).ok().context("it is not text")
}

/// `name: value` lines. A parser's own words would repeat what it stumbled over, so that only the line is told (I8).
fn parse(text: &str) -> Result<Credentials> {
    const FORM: &str = "expected lines of `name: value`, as in `huggingface_token: hf_…`";
    let entries: BTreeMap<String, Option<String>> = match serde_saphyr::from_str(text) {
        Ok(entries) => entries,
        Err(error) => match error.location().map(|location| location.line()).filter(|line| *line > 0) {
            Some(line) => bail!("line {line}: {FORM}"),
            None => bail!(FORM),
        },
    };
    if entries.len() > MAX_NAMES {
        bail!("it holds more than {MAX_NAMES} names: is it a file of credentials?");
    }
    let named = entries.into_iter().filter_map(|(name, value)| Some((name, Secret::new(value?))));
    Ok(Credentials::new(named))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn value(credentials: &Credentials, name: &str) -> String {
        credentials.get(&[name]).map(|secret| secret.expose().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_file_holds_names_and_values_as_yaml_or_json() {
        for text in [
            "aws_access_key_id: 0012\naws_secret_access_key: \"a: b#c\" # mine\naws_session_token:\n",
            r#"{"aws_access_key_id": "0012", "aws_secret_access_key": "a: b#c"}"#,
        ] {
            let credentials = parse(text).unwrap();
            assert_eq!(value(&credentials, "AWS_ACCESS_KEY_ID"), "0012", "{text}");
            assert_eq!(value(&credentials, "aws_secret_access_key"), "a: b#c", "{text}");
            assert!(credentials.get(&["aws_session_token"]).is_none());
        }
    }

    #[test]
    fn i8_what_is_no_such_file_is_told_by_its_line_alone() {
        for text in
            ["hunter2", "- hunter2", "a: b\nhunter2", "a: {b: hunter2}", "a: [hunter2", "{\"a\": \"hunter2", "\u{0}"]
        {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains("name: value") && !error.contains("hunter2"), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_directory_holds_a_file_for_each_name_as_a_mounted_secret_does() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("..2024_05_01");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("huggingface_token"), "hf_x\n").unwrap();
        std::fs::write(data.join(".dockerconfigjson"), "{}").unwrap();
        symlink("..2024_05_01", dir.path().join("..data")).unwrap();
        for name in ["huggingface_token", ".dockerconfigjson"] {
            symlink(Path::new("..data").join(name), dir.path().join(name)).unwrap();
        }
        let credentials = read(dir.path()).unwrap();
        assert_eq!(value(&credentials, "huggingface_token"), "hf_x");
        assert_eq!(value(&credentials, ".dockerconfigjson"), "{}");
        assert_eq!(format!("{credentials:?}").matches(',').count(), 1, "{credentials:?}");
    }

    #[test]
    fn what_holds_none_is_refused_rather_than_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("empty");
        std::fs::write(&file, "# nothing\n").unwrap();
        let large = dir.path().join("large");
        std::fs::write(&large, vec![b'a'; (LARGEST + 1) as usize]).unwrap();
        let none = dir.path().join("none");
        std::fs::create_dir(&none).unwrap();
        for path in [file, large, none, dir.path().join("nowhere"), "/dev/zero".into()] {
            assert!(read(&path).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn the_environments_credentials_are_for_the_sources_that_they_are_named_for() {
        let set = |name: &str| match name {
            "HF_TOKEN" => Some("hf_x".to_owned()),
            "AWS_ACCESS_KEY_ID" => Some("AK".to_owned()),
            "AWS_SESSION_TOKEN" => Some(String::new()),
            _ => None,
        };
        assert_eq!(value(&from_environment(Scheme::HuggingFace, set), "huggingface_token"), "hf_x");
        let s3 = from_environment(Scheme::S3, set);
        assert_eq!(value(&s3, "aws_access_key_id"), "AK");
        assert!(s3.get(&["aws_session_token", "huggingface_token"]).is_none());
        for scheme in [Scheme::Http, Scheme::Oci, Scheme::File, Scheme::Gcs, Scheme::Azure] {
            assert!(from_environment(scheme, set).is_empty());
        }
    }
}
