//! Names of a graph's nodes, from those of a file: as the graph's rules allow them, and none twice.

use std::collections::HashSet;

/// Longest name, so that a suffix has room.
const MAX_NAME: usize = 100;

/// A name as the graph's rules allow it.
pub(super) fn clean(name: &str) -> String {
    let name: String = name.chars().map(|c| if c == '/' || c.is_control() { '.' } else { c }).collect();
    let mut name = name.trim_matches('.').to_string();
    while name.len() > MAX_NAME {
        name.pop();
    }
    if name.is_empty() { "value".into() } else { name }
}

/// The names that are taken.
#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// Takes the wanted name, or the first of its numbered successors that is free.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        let wanted = clean(wanted);
        let mut name = wanted.clone();
        let mut n = 1;
        while !self.0.insert(name.clone()) {
            n += 1;
            name = format!("{wanted} {n}");
        }
        name
    }
}
