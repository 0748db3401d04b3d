//! Between what the reconciler says is unfinished and how it is noted.

use longshore_reconciler::Unfinished;

use super::super::objects::note::NoteEntry;

pub(super) fn entry(unfinished: Unfinished) -> NoteEntry {
    let Unfinished { engine, boot, name, root } = unfinished;
    NoteEntry { engine, boot, name, root }
}

pub(super) fn unfinished(entry: NoteEntry) -> Unfinished {
    let NoteEntry { engine, boot, name, root } = entry;
    Unfinished { engine, boot, name, root }
}
