//! Calls to the API server: each within a bound, none once this process may not lead any more.
