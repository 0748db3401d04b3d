//! What can be made to go wrong while a simulated engine runs.

use serde::{Deserialize, Serialize};

/// What goes wrong. Everything is off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Every call is accepted and not answered, but those below `/sim`.
    pub hang_all: bool,
    /// A load stays inside the engine, as with storage that hangs: completions and other loads wait behind it, and it
    /// finishes when the fault is taken back even if its caller has gone.
    pub hang_load: bool,
    /// `GET /v1/models` is not answered.
    pub hang_list: bool,
    /// `GET /metrics` is not answered.
    pub hang_metrics: bool,
    /// The port refuses connections and the open ones are closed. Over HTTP it has to be limited by `for_ms`.
    pub refuse: bool,
    /// Loads are answered with this instead of being tried.
    pub load_answer: Option<Answer>,
    /// Completions of every form are answered with this instead of being tried.
    pub completion_answer: Option<Answer>,
    /// Each load takes this much longer, in milliseconds, and blocks the whole engine meanwhile.
    pub load_delay_ms: u64,
    /// Each token takes this many milliseconds instead of the usual time. A change holds at once, also for the token
    /// that is being made.
    pub token_delay_ms: Option<u64>,
    /// Streams are reset after this many chunks.
    pub reset_after: Option<u32>,
}

/// A made-up answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The message of the error.
    pub text: String,
}

/// The body of `POST /sim/faults`: the faults from now on, and what happens at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultRequest {
    /// The faults from now on, instead of those before; left out, they stay.
    pub faults: Option<Faults>,
    /// Takes all faults back after this many milliseconds.
    pub for_ms: Option<u64>,
    /// The engine dies as after an error in its worker.
    pub die: bool,
    /// The process is replaced by a new one, which remembers nothing.
    pub restart: bool,
}

/// One thing that a simulated engine did, as `GET /sim/log` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The life in which it happened: 1 for the first.
    pub boot: u32,
    /// What happened.
    pub what: What,
    /// The adapter's name; empty for what concerns none.
    pub name: String,
    /// The path that it was to be read from; empty for an unload.
    pub path: String,
    /// HTTP status of the answer, also where nobody waited for it; 200 or 500 for what is not a call.
    pub status: u16,
    /// The text of the answer, or of the error.
    pub text: String,
}

/// The kinds of entry in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The process started.
    Start,
    /// A call to load.
    Load,
    /// A call to unload.
    Unload,
    /// An adapter that had been pushed out of memory was read again because a request named it.
    Reread,
    /// The engine died.
    Death,
}
