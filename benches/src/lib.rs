//! Shared set-up of the benchmarks.
//!
//! `cargo bench -p sirnn-benches --bench kernels -- --profile-time 5 FILTER` leaves a `profile/flamegraph.svg` in the
//! directory of every benchmark that it runs, below `target/criterion`.

use criterion::Criterion;
use std::time::Duration;

/// Samples the process while criterion profiles a benchmark, and draws a flame graph. The adapter that `pprof` itself
/// has is for an older criterion.
#[cfg(unix)]
#[derive(Default)]
pub struct Flamegraph(Option<pprof::ProfilerGuard<'static>>);

#[cfg(unix)]
impl criterion::profiler::Profiler for Flamegraph {
    fn start_profiling(&mut self, _id: &str, _dir: &std::path::Path) {
        self.0 = pprof::ProfilerGuard::new(997).inspect_err(|e| eprintln!("no profile: {e}")).ok();
    }

    fn stop_profiling(&mut self, id: &str, dir: &std::path::Path) {
        let Some(guard) = self.0.take() else { return };
        let draw = || -> Result<(), Box<dyn std::error::Error>> {
            std::fs::create_dir_all(dir)?;
            let file = std::fs::File::create(dir.join("flamegraph.svg"))?;
            Ok(guard.report().build()?.flamegraph(file)?)
        };
        draw().unwrap_or_else(|e| eprintln!("{id}: no flame graph: {e}"));
    }
}

/// Criterion as all our benchmarks use it. Prints what the figures depend on.
pub fn configure() -> Criterion {
    banner();
    let criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    #[cfg(unix)]
    let criterion = criterion.with_profiler(Flamegraph::default());
    criterion
}

/// Prints the CPU, the kernels' level and the number of threads.
pub fn banner() {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, name)| name);
    let threads = std::thread::available_parallelism().map_or(0, |n| n.get());
    println!("{cpu} ({}), level {}, {threads} threads", std::env::consts::ARCH, sirnn_kernels::level().name());
    if let Some(note) = sirnn_kernels::override_note() {
        println!("{note}");
    }
}
