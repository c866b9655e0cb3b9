//! Profiles of a run: a flame graph of each process, and one trace of both parties' rounds.

use super::Failure;
use super::output::write_file;
use pprof::flamegraph::Options;
use serde_json::{Value, json};
use sirnn_backends::Party;
use sirnn_kernels::level;
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
        let report = self.sampler.report().frames_post_processor(without_boilerplate).build();
        let report = report.map_err(|e| format!("profiler: {e}"))?;
        let mut options = Options::default();
        options.title = title(self.party);
        options.subtitle = Some(format!("{}; CPU of all threads, {RATE} samples a second", machine()));
        options.count_name = "samples".into();
        report.flamegraph_with_options(&mut svg, &mut options).map_err(|e| format!("flame graph: {e}"))?;
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

/// What ran, and which party this is.
fn title(party: Party) -> String {
    // Only the command: files and addresses are nobody's business.
    let command = std::env::args().nth(1).filter(|word| !word.starts_with('-')).unwrap_or_default();
    let role = ["P0, the server", "P1, the client"][party.index()];
    format!("sirnn {} {command}: {role}", env!("CARGO_PKG_VERSION"))
}

/// The machine: processor, cores that may be used, kernels.
fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    });
    let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{processor}, {cores} cores, {} kernels", level().name())
}

/// Takes out what stands between functions of this program, and below them: how threads start, closures are called, iterators run. A
/// function that was itself on the processor stays, whoever's it is.
fn without_boilerplate(frames: &mut pprof::Frames) {
    const FOREIGN: [&str; 12] = [
        "std::",
        "core::",
        "alloc::",
        "rayon",
        "__rust",
        "_start",
        "__libc_start",
        "main",
        "clone",
        "start_thread",
        "<unknown>",
        "Unknown",
    ];
    let boilerplate = |name: &str| {
        // `<T as Trait>::method` is T's.
        let name = name.trim_start_matches(['<', '&', '(']);
        FOREIGN.iter().any(|foreign| name.starts_with(foreign))
    };
    // Innermost first; of functions that were inlined into one, too.
    let mut innermost = true;
    for frame in &mut frames.frames {
        frame.retain(|symbol| std::mem::take(&mut innermost) || !boilerplate(&symbol.name()));
    }
    frames.frames.retain(|frame| !frame.is_empty());
}
