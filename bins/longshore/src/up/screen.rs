//! A live table of adapters and engines, for a terminal. It is drawn when something has changed, and only then.

use std::io::{Write, stdout};
use std::sync::Arc;
use std::time::Duration;

use crossterm::cursor::{MoveToColumn, MoveUp};
use crossterm::queue;
use crossterm::style::Print;
use crossterm::terminal::{Clear, ClearType, size};
use longshore_api::fleet::{Adapter, Engine};
use longshore_runtime::CancellationToken;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::happened::{Happened, RECENT};
use super::view::{STOPPING, View};
use crate::get;
use crate::table::{cut, one_line};

/// A person sees no more pictures than this.
const FRAME: Duration = Duration::from_millis(200);
/// Adapters, and files, whose trouble is told in a sentence.
const TROUBLED: usize = 3;
/// The picture of a terminal that does not say how large it is.
const USUAL: (u16, u16) = (80, 24);

/// Draws until it is told to stop.
pub async fn run<H: Fn(&str) -> String>(mut view: View<H>, stop: CancellationToken) {
    let mut happened = Happened::default();
    let mut screen = Screen::default();
    let mut adapters = view.fleet.watch_adapters(None, |_| true);
    let mut engines = view.fleet.watch_engines(None, |_| true);
    let Ok(mut resized) = signal(SignalKind::window_change()) else { return };
    let (mut stopping, mut known) = (false, false);
    let mut drawn_at: Option<Instant> = None;
    // When the next picture is due; none while there is nothing new.
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                (due, drawn_at) = (None, Some(Instant::now()));
                screen.show(&picture(&view, known, stopping, &happened, Size::now()));
                continue;
            }
            change = view.changes.recv() => match change {
                Ok(change) => happened.remember(&change),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            },
            () = view.stopping.cancelled(), if !stopping => stopping = true,
            () = view.known.wait(), if !known => known = true,
            Some(_) = adapters.next() => {}
            Some(_) = engines.next() => {}
            Some(()) = resized.recv() => {}
        }
        // At once after a rest, and never more often than a person can see.
        due = due.or_else(|| Some(drawn_at.map_or_else(Instant::now, |last| last + FRAME)));
    }
    while let Ok(change) = view.changes.try_recv() {
        happened.remember(&change);
    }
    screen.show(&picture(&view, known, true, &happened, Size::now()));
}

/// Columns and rows of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    width: usize,
    height: usize,
}

impl Size {
    fn now() -> Self {
        let (width, height) = size().unwrap_or(USUAL);
        Self { width: usize::from(width), height: usize::from(height) }
    }
}

/// The whole picture, in lines that fit.
fn picture<H: Fn(&str) -> String>(
    view: &View<H>,
    known: bool,
    stopping: bool,
    happened: &Happened,
    size: Size,
) -> Vec<String> {
    // The last column and the last row stay free, so that the terminal neither wraps nor scrolls.
    let (width, height) = (size.width.saturating_sub(1).max(1), size.height.saturating_sub(1).max(1));
    let (adapters, engines) = (view.fleet.adapters().items, view.fleet.engines().items);
    let mut top = if stopping { vec![STOPPING.to_owned()] } else { heads(&view.head, width) };
    if adapters.is_empty() && known && !stopping {
        top.extend([String::new(), view.nothing()]);
    }
    let troubles = troubles(&adapters, happened, if height < 12 { 1 } else { TROUBLED });
    let served = adapters.iter().find(|adapter| adapter.ready_replicas > 0).filter(|_| !stopping);
    // Half a command is worth nothing.
    let hint =
        served.map(|adapter| (view.hint)(&adapter.name)).filter(|hint| widest(hint) <= width).unwrap_or_default();
    let foot = |lines: usize, hint: &str| -> Vec<String> {
        let recent = happened.recent();
        let mut foot: Vec<String> = recent.iter().skip(recent.len().saturating_sub(lines)).cloned().collect();
        let gap = (!hint.is_empty() && !foot.is_empty()).then(String::new);
        foot.extend(gap.into_iter().chain(hint.lines().map(str::to_owned)));
        foot
    };

    let (of_adapters, of_engines) = (adapters.len() + 1, engines.len() + 1);
    // One empty line before each part.
    let others = top.len() + troubles.len() + if troubles.is_empty() { 3 } else { 4 };
    // What is there matters more than what happened, and so does what to try.
    let tables = others + of_adapters + of_engines;
    let whole = [RECENT, 3, 1].into_iter().map(|lines| foot(lines, &hint)).find(|foot| tables + foot.len() <= height);
    let foot = whole.unwrap_or_else(|| foot(if height < 16 { 1 } else { 3 }, ""));
    let room = height.saturating_sub(others + foot.len());
    let for_engines = of_engines.min((room / 3).max(room.saturating_sub(of_adapters)));
    let adapters = adapter_lines(adapters, width, room.saturating_sub(for_engines));
    let engines = engine_lines(engines, width, for_engines);
    let mut lines = top;
    for part in [adapters, troubles, engines, foot].into_iter().filter(|part| !part.is_empty()) {
        lines.push(String::new());
        lines.extend(part);
    }
    lines.truncate(height);
    lines.into_iter().map(|line| cut(&one_line(&line), width)).collect()
}

/// The addresses, each on a line of its own where one line is too narrow for them.
fn heads(head: &str, width: usize) -> Vec<String> {
    if widest(head) <= width { vec![head.to_owned()] } else { head.split(", ").map(str::to_owned).collect() }
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

/// The adapters that fit; where not all do, those that are not served come first.
fn adapter_lines(mut adapters: Vec<Arc<Adapter>>, width: usize, room: usize) -> Vec<String> {
    if adapters.is_empty() {
        return Vec::new();
    }
    if adapters.len() + 1 > room {
        adapters.sort_by_key(|adapter| adapter.phase == "Running");
    }
    fitted(get::adapters_within(&adapters, width), room, "adapters")
}

/// The same for engines.
fn engine_lines(mut engines: Vec<Arc<Engine>>, width: usize, room: usize) -> Vec<String> {
    if engines.is_empty() {
        return Vec::new();
    }
    if engines.len() + 1 > room {
        engines.sort_by_key(|engine| engine.ready);
    }
    fitted(get::engines_within(&engines, width), room, "engines")
}

/// A table in at most `room` lines, the last of which says how much was left out.
fn fitted(mut table: Vec<String>, room: usize, what: &str) -> Vec<String> {
    // Heading, one row, and the remark: less tells nobody anything.
    let room = room.max(3);
    if table.len() > room {
        let hidden = table.len() - (room - 1);
        table.truncate(room - 1);
        table.push(format!("… and {hidden} more: longshore get {what}"));
    }
    table
}

/// What waits for somebody to do something: `most` about files, and as much about adapters.
fn troubles(adapters: &[Arc<Adapter>], happened: &Happened, most: usize) -> Vec<String> {
    let troubled = adapters.iter().filter(|adapter| match adapter.phase.as_str() {
        _ if adapter.fetching.is_some() => true,
        "Failed" => true,
        // `ModelAdapterUnavailable` says that it is on its way.
        "Pending" => adapter.reason != "ModelAdapterUnavailable",
        _ => false,
    });
    let troubled = troubled.take(most).map(|adapter| format!("{}: {}", adapter.name, adapter.news()));
    happened.files().take(most).map(str::to_owned).chain(troubled).collect()
}

/// What is on the terminal.
#[derive(Debug, Default)]
struct Screen {
    lines: Vec<String>,
    width: usize,
}

impl Screen {
    /// Draws `lines` over what was drawn before.
    fn show(&mut self, lines: &[String]) {
        let width = Size::now().width;
        if self.lines == lines && self.width == width {
            return;
        }
        let before = rows(&self.lines, width);
        // A terminal that has gone away is no reason to fail.
        if draw(lines, before).is_ok() {
            (self.lines, self.width) = (lines.to_vec(), width);
        }
    }
}

/// The rows that lines take up: a terminal that was made narrower has wrapped them.
fn rows(lines: &[String], width: usize) -> usize {
    lines.iter().map(|line| line.chars().count().div_ceil(width.max(1)).max(1)).sum()
}

/// Draws over the rows before. Each line is written before what was there is cleared, so that nothing flickers.
fn draw(lines: &[String], before: usize) -> std::io::Result<()> {
    let mut out = stdout().lock();
    if before > 0 {
        queue!(out, MoveUp(u16::try_from(before).unwrap_or(u16::MAX)))?;
    }
    queue!(out, MoveToColumn(0))?;
    for line in lines {
        queue!(out, Print(line), Clear(ClearType::UntilNewLine), Print("\r\n"))?;
    }
    queue!(out, Clear(ClearType::FromCursorDown))?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use longshore_cluster::fleet::FleetStore;
    use longshore_runtime::Readiness;
    use tokio::sync::broadcast;

    use super::super::lines::tests::change;
    use super::*;

    /// A fleet of so many adapters and engines, one adapter broken.
    fn view(adapters: u32, engines: u32) -> View<impl Fn(&str) -> String> {
        let fleet = Arc::new(FleetStore::new());
        for n in 0..adapters {
            let mut adapter = Adapter {
                namespace: "default".into(),
                name: format!("adapter-{n}"),
                base_model: Some("tiny-base".into()),
                digest: Some(format!("sha256:{n:064x}")),
                phase: "Running".into(),
                ready_replicas: 1,
                desired_replicas: 1,
                ..Adapter::default()
            };
            if n + 1 == adapters && n > 0 {
                adapter.phase = "Failed".into();
                adapter.ready_replicas = 0;
                adapter.reason = "ArtifactNotFound".into();
                adapter.message = "/srv/adapters/last does not exist".into();
            }
            fleet.put_adapter(adapter);
        }
        for n in 0..engines {
            fleet.put_engine(Engine {
                engine: format!("sim-{n}"),
                namespace: "default".into(),
                kind: "simulated".into(),
                base_model: Some("tiny-base".into()),
                ready: true,
                ..Engine::default()
            });
        }
        View {
            head: "longshore: requests on http://127.0.0.1:8080, fleet API on http://127.0.0.1:9090".to_owned(),
            hint: |model: &str| format!("curl {model} \\\n  -d more"),
            manifests: vec!["adapters".into()],
            fleet,
            changes: broadcast::channel(1).1,
            known: Readiness::new(),
            stopping: CancellationToken::new(),
        }
    }

    fn happened() -> Happened {
        let mut happened = Happened::default();
        for n in 0..10 {
            happened.remember(&change(n == 9, "default/sql", &format!("step {n} {}", "x".repeat(300))));
        }
        happened
    }

    fn drawn(view: &View<impl Fn(&str) -> String>, stopping: bool, width: usize, height: usize) -> Vec<String> {
        picture(view, true, stopping, &happened(), Size { width, height })
    }

    #[test]
    fn the_picture_fits_any_terminal() {
        for (adapters, engines) in [(0, 0), (1, 1), (3, 3), (40, 2), (100, 256), (0, 40)] {
            let view = view(adapters, engines);
            for (width, height) in [(80, 24), (40, 12), (10, 3), (200, 60), (120, 8), (1, 1), (0, 0), (30, 200)] {
                let lines = drawn(&view, false, width, height);
                assert!(lines.len() < height.max(2), "{} lines in {height}", lines.len());
                let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
                assert!(widest < width.max(2), "{widest} columns in {width}");
            }
        }
    }

    #[test]
    fn a_broken_one_among_many_is_seen_with_its_reason() {
        let view = view(40, 2);
        for (width, height) in [(80, 24), (44, 24), (80, 15)] {
            let text = drawn(&view, false, width, height).join("\n");
            assert!(text.contains("adapter-39") && text.contains("ArtifactNotFound"), "{width}x{height}:\n{text}");
            assert!(text.contains("adapter-39: /srv/adapters/last"), "{width}x{height}:\n{text}");
            assert!(text.contains("more: longshore get adapters"), "{width}x{height}:\n{text}");
        }
    }

    #[test]
    fn the_pictures_look_like_this() {
        let pictures = [
            ("few, as wide as usual", drawn(&view(3, 2), false, 80, 24)),
            ("many, narrow", drawn(&view(40, 2), false, 40, 24)),
            ("short", drawn(&view(3, 2), false, 80, 12)),
            ("nothing declared", drawn(&view(0, 1), false, 80, 24)),
            ("stopping", drawn(&view(0, 1), true, 80, 24)),
        ];
        let text: Vec<String> =
            pictures.iter().map(|(what, lines)| format!("=== {what}\n{}", lines.join("\n"))).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn lines_that_a_narrower_terminal_has_wrapped_are_counted() {
        let lines = ["x".repeat(79), String::new(), "y".repeat(40)];
        assert_eq!(rows(&lines, 80), 3);
        assert_eq!(rows(&lines, 40), 4);
        assert_eq!(rows(&lines, 0), 79 + 1 + 40);
    }
}
