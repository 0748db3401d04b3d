//! Who leads of several replicas.

use std::time::Duration;

use clap::{ArgAction, Args};
use longshore_cluster::kube::{InvalidLeaseTimes, LeaseConfig, LeaseTimes};
use longshore_cluster::{Namespace, ObjectName};

use super::values::{duration, switch};

/// Flags of the election, named as AIBrix's.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Leader election")]
pub struct ElectionArgs {
    /// Let one replica lead, by a Lease, and the others wait. Without it there may be one replica only
    #[arg(
        long,
        value_name = "BOOL",
        env = "LONGSHORE_LEADER_ELECT",
        hide_env_values = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = switch
    )]
    pub leader_elect: bool,

    /// Name of the Lease
    #[arg(
        long,
        visible_alias = "leader-elect-resource-name",
        value_name = "NAME",
        env = "LONGSHORE_LEADER_ELECTION_ID",
        hide_env_values = true,
        default_value = "longshore-controller"
    )]
    leader_election_id: ObjectName,

    /// Namespace of the Lease. Without it, this pod's own
    #[arg(
        long,
        visible_alias = "leader-elect-resource-namespace",
        value_name = "NAME",
        env = "LONGSHORE_LEADER_ELECTION_NAMESPACE",
        hide_env_values = true
    )]
    leader_election_namespace: Option<Namespace>,

    /// Time after which another replica takes a Lease that is not renewed
    #[arg(
        long,
        visible_alias = "leader-elect-lease-duration",
        value_name = "SECONDS",
        env = "LONGSHORE_LEASE_DURATION",
        hide_env_values = true,
        default_value = "15",
        value_parser = duration
    )]
    leader_election_lease_duration: Duration,

    /// Time after which the leader gives up where it could not renew the Lease: less than the Lease's duration
    #[arg(
        long,
        visible_alias = "leader-elect-renew-deadline",
        value_name = "SECONDS",
        env = "LONGSHORE_RENEW_DEADLINE",
        hide_env_values = true,
        default_value = "10",
        value_parser = duration
    )]
    leader_election_renew_deadline: Duration,

    /// Time between two tries to take the Lease or renew it
    #[arg(
        long,
        visible_alias = "leader-elect-retry-period",
        value_name = "SECONDS",
        env = "LONGSHORE_RETRY_PERIOD",
        hide_env_values = true,
        default_value = "2",
        value_parser = duration
    )]
    leader_election_retry_period: Duration,
}

impl ElectionArgs {
    /// The Lease's times.
    ///
    /// # Errors
    /// [`InvalidLeaseTimes`], where they do not fit together.
    pub fn times(&self) -> Result<LeaseTimes, InvalidLeaseTimes> {
        LeaseTimes::new(
            self.leader_election_lease_duration,
            self.leader_election_renew_deadline,
            self.leader_election_retry_period,
        )
    }

    /// How long giving the Lease up may take: two calls, each of a quarter of the deadline.
    pub fn release_bound(&self) -> Duration {
        self.leader_election_renew_deadline / 2
    }

    /// What `pod` contends for, whose namespace is `own`.
    pub fn config(&self, times: LeaseTimes, pod: &str, own: &Namespace) -> LeaseConfig {
        LeaseConfig {
            namespace: self.leader_election_namespace.clone().unwrap_or_else(|| own.clone()),
            name: self.leader_election_id.clone(),
            pod: pod.to_owned(),
            times,
        }
    }
}
