//! What is learnt from conversations: their tokens on disk with the answers marked, and batches of whole conversations.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenizer::{ChatMessage, ChatTemplate, Lesson, Tokenizer, lessons};
use weights::AtomicFile;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::chats::{chats_of, pair_of};
use crate::corpus::{Corpus, CorpusError, OnBroken};
use crate::data::{DataError, TokenFile, TokenFileWriter};
use crate::objective::Objective;
use crate::rows::Rows;

/// What is to be learnt from which conversations.
pub struct PrepareLessons<'a> {
    /// Files of records.
    pub corpus: &'a Corpus,
    /// What to do with records that cannot be read or teach nothing.
    pub on_broken: OnBroken,
    /// The vocabulary.
    pub tokenizer: &'a Tokenizer,
    /// How the model sees a conversation.
    pub template: &'a ChatTemplate,
    /// Longer conversations are cut off here.
    pub seq_len: usize,
    /// Share of the conversations that is held out.
    pub held_out_share: f64,
    /// What a record holds.
    pub kind: LessonKind,
}

/// What records hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LessonKind {
    /// Conversations, of which every answer is learnt.
    Chats,
    /// Two conversations that differ in their last answer: the first was chosen, the second rejected.
    Pairs,
}

/// What was made of them, kept as `lessons.json`.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct LessonsSummary {
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Lessons to learn from.
    pub n_lessons: u64,
    /// Lessons held out.
    pub n_held_out: u64,
    /// Tokens of the lessons to learn from, and how many of them are learnt.
    pub n_tokens: u64,
    /// See above.
    pub n_answer_tokens: u64,
    /// Conversations that were there before.
    pub n_duplicates: u64,
    /// Lessons that were longer than a sequence.
    pub n_cut_off: u64,
    /// Lessons of whose answers nothing was left.
    pub n_without_answer: u64,
    /// Records that could not be read or teach nothing, and were left out.
    pub n_broken: u64,
    /// The first of them, in words.
    pub broken: Vec<String>,
    /// Digest of all tokens and marks.
    pub digest: String,
}

/// Lessons on disk, mapped.
#[derive(Debug)]
pub struct Lessons {
    /// What is in them.
    pub summary: LessonsSummary,
    train: Part,
    held_out: Part,
}

/// Tokens, and beside them whether each is learnt.
#[derive(Debug)]
struct Part {
    tokens: TokenFile,
    answers: TokenFile,
}

const DESCRIPTION: &str = "lessons.json";
const PARTS: [&str; 2] = ["train", "held-out"];
/// An answer is marked by 1, all else by 0.
const N_MARKS: usize = 2;

fn path_of(folder: &Path, part: &str, kind: &str) -> PathBuf {
    folder.join(format!("{part}.{kind}"))
}

/// Writes the lessons to `folder`, which appears whole or not at all.
///
/// # Errors
/// Where a record is broken and is not to be left out, nothing is left to learn, or the disk refuses.
pub fn prepare_lessons(task: &PrepareLessons<'_>, folder: &Path) -> Result<Lessons, DataError> {
    let beside = folder.with_extension("part");
    let io = |source| DataError::Io { path: beside.clone(), source };
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(io)?;
    }
    fs::create_dir_all(&beside).map_err(io)?;
    let vocab_size = task.tokenizer.vocab_size();
    let mut writers = Vec::new();
    for part in PARTS {
        for (kind, n_ids) in [("tokens", vocab_size), ("answers", N_MARKS)] {
            writers.push(TokenFileWriter::create(&path_of(&beside, part, kind), n_ids).map_err(io)?);
        }
    }
    let mut summary = LessonsSummary { vocab_size, ..LessonsSummary::default() };
    let mut failure = None;
    let mut seen = HashSet::new();
    let read = task.corpus.read_records(task.on_broken, &mut |record| {
        for (digest, group) in groups_of(task.tokenizer, task.template, task.kind, record)? {
            if !seen.insert(digest) {
                summary.n_duplicates += 1;
                continue;
            }
            let is_held_out = (digest as u64 as f64 / u64::MAX as f64) < task.held_out_share;
            if let Err(error) = add(task, group, is_held_out, &mut writers, &mut summary) {
                failure.get_or_insert(error);
            }
        }
        Ok(())
    })?;
    if let Some(error) = failure {
        return Err(io(error));
    }
    for writer in writers {
        writer.finish().map_err(io)?;
    }
    summary.n_broken = read.n_broken;
    summary.broken = read.broken.iter().map(ToString::to_string).collect();
    if summary.n_lessons == 0 {
        return Err(DataError::Corpus(CorpusError::NothingToLearn));
    }
    let mut lessons = Lessons::map(&beside, summary)?;
    let mut hasher = Xxh3::new();
    for part in [&lessons.train, &lessons.held_out] {
        hasher.update(part.tokens.content());
        hasher.update(part.answers.content());
    }
    lessons.summary.digest = format!("{:032x}", hasher.digest128());
    let text = serde_json::to_vec_pretty(&lessons.summary).expect("plain numbers and texts");
    let mut file = AtomicFile::create(&beside.join(DESCRIPTION)).map_err(io)?;
    file.write_all(&text).and_then(|()| file.finish()).map_err(io)?;
    fs::rename(&beside, folder).and_then(|()| weights::sync_folder_of(folder)).map_err(io)?;
    Ok(lessons)
}

/// The lessons of a record, conversation by conversation or the two of a pair together.
///
/// # Errors
/// What is wrong with it, in words.
pub fn lessons_of_record(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    kind: LessonKind,
    record: &Value,
) -> Result<Vec<Vec<Lesson>>, String> {
    Ok(groups_of(tokenizer, template, kind, record)?.into_iter().map(|(_, group)| group).collect())
}

/// As [`lessons_of_record`], each group with the digest of what is said in it.
fn groups_of(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    kind: LessonKind,
    record: &Value,
) -> Result<Vec<(u128, Vec<Lesson>)>, String> {
    let of = |chat: &[ChatMessage]| lessons(tokenizer, template, chat).map_err(|error| error.to_string());
    match kind {
        LessonKind::Chats => {
            let chats = chats_of(record)?;
            chats.iter().map(|chat| Ok((digest_of(std::slice::from_ref(chat)), of(chat)?))).collect()
        }
        LessonKind::Pairs => {
            let pair = pair_of(record)?;
            let group = vec![last_answer(of(&pair[0])?), last_answer(of(&pair[1])?)];
            Ok(vec![(digest_of(&pair), group)])
        }
    }
}

/// The last lesson with its last answer alone.
fn last_answer(mut all: Vec<Lesson>) -> Lesson {
    let mut lesson = all.pop().expect("a conversation with an answer has a lesson");
    let end = lesson.is_answer.iter().rposition(|&is_answer| is_answer).map_or(0, |at| at + 1);
    let before = lesson.is_answer[..end].iter().rposition(|&is_answer| !is_answer).map_or(0, |at| at + 1);
    lesson.is_answer[..before].fill(false);
    lesson
}

fn digest_of(chats: &[Vec<ChatMessage>]) -> u128 {
    let said: Vec<&str> = chats.iter().flatten().filter_map(|message| message.content.as_deref()).collect();
    xxh3_128(said.join("\0").as_bytes())
}

/// Writes the lessons of a conversation, or of a pair, which stays together or is left out.
fn add(
    task: &PrepareLessons<'_>,
    mut group: Vec<Lesson>,
    is_held_out: bool,
    writers: &mut [TokenFileWriter],
    summary: &mut LessonsSummary,
) -> io::Result<()> {
    for lesson in &mut group {
        // A sequence of so many rows predicts one token more than it reads.
        if lesson.tokens.len() > task.seq_len + 1 {
            summary.n_cut_off += 1;
            lesson.tokens.truncate(task.seq_len + 1);
            lesson.is_answer.truncate(task.seq_len + 1);
        }
    }
    let n_learnt = |lesson: &Lesson| lesson.is_answer.iter().skip(1).filter(|&&is_answer| is_answer).count();
    let n_before = group.len();
    group.retain(|lesson| n_learnt(lesson) > 0);
    if task.kind == LessonKind::Pairs && group.len() < n_before {
        group.clear();
    }
    summary.n_without_answer += (n_before - group.len()) as u64;
    for lesson in &group {
        let marks: Vec<u32> = lesson.is_answer.iter().map(|&is_answer| u32::from(is_answer)).collect();
        let files = &mut writers[if is_held_out { 2..4 } else { 0..2 }];
        for (file, ids) in files.iter_mut().zip([&lesson.tokens, &marks]) {
            file.begin(ids[0])?;
            file.append(&ids[1..], 0)?;
        }
        if is_held_out {
            summary.n_held_out += 1;
        } else {
            summary.n_lessons += 1;
            summary.n_tokens += lesson.tokens.len() as u64;
            summary.n_answer_tokens += n_learnt(lesson) as u64;
        }
    }
    Ok(())
}

impl Lessons {
    /// Opens what [`prepare_lessons`] wrote.
    ///
    /// # Errors
    /// Where a file is missing, damaged or of another version.
    pub fn open(folder: &Path) -> Result<Lessons, DataError> {
        let path = folder.join(DESCRIPTION);
        let text = fs::read(&path).map_err(|source| DataError::Io { path: path.clone(), source })?;
        let summary: LessonsSummary = serde_json::from_slice(&text)
            .map_err(|error| DataError::Description { path: path.clone(), what: error.to_string() })?;
        Lessons::map(folder, summary)
    }

    /// Maps the files that a description tells of.
    fn map(folder: &Path, summary: LessonsSummary) -> Result<Lessons, DataError> {
        let part = |name: &str| -> Result<Part, DataError> {
            let tokens = TokenFile::open(&path_of(folder, name, "tokens"), summary.vocab_size)?;
            let answers = TokenFile::open(&path_of(folder, name, "answers"), N_MARKS)?;
            let is_whole = tokens.n_documents() == answers.n_documents()
                && (0..tokens.n_documents()).all(|idx| tokens.document(idx) == answers.document(idx));
            if !is_whole {
                let what = "tokens and marks do not belong together; prepare the data again".to_owned();
                return Err(DataError::Description { path: path_of(folder, name, "answers"), what });
            }
            Ok(Part { tokens, answers })
        };
        let (train, held_out) = (part(PARTS[0])?, part(PARTS[1])?);
        Ok(Lessons { summary, train, held_out })
    }

    /// How many there are to learn from.
    #[must_use]
    pub fn len(&self) -> usize {
        self.train.tokens.n_documents()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A lesson to learn from.
    #[must_use]
    pub fn get(&self, idx: usize) -> Lesson {
        let range = self.train.tokens.document(idx);
        Lesson {
            tokens: range.clone().map(|at| self.train.tokens.token(at)).collect(),
            is_answer: range.map(|at| self.train.answers.token(at) == 1).collect(),
        }
    }

    /// How many are held out.
    #[must_use]
    pub fn n_held_out(&self) -> usize {
        self.held_out.tokens.n_documents()
    }

    /// Tokens of a lesson to learn from.
    pub(crate) fn n_rows(&self, idx: usize) -> usize {
        self.train.n_rows(idx)
    }

    /// Adds a lesson to some rows.
    pub(crate) fn push(&self, is_held_out: bool, idx: usize, rows: &mut Rows) {
        if is_held_out { self.held_out.push(idx, rows) } else { self.train.push(idx, rows) }
    }

    /// What is held out, some tokens at a time, always `n_together` lessons in the same batch.
    #[must_use]
    pub fn held_out_rows(&self, batch_rows: usize, n_together: usize) -> Vec<Rows> {
        let mut batches = Vec::new();
        let mut rows = Rows::default();
        for first in (0..self.n_held_out()).step_by(n_together) {
            let group = first..(first + n_together).min(self.n_held_out());
            let more: usize = group.clone().map(|idx| self.held_out.n_rows(idx)).sum();
            if !rows.is_empty() && rows.len() + more > batch_rows {
                batches.push(std::mem::take(&mut rows));
            }
            group.for_each(|idx| self.held_out.push(idx, &mut rows));
        }
        if !rows.is_empty() {
            batches.push(rows);
        }
        batches
    }
}

impl Part {
    fn n_rows(&self, idx: usize) -> usize {
        self.tokens.document(idx).len() - 1
    }

    fn push(&self, idx: usize, rows: &mut Rows) {
        let range = self.tokens.document(idx);
        rows.push((range.start..range.end - 1).map(|at| {
            let weight = if self.answers.token(at + 1) == 1 { 1.0 } else { 0.0 };
            (self.tokens.token(at), self.tokens.token(at + 1), weight)
        }));
    }
}

/// Answers from what stands before them: whole conversations, in another order in each epoch.
#[derive(Debug)]
pub struct FineTuning<'a> {
    lessons: &'a Lessons,
    /// Lessons that are learnt together: 2 of a pair.
    n_together: usize,
    batch_rows: usize,
    seed: u64,
    epoch: u64,
    order: Vec<u32>,
    n_done: usize,
}

impl<'a> FineTuning<'a> {
    /// With at most `batch_rows` tokens in a batch, and at least one conversation, or two of a pair.
    #[must_use]
    pub fn new(lessons: &'a Lessons, n_together: usize, batch_rows: usize, seed: u64) -> FineTuning<'a> {
        let order = crate::batches::order(seed, 0, 0, lessons.len() / n_together);
        FineTuning { lessons, n_together, batch_rows, seed, epoch: 0, order, n_done: 0 }
    }

    /// Batches of one epoch.
    #[must_use]
    pub fn n_batches_of_epoch(&self) -> u64 {
        let mut first = FineTuning::new(self.lessons, self.n_together, self.batch_rows, self.seed);
        let mut n = 0;
        while first.epoch == 0 && !self.order.is_empty() {
            first.take(&mut |_| {});
            n += 1;
        }
        n
    }

    /// The lessons of the next batch.
    pub(crate) fn take(&mut self, sink: &mut dyn FnMut(usize)) {
        let mut n_rows = 0;
        while !self.order.is_empty() {
            let first = self.order[self.n_done] as usize * self.n_together;
            let group = first..first + self.n_together;
            let more: usize = group.clone().map(|idx| self.lessons.n_rows(idx)).sum();
            if n_rows > 0 && n_rows + more > self.batch_rows {
                return;
            }
            n_rows += more;
            group.for_each(&mut *sink);
            self.n_done += 1;
            if self.n_done == self.order.len() {
                self.n_done = 0;
                self.epoch += 1;
                self.order = crate::batches::order(self.seed, 0, self.epoch, self.order.len());
                // A batch does not reach over two epochs, so that each has as many.
                return;
            }
        }
    }
}

impl Objective for FineTuning<'_> {
    fn next(&mut self, rows: &mut Rows) {
        rows.clear();
        let lessons = self.lessons;
        self.take(&mut |idx| lessons.train.push(idx, rows));
    }

    fn skip(&mut self, n_batches: u64) {
        (0..n_batches).for_each(|_| self.take(&mut |_| {}));
    }

    fn n_epochs(&self) -> f64 {
        self.epoch as f64 + self.n_done as f64 / self.order.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests;
