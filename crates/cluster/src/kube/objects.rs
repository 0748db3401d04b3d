//! What is written on objects beside status: finalizer, retry annotations, the note of what is unfinished.
