//! Flags and environment variables.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use longshore_proxy::{Controller, FleetConfig, KubeConfig, Namespace, ObjectName, ProxyConfig, Token};
use longshore_runtime::telemetry::Format;
use longshore_runtime::{Listen, seconds};

/// Where a pod of ours is given the token that it shows the controller.
const TOKEN: &str = "/var/run/secrets/longshore/token";

/// Routes OpenAI-compatible requests to engines that really have the adapter they name.
#[derive(Clone, Debug, Parser)]
#[command(name = "longshore-router", version, max_term_width = 100)]
pub struct Args {
    /// Where requests are answered
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LONGSHORE_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:8080"
    )]
    pub listen: Listen,

    /// Where /livez, /readyz and /metrics are answered
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LONGSHORE_ADMIN",
        hide_env_values = true,
        default_value = "127.0.0.1:8081"
    )]
    pub admin: Listen,

    /// The controller, or `longshore up`, whose fleet API says what is loaded where: http://host:port. Either this or
    /// --kubernetes must be given
    #[arg(long, value_name = "URL", env = "LONGSHORE_CONTROLLER", hide_env_values = true)]
    pub controller: Option<Controller>,

    /// Route by the EndpointSlices of the cluster that KUBECONFIG, or the pod's own ServiceAccount, names
    #[arg(long, env = "LONGSHORE_KUBERNETES", hide_env_values = true)]
    pub kubernetes: bool,

    /// With --kubernetes: Service of the controller, which says what is declared and not ready, and why
    #[arg(
        long,
        value_name = "NAME",
        env = "LONGSHORE_CONTROLLER_SERVICE",
        hide_env_values = true,
        default_value = "longshore-controller"
    )]
    pub controller_service: ObjectName,

    /// With --kubernetes: namespace of that Service. Without it, this pod's own
    #[arg(long, value_name = "NAME", env = "LONGSHORE_CONTROLLER_NAMESPACE", hide_env_values = true)]
    pub controller_namespace: Option<Namespace>,

    /// File with the bearer token for the controller; it may be replaced at any time. With --kubernetes,
    /// /var/run/secrets/longshore/token where that is there
    #[arg(long, value_name = "PATH", env = "LONGSHORE_CONTROLLER_TOKEN_FILE", hide_env_values = true)]
    pub controller_token_file: Option<PathBuf>,

    /// Namespace to serve; may be given more than once. Without it, all that the controller shows or the cluster has
    #[arg(
        long = "namespace",
        value_name = "NAME",
        env = "LONGSHORE_NAMESPACES",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub namespaces: Vec<Namespace>,

    /// What this router calls itself in its reports to the controller
    #[arg(long, value_name = "NAME", env = "HOSTNAME", hide_env_values = true, default_value = "router")]
    pub id: String,

    /// Largest request body in bytes
    #[arg(long, value_name = "BYTES", env = "LONGSHORE_MAX_BODY", hide_env_values = true, default_value_t = ProxyConfig::default().max_body)]
    pub max_body: usize,

    /// Largest request head in bytes
    #[arg(long, value_name = "BYTES", env = "LONGSHORE_MAX_HEADER", hide_env_values = true, default_value_t = ProxyConfig::default().max_header)]
    pub max_header: usize,

    /// Seconds in which a request's head must have come, the idle time before it included
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_HEADER_TIMEOUT", hide_env_values = true, default_value = "30", value_parser = seconds)]
    pub header_timeout: Duration,

    /// Seconds in which a request's body must have come
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_BODY_TIMEOUT", hide_env_values = true, default_value = "60", value_parser = seconds)]
    pub body_timeout: Duration,

    /// Seconds in which an engine must accept a connection
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_CONNECT_TIMEOUT", hide_env_values = true, default_value = "2", value_parser = seconds)]
    pub connect_timeout: Duration,

    /// Seconds in which an engine must begin to answer: what is not streamed begins when it is done
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_ANSWER_TIMEOUT", hide_env_values = true, default_value = "600", value_parser = seconds)]
    pub answer_timeout: Duration,

    /// Seconds that a request waits for an adapter whose only holder is being changed over
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_SWAP_HOLD", hide_env_values = true, default_value = "1", value_parser = seconds)]
    pub swap_hold: Duration,

    /// Engines that one request is sent to at most, one after the other
    #[arg(long, value_name = "COUNT", env = "LONGSHORE_MAX_ATTEMPTS", hide_env_values = true, default_value_t = ProxyConfig::default().max_attempts, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_attempts: u32,

    /// Seconds between "not ready" and the end of accepting, in which traffic finds its way elsewhere
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_LINGER", hide_env_values = true, default_value = "0", value_parser = seconds)]
    pub linger: Duration,

    /// Seconds that requests under way are given at the end
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_DRAIN", hide_env_values = true, default_value = "30", value_parser = seconds)]
    pub drain: Duration,

    /// Log level, or levels by module: info,longshore_proxy=debug
    #[arg(long, value_name = "FILTER", env = "LONGSHORE_LOG", hide_env_values = true, default_value = "info")]
    pub log: String,

    /// How log lines look: text, json or auto
    #[arg(long, value_name = "FORMAT", env = "LONGSHORE_LOG_FORMAT", hide_env_values = true, default_value_t = Format::Auto)]
    pub log_format: Format,
}

/// What says where everything is.
#[derive(Clone, Debug)]
pub enum Whence {
    /// A controller's fleet API.
    Fleet(Box<FleetConfig>),
    /// A cluster's EndpointSlices.
    Cluster,
}

impl Args {
    /// How the data path behaves.
    pub fn proxy(&self) -> ProxyConfig {
        ProxyConfig {
            max_body: self.max_body,
            max_header: self.max_header,
            header_timeout: self.header_timeout,
            body_timeout: self.body_timeout,
            connect_timeout: self.connect_timeout,
            answer_timeout: self.answer_timeout,
            swap_hold: self.swap_hold,
            max_attempts: self.max_attempts,
            ..ProxyConfig::default()
        }
    }

    /// What says where everything is.
    ///
    /// # Errors
    /// Neither or both of the two are named.
    pub fn whence(&self) -> Result<Whence, clap::Error> {
        let wrong = |kind, text: &str| Err(Self::command().error(kind, text));
        // A flag that the environment sets to `false` is given, as clap sees it, so clap cannot be told this rule.
        match (&self.controller, self.kubernetes) {
            (Some(controller), false) => Ok(Whence::Fleet(Box::new(self.fleet(controller.clone())))),
            (None, true) => Ok(Whence::Cluster),
            (None, false) => {
                wrong(ErrorKind::MissingRequiredArgument, "one of --kubernetes and --controller is needed")
            }
            (Some(_), true) => wrong(ErrorKind::ArgumentConflict, "--kubernetes and --controller exclude each other"),
        }
    }

    /// How `controller` is followed.
    fn fleet(&self, controller: Controller) -> FleetConfig {
        FleetConfig {
            token: self.controller_token_file.clone().map(Token::File),
            namespaces: self.namespaces.iter().cloned().collect(),
            router: self.id.clone(),
            ..FleetConfig::new(controller)
        }
    }

    /// How a cluster is followed. `own`: the namespace of this process.
    pub fn kube(&self, own: Namespace) -> KubeConfig {
        let given = self.controller_token_file.clone();
        let token = given.or_else(|| Some(PathBuf::from(TOKEN)).filter(|path| path.exists()));
        KubeConfig {
            token: token.map(Token::File),
            namespaces: self.namespaces.iter().cloned().collect(),
            router: self.id.clone(),
            controller_service: self.controller_service.clone(),
            ..KubeConfig::new(self.controller_namespace.clone().unwrap_or(own))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_help_is_what_people_have_read() {
        let help = Args::command().term_width(100).render_long_help().to_string();
        insta::assert_snapshot!(help);
    }

    #[test]
    fn a_cluster_is_followed_in_place_of_a_controller_and_its_own_namespace_is_the_default() {
        let parse = |more: &[&str]| Args::try_parse_from([&["longshore-router", "--kubernetes"], more].concat());
        let own = || "here".parse().unwrap();
        let config = parse(&["--namespace", "a,b", "--id", "r1"]).unwrap().kube(own());
        assert_eq!((config.controller_namespace, config.controller_service.as_str()), (own(), "longshore-controller"));
        assert_eq!(config.namespaces.iter().map(Namespace::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(config.router, "r1");
        let more = ["--controller-namespace", "there", "--controller-service", "c", "--controller-token-file", "/t"];
        let config = parse(&more).unwrap().kube(own());
        assert_eq!((config.controller_namespace.as_str(), config.controller_service.as_str()), ("there", "c"));
        assert!(matches!(config.token, Some(Token::File(path)) if path == Path::new("/t")));
        assert!(matches!(parse(&[]).unwrap().whence(), Ok(Whence::Cluster)));
        assert!(parse(&["--controller", "http://c:1"]).unwrap().whence().is_err(), "one of them, not both");
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let args = Args::try_parse_from(["longshore-router", "--controller", "http://controller:9090"]).unwrap();
        assert_eq!(args.proxy(), ProxyConfig::default());
    }
}
