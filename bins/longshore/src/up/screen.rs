//! A live table of adapters and engines, for a terminal.

use std::collections::VecDeque;
use std::io::{Write, stdout};
use std::sync::Arc;
use std::time::Duration;

use crossterm::cursor::{MoveToColumn, MoveUp};
use crossterm::queue;
use crossterm::style::Print;
use crossterm::terminal::{Clear, ClearType, size};
use longshore_api::fleet::{Adapter, Engine};
use longshore_cluster::fleet::FleetStore;
use longshore_cluster::local::Change;
use longshore_runtime::CancellationToken;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::lines::line;
use crate::get;
use crate::table::cut;

/// A person sees no more pictures than this.
const FRAME: Duration = Duration::from_millis(200);
/// What happened last.
const RECENT: usize = 6;

/// Draws until it is told to stop.
pub async fn run(
    head: String,
    hint: impl Fn(&str) -> String,
    fleet: Arc<FleetStore>,
    mut changes: Receiver<Change>,
    stop: CancellationToken,
) {
    let mut recent = VecDeque::new();
    let mut drawn = 0;
    let mut shown = Vec::new();
    loop {
        let mut stopping = false;
        tokio::select! {
            biased;
            () = stop.cancelled() => stopping = true,
            change = changes.recv() => match change {
                Ok(change) => {
                    recent.push_back(line(&change));
                    if recent.len() > RECENT {
                        recent.pop_front();
                    }
                    // More may follow at once.
                    if !changes.is_empty() {
                        continue;
                    }
                }
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => stopping = true,
            },
            () = tokio::time::sleep(FRAME) => {}
        }
        let (width, height) = size().map_or((80, 24), |(width, height)| (usize::from(width), usize::from(height)));
        let adapters: Vec<Adapter> = fleet.adapters().items.iter().map(|item| Adapter::clone(item)).collect();
        let engines: Vec<Engine> = fleet.engines().items.iter().map(|item| Engine::clone(item)).collect();
        let lines = picture(&head, &hint, &adapters, &engines, &recent, width, height);
        if lines != shown {
            // A terminal that has gone away is no reason to fail.
            drawn = draw(&lines, drawn).unwrap_or(0);
            shown = lines;
        }
        if stopping {
            return;
        }
    }
}

/// The whole picture, in lines that fit.
fn picture(
    head: &str,
    hint: &impl Fn(&str) -> String,
    adapters: &[Adapter],
    engines: &[Engine],
    recent: &VecDeque<String>,
    width: usize,
    height: usize,
) -> Vec<String> {
    let served = adapters.iter().find(|adapter| adapter.ready_replicas > 0);
    let mut foot = vec![String::new()];
    foot.extend(recent.iter().cloned());
    if let Some(adapter) = served {
        foot.push(String::new());
        foot.extend(hint(&adapter.name).lines().map(str::to_owned));
    }
    let engines = get::engines(engines, false);
    let adapters = get::adapters(adapters, false);
    // What does not fit is left out of the longest part; one line stays free for the cursor.
    let room = height.saturating_sub(foot.len() + engines.len() + 5).max(2);
    let mut lines = vec![head.to_owned(), String::new()];
    let hidden = adapters.len().saturating_sub(room);
    lines.extend(adapters.into_iter().take(room));
    if hidden > 0 {
        lines.push(format!("… and {hidden} more: longshore get adapters"));
    }
    lines.push(String::new());
    lines.extend(engines);
    lines.extend(foot);
    lines.truncate(height.saturating_sub(1).max(1));
    lines.into_iter().map(|line| cut(&line, width.saturating_sub(1).max(1))).collect()
}

/// Draws over what was drawn before; how many lines there are now.
fn draw(lines: &[String], before: u16) -> std::io::Result<u16> {
    let mut out = stdout().lock();
    if before > 0 {
        queue!(out, MoveUp(before))?;
    }
    queue!(out, MoveToColumn(0), Clear(ClearType::FromCursorDown))?;
    for line in lines {
        queue!(out, Print(line), Print("\r\n"))?;
    }
    out.flush()?;
    Ok(u16::try_from(lines.len()).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_fits_the_terminal() {
        let adapters: Vec<Adapter> = (0..100)
            .map(|n| Adapter {
                namespace: "default".into(),
                name: format!("adapter-{n}"),
                phase: "Running".into(),
                ready_replicas: 1,
                desired_replicas: 1,
                ..Adapter::default()
            })
            .collect();
        let engines = vec![Engine { engine: "sim-0".into(), namespace: "default".into(), ..Engine::default() }];
        let recent = VecDeque::from(["x".repeat(500)]);
        for (width, height) in [(80, 24), (40, 12), (10, 3), (200, 60)] {
            let hint = |model: &str| format!("curl {model}");
            let lines = picture("head", &hint, &adapters, &engines, &recent, width, height);
            assert!(lines.len() < height, "{} lines in {height}", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() < width), "wider than {width}");
        }
    }
}
