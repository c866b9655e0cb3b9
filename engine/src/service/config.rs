//! The configuration file: options of the command line, under the same names, in TOML.
//!
//! ```toml
//! deadline = 30              # every command that has --deadline
//!
//! [serve]                    # sirnn serve alone
//! model = "models/digits"
//! listen = "0.0.0.0:7700"
//! peer-fingerprint = ["ab..", "cd.."]
//! ```

use toml::{Table, Value};

/// Longest file.
pub const MAX_CONFIG: u64 = 1 << 20;

/// A file that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    table: Table,
}

/// A value of an option, as the command line has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// An option without a value, on or off.
    Flag(bool),
    /// The values of an option; several of one that may be repeated.
    Values(Vec<String>),
}

/// One value as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Integer(n) => Some(n.to_string()),
        Value::Float(x) => Some(x.to_string()),
        _ => None,
    }
}

fn setting(name: &str, value: &Value) -> Result<Setting, String> {
    let wrong = || format!("'{name}' is not a text, a number, true or false, or a list of them");
    match value {
        Value::Boolean(on) => Ok(Setting::Flag(*on)),
        Value::Array(all) => all.iter().map(text).collect::<Option<_>>().map(Setting::Values).ok_or_else(wrong),
        one => text(one).map(|one| Setting::Values(vec![one])).ok_or_else(wrong),
    }
}

impl Config {
    /// Reads a file's content. `options` are the commands and their options' long names; anything else is an error.
    ///
    /// # Errors
    /// No TOML, or a name or a kind of value that nothing has.
    pub fn parse(content: &str, options: &[(String, Vec<String>)]) -> Result<Self, String> {
        let table: Table = content.parse().map_err(|e: toml::de::Error| e.to_string().replace('\n', " "))?;
        for (name, value) in &table {
            match value {
                Value::Table(inner) => {
                    let of_command = options.iter().find(|(command, _)| command == name);
                    let (_, known) = of_command.ok_or_else(|| format!("there is no command '{name}'"))?;
                    for (option, value) in inner {
                        if !known.contains(option) {
                            return Err(format!("'sirnn {name}' has no option '{option}'"));
                        }
                        setting(option, value)?;
                    }
                }
                value => {
                    if !options.iter().any(|(_, known)| known.contains(name)) {
                        return Err(format!("no command has an option '{name}'"));
                    }
                    setting(name, value)?;
                }
            }
        }
        Ok(Self { table })
    }

    /// The value of an option of a command.
    pub fn get(&self, command: &str, option: &str) -> Option<Setting> {
        let of_command = self.table.get(command).and_then(Value::as_table).and_then(|t| t.get(option));
        let value = of_command.or_else(|| self.table.get(option).filter(|v| !v.is_table()))?;
        setting(option, value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_options() {
        let options = [("serve", vec!["deadline", "once", "peer"]), ("infer", vec!["deadline"])]
            .map(|(command, names)| (command.to_string(), names.into_iter().map(String::from).collect()));
        let parse = |text| Config::parse(text, &options);
        let config = parse("deadline = 3\n[serve]\ndeadline = 1.5\nonce = true\npeer = [\"a\", \"b\"]").unwrap();
        let values = |v: &[&str]| Some(Setting::Values(v.iter().map(|s| (*s).to_string()).collect()));
        assert_eq!(config.get("serve", "deadline"), values(&["1.5"]));
        assert_eq!(config.get("infer", "deadline"), values(&["3"]));
        assert_eq!(config.get("serve", "once"), Some(Setting::Flag(true)));
        assert_eq!(config.get("serve", "peer"), values(&["a", "b"]));
        assert_eq!(config.get("infer", "peer"), None);
        assert_eq!(config.get("infer", "serve"), None);
        for (bad, part) in [
            ("deadlin = 3", "no command has"),
            ("[server]\n", "no command 'server'"),
            ("[infer]\nonce = true", "'sirnn infer' has no option 'once'"),
            ("[serve]\npeer = [[1]]", "'peer' is not"),
            ("deadline = 1979-05-27", "'deadline' is not"),
            ("deadline = ", "TOML"),
        ] {
            let e = parse(bad).unwrap_err();
            assert!(e.contains(part), "{bad}: {e}");
        }
    }
}
