//! Times of the reconciler.

use std::time::Duration;

use clap::Args;
use longshore_cluster::Config;

use super::values::{duration, interval};

/// When what is done, again, or given up.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Loading, retrying, deleting")]
pub struct Timing {
    /// Time between two listings of an engine
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_LIST_INTERVAL", hide_env_values = true, default_value = "2", value_parser = interval)]
    list_interval: Duration,

    /// Time for which an engine must have been Ready before a choice falls on it
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_STABLE_AFTER", hide_env_values = true, default_value = "5", value_parser = duration)]
    stable_after: Duration,

    /// Time that an engine may be away before its adapters are placed on others
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_NOT_READY_GRACE", hide_env_values = true, default_value = "30", value_parser = duration)]
    not_ready_grace: Duration,

    /// Time before the first retry of a failed load; each further one waits twice as long
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_RETRY_BASE", hide_env_values = true, default_value = "5", value_parser = interval)]
    retry_base: Duration,

    /// Retries on one engine before another is chosen
    #[arg(long, value_name = "COUNT", env = "LONGSHORE_MAX_RETRIES", hide_env_values = true, default_value_t = Config::default().max_retries)]
    max_retries: u32,

    /// Time for which an engine that used up its retries is left alone for that adapter
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_COOL_DOWN", hide_env_values = true, default_value = "300", value_parser = interval)]
    cool_down: Duration,

    /// Time after which what was refused is tried again, where nothing has changed before
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_REFUSAL_RETRY", hide_env_values = true, default_value = "300", value_parser = interval)]
    refusal_retry: Duration,

    /// Time that requests under way are given before their adapter is unloaded
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_DRAIN", hide_env_values = true, default_value = "3", value_parser = duration)]
    drain: Duration,

    /// The same where an adapter's only engine is changed over, so that requests have to wait
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_SWAP_DRAIN", hide_env_values = true, default_value = "0.5", value_parser = duration)]
    swap_drain: Duration,

    /// Time after which a load under way makes its engine count as stalled: nothing new is placed there
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_STALLED_AFTER", hide_env_values = true, default_value = "30", value_parser = interval)]
    stalled_after: Duration,

    /// Time after which a load that nothing was heard of is given up
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_LOAD_BOUND", hide_env_values = true, default_value = "600", value_parser = interval)]
    load_bound: Duration,

    /// Time that a deletion waits for engines that do not answer, on top of --drain. What could not be unloaded is noted,
    /// and unloaded when the engine answers again
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_DELETE_BOUND", hide_env_values = true, default_value = "6", value_parser = duration)]
    delete_bound: Duration,
}

impl Timing {
    /// How the reconciler behaves.
    pub fn config(&self) -> Config {
        Config {
            list_interval: self.list_interval,
            stable_after: self.stable_after,
            not_ready_grace: self.not_ready_grace,
            retry_base: self.retry_base,
            max_retries: self.max_retries,
            cool_down: self.cool_down,
            refusal_retry: self.refusal_retry,
            drain: self.drain,
            swap_drain: self.swap_drain,
            stalled_after: self.stalled_after,
            load_bound: self.load_bound,
            delete_bound: self.delete_bound,
            ..Config::default()
        }
    }
}
