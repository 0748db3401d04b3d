//! One watch of one kind: trimmed, paged, guarded.
