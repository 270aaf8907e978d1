//! Which model suits this person and this machine? By language, and by the memory that is there.

use std::path::{Path, PathBuf};

use crate::catalog::{Catalog, CatalogEntry};

/// Memory of the machine, or of the container that we run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineMemory {
    /// All of it, in bytes.
    pub total_bytes: u64,
    /// What new work can take without swapping, in bytes.
    pub available_bytes: u64,
}

impl MachineMemory {
    /// Reads it now; zero where the system does not tell.
    pub fn read() -> MachineMemory {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let machine = parse_meminfo(&meminfo);
        let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        cgroup_folders(&cgroup).iter().fold(machine, |memory, folder| memory.within(folder))
    }

    /// Narrowed by the limit of one control group, if it has one.
    fn within(self, folder: &Path) -> MachineMemory {
        let number = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok())
        };
        let Some(limit) =
            number(["memory.max", "memory.limit_in_bytes"]).filter(|&limit| limit < self.total_bytes)
        else {
            return self;
        };
        let used = number(["memory.current", "memory.usage_in_bytes"]).unwrap_or(0);
        // File pages that can be dropped count as used there, and are free for us.
        let cached = std::fs::read_to_string(folder.join("memory.stat")).map_or(0, |stat| {
            stat.lines()
                .find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok())
                .unwrap_or(0)
        });
        let free = limit.saturating_sub(used.saturating_sub(cached));
        MachineMemory { total_bytes: limit, available_bytes: self.available_bytes.min(free) }
    }
}

fn parse_meminfo(text: &str) -> MachineMemory {
    let kilobytes = |key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
    };
    MachineMemory {
        total_bytes: kilobytes("MemTotal:").saturating_mul(1024),
        available_bytes: kilobytes("MemAvailable:").saturating_mul(1024),
    }
}

/// The control groups that we are in, from the innermost out.
fn cgroup_folders(text: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            names if names.split(',').any(|name| name == "memory") => Path::new("/sys/fs/cgroup/memory"),
            _ => continue,
        };
        let inner = root.join(path.trim_start_matches('/'));
        folders
            .extend(inner.ancestors().take_while(|folder| folder.starts_with(root)).map(Path::to_path_buf));
    }
    folders
}

/// Room for activations, tokenizer and server beside the weights.
const OVERHEAD: u64 = 164 << 20;

/// About how much memory a catalog model needs with conversations of `ctx` tokens, before its file is here.
/// Weights take up to 1.15 times the file once repacked; the cache of keys and values grows with the cube root
/// of the parameters (100 bytes a token and unit fits SmolLM2 135M to Qwen3 8B from above).
pub fn estimate_memory(entry: &CatalogEntry, ctx: usize) -> u64 {
    let ctx = (ctx as u64).min(entry.context_length);
    let kv_per_token = 100 * ((entry.parameters as f64).cbrt() as u64);
    entry
        .file_size
        .saturating_add(entry.file_size / 20 * 3)
        .saturating_add(kv_per_token.saturating_mul(ctx))
        .saturating_add(OVERHEAD)
}

/// Context that a recommended model must have room for.
const RECOMMENDED_CTX: usize = 4096;
/// Largest file that is recommended: what a processor still answers with at reading speed.
const LARGEST_RECOMMENDED: u64 = 3 << 30;

/// The model to offer to someone who writes `language` (any BCP 47 tag) on a machine with this much memory
/// available: one that a catalog prefers, else the largest general one that leaves a third of the memory to
/// others. None when nothing fits.
pub fn recommend<'a>(catalog: &'a Catalog, language: &str, available_bytes: u64) -> Option<&'a CatalogEntry> {
    let suits = |entry: &&CatalogEntry| {
        let need = estimate_memory(entry, RECOMMENDED_CTX);
        entry.speaks(language) && !entry.gated && need.saturating_add(need / 2) <= available_bytes
    };
    let preferred = catalog.entries().iter().filter(|entry| entry.preferred).find(suits);
    let general = catalog.entries().iter().filter(|entry| entry.purpose.is_none()).filter(suits);
    let largest =
        general.filter(|entry| entry.file_size <= LARGEST_RECOMMENDED).max_by_key(|entry| entry.parameters);
    preferred.or(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let memory = parse_meminfo("MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    8192 kB\n");
        assert_eq!(memory, MachineMemory { total_bytes: 16384 << 10, available_bytes: 8192 << 10 });
    }

    #[test]
    fn this_machine_tells_its_memory() {
        let memory = MachineMemory::read();
        assert!(memory.total_bytes > 64 << 20, "{memory:?}");
        assert!(memory.available_bytes <= memory.total_bytes, "{memory:?}");
    }

    #[test]
    fn a_control_group_narrows_the_machine() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writable");
        write("memory.max", "1000\n");
        write("memory.current", "700\n");
        write("memory.stat", "anon 1\ninactive_file 200\n");
        let machine = MachineMemory { total_bytes: 5000, available_bytes: 4000 };
        assert_eq!(machine.within(folder.path()), MachineMemory { total_bytes: 1000, available_bytes: 500 });
        write("memory.max", "max\n");
        assert_eq!(machine.within(folder.path()), machine);
    }

    #[test]
    fn every_enclosing_control_group_counts() {
        let folders = cgroup_folders("0::/user.slice/app.scope\n3:cpu,memory:/job\n2:cpu:/x\n");
        let texts: Vec<_> = folders.iter().map(|folder| folder.to_str().expect("ASCII")).collect();
        let expected = [
            "/sys/fs/cgroup/user.slice/app.scope",
            "/sys/fs/cgroup/user.slice",
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/memory/job",
            "/sys/fs/cgroup/memory",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn the_recommendation_speaks_the_language_and_fits_the_machine() {
        let catalog = Catalog::builtin();
        for (language, gigabytes) in
            [("zh-CN", 2), ("zh-CN", 8), ("zh", 64), ("en", 1), ("en-GB", 8), ("de", 16)]
        {
            let memory = gigabytes * 1_000_000_000;
            let entry = recommend(&catalog, language, memory).expect("something fits");
            assert!(entry.speaks(language), "{language} {gigabytes}: {}", entry.name);
            assert!(
                estimate_memory(entry, RECOMMENDED_CTX) < memory,
                "{language} {gigabytes}: {}",
                entry.name
            );
            assert!(!entry.gated && entry.purpose.is_none(), "{language} {gigabytes}: {}", entry.name);
        }
        assert!(recommend(&catalog, "zh", 100_000_000).is_none());
        assert!(recommend(&catalog, "xx", 64_000_000_000).is_none());
    }

    #[test]
    fn more_memory_never_recommends_less_model() {
        let catalog = Catalog::builtin();
        let mut last = 0;
        for megabytes in (500..40_000).step_by(250) {
            let parameters =
                recommend(&catalog, "zh", megabytes * 1_000_000).map_or(0, |entry| entry.parameters);
            assert!(parameters >= last, "at {megabytes} MB");
            last = parameters;
        }
        assert!(last > 3_000_000_000);
    }
}
