//! Profiles of a run: a flame graph of each process, and one trace of both parties' rounds.

use super::Failure;
use super::output::write_file;
use serde_json::{Value, json};
use sirnn_backends::Party;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Events of this process's sessions.
pub(super) static EVENTS: &Mutex<Vec<Value>> = {
    static ALL: Mutex<Vec<Value>> = Mutex::new(Vec::new());
    &ALL
};

/// Samples a second.
const RATE: i32 = 499;

/// A profile that is being taken of this process.
pub(super) struct Profile {
    folder: PathBuf,
    party: Party,
    sampler: pprof::ProfilerGuard<'static>,
}

impl Profile {
    pub(super) fn start(folder: &Path, party: Party) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let sampler = pprof::ProfilerGuardBuilder::default()
            .frequency(RATE)
            .blocklist(&["libc", "libgcc", "pthread", "vdso"])
            .build()
            .map_err(|e| format!("profiler: {e}"))?;
        Ok(Self { folder: folder.into(), party, sampler })
    }

    fn trace(&self, party: Party) -> PathBuf {
        self.folder.join(format!("trace-p{}.json", party.index()))
    }

    /// Writes this process's flame graph and events.
    pub(super) fn save(&self) -> Result<(), Failure> {
        let mut svg = Vec::new();
        let report = self.sampler.report().build().map_err(|e| format!("profiler: {e}"))?;
        report.flamegraph(&mut svg).map_err(|e| format!("flame graph: {e}"))?;
        write_file(&self.folder.join(format!("flamegraph-p{}.svg", self.party.index())), &svg)?;
        let events = EVENTS.lock().unwrap_or_else(|e| e.into_inner());
        write_file(&self.trace(self.party), json!(*events).to_string().as_bytes())
    }

    /// Writes this process's part and puts both parties' events into one `trace.json`.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.save()?;
        let mut all = Vec::new();
        for party in Party::BOTH {
            let part = self.trace(party);
            let text = std::fs::read(&part).map_err(|e| format!("{}: {e}", part.display()))?;
            all.extend(serde_json::from_slice::<Vec<Value>>(&text)?);
            std::fs::remove_file(&part)?;
        }
        write_file(&self.folder.join("trace.json"), json!({ "traceEvents": all }).to_string().as_bytes())
    }
}
