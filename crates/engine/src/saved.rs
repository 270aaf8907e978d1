//! Keys and values on disk, so that a long conversation goes on after a restart without being read again.
//!
//! A conversation has a folder, with one file for each model that it was computed with (`saved/file.rs`). Files are
//! found by a name that the caller chose and by a key made of all that decides a key's or value's bits: another model,
//! instruction set, context length or program computes anew. A file is written page by page behind what it already
//! holds and read as far as its tokens and its checksums are right, so that a damaged or half-written one costs time
//! and nothing else.
//!
//! One thread writes. Everything else happens in memory: the index knows how large the files are and which tokens they
//! hold, keeps their sum below a bound (what was used least recently goes first), and is the permission to write: what
//! was forgotten is not in it, so that nothing of a deleted conversation comes back.

mod file;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use file::Read;
pub(crate) use file::{Layout, SavedPage};

use crate::engine::lock;
use crate::request::TokenId;

/// Shorter prefixes are computed again as fast as they are read.
pub(crate) const MIN_PAGES: usize = 8;
/// Pages on their way to or from the disk.
const PAGES_IN_FLIGHT: usize = 2;
/// How long the end of a program waits for the last pages.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it looks whether the writer takes something.
const FLUSH_PAUSE: Duration = Duration::from_micros(200);

/// Where a request's keys and values are kept between runs of the program.
#[derive(Clone)]
pub struct Keep {
    /// The folder they are kept in.
    pub saved: SavedPrefixes,
    /// Of the conversation; letters, digits, `-` and `_`.
    pub name: String,
    /// What tells the model's weights from all others, e.g. the SHA-256 of its file.
    pub model: String,
}

impl Keep {
    /// The key of a file: the model, and whatever else decides the bits of its keys and values.
    pub(crate) fn key(&self, engine: u64) -> u64 {
        xxh3_64_with_seed(self.model.as_bytes(), engine)
    }
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keep").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Keys and values on disk; clones are handles to the same.
#[derive(Clone)]
pub struct SavedPrefixes {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    max_bytes: u64,
    index: Mutex<Index>,
    writer: SyncSender<Job>,
}

enum Job {
    Write(Write),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// A page to be written behind those that the file already holds.
pub(crate) struct Write {
    pub(crate) name: String,
    pub(crate) key: u64,
    pub(crate) layout: Layout,
    /// Its place in the file.
    pub(crate) page_idx: usize,
    /// What the pages before it must be: see [`chain`].
    pub(crate) before: u64,
    pub(crate) page: SavedPage,
}

#[derive(Default)]
struct Index {
    entries: HashMap<String, Entry>,
    clock: u64,
}

#[derive(Default)]
struct Entry {
    last_used: u64,
    files: HashMap<u64, Pages>,
}

/// What a file holds.
#[derive(Default)]
struct Pages {
    n_bytes: u64,
    /// For each page a number that tells the tokens up to its end from all others; none before it was read.
    chain: Option<Vec<u64>>,
}

/// Tells a page's tokens and all before them from all others.
pub(crate) fn chain(before: u64, tokens: &[TokenId]) -> u64 {
    xxh3_64_with_seed(&file::token_bytes(tokens), before)
}

impl SavedPrefixes {
    /// Takes over what lies in `folder`, which is made if need be, and keeps it below `max_bytes`.
    pub fn open(folder: &Path, max_bytes: u64) -> io::Result<SavedPrefixes> {
        make_folder(folder)?;
        let mut index = read_index(folder)?;
        index.make_room(folder, 0, max_bytes, None);
        let (writer, jobs) = sync_channel(PAGES_IN_FLIGHT);
        let inner =
            Arc::new(Inner { folder: folder.to_owned(), max_bytes, index: Mutex::new(index), writer });
        let weak = Arc::downgrade(&inner);
        std::thread::Builder::new().name("kv-writer".into()).spawn(move || write_all(&jobs, &weak))?;
        Ok(SavedPrefixes { inner })
    }

    /// Deletes what is kept under this name; a page that is still on its way is not written any more.
    pub fn forget(&self, name: &str) {
        let mut index = lock(&self.inner.index);
        index.remove(&self.inner.folder, name);
    }

    /// Deletes what is kept under other names.
    pub fn retain(&self, is_wanted: impl Fn(&str) -> bool) {
        let mut index = lock(&self.inner.index);
        let unwanted: Vec<String> = index.entries.keys().filter(|name| !is_wanted(name)).cloned().collect();
        for name in unwanted {
            index.remove(&self.inner.folder, &name);
        }
    }

    /// Bytes on disk.
    pub fn n_bytes(&self) -> u64 {
        lock(&self.inner.index).n_bytes()
    }

    /// Waits until all pages that were handed over are written, at most two seconds.
    pub fn flush(&self) {
        let end = Instant::now() + FLUSH_TIMEOUT;
        let (done, written) = sync_channel(1);
        let mut job = Job::Flush(done);
        // The disk may be slow, or stuck, with pages that came before.
        while let Err(TrySendError::Full(refused)) = self.inner.writer.try_send(job) {
            if Instant::now() > end {
                return;
            }
            std::thread::sleep(FLUSH_PAUSE);
            job = refused;
        }
        let _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }

    /// From now on pages may be written under this name.
    pub(crate) fn allow(&self, name: &str) {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            return;
        }
        let mut index = lock(&self.inner.index);
        index.clock += 1;
        let clock = index.clock;
        index.entries.entry(name.to_owned()).or_default().last_used = clock;
    }

    /// How many full pages of `tokens` the file holds; none as long as it was not read to its end, so that nobody
    /// writes over pages that may be right.
    pub(crate) fn n_known(&self, name: &str, key: u64, page_len: usize, tokens: &[TokenId]) -> Option<usize> {
        let index = lock(&self.inner.index);
        match index.entries.get(name).and_then(|entry| entry.files.get(&key)) {
            Some(pages) => Some(n_common(pages.chain.as_deref()?, key, page_len, tokens)),
            None => Some(0),
        }
    }

    /// Hands a page to the writer; `Err` gives it back if too many are on their way.
    pub(crate) fn write(&self, write: Write) -> Result<(), Box<Write>> {
        match self.inner.writer.try_send(Job::Write(write)) {
            Err(TrySendError::Full(Job::Write(write))) => Err(Box::new(write)),
            // The writer lives as long as the handle, unless it panicked: then nothing is kept any more.
            _ => Ok(()),
        }
    }

    /// Begins to read the pages of `tokens` from `first_page` on; none if the file is known to hold no more than those
    /// before. The channel closes once it is noted what the file holds.
    pub(crate) fn read(
        &self,
        name: &str,
        key: u64,
        layout: Layout,
        tokens: &[TokenId],
        first_page: usize,
    ) -> Option<Receiver<SavedPage>> {
        let path = {
            let index = lock(&self.inner.index);
            let pages = index.entries.get(name)?.files.get(&key)?;
            if let Some(known) = &pages.chain
                && n_common(known, key, layout.page_len, tokens) <= first_page
            {
                return None;
            }
            path_of(&self.inner.folder, name, key)
        };
        let (sender, receiver) = sync_channel(PAGES_IN_FLIGHT);
        let (saved, name, tokens) = (self.clone(), name.to_owned(), tokens.to_vec());
        let read = move || {
            let mut is_wanted = true;
            let found = file::read(&path, key, layout, &tokens, first_page, |page| {
                is_wanted = sender.send(page).is_ok();
                is_wanted
            });
            // What was not read to its end may hold more.
            if is_wanted {
                saved.note_read(&name, key, found);
            }
        };
        std::thread::Builder::new().name("kv-reader".into()).spawn(read).ok()?;
        Some(receiver)
    }

    /// Remembers what a file was found to hold, so that the next page is written behind it.
    fn note_read(&self, name: &str, key: u64, read: Read) {
        let mut index = lock(&self.inner.index);
        match index.pages_mut(name, key).map(|pages| &mut pages.chain) {
            Some(known) if known.is_none() => *known = Some(read.chain),
            // What is damaged is written again.
            Some(Some(known)) if read.is_damaged => known.truncate(read.chain.len()),
            _ => {}
        }
    }
}

impl Inner {
    /// Opens the place for a page; none if it is not to be written.
    fn begin(&self, write: &Write) -> io::Result<Option<File>> {
        let mut index = lock(&self.index);
        let place = write.layout.place(write.page_idx);
        let Some(pages) =
            index.entries.get_mut(&write.name).map(|entry| entry.files.entry(write.key).or_default())
        else {
            return Ok(None);
        };
        // A new file: of one that was there nothing is written before it is read.
        let known = pages.chain.get_or_insert_default();
        let before = match write.page_idx.checked_sub(1) {
            None => Some(write.key),
            Some(last) => known.get(last).copied(),
        };
        if before != Some(write.before) {
            return Ok(None);
        }
        known.truncate(write.page_idx);
        let held = pages.n_bytes;
        if !index.make_room(&self.folder, place.end.saturating_sub(held), self.max_bytes, Some(&write.name)) {
            return Ok(None);
        }
        let path = path_of(&self.folder, &write.name, write.key);
        let file = match write.page_idx {
            0 => {
                make_folder(&self.folder.join(&write.name))?;
                file::create(&path, write.key, write.layout)?
            }
            _ => File::options().write(true).open(path)?,
        };
        // What stood behind belongs to another branch.
        file.set_len(place.start)?;
        if let Some(pages) = index.pages_mut(&write.name, write.key) {
            pages.n_bytes = place.end;
        }
        Ok(Some(file))
    }

    /// Writes a page and notes it.
    fn write(&self, write: &Write) {
        let written = match self.begin(write) {
            Ok(Some(file)) => file::write(&file, write.layout, write.page_idx, write.before, &write.page),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let mut index = lock(&self.index);
        let known = index.pages_mut(&write.name, write.key).map(|pages| &mut pages.chain);
        let Some(Some(known)) = known else { return };
        match written {
            Ok(()) if known.len() == write.page_idx => known.push(chain(write.before, &write.page.tokens)),
            Ok(()) => {}
            // A full disk: keep less, so that somebody's real data finds room.
            Err(_) => index.remove(&self.folder, &write.name),
        }
    }
}

impl Entry {
    fn n_bytes(&self) -> u64 {
        self.files.values().map(|pages| pages.n_bytes).sum()
    }
}

impl Index {
    /// Deletes what was used least recently, but not `in_use`, until `needed` more bytes fit; whether they do.
    fn make_room(&mut self, folder: &Path, needed: u64, max_bytes: u64, in_use: Option<&str>) -> bool {
        let own = in_use.and_then(|name| self.entries.get(name)).map_or(0, Entry::n_bytes);
        if own.saturating_add(needed) > max_bytes {
            return false;
        }
        while self.n_bytes().saturating_add(needed) > max_bytes {
            let others = self
                .entries
                .iter()
                .filter(|(name, entry)| Some(name.as_str()) != in_use && entry.n_bytes() > 0);
            let Some((name, _)) = others.min_by_key(|(_, entry)| entry.last_used) else {
                return false;
            };
            let name = name.clone();
            self.remove(folder, &name);
        }
        true
    }

    fn remove(&mut self, folder: &Path, name: &str) {
        if self.entries.remove(name).is_some_and(|entry| !entry.files.is_empty()) {
            // What cannot be deleted now is found again, and deleted, at the next start.
            let _ = std::fs::remove_dir_all(folder.join(name));
        }
    }

    fn n_bytes(&self) -> u64 {
        self.entries.values().map(Entry::n_bytes).sum()
    }

    fn pages_mut(&mut self, name: &str, key: u64) -> Option<&mut Pages> {
        self.entries.get_mut(name)?.files.get_mut(&key)
    }
}

/// Pages at the beginning of `tokens` that are those of `known`.
fn n_common(known: &[u64], key: u64, page_len: usize, tokens: &[TokenId]) -> usize {
    let mut before = key;
    let pages = tokens.chunks_exact(page_len).zip(known);
    pages
        .take_while(|(tokens, known)| {
            before = chain(before, tokens);
            before == **known
        })
        .count()
}

fn path_of(folder: &Path, name: &str, key: u64) -> PathBuf {
    folder.join(name).join(format!("{key:016x}.kv"))
}

/// Only the owner of the data may read what was said.
fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// The files that lie there, the oldest first; other things are left alone.
fn read_index(folder: &Path) -> io::Result<Index> {
    let mut found: Vec<(SystemTime, String, u64, u64)> = Vec::new();
    for dir in std::fs::read_dir(folder)? {
        let dir = dir?;
        let (Ok(name), Ok(files)) = (dir.file_name().into_string(), std::fs::read_dir(dir.path())) else {
            continue;
        };
        for file in files.flatten() {
            let file_name = file.file_name();
            let key = file_name.to_str().and_then(|name| name.strip_suffix(".kv"));
            let key = key.and_then(|hex| u64::from_str_radix(hex, 16).ok());
            if let (Some(key), Ok(meta)) = (key, file.metadata()) {
                found.push((
                    meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    name.clone(),
                    key,
                    meta.len(),
                ));
            }
        }
    }
    found.sort();
    let mut index = Index::default();
    for (_, name, key, n_bytes) in found {
        index.clock += 1;
        let entry = index.entries.entry(name).or_default();
        entry.last_used = index.clock;
        entry.files.insert(key, Pages { n_bytes, chain: None });
    }
    Ok(index)
}

/// The writer's thread; ends with the last handle.
fn write_all(jobs: &Receiver<Job>, inner: &Weak<Inner>) {
    for job in jobs {
        match job {
            Job::Write(write) => match inner.upgrade() {
                Some(inner) => inner.write(&write),
                None => return,
            },
            // Who asked may have stopped waiting.
            Job::Flush(done) => drop(done.try_send(())),
        }
    }
}
