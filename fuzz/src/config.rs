//! Configuration files.

use crate::show;
use sirnn::service::config::{Config, Setting};

/// A configuration file's content: an error of one line, or settings of options that exist.
///
/// # Panics
/// If something else comes of it.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let options = [("serve", vec!["deadline", "once", "peer"]), ("infer", vec!["deadline"])]
        .map(|(command, names)| (command.to_string(), names.into_iter().map(String::from).collect::<Vec<_>>()));
    match Config::parse(text, &options) {
        Err(e) => assert!(!e.contains('\n'), "an error is one line: {e}"),
        Ok(config) => {
            for (command, names) in &options {
                for name in names {
                    if let Some(Setting::Values(values)) = config.get(command, name) {
                        show!("{command} {name}: {values:?}");
                    }
                }
            }
            assert_eq!(config.get("serve", "none"), None);
        }
    }
}
