//! Secrets, read by name.
