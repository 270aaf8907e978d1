//! What lies in a job's folder: who runs it, what it prints, how it ended.
//!
//! | file | what |
//! |---|---|
//! | `lock` | held by the wrapper as long as it lives, so that nobody begins a second one |
//! | `process.json` | wrapper and command, by pid and start time |
//! | `output.log` | what the command printed |
//! | `interrupted` | that the command was asked to end |
//! | `exit.json` | how it ended |
//!
//! What else is there is the command's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::process::Process;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The code it ended with,
    pub code: Option<i32>,
    /// or the signal that ended it.
    pub signal: Option<i32>,
}

/// Who runs a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Processes {
    pub(crate) wrapper: Process,
    /// None until it has begun.
    pub(crate) command: Option<Process>,
}

impl Processes {
    /// Whether anything of it is still there. A command lives on if only its wrapper is killed.
    pub(crate) fn are_alive(&self) -> bool {
        self.wrapper.is_alive() || self.command.as_ref().is_some_and(Process::is_alive)
    }
}

/// Bytes at the end of the output in which its last line is looked for.
const LAST_LINE_WITHIN: u64 = 4096;

/// A job's folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Folder {
        Folder { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    pub(crate) fn processes(&self) -> Option<Processes> {
        read_json(&self.path.join("process.json"))
    }

    pub(crate) fn write_processes(&self, processes: &Processes) -> io::Result<()> {
        write_json(&self.path.join("process.json"), processes)
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        read_json(&self.path.join("exit.json"))
    }

    pub(crate) fn write_exit(&self, exit: &Exit) -> io::Result<()> {
        write_json(&self.path.join("exit.json"), exit)
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.path.join("interrupted").exists()
    }

    pub(crate) fn mark_interrupted(&self) -> io::Result<()> {
        File::create(self.path.join("interrupted"))?.sync_all()
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.path.join("output.log")
    }

    /// Makes the folder ready for a new process, whose output follows that of the one before.
    pub(crate) fn prepare(&self) -> io::Result<File> {
        fs::create_dir_all(&self.path)?;
        for name in ["process.json", "exit.json", "interrupted"] {
            match fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        OpenOptions::new().create(true).append(true).open(self.output())
    }

    /// The last bytes of what was printed, from the beginning of a character.
    pub(crate) fn tail(&self, n_bytes: u64) -> io::Result<String> {
        let mut file = match File::open(self.output()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            file => file?,
        };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(n_bytes)))?;
        let mut bytes = Vec::new();
        file.take(n_bytes).read_to_end(&mut bytes)?;
        let n_cut = bytes.iter().take(3).take_while(|&&byte| byte & 0xc0 == 0x80).count();
        Ok(String::from_utf8_lossy(&bytes[n_cut..]).into_owned())
    }

    /// The last line that was printed: of a command that failed, why.
    pub(crate) fn last_line(&self) -> Option<String> {
        let text = self.tail(LAST_LINE_WITHIN).ok()?;
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().filter(|c| !c.is_control()).collect())
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    // These files appear whole or not at all; one that is no such file says nothing.
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The file is there whole or not at all.
fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a file without a folder"))?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_end_of_the_output_begins_with_a_whole_character() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned());
        assert_eq!(folder.tail(10).unwrap(), "");
        assert_eq!(folder.last_line(), None);
        fs::write(folder.output(), "first\n今天\u{1b}[1m不行\n\n").unwrap();
        assert_eq!(folder.last_line().unwrap(), "今天[1m不行");
        assert_eq!(folder.tail(8).unwrap(), "不行\n\n");
        assert_eq!(folder.tail(7).unwrap(), "行\n\n");
        assert_eq!(folder.tail(1000).unwrap(), "first\n今天\u{1b}[1m不行\n\n");
    }

    #[test]
    fn what_an_earlier_process_left_is_gone_when_the_next_begins_and_the_output_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("job"));
        folder.prepare().unwrap().write_all(b"one\n").unwrap();
        folder.write_exit(&Exit { code: Some(130), signal: None }).unwrap();
        folder.mark_interrupted().unwrap();
        assert_eq!(folder.exit(), Some(Exit { code: Some(130), signal: None }));
        folder.prepare().unwrap().write_all(b"two\n").unwrap();
        assert_eq!((folder.exit(), folder.is_interrupted()), (None, false));
        assert_eq!(folder.tail(100).unwrap(), "one\ntwo\n");
        fs::write(dir.path().join("job/exit.json"), "{\"code\"").unwrap();
        assert_eq!(folder.exit(), None);
    }
}
