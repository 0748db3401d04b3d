//! How the proxy behaves.

use std::time::Duration;

/// Limits and waits of the data path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The largest request body in bytes; 413 above it. The body is held in memory while the request is under way.
    pub max_body: usize,
    /// The largest request head in bytes; 431 above it.
    pub max_header: usize,
    /// How long a client may take to send a request's head, the idle time before it included.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body; 408 after it.
    pub body_timeout: Duration,
    /// How long connecting to an engine may take.
    pub connect_timeout: Duration,
    /// How long an engine may take to begin its answer; 504 after it. A long completion that is not streamed begins only
    /// when it is done.
    pub answer_timeout: Duration,
    /// How long a request waits, in all, for an adapter whose only holder is being changed over.
    pub swap_hold: Duration,
    /// How many engines one request may be sent to, one after the other.
    pub max_attempts: u32,
    /// How long an engine that answered that it lacks an adapter is not asked for it, unless the table shows a newer
    /// confirmation before that. It bounds the harm of a correction that nobody else heard of, and of a reload that was
    /// over before it could be told; the engine's own 404 guards the request that tries again, at the price of one retry.
    pub distrust: Duration,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            // A chat with a few images in base64, or 15 minutes of 16 kHz mono audio.
            max_body: 32 << 20,
            max_header: 64 << 10,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(600),
            swap_hold: Duration::from_secs(1),
            max_attempts: 4,
            distrust: Duration::from_secs(5),
        }
    }
}
