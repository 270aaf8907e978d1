//! Processes that may be long gone: each is named by its pid and by when it was started, so that another process which
//! has got the same pid since is never taken for it.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// A process of this machine since its last start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since the machine was.
    pub started: u64,
    /// Which start of the machine that was.
    pub boot: String,
}

/// What a process takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Bytes of memory in use.
    pub memory_bytes: u64,
    /// Share of the machine's processors since the last look, 0 to 1.
    pub cpu_share: f64,
}

impl Process {
    /// The process that has this pid now.
    ///
    /// # Errors
    /// Where there is none, or the system does not tell.
    pub fn of(pid: u32) -> io::Result<Process> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        let stat = Stat::read(pid)?;
        Ok(Process { pid, started: stat.started, boot: boot()? })
    }

    /// Whether it is still there. One that has ended and that nobody has asked about yet is not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.stat().is_some()
    }

    /// Sends a signal, to this process and no other; whether it was there.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(false) };
        // The handle is held while we look, so the pid cannot change hands between look and signal.
        let handle = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if !self.is_alive() {
            return Ok(false);
        }
        match rustix::process::pidfd_send_signal(handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Seconds of processor time that it has taken, and bytes of memory that it takes.
    #[must_use]
    pub fn consumption(&self) -> Option<(f64, u64)> {
        let stat = self.stat()?;
        let seconds = stat.cpu_ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some((seconds, pages * rustix::param::page_size() as u64))
    }

    fn stat(&self) -> Option<Stat> {
        if boot().ok()? != self.boot {
            return None;
        }
        Stat::read(self.pid).ok().filter(|stat| stat.started == self.started && !stat.has_ended)
    }
}

/// Which start of the machine this is.
fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What is of interest in `/proc/PID/stat` (proc(5)).
struct Stat {
    has_ended: bool,
    started: u64,
    cpu_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> io::Result<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Stat::parse(&text).ok_or_else(|| io::Error::other("/proc/PID/stat is not as expected"))
    }

    fn parse(text: &str) -> Option<Stat> {
        // The second field is the program's name in parentheses, in which anything may stand.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // proc(5) counts from 1, and the first of these is its third.
        let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        Some(Stat {
            has_ended: matches!(*fields.first()?, "Z" | "X" | "x"),
            started: number(22)?,
            cpu_ticks: number(14)? + number(15)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let line = "42 (a) R b) (c) S 1 42 42 0 -1 4194560 1 0 0 0 7 5 0 0 20 0 1 0 1234 1000 10 18446744073709551615 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.started, stat.cpu_ticks, stat.has_ended), (1234, 12, false));
        assert!(Stat::parse("42 (x) Z").is_none());
        assert!(Stat::parse("").is_none());
    }

    #[test]
    fn a_process_is_there_until_it_ends_even_before_anybody_waits_for_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.is_alive());
        assert!(process.consumption().unwrap().1 > 0);
        assert!(process.signal(Signal::KILL).unwrap());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while process.is_alive() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(
            !process.signal(Signal::INT).unwrap(),
            "nobody waits for it yet, and it is gone all the same"
        );
        child.wait().unwrap();
        assert!(!process.signal(Signal::INT).unwrap());
    }

    #[test]
    fn another_process_with_its_pid_is_not_signalled() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        let earlier = Process { started: process.started - 1, ..process.clone() };
        let other_boot = Process { boot: "before".to_owned(), ..process.clone() };
        for stranger in [earlier, other_boot] {
            assert!(!stranger.is_alive());
            assert!(!stranger.signal(Signal::KILL).unwrap());
        }
        assert!(process.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
