//! Relative references, resolved as text.

use std::path::Path;

use longshore_types::ArtifactUrl;

/// The absolute reference that `relative` is, seen from `directory`. `.` and `..` are worked out as text; `..` above the
/// root stays there, as in every path.
///
/// # Errors
/// What to do, when the directory is not absolute or the result cannot be written as a reference.
pub(super) fn resolve(directory: &Path, relative: &str) -> Result<ArtifactUrl, &'static str> {
    let Some(directory) = directory.to_str() else {
        return Err("the manifest's directory is not UTF-8: write an absolute path or move the manifest");
    };
    if !directory.starts_with('/') {
        return Err("a relative path, and the manifest's directory is not known: write an absolute path");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(relative.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err("this relative path is the root directory itself: name the adapter's directory");
    }
    ArtifactUrl::new(format!("/{}", parts.join("/")))
        .map_err(|_| "together with the manifest's directory it has spaces, control characters or over 2048 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolved(directory: &str, relative: &str) -> Result<String, &'static str> {
        resolve(Path::new(directory), relative).map(|url| url.as_written().to_owned())
    }

    #[test]
    fn a_relative_path_is_joined_and_worked_out() {
        for (directory, relative, expected) in [
            ("/srv/m", "./adapters/sql", "/srv/m/adapters/sql"),
            ("/srv/m/", "adapters/sql/", "/srv/m/adapters/sql"),
            ("/srv/m", "../sql", "/srv/sql"),
            ("/srv/./m/../n", "a/./b/../c", "/srv/n/a/c"),
            ("/", "../../sql", "/sql"),
        ] {
            assert_eq!(resolved(directory, relative).unwrap(), expected);
        }
    }

    #[test]
    fn what_cannot_be_resolved_says_what_to_do() {
        assert!(resolved("manifests", "sql").unwrap_err().contains("write an absolute path"));
        assert!(resolved("/my manifests", "sql").unwrap_err().contains("spaces"));
        assert!(resolved("/srv", "..").unwrap_err().contains("root"));
    }

    proptest! {
        #[test]
        fn a_result_is_absolute_and_has_no_dots_left(directory in "(/[a-z.]{1,4}){1,4}", relative in "[a-z./]{1,20}") {
            if let Ok(path) = resolved(&directory, &relative) {
                prop_assert!(path.starts_with('/'));
                prop_assert!(!path.split('/').any(|part| part == "." || part == ".."));
                // Working it out again changes nothing.
                prop_assert_eq!(resolved("/", &path).unwrap(), path);
            }
        }
    }
}
