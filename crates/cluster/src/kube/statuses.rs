//! Writes status, in order and behind the routes.
