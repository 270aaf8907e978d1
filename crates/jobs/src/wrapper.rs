//! The process between the server and a command: it makes the command independent of the server, waits for it, and
//! writes down how it ended, whether or not there is a server at that time.
//!
//! The binary calls [`run`] for a hidden command of its own, `… FOLDER -- COMMAND`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::signal::unix::{SignalKind, signal};

use crate::folder::{Exit, Folder, Processes};
use crate::process::Process;

/// The exit code for a command that cannot be run, as shells have it.
const CANNOT_RUN: i32 = 127;
/// How willingly the system ends a job when memory runs out (proc(5), oom_score_adj: -1000 to 1000): before any program
/// that was not marked so.
const OOM_SCORE: &str = "500";

/// Runs a command in a session of its own with lowered priority, and writes into `folder` how it ended. The exit code is
/// the command's own, 128 and the number of the signal that ended it, or 127.
///
/// # Errors
/// Where somebody runs a command in this folder already, or nothing can be written there.
pub fn run(folder: &Path, niceness: i32, command: &[OsString]) -> io::Result<u8> {
    let folder = Folder::new(folder.to_owned());
    let _lock = lock(&folder)?;
    catch_signals()?;
    // Fails where this process leads a group already, and is then detached as it is.
    let _ = rustix::process::setsid();
    lower_priority(niceness);
    let mut processes = Processes { wrapper: Process::of(std::process::id())?, command: None };
    folder.write_processes(&processes)?;
    let (program, args) = command.split_first().ok_or_else(|| io::Error::other("no command was given"))?;
    let exit = match Command::new(program).args(args).stdin(Stdio::null()).spawn() {
        Err(error) => {
            tell(&folder, &format!("{} cannot be run: {error}\n", Path::new(program).display()));
            Exit { code: Some(CANNOT_RUN), signal: None }
        }
        Ok(mut child) => {
            // A command that has ended so soon is not among the processes any more, and needs no name.
            processes.command = Process::of(child.id()).ok();
            let named = folder.write_processes(&processes);
            let status = child.wait()?;
            named?;
            Exit { code: status.code(), signal: status.signal() }
        }
    };
    folder.write_exit(&exit)?;
    Ok(exit.as_code())
}

/// What ends a command does not end this process before it: at the end of a session both hear of it. And what is caught
/// here has its usual effect in the command, even if the server was started where it is ignored (by a script with `&`).
fn catch_signals() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    // Caught until the process ends, whether anybody listens or not.
    drop(signal(SignalKind::interrupt())?);
    drop(signal(SignalKind::terminate())?);
    Ok(())
}

impl Exit {
    /// As shells have it.
    pub(crate) fn as_code(self) -> u8 {
        let code = self.code.or(self.signal.map(|signal| 128 + signal)).unwrap_or(CANNOT_RUN);
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

/// Leaves the machine to others: as little of the processors as `niceness` says (19 the least), and first to go when
/// memory runs out. What the system refuses stays as it is.
pub fn lower_priority(niceness: i32) {
    let _ = rustix::process::nice(niceness);
    // Where every session has a share of its own (sched(7), autogroup), niceness counts only within it, and this is what
    // counts between sessions.
    let _ = fs::write("/proc/self/autogroup", niceness.to_string());
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
}

fn lock(folder: &Folder) -> io::Result<File> {
    let path = folder.lock();
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
    file.try_lock().map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
    Ok(file)
}

/// A line into the command's output.
fn tell(folder: &Folder, line: &str) {
    use std::io::Write;
    if let Ok(mut file) = OpenOptions::new().append(true).open(folder.output()) {
        let _ = file.write_all(line.as_bytes());
    }
}
