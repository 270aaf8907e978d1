//! From a corpus to files of tokens: one thread reads and chooses, the others tokenise, one writes in the order of
//! reading.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use tokenizer::{Specials, TokenId, Tokenizer};
use weights::AtomicFile;
use whatlang::Lang;
use xxhash_rust::xxh3::Xxh3;

use super::selection::{Part, Selection};
use super::token_file::{TokenFile, TokenFileWriter, Written};
use super::{DESCRIPTION, Data, DataError, DataSummary, SourceSummary, held_out_path, train_path};
use crate::corpus::{Corpus, CorpusError, CorpusSummary, OnBroken, Piece};

/// Bytes of text that go to a thread at a time.
const BATCH_LEN: usize = 1 << 20;

/// One source of a mixture.
#[derive(Debug)]
pub struct DataSource {
    /// Its texts.
    pub corpus: Corpus,
    /// How often it is read for its size, see [`SourceSummary::weight`].
    pub weight: Option<f64>,
}

/// What is to be tokenised.
pub struct PrepareData<'a> {
    /// The texts.
    pub sources: &'a [DataSource],
    /// What to do with records that cannot be read.
    pub on_broken: OnBroken,
    /// Languages to keep; all if none is named.
    pub languages: &'a [Lang],
    /// Share of the documents that is held out.
    pub held_out_share: f64,
    /// The vocabulary.
    pub tokenizer: &'a Tokenizer,
    /// What every document begins with.
    pub document_token: TokenId,
    /// Threads that tokenise.
    pub n_threads: NonZeroUsize,
}

/// Bytes read so far, of how many on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataProgress {
    /// So far.
    pub n_read: u64,
    /// In all.
    pub of: u64,
}

/// Writes the tokens to `folder`, which appears whole or not at all. `progress` may break it off.
///
/// # Errors
/// Where the texts cannot be read or the files not be written, or `progress` breaks off.
pub fn prepare_data(
    task: &PrepareData<'_>,
    folder: &Path,
    progress: &mut dyn FnMut(DataProgress) -> ControlFlow<()>,
) -> Result<Data, DataError> {
    let beside = beside(folder);
    let io = |source| DataError::Io { path: beside.clone(), source };
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(io)?;
    }
    fs::create_dir_all(&beside).map_err(io)?;
    let mut selection = Selection::new(task.languages, task.held_out_share);
    let of = task.sources.iter().map(|source| source.corpus.bytes_on_disk()).sum();
    let mut before = 0;
    let mut sources = Vec::new();
    for (idx, source) in task.sources.iter().enumerate() {
        let mut summary = read_source(task, source, idx, &beside, &mut selection, &mut |n_read| {
            progress(DataProgress { n_read: before + n_read, of })
        })?;
        summary.weight = source.weight;
        sources.push(summary);
        before += source.corpus.bytes_on_disk();
    }
    let vocab_size = task.tokenizer.vocab_size();
    // Mapped once: what is mapped stays so when the folder gets its name.
    let mut data = Data::map(&beside, DataSummary { sources, vocab_size, digest: String::new() })?;
    data.summary.digest = digest(task.tokenizer, &data);
    let text = serde_json::to_vec_pretty(&data.summary).expect("plain numbers and texts");
    let description = beside.join(DESCRIPTION);
    let mut file = AtomicFile::create(&description).map_err(io)?;
    file.write_all(&text).and_then(|()| file.finish()).map_err(io)?;
    fs::rename(&beside, folder).and_then(|()| weights::sync_folder_of(folder)).map_err(io)?;
    Ok(data)
}

/// Where the folder lies until it is whole.
fn beside(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    folder.with_file_name(name)
}

/// Of the vocabulary and of all files.
fn digest(tokenizer: &Tokenizer, data: &Data) -> String {
    let mut hasher = Xxh3::new();
    for id in 0..tokenizer.vocab_size() {
        let piece = tokenizer.piece(id as TokenId);
        hasher.update(&(piece.len() as u64).to_le_bytes());
        hasher.update(piece);
    }
    for (train, held_out) in data.train.iter().zip(&data.held_out) {
        hasher.update(train.content());
        hasher.update(held_out.content());
    }
    format!("{:032x}", hasher.digest128())
}

/// What happens to the document at hand.
enum Mark {
    Begin(Part),
    /// A piece that ends here in the batch's texts.
    Text(usize),
    /// It was there before.
    TakeBack,
}

#[derive(Default)]
struct Batch {
    number: u64,
    texts: String,
    marks: Vec<Mark>,
}

/// A batch as tokens; each text's end is one in `tokens`, with its bytes.
struct Tokenised {
    tokens: Vec<TokenId>,
    marks: Vec<(Mark, u64)>,
}

fn read_source(
    task: &PrepareData<'_>,
    source: &DataSource,
    idx: usize,
    folder: &Path,
    selection: &mut Selection<'_>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<SourceSummary, DataError> {
    let vocab_size = task.tokenizer.vocab_size();
    let create = |path: PathBuf| {
        TokenFileWriter::create(&path, vocab_size).map_err(|source| DataError::Io { path, source })
    };
    let writer = Writer {
        document_token: task.document_token,
        files: [create(train_path(folder, idx))?, create(held_out_path(folder, idx))?],
        part: Part::Train,
    };
    let n_threads = task.n_threads.get();
    let (send, receive) = sync_channel::<Batch>(2 * n_threads);
    let (send_tokens, receive_tokens) = sync_channel(2 * n_threads);
    let receive = Mutex::new(receive);
    let writer_gave_up = AtomicBool::new(false);
    let (reading, written, mut summary) = std::thread::scope(|scope| {
        let written = scope.spawn(move || writer.write_all(&receive_tokens));
        for _ in 0..n_threads {
            let (send_tokens, receive, gave_up) = (send_tokens.clone(), &receive, &writer_gave_up);
            scope.spawn(move || tokenise(task.tokenizer, receive, &send_tokens, gave_up));
        }
        drop(send_tokens);
        let mut chooser = Chooser {
            selection,
            held: None,
            batch: Batch::default(),
            send,
            writer_gave_up: &writer_gave_up,
            summary: SourceSummary::default(),
        };
        let mut told = 0;
        let reading = source.corpus.read(task.on_broken, &mut |piece, n_read| {
            if n_read >= told + BATCH_LEN as u64 {
                told = n_read;
                if progress(n_read).is_break() {
                    return Err(CorpusError::Stopped);
                }
            }
            chooser.piece(piece)
        });
        let reading = reading.and_then(|read| chooser.end().map(|()| read));
        let summary = std::mem::take(&mut chooser.summary);
        drop(chooser);
        (reading, written.join(), summary)
    });
    // If the disk is full, the reading stops for that reason.
    let files = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let files = files.map_err(|source| DataError::Io { path: folder.to_owned(), source })?;
    add_reading(&mut summary, &reading?);
    finish(task, files, &mut summary).map_err(|source| DataError::Io { path: folder.to_owned(), source })?;
    Ok(summary)
}

fn add_reading(summary: &mut SourceSummary, read: &CorpusSummary) {
    summary.n_files = read.n_files;
    summary.n_empty = read.n_empty;
    summary.n_broken = read.n_broken;
    summary.name_broken(&read.broken);
}

/// Completes both files; where one has no document, the end of all that there is is held out.
fn finish(
    task: &PrepareData<'_>,
    files: [TokenFileWriter; 2],
    summary: &mut SourceSummary,
) -> io::Result<()> {
    let [train, held_out] = files;
    summary.n_documents = (train.n_documents() + held_out.n_documents()) as u64;
    // Of few documents all may have been drawn for one part.
    let is_one_sided = train.n_tokens() == 0 || held_out.n_tokens() == 0;
    summary.held_out_within = is_one_sided && task.held_out_share > 0.0;
    let (mut train, mut held_out) = (train.finish()?, held_out.finish()?);
    if summary.held_out_within {
        let whole = train.path.with_extension("whole");
        fs::rename(if train.n_tokens == 0 { &held_out.path } else { &train.path }, &whole)?;
        let all = TokenFile::open(&whole, task.tokenizer.vocab_size()).map_err(io::Error::other)?;
        (train, held_out) = split_end(task, &all, &train.path, &held_out.path)?;
        fs::remove_file(whole)?;
    }
    summary.n_tokens = train.n_tokens;
    summary.n_bytes = train.n_bytes;
    summary.n_held_out_tokens = held_out.n_tokens;
    summary.n_held_out_bytes = held_out.n_bytes;
    Ok(())
}

/// Writes both files, with the share that is held out taken from the end.
fn split_end(
    task: &PrepareData<'_>,
    all: &TokenFile,
    train_path: &Path,
    held_out_path: &Path,
) -> io::Result<(Written, Written)> {
    let vocab_size = task.tokenizer.vocab_size();
    let n_tokens = all.n_tokens() as usize;
    let cut = n_tokens - (n_tokens as f64 * task.held_out_share).ceil() as usize;
    let mut parts = [
        TokenFileWriter::create(train_path, vocab_size)?,
        TokenFileWriter::create(held_out_path, vocab_size)?,
    ];
    let n_bytes = |token: TokenId| {
        if task.tokenizer.is_control(token) { 0 } else { task.tokenizer.piece(token).len() as u64 }
    };
    for document in (0..all.n_documents()).map(|idx| all.document(idx)) {
        for (part, range) in
            [(0, document.start..document.end.min(cut)), (1, document.start.max(cut)..document.end)]
        {
            if range.is_empty() {
                continue;
            }
            parts[part].begin(all.token(document.start))?;
            for at in range.start.max(document.start + 1)..range.end {
                let token = all.token(at);
                parts[part].append(&[token], n_bytes(token))?;
            }
        }
    }
    let [train, held_out] = parts;
    Ok((train.finish()?, held_out.finish()?))
}

/// Reads, chooses and sends.
struct Chooser<'a, 'b> {
    selection: &'a mut Selection<'b>,
    /// The piece before the one at hand: its document may end with it.
    held: Option<Held>,
    batch: Batch,
    send: SyncSender<Batch>,
    writer_gave_up: &'a AtomicBool,
    summary: SourceSummary,
}

struct Held {
    text: String,
    is_start: bool,
    is_wanted: bool,
}

impl Chooser<'_, '_> {
    fn piece(&mut self, piece: Piece<'_>) -> Result<(), CorpusError> {
        let is_wanted = if piece.is_start {
            self.let_go(true)?;
            self.selection.wants_language(piece.text)
        } else {
            let is_wanted = self.held.as_ref().is_none_or(|held| held.is_wanted);
            self.let_go(false)?;
            is_wanted
        };
        self.summary.n_other_language += u64::from(piece.is_start && !is_wanted);
        self.held = Some(Held { text: piece.text.to_owned(), is_start: piece.is_start, is_wanted });
        Ok(())
    }

    /// Sends the piece that is held; `ends` tells whether its document ends with it.
    fn let_go(&mut self, ends: bool) -> Result<(), CorpusError> {
        let Some(held) = self.held.take().filter(|held| held.is_wanted) else { return Ok(()) };
        self.selection.see(&held.text);
        let is_double = ends && !self.selection.is_new();
        self.summary.n_duplicates += u64::from(is_double);
        if is_double && held.is_start {
            return Ok(());
        }
        if held.is_start {
            self.batch.marks.push(Mark::Begin(self.selection.part(&held.text)));
        }
        if is_double {
            self.batch.marks.push(Mark::TakeBack);
        } else {
            self.batch.texts.push_str(&held.text);
            self.batch.marks.push(Mark::Text(self.batch.texts.len()));
        }
        if self.batch.texts.len() >= BATCH_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CorpusError> {
        let next = Batch { number: self.batch.number + 1, ..Batch::default() };
        let sent = self.send.send(std::mem::replace(&mut self.batch, next));
        // The writer says why.
        if sent.is_err() || self.writer_gave_up.load(Ordering::Relaxed) {
            return Err(CorpusError::Stopped);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), CorpusError> {
        self.let_go(true)?;
        self.flush()
    }
}

/// What one thread does until no batch is left. Without a writer it goes on to take batches, so that the reader, who
/// may wait with one, sees that there is none.
fn tokenise(
    tokenizer: &Tokenizer,
    receive: &Mutex<Receiver<Batch>>,
    send: &SyncSender<(u64, Tokenised)>,
    writer_gave_up: &AtomicBool,
) {
    let mut encoder = tokenizer.encoder();
    let next = || receive.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
    while let Some(batch) = next() {
        if writer_gave_up.load(Ordering::Relaxed) {
            continue;
        }
        let mut out = Tokenised { tokens: Vec::new(), marks: Vec::with_capacity(batch.marks.len()) };
        let mut start = 0;
        for mark in batch.marks {
            let (mark, n_bytes) = match mark {
                Mark::Text(end) => {
                    let text = &batch.texts[start..end];
                    start = end;
                    encoder.append(text.as_bytes(), Specials::AsText, &mut out.tokens);
                    (Mark::Text(out.tokens.len()), text.len() as u64)
                }
                other => (other, 0),
            };
            out.marks.push((mark, n_bytes));
        }
        if send.send((batch.number, out)).is_err() {
            writer_gave_up.store(true, Ordering::Relaxed);
        }
    }
}

/// Takes the batches in the order of reading.
struct Writer {
    document_token: TokenId,
    files: [TokenFileWriter; 2],
    part: Part,
}

impl Writer {
    fn write_all(mut self, receive: &Receiver<(u64, Tokenised)>) -> io::Result<[TokenFileWriter; 2]> {
        let mut early = BTreeMap::new();
        let mut number = 0;
        for (found, batch) in receive {
            early.insert(found, batch);
            while let Some(batch) = early.remove(&number) {
                self.write(&batch)?;
                number += 1;
            }
        }
        Ok(self.files)
    }

    fn write(&mut self, batch: &Tokenised) -> io::Result<()> {
        let mut start = 0;
        for (mark, n_bytes) in &batch.marks {
            if let Mark::Begin(part) = mark {
                self.part = *part;
            }
            let file = &mut self.files[usize::from(self.part == Part::HeldOut)];
            match *mark {
                Mark::Begin(_) => file.begin(self.document_token)?,
                Mark::Text(end) => {
                    file.append(&batch.tokens[start..end], *n_bytes)?;
                    start = end;
                }
                Mark::TakeBack => file.take_back()?,
            }
        }
        Ok(())
    }
}
