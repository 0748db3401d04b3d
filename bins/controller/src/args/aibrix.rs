//! Flags of AIBrix's controller that say nothing here. They are accepted, since people come with arguments that they
//! have, and each is named in the log.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, error::Error};

/// Whether a flag takes a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// `--flag value` or `--flag=value`.
    Value,
    /// `--flag` or `--flag=true`.
    Switch,
}

use Takes::{Switch, Value};

const LOGS: &str = "logs go by --log and --log-format";
const ONE: &str = "this program has one controller, the one of ModelAdapters";
const HOOKS: &str = "there are no webhooks: the definition itself checks what is declared";
const PLAIN: &str = "the admin port speaks plain HTTP/1";

/// The flags, and why they say nothing.
const FLAGS: &[(&str, Takes, &str)] = &[
    ("add_dir_header", Switch, LOGS),
    ("alsologtostderr", Switch, LOGS),
    ("controllers", Value, ONE),
    ("debug-mode", Switch, "engines are reached by their pods' addresses"),
    ("disable-webhook", Switch, HOOKS),
    ("enable-http2", Switch, PLAIN),
    ("leader-election-resource-lock", Value, "it is always a Lease"),
    ("log_backtrace_at", Value, LOGS),
    ("log_dir", Value, LOGS),
    ("log_file", Value, LOGS),
    ("log_file_max_size", Value, LOGS),
    ("logtostderr", Switch, LOGS),
    ("metrics-secure", Switch, PLAIN),
    ("one_output", Switch, LOGS),
    ("skip_headers", Switch, LOGS),
    ("skip_log_headers", Switch, LOGS),
    ("stderrthreshold", Value, LOGS),
    ("v", Value, LOGS),
    ("vmodule", Value, LOGS),
    ("webhook-cert-dir", Value, HOOKS),
    ("webhook-port", Value, HOOKS),
    ("zap-devel", Switch, LOGS),
    ("zap-encoder", Value, LOGS),
    ("zap-log-level", Value, LOGS),
    ("zap-stacktrace-level", Value, LOGS),
    ("zap-time-encoding", Value, LOGS),
];

/// Those of the flags that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    given: Vec<(&'static str, &'static str)>,
}

impl Ignored {
    /// Each with the reason why it says nothing. Their values are not kept.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.given.iter().copied()
    }
}

impl clap::FromArgMatches for Ignored {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = FLAGS.iter().filter(|(name, ..)| matches.get_many::<OsString>(name).is_some());
        Ok(Self { given: given.map(|(name, _, why)| (*name, *why)).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Ignored {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(|(name, takes, _)| {
            let flag = Arg::new(*name).long(*name).hide(true).action(ArgAction::Append);
            let flag = flag.value_parser(clap::value_parser!(OsString)).allow_hyphen_values(true);
            let flag = match takes {
                Value => flag.num_args(1),
                Switch => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
            };
            // The log's verbosity is mostly written `-v=4`.
            if *name == "v" { flag.short('v') } else { flag }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    fn given(args: &[&str]) -> Vec<&'static str> {
        let args = Args::try_parse_from([&["longshore-controller"], args].concat()).unwrap();
        args.ignored.given().map(|(name, _)| name).collect()
    }

    #[test]
    fn every_one_is_accepted_as_go_programs_take_it_and_named() {
        for (name, takes, why) in FLAGS {
            let with_value = format!("--{name}=1");
            assert_eq!(given(&[&with_value, "--leader-elect"]), [*name]);
            let bare = format!("--{name}");
            match takes {
                Switch => assert_eq!(given(&[&bare, "--leader-elect"]), [*name]),
                Value => assert_eq!(given(&[&bare, "-1", "--leader-elect"]), [*name]),
            }
            assert_eq!(given(&[&with_value, &with_value]), [*name], "twice is no error in Go");
            assert!(!why.is_empty());
        }
        assert_eq!(given(&["-v=4"]), ["v"]);
        assert_eq!(given(&[]), [""; 0]);
    }
}
