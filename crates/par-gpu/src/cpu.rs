//! The cpu backend: the host's own processor, all its cores, through rayon.

mod crew;

use crate::backend::{Chunks, HostBackend};
use crate::device::{DeviceInfo, DeviceKind};

/// The processor of this machine.
#[derive(Debug)]
pub(crate) struct Cpu {
    info: DeviceInfo,
}

impl Cpu {
    pub(crate) fn new() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            let value = lines.find(|(key, _)| key.trim() == name)?.1.trim();
            Some(value.to_owned())
        };
        let memory = total_memory();
        Cpu {
            info: DeviceInfo {
                backend: "cpu",
                name: "cpu".to_owned(),
                platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                model: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
                vendor: field("vendor_id").unwrap_or_default(),
                version: format!("rayon, {}", vectors()),
                driver: env!("CARGO_PKG_VERSION").to_owned(),
                kind: DeviceKind::Cpu,
                compute_units: rayon::current_num_threads(),
                clock_mhz: field("cpu MHz")
                    .and_then(|mhz| mhz.parse::<f64>().ok())
                    .map_or(0, |mhz| mhz as u32),
                global_memory: memory,
                local_memory: 0,
                constant_memory: memory,
                max_allocation: memory.min(isize::MAX as u64),
                max_work_group: 1,
                fp64: true,
            },
        }
    }
}

impl HostBackend for Cpu {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn run(&self, chunks: &Chunks<'_>) {
        match chunks.count() {
            1 => chunks.run(0),
            _ => crew::run(chunks),
        }
    }
}

/// Bytes of main memory; without `/proc` as many as an address can reach.
fn total_memory() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.map_or(isize::MAX as u64, |kilobytes| kilobytes * 1024)
}

/// The vectors that loops are compiled for; see [`crate::lanes`].
fn vectors() -> &'static str {
    if crate::lanes::wide() {
        "AVX2 and FMA"
    } else {
        "the vectors of the build"
    }
}
