//! References to artifacts: whatever surrounds a secret, it is never shown.
//!
//! An input is, between NULs: the scheme, the userinfo, and what follows the host.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_fuzz::parts;
use longshore_types::ArtifactUrl;

const SECRET: &str = "hunter2hunter2";

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        // What is taken reads back as the same.
        if let Ok(url) = ArtifactUrl::new(text) {
            assert_eq!(url.as_written(), text);
            assert!(!url.to_string().chars().any(char::is_control));
            assert_eq!(ArtifactUrl::new(url.as_written()).expect("it was taken before"), url);
        }
    }
    let [scheme, user, path] = parts::<3>(data).map(|part| String::from_utf8_lossy(part).into_owned());
    // A path may hold anything, a word that looks like a secret too; and nothing but a scheme makes userinfo of a text.
    let user: String = user.chars().filter(|c| !"/?#@".contains(*c)).collect();
    let path: String = path.chars().filter(|c| !"?#".contains(*c)).collect();
    let has_word = [&scheme, &user, &path].iter().any(|part| part.contains(SECRET));
    if has_word || scheme.is_empty() || scheme.contains(['/', ':', '?', '#']) || scheme == "file" {
        return;
    }
    for text in [
        format!("{scheme}://{user}{SECRET}@host/{path}"),
        format!("{scheme}://{user}:{SECRET}{user}@host/{path}"),
        format!("{scheme}://host/{path}?{SECRET}"),
        format!("{scheme}://host/{path}#{SECRET}"),
        format!("{scheme}://{user}@host/{path}?a={user}&b={SECRET}#{SECRET}"),
    ] {
        let shown = match ArtifactUrl::new(&text) {
            Ok(url) => format!("{url} {url:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains(SECRET), "{text:?} is shown as {shown:?}");
    }
});
