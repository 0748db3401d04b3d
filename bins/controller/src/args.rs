//! Flags and environment variables.

mod aibrix;
mod election;
mod timing;
mod values;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser};
use longshore_cluster::Namespace;
use longshore_cluster::kube::{EngineKeySecret, LeaseTimes, RateLimit};
use longshore_runtime::Listen;
use longshore_runtime::telemetry::Format;

use aibrix::Ignored;
use election::ElectionArgs;
use timing::Timing;
use values::{Maybe, policy, rate, secret_key, switch};

/// Loads, keeps and unloads the LoRA adapters that ModelAdapter objects declare.
///
/// Durations are seconds (15, 0.5) or as Go writes them (15s, 1m30s).
#[derive(Clone, Debug, Parser)]
#[command(name = "longshore-controller", version, max_term_width = 100)]
pub struct Args {
    /// Where /livez, /readyz, /metrics and the fleet API are answered
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LONGSHORE_HEALTH_PROBE_BIND_ADDRESS",
        hide_env_values = true,
        default_value = ":8081"
    )]
    pub health_probe_bind_address: Listen,

    /// Where /metrics is answered besides; 0 for nowhere
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LONGSHORE_METRICS_BIND_ADDRESS",
        hide_env_values = true,
        default_value = "0"
    )]
    metrics_bind_address: Maybe,

    /// Namespace to look after; may be given more than once. Without it, all of them
    #[arg(
        long = "namespace",
        value_name = "NAME",
        env = "LONGSHORE_NAMESPACES",
        hide_env_values = true,
        value_delimiter = ','
    )]
    namespaces: Vec<Namespace>,

    /// Placement policy of objects whose schedulerName is `default`
    #[arg(
        long,
        value_name = "POLICY",
        env = "LONGSHORE_MODEL_ADAPTER_SCHEDULER_POLICY",
        hide_env_values = true,
        default_value = "default",
        value_parser = policy
    )]
    pub model_adapter_scheduler_policy: String,

    /// Speak to a pod's sidecar where it has one. For now it changes nothing: every engine is spoken to directly
    #[arg(
        long,
        value_name = "BOOL",
        env = "LONGSHORE_ENABLE_RUNTIME_SIDECAR",
        hide_env_values = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = switch
    )]
    pub enable_runtime_sidecar: bool,

    /// Secret with the bearer token of engines whose pods name none, in each engine's own namespace
    #[arg(
        long,
        value_name = "NAME/KEY",
        env = "LONGSHORE_ENGINE_API_KEY_SECRET",
        hide_env_values = true,
        value_parser = secret_key
    )]
    pub engine_api_key_secret: Option<EngineKeySecret>,

    /// Account that may use the fleet API, as the cluster calls it; may be given more than once. Without it,
    /// system:serviceaccount:NAMESPACE:longshore-router of this pod's namespace
    #[arg(
        long = "fleet-api-account",
        value_name = "USERNAME",
        env = "LONGSHORE_FLEET_API_ACCOUNTS",
        hide_env_values = true,
        value_delimiter = ','
    )]
    fleet_api_accounts: Vec<String>,

    /// File with a bearer token that opens the fleet API too; it may be replaced at any time. With --namespace and
    /// without accounts it is the only one, since the cluster then need not be asked about accounts
    #[arg(long, value_name = "PATH", env = "LONGSHORE_FLEET_API_TOKEN_FILE", hide_env_values = true)]
    pub fleet_api_token_file: Option<PathBuf>,

    /// Kubeconfig to reach the cluster by. Without it, what KUBECONFIG names, or the pod's own ServiceAccount
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,

    /// Requests to the API server in a second, in the long run; 0 for no limit. The Lease's are never held back
    #[arg(long, value_name = "COUNT", env = "LONGSHORE_KUBE_API_QPS", hide_env_values = true, default_value = "0", value_parser = rate)]
    kube_api_qps: f64,

    /// Requests to the API server at once, where --kube-api-qps limits them. Without it, as many as in a second
    #[arg(long, value_name = "COUNT", env = "LONGSHORE_KUBE_API_BURST", hide_env_values = true, value_parser = clap::value_parser!(u32).range(1..))]
    kube_api_burst: Option<u32>,

    /// Name of this pod, by which other replicas find it. Without it, the host's name
    #[arg(long, value_name = "NAME", env = "POD_NAME", hide_env_values = true)]
    pod_name: Option<String>,

    /// Namespace of this pod. Without it, that of its ServiceAccount or of the kubeconfig
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", hide_env_values = true)]
    pod_namespace: Option<Namespace>,

    #[command(flatten)]
    pub election: ElectionArgs,

    #[command(flatten)]
    pub timing: Timing,

    #[command(flatten)]
    pub ignored: Ignored,

    /// Log level, or levels by module: info,longshore_cluster=debug
    #[arg(
        long,
        value_name = "FILTER",
        env = "LONGSHORE_LOG",
        hide_env_values = true,
        default_value = "info",
        help_heading = "Log"
    )]
    pub log: String,

    /// How log lines look: text, json or auto
    #[arg(
        long,
        value_name = "FORMAT",
        env = "LONGSHORE_LOG_FORMAT",
        hide_env_values = true,
        default_value_t = Format::Auto,
        help_heading = "Log"
    )]
    pub log_format: Format,
}

/// Whose tokens open the fleet API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// The token in this file.
    pub file: Option<PathBuf>,
    /// Accounts of the cluster, which is asked whose a token is. Nobody is asked where there is none.
    pub accounts: Vec<String>,
}

impl Args {
    /// The Lease's times.
    ///
    /// # Errors
    /// They do not fit together.
    pub fn lease_times(&self) -> Result<LeaseTimes, clap::Error> {
        self.election.times().map_err(|invalid| {
            let text = format!("--leader-election-lease-duration, -renew-deadline and -retry-period: {invalid}");
            Self::command().error(ErrorKind::ValueValidation, text)
        })
    }

    /// Where metrics are answered besides.
    pub fn metrics_listen(&self) -> Option<&Listen> {
        match &self.metrics_bind_address {
            Maybe::Nowhere => None,
            Maybe::At(listen) => Some(listen),
        }
    }

    /// The namespaces to look after, each once; none for all of them.
    pub fn served(&self) -> Vec<Namespace> {
        let mut served = self.namespaces.clone();
        served.sort();
        served.dedup();
        served
    }

    /// How many requests are made at most.
    pub fn limit(&self) -> Option<RateLimit> {
        // A rate is at most a million, so this is a number of requests.
        let burst = self.kube_api_burst.unwrap_or(self.kube_api_qps.ceil() as u32);
        RateLimit::new(self.kube_api_qps, burst)
    }

    /// The name of this pod; `host` is the name of the host, which in a pod is the pod's.
    pub fn pod(&self, host: Option<String>) -> String {
        let given = self.pod_name.clone().or(host).filter(|name| !name.is_empty());
        given.unwrap_or_else(|| "longshore-controller".to_owned())
    }

    /// The namespace of this pod; `of_client` is that of the cluster's settings.
    ///
    /// # Errors
    /// The settings name none that is one.
    pub fn own_namespace(&self, of_client: &str) -> Result<Namespace, clap::Error> {
        match &self.pod_namespace {
            Some(own) => Ok(own.clone()),
            None => of_client.parse().map_err(|invalid| {
                Self::command().error(ErrorKind::ValueValidation, format!("the cluster's settings: {invalid}"))
            }),
        }
    }

    /// Whose tokens open the fleet API. `own`: the namespace of this process.
    pub fn callers(&self, own: &Namespace) -> Callers {
        let file = self.fleet_api_token_file.clone();
        let accounts = match self.fleet_api_accounts.as_slice() {
            // To ask whose a token is takes a right of the whole cluster.
            [] if file.is_some() && !self.namespaces.is_empty() => Vec::new(),
            [] => vec![format!("system:serviceaccount:{own}:longshore-router")],
            given => given.to_vec(),
        };
        Callers { file, accounts }
    }

    /// What is accepted and does not do what it says, in sentences for the log.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> =
            self.ignored.given().map(|(flag, why)| format!("--{flag} is accepted and does nothing: {why}")).collect();
        if self.enable_runtime_sidecar {
            remarks.push(
                "--enable-runtime-sidecar is accepted and changes nothing yet: every engine is spoken to directly, \
                 also where its pod has a sidecar"
                    .to_owned(),
            );
        }
        if self.kube_api_burst.is_some() && self.limit().is_none() {
            remarks.push("--kube-api-burst does nothing without --kube-api-qps, which sets no limit".to_owned());
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longshore_cluster::Config;

    use super::*;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["longshore-controller"], args].concat())
    }

    fn own() -> Namespace {
        "longshore-system".parse().unwrap()
    }

    #[test]
    fn the_help_is_what_people_have_read() {
        let help = Args::command().term_width(100).render_long_help().to_string();
        insta::assert_snapshot!(help);
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.timing.config(), Config::default());
        assert_eq!(args.lease_times().unwrap(), LeaseTimes::default());
        assert_eq!(args.limit(), None);
        assert_eq!(args.metrics_listen(), None);
        assert_eq!(args.health_probe_bind_address.to_string(), ":8081");
        assert_eq!(args.model_adapter_scheduler_policy, "default");
        assert!(!args.election.leader_elect && !args.enable_runtime_sidecar);
        assert!(args.remarks().is_empty());
    }

    #[test]
    fn arguments_written_for_aibrix_are_taken_as_they_are() {
        let args = parse(&[
            "--leader-elect",
            "--leader-election-id=aibrix-controller-manager",
            "--leader-election-namespace=aibrix-system",
            "--leader-election-lease-duration=30s",
            "--leader-election-renew-deadline=20s",
            "--health-probe-bind-address=:8081",
            "--metrics-bind-address=0",
            "--enable-runtime-sidecar",
            "--kube-api-qps=100",
            "--kube-api-burst=200",
            "--model-adapter-scheduler-policy=leastAdapters",
            "--controllers=*",
            "--disable-webhook",
            "--zap-log-level",
            "5",
        ])
        .unwrap();
        let lease = args.election.config(args.lease_times().unwrap(), "pod-1", &own());
        assert_eq!((lease.namespace.as_str(), lease.name.as_str()), ("aibrix-system", "aibrix-controller-manager"));
        let seconds = Duration::from_secs;
        assert_eq!(Ok(lease.times), LeaseTimes::new(seconds(30), seconds(20), seconds(2)));
        assert_eq!(args.limit(), RateLimit::new(100.0, 200));
        assert_eq!(args.model_adapter_scheduler_policy, "least-adapters");
        let remarks = args.remarks().join("\n");
        for flag in ["--controllers", "--disable-webhook", "--zap-log-level", "--enable-runtime-sidecar"] {
            assert!(remarks.contains(&format!("{flag} is accepted")), "{remarks}");
        }
    }

    #[test]
    fn a_switch_may_be_bare_or_say_what_it_is() {
        for (args, on) in [
            (&["--leader-elect"][..], true),
            (&["--leader-elect=true"], true),
            (&["--leader-elect=false"], false),
            (&["--leader-elect=0"], false),
            (&["--leader-elect", "--enable-runtime-sidecar"], true),
        ] {
            assert_eq!(parse(args).unwrap().election.leader_elect, on, "{args:?}");
        }
        assert!(parse(&["--leader-elect=yes"]).is_err());
        assert!(parse(&["--leader-elect", "true"]).is_err(), "as in Go: the value belongs to nothing");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (args, expected) in [
            (&["--model-adapter-scheduler-policy=best"][..], "default, least-adapters"),
            (&["--engine-api-key-secret=keys"], "NAME/KEY"),
            (&["--health-probe-bind-address=8081"], "host:port"),
            (&["--metrics-bind-address=8080"], "host:port"),
            (&["--namespace=Nope"], "Nope"),
            (&["--list-interval=0"], "0.05"),
            (&["--retry-base=soon"], "1m30s"),
            (&["--kube-api-qps=-5"], "0.1"),
            (&["--no-such-flag"], "--no-such-flag"),
        ] {
            let error = parse(args).unwrap_err().to_string();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
        let error = parse(&["--leader-election-renew-deadline=20"]).unwrap().lease_times().unwrap_err().to_string();
        assert!(error.contains("shorter than the lease duration"), "{error}");
    }

    #[test]
    fn namespaces_may_be_listed_and_repeated_and_count_once() {
        let args = parse(&["--namespace", "b,a", "--namespace", "b"]).unwrap();
        assert_eq!(args.served().iter().map(Namespace::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert!(parse(&[]).unwrap().served().is_empty());
    }

    #[test]
    fn i7_the_fleet_api_is_for_the_router_alone_unless_others_are_named() {
        let router = "system:serviceaccount:longshore-system:longshore-router";
        let callers = |args: &[&str]| {
            let Callers { file, accounts } = parse(args).unwrap().callers(&own());
            (file.is_some(), accounts)
        };
        assert_eq!(callers(&[]), (false, vec![router.to_owned()]));
        assert_eq!(callers(&["--fleet-api-token-file=/t"]), (true, vec![router.to_owned()]));
        assert_eq!(callers(&["--namespace=a"]), (false, vec![router.to_owned()]));
        // Roles of one namespace do not let us ask the cluster about accounts.
        assert_eq!(callers(&["--namespace=a", "--fleet-api-token-file=/t"]), (true, vec![]));
        let named = ["--namespace=a", "--fleet-api-token-file=/t", "--fleet-api-account=me", "--fleet-api-account=you"];
        assert_eq!(callers(&named), (true, vec!["me".to_owned(), "you".to_owned()]));
    }

    #[test]
    fn a_pod_is_named_by_its_environment_and_a_host_stands_in() {
        let args = parse(&["--pod-name=p-1", "--pod-namespace=there"]).unwrap();
        assert_eq!(args.pod(Some("host".to_owned())), "p-1");
        assert_eq!(args.own_namespace("here").unwrap().as_str(), "there");
        let lease = args.election.config(LeaseTimes::default(), "p-1", &"there".parse().unwrap());
        assert_eq!((lease.namespace.as_str(), lease.name.as_str()), ("there", "longshore-controller"));
        let args = parse(&[]).unwrap();
        assert_eq!(args.pod(Some("host".to_owned())), "host");
        assert_eq!(args.pod(None), "longshore-controller");
        assert_eq!(args.own_namespace("here").unwrap().as_str(), "here");
        assert!(args.own_namespace("No Namespace").is_err());
    }

    #[test]
    fn a_limit_without_a_burst_lets_a_seconds_worth_through_at_once() {
        assert_eq!(parse(&["--kube-api-qps=12.5"]).unwrap().limit(), RateLimit::new(12.5, 13));
        let args = parse(&["--kube-api-burst=50"]).unwrap();
        assert_eq!(args.limit(), None);
        assert!(args.remarks()[0].contains("--kube-api-qps"));
    }
}
