//! What is logged, other crates' lines too.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

thread_local! {
    /// What this thread logs, where somebody wants to know, and from which level on.
    static KEPT: RefCell<Option<(Level, Vec<u8>)>> = const { RefCell::new(None) };
}

/// What is logged on this thread while it lives.
pub(in crate::kube) struct Log(());

impl Log {
    /// From now on, of this level and above.
    ///
    /// One subscriber serves every test of the process: where each sets its own, whether a place in the code logs at all
    /// is decided for all threads by whichever came last.
    pub(in crate::kube) fn of(level: Level) -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false).with_writer(Keep);
            tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
        });
        KEPT.set(Some((level, Vec::new())));
        Self(())
    }

    /// Each line so far.
    pub(in crate::kube) fn lines(&self) -> Vec<String> {
        let bytes = KEPT.with_borrow(|kept| kept.as_ref().map(|(_, bytes)| bytes.clone()).unwrap_or_default());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        KEPT.set(None);
    }
}

struct Keep;

/// Writes for the thread that it is on, or nowhere.
struct Line(bool);

impl MakeWriter<'_> for Keep {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(true)
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Line {
        Line(KEPT.with_borrow(|kept| kept.as_ref().is_some_and(|(level, _)| metadata.level() <= level)))
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        KEPT.with_borrow_mut(|kept| match kept {
            Some((_, text)) if self.0 => io::Write::write(text, bytes),
            _ => Ok(bytes.len()),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
