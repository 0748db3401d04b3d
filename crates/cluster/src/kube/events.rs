//! Writes events, behind everything else.
