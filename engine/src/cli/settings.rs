//! Where options come from besides the command line: environment variables, then the configuration file. The command
//! line wins over both.

use super::{Cli, Failure};
use clap::{ArgAction, CommandFactory};
use sirnn::run::file;
use sirnn::service::config::{Config, MAX_CONFIG, Setting};
use std::ffi::OsString;
use std::path::Path;

/// The name of the environment variable of an option: SIRNN_MAX_BYTES for `--max-bytes`.
fn variable(option: &str) -> String {
    format!("SIRNN_{}", option.to_uppercase().replace('-', "_"))
}

/// The arguments of this process with what the environment and the configuration file add.
pub(super) fn arguments() -> Result<Vec<OsString>, Failure> {
    complete(std::env::args_os().collect(), &|name| std::env::var_os(variable(name)).filter(|v| !v.is_empty()))
}

/// Whether an argument is this option, and its value if it is attached.
fn is_option<'a>(argument: &'a OsString, option: &str) -> Option<Option<&'a str>> {
    let rest = argument.to_str()?.strip_prefix("--")?.strip_prefix(option)?;
    if rest.is_empty() { Some(None) } else { rest.strip_prefix('=').map(Some) }
}

fn complete(
    mut arguments: Vec<OsString>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Vec<OsString>, Failure> {
    let cli = Cli::command();
    let is_command = |a: &OsString| a.to_str().is_some_and(|a| cli.find_subcommand(a).is_some());
    let Some(at) = arguments.iter().position(is_command) else { return Ok(arguments) };
    let command = cli.find_subcommand(&arguments[at]).expect("it was found");
    let named = |c: &clap::Command| -> Vec<String> {
        let options = c.get_arguments().filter(|a| !a.is_hide_set());
        let names = options.filter_map(|a| a.get_long()).filter(|n| !matches!(*n, "help" | "version" | "config"));
        names.map(String::from).collect()
    };
    let known: Vec<_> = cli.get_subcommands().map(|c| (c.get_name().to_string(), named(c))).collect();
    let file = arguments.iter().enumerate().find_map(|(i, a)| match is_option(a, "config")? {
        Some(attached) => Some(OsString::from(attached)),
        None => arguments.get(i + 1).cloned(),
    });
    let config = match file.or_else(|| environment("config")) {
        Some(path) => {
            let path = Path::new(&path);
            let wrong = |e: String| format!("{}: {e}", path.display());
            let bytes = file::read(path, MAX_CONFIG).map_err(|e| wrong(e.to_string()))?;
            let text = String::from_utf8(bytes).map_err(|e| wrong(e.to_string()))?;
            Config::parse(&text, &known).map_err(wrong)?
        }
        None => Config::default(),
    };
    let mut added = Vec::new();
    for option in named(command) {
        if arguments.iter().any(|a| is_option(a, &option).is_some()) {
            continue;
        }
        let is_flag = command.get_arguments().any(|a| {
            a.get_long() == Some(&option) && matches!(a.get_action(), ArgAction::SetTrue | ArgAction::SetFalse)
        });
        let mut add = |value: &OsString| {
            let mut argument = OsString::from(format!("--{option}="));
            argument.push(value);
            added.push(argument);
        };
        match (environment(&option), config.get(command.get_name(), &option)) {
            (Some(value), _) if is_flag => match value.to_str() {
                Some("1" | "true") => added.push(format!("--{option}").into()),
                Some("0" | "false") => {}
                _ => return Err(format!("{} is neither true nor false", variable(&option)).into()),
            },
            (Some(value), _) => add(&value),
            (None, Some(Setting::Flag(on))) if is_flag => {
                if on {
                    added.push(format!("--{option}").into());
                }
            }
            (None, Some(Setting::Values(values))) if !is_flag => values.iter().for_each(|v| add(&v.into())),
            (None, Some(_)) => {
                let what = if is_flag { "is true or false" } else { "takes a text or a number" };
                return Err(format!("the configuration file: '{option}' {what}").into());
            }
            (None, None) => {}
        }
    }
    arguments.splice(at + 1..at + 1, added);
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_environment_over_the_file() {
        let path = std::env::temp_dir().join(format!("sirnn-config-{}.toml", std::process::id()));
        std::fs::write(&path, "[infer]\ndeadline = 1\nbatch = 2\nmin-rate = 3\njson = true\nmodel = \"m\"").unwrap();
        let line = format!("sirnn --config {} infer --connect a --deadline=9 --batch 8", path.display());
        let environment =
            |name: &str| [("min-rate", "7"), ("batch", "7")].iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
        let all = complete(line.split(' ').map(OsString::from).collect(), &environment).unwrap();
        let all: Vec<_> = all.iter().map(|a| a.to_str().unwrap()).collect();
        let mut added = all[4..all.len() - 5].to_vec();
        added.sort_unstable();
        assert_eq!(added, ["--json", "--min-rate=7", "--model=m"]);
        assert_eq!(all[all.len() - 5..], ["--connect", "a", "--deadline=9", "--batch", "8"]);
        std::fs::write(&path, "[infer]\njson = \"x\"").unwrap();
        let line = format!("sirnn infer --config={}", path.display());
        let failed = complete(line.split(' ').map(OsString::from).collect(), &|_| None).unwrap_err();
        assert!(failed.to_string().contains("'json' is true or false"));
        let untouched = vec![OsString::from("sirnn"), "--help".into()];
        assert_eq!(complete(untouched.clone(), &|_| Some("x".into())).unwrap(), untouched);
    }
}
