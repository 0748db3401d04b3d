//! Questions to a hub.

use longshore_types::Secret;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::TOKEN;
use super::listing::{self, Entry, Kept, Listing, MAX_ENTRIES};
use super::reference::{Reference, is_commit};
use super::refusal::{self, Asked, refusal};
use crate::error::Error;
use crate::http::{Answer, Ask, Http, shown};

/// The longest answer that is read. A page of 1,000 entries is some 300 KB, and a mirror may know no pages; a model's
/// description names every file.
const LONGEST: usize = 4 << 20;
/// Pages of a listing that is only read for a hint.
const HINT_PAGES: usize = 3;

/// A hub as one visitor sees it, about one reference.
pub(super) struct Api<'a> {
    pub(super) http: &'a Http,
    pub(super) endpoint: &'a Url,
    pub(super) reference: Reference,
    pub(super) token: Option<Secret>,
}

/// What a hub says of a revision, as far as we ask.
#[derive(Deserialize)]
struct Revision {
    sha: String,
}

impl Api<'_> {
    /// The commit that the revision stands for now.
    ///
    /// # Errors
    /// What the hub's refusal means, or why there is no answer.
    pub(super) async fn commit(&self) -> Result<String, Error> {
        let Reference { org, name, revision, .. } = &self.reference;
        let ask = self.ask(self.url(["api", "models", org, name, "revision", revision]))?;
        let (text, _) = self.text(&ask, None).await?;
        let found: Revision = self.json(&ask, &text)?;
        let sha = found.sha.to_ascii_lowercase();
        if !is_commit(&sha) || (self.reference.is_commit() && sha != *revision) {
            return Err(Error::Corrupted { what: ask.what(), problem: "it names another commit, or none".into() });
        }
        Ok(sha)
    }

    /// What is in the folder, at `commit`.
    ///
    /// # Errors
    /// As [`Api::commit`]; more than [`MAX_ENTRIES`] names.
    pub(super) async fn listing(&self, commit: &str) -> Result<Listing, Error> {
        let first = self.tree(commit, false);
        let entries = self.pages(first.clone(), usize::MAX).await?;
        Listing::new(&self.reference.folder, entries, &shown(&first))
    }

    /// Fails where whoever we are would not be given the files.
    ///
    /// # Errors
    /// As [`Api::commit`].
    pub(super) async fn admit(&self, commit: &str, file: &Kept) -> Result<(), Error> {
        let ask = Ask { method: Method::HEAD, ..self.file(commit, file)? };
        let path = self.reference.path_of(&file.name);
        self.http
            .patient(&ask, |answer| {
                // Who passes us on has let us in. Links that it signs are for GET, so what is said there to HEAD means nothing.
                let elsewhere = answer.response.url().origin() != ask.url.origin();
                if elsewhere { None } else { self.refusal(&ask, Some(&path), answer) }
            })
            .await
            .map(drop)
    }

    /// The request for a file.
    ///
    /// # Errors
    /// [`Error::CredentialInvalid`].
    pub(super) fn file(&self, commit: &str, file: &Kept) -> Result<Ask, Error> {
        let Reference { org, name, .. } = &self.reference;
        let path = self.reference.path_of(&file.name);
        self.ask(self.url([org, name, "resolve", commit].into_iter().chain(path.split('/'))))
    }

    /// What a refusal of a file means.
    pub(super) fn explain(&self, error: Error) -> Error {
        refusal::explain(error, &self.reference.id())
    }

    /// The end of the sentence that there is no adapter: what there is in its place. Nothing where that cannot be told.
    pub(super) async fn hint(&self, commit: &str, listing: &Listing) -> String {
        if listing.has_folders {
            // Only a hint, so neither too long a listing nor a failure is worth more than its absence.
            let below = self.pages(self.tree(commit, true), HINT_PAGES).await.unwrap_or_default();
            let folder = listing::adapter_below(&below);
            if let Some(reference) = folder.and_then(|folder| self.reference.with_folder(folder)) {
                return format!("; there is one in {reference}: name that folder");
            }
        }
        if listing.is_whole_model() {
            return format!("; {} holds a whole model, which engines serve as a base model", self.reference);
        }
        String::new()
    }

    fn url<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// The first page of the folder's listing.
    fn tree(&self, commit: &str, recursive: bool) -> Url {
        let Reference { org, name, folder, .. } = &self.reference;
        let folder = folder.split('/').filter(|part| !part.is_empty());
        let mut url = self.url(["api", "models", org, name, "tree", commit].into_iter().chain(folder));
        url.set_query(Some(if recursive { "recursive=true&expand=false" } else { "recursive=false&expand=false" }));
        url
    }

    /// The entries on the page `first` and on those behind it, `most` pages in all.
    async fn pages(&self, first: Url, most: usize) -> Result<Vec<Entry>, Error> {
        let folder = Some(self.reference.folder.as_str()).filter(|folder| !folder.is_empty());
        let (mut entries, mut next, mut read) = (Vec::new(), Some(first), 0);
        while let Some(url) = next.filter(|_| read < most) {
            let ask = self.ask(url)?;
            let (text, headers) = self.text(&ask, folder).await?;
            let page: Vec<Entry> = self.json(&ask, &text)?;
            next = self.next_page(&ask, &headers)?;
            read += 1;
            if page.is_empty() && next.is_some() {
                let problem = "it is an empty page that leads to another, which could go on for ever".into();
                return Err(Error::Corrupted { what: ask.what(), problem });
            }
            entries.extend(page);
            if entries.len() > MAX_ENTRIES {
                return Err(listing::too_many());
            }
        }
        Ok(entries)
    }

    /// The page behind this one. The token goes with every page, so none is asked for elsewhere.
    fn next_page(&self, ask: &Ask, headers: &HeaderMap) -> Result<Option<Url>, Error> {
        let Some(link) = headers.get_all(LINK).iter().filter_map(|link| link.to_str().ok()).find_map(next_link) else {
            return Ok(None);
        };
        let next = ask.url.join(link).ok().filter(|next| next.origin() == self.endpoint.origin());
        let refused = || Error::RedirectRefused {
            what: ask.what(),
            problem: format!("to another host for its next page: a mirror has to name itself there, {}", self.hub()),
        };
        next.map(Some).ok_or_else(refused)
    }

    /// With the token, and the wish for bytes as they are.
    fn ask(&self, url: Url) -> Result<Ask, Error> {
        let mut ask = Ask::get(url).bearer(TOKEN[0], self.token.as_ref())?;
        ask.open.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(ask)
    }

    async fn text(&self, ask: &Ask, path: Option<&str>) -> Result<(Vec<u8>, HeaderMap), Error> {
        let answer = self.http.patient(ask, |answer| self.refusal(ask, path, answer)).await?;
        let headers = answer.response.headers().clone();
        Ok((self.http.body(ask, answer, LONGEST).await?, headers))
    }

    fn refusal(&self, ask: &Ask, path: Option<&str>, answer: &Answer) -> Option<Error> {
        let (repo, hub) = (self.reference.id(), self.hub());
        let asked = Asked { repo: &repo, hub: &hub, revision: &self.reference.revision, path };
        refusal(asked, ask, answer.response.status(), answer.response.headers())
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, ask: &Ask, text: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(text).map_err(|error| {
            // Its own words may repeat what came.
            let problem = format!("no answer that a hub gives (line {}, column {})", error.line(), error.column());
            Error::Corrupted { what: ask.what(), problem }
        })
    }

    /// What the hub is called in messages.
    fn hub(&self) -> String {
        self.endpoint.as_str().trim_end_matches('/').to_owned()
    }
}

/// The target of `rel="next"` (RFC 8288).
fn next_link(link: &str) -> Option<&str> {
    let mut rest = link;
    while let Some((_, from)) = rest.split_once('<') {
        let (target, behind) = from.split_once('>')?;
        let parameters = behind.split('<').next().unwrap_or_default();
        if parameters.split([';', ',']).any(|part| matches!(part.trim(), r#"rel="next""# | "rel=next")) {
            return Some(target);
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::intake::Sum;

    use super::*;
    use crate::http::reach::Reach;

    #[test]
    fn a_mirror_may_be_below_a_path_and_no_name_leaves_its_place() {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Http::new(Reach::default()).unwrap();
        for (endpoint, before) in [("https://mirror/hf", "/hf"), ("https://mirror/hf/", "/hf"), ("https://mirror", "")]
        {
            let endpoint = endpoint.parse().unwrap();
            let reference = Reference::parse(&"hf://org/repo@a%2Fb/x/y".parse().unwrap()).unwrap();
            let api = Api { http: &http, endpoint: &endpoint, reference, token: None };
            let revision = &api.reference.revision;
            let url = api.url(["api", "models", "org", "repo", "revision", revision]);
            assert_eq!(url.path(), format!("{before}/api/models/org/repo/revision/a%2Fb"));
            assert_eq!(api.tree("c0ffee", true).path(), format!("{before}/api/models/org/repo/tree/c0ffee/x/y"));
            let odd = Kept { name: "tokenizer/../%2e?#".into(), size: 0, sum: Sum::GitBlob(String::new()) };
            let path = format!("{before}/org/repo/resolve/c0ffee/x/y/tokenizer/%252e%3F%23");
            assert_eq!(api.file("c0ffee", &odd).unwrap().url.path(), path);
        }
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        for (link, next) in [
            (r#"<https://h/a?cursor=x,y>; rel="next""#, Some("https://h/a?cursor=x,y")),
            (r#"<https://h/1>; rel="first", <https://h/2>; title="a"; rel="next""#, Some("https://h/2")),
            ("</a>;rel=next", Some("/a")),
            (r#"<https://h/1>; rel="prev""#, None),
            ("<https://h/1", None),
            ("", None),
        ] {
            assert_eq!(next_link(link), next, "{link}");
        }
    }
}
