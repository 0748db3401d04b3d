//! Rust files: whose they are, and what of them is test code.

use std::path::{Path, PathBuf};

use super::tokens::{self, Import, Token};
use super::tree::{Crate, TextFile};

/// One Rust file.
pub(super) struct Source {
    /// Relative to the root.
    pub(super) path: PathBuf,
    /// The crate that it lies in; `None` for a file outside every crate.
    pub(super) krate: Option<String>,
    /// Whether it lies in the crate's `src` and is not compiled for tests alone.
    pub(super) shipped: bool,
    pub(super) tokens: Vec<Token>,
    pub(super) imports: Vec<Import>,
    /// Where the lexer gave up.
    pub(super) unreadable: Option<String>,
}

impl Source {
    pub(super) fn parse_all(files: &[TextFile], crates: &[Crate]) -> Vec<Self> {
        let rust = files.iter().filter(|file| file.path.extension().is_some_and(|extension| extension == "rs"));
        let mut sources: Vec<_> = rust.map(|file| Self::parse(file, crates)).collect();
        let test_modules: Vec<_> = sources.iter().flat_map(Self::test_modules).collect();
        for source in &mut sources {
            if test_modules.iter().any(|module| source.path.with_extension("").starts_with(module)) {
                source.shipped = false;
            }
        }
        sources
    }

    fn parse(file: &TextFile, crates: &[Crate]) -> Self {
        // The longest folder is the nearest crate.
        let krate = crates
            .iter()
            .filter(|krate| file.path.starts_with(&krate.folder))
            .max_by_key(|krate| krate.folder.as_os_str().len());
        let (tokens, unreadable) = match tokens::parse(&file.text) {
            Ok(tokens) => (tokens, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        Self {
            path: file.path.clone(),
            krate: krate.map(|krate| krate.name.clone()),
            shipped: krate.is_some_and(|krate| file.path.starts_with(krate.folder.join("src"))),
            imports: tokens::imports(&tokens),
            tokens,
            unreadable,
        }
    }

    /// Where the files of `#[cfg(test)] mod name;` lie: `name.rs` and everything below `name/`, without the extension.
    fn test_modules(&self) -> Vec<PathBuf> {
        let stem = self.path.file_stem().unwrap_or_default();
        let parent = self.path.parent().unwrap_or(Path::new(""));
        let folder = if stem == "lib" || stem == "main" { parent.to_path_buf() } else { parent.join(stem) };
        let mut modules = Vec::new();
        for window in self.tokens.windows(3) {
            if window[0].in_test && window[0].text == "mod" && window[2].text == ";" {
                modules.push(folder.join(&window[1].text));
            }
        }
        modules
    }

    /// The tokens that are compiled into what users run.
    pub(super) fn shipped_tokens(&self) -> impl Iterator<Item = (usize, &Token)> {
        self.tokens.iter().enumerate().filter(|(_, token)| self.shipped && !token.in_test)
    }

    /// Lines with code on them: no comment, no blank line, no test.
    pub(super) fn lines_of_code(&self) -> usize {
        let mut lines: Vec<usize> =
            self.tokens.iter().filter(|token| !token.in_test).flat_map(|token| token.line..=token.last_line).collect();
        lines.sort_unstable();
        lines.dedup();
        lines.len()
    }

    /// What messages call it.
    pub(super) fn krate(&self) -> &str {
        self.krate.as_deref().unwrap_or("the workspace")
    }
}
