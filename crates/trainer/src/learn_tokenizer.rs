//! A vocabulary from a corpus: one thread reads, the others count words, then the most frequent pairs are merged.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use tokenizer::{BpeTraining, Specials, Tokenizer, TokenizerError, TrainedBpe, TrainingError, WordCounts};

use crate::corpus::{Corpus, CorpusError, CorpusSummary, OnBroken, Piece};

/// Bytes that go to a counting thread at a time.
const BATCH_LEN: usize = 1 << 20;
/// Bytes of text by which languages are measured.
const SAMPLE_LEN: usize = 4 << 20;
/// Bytes of a document that tell its language.
const LANGUAGE_LEN: usize = 600;

/// What is to be learnt from what.
#[derive(Debug)]
pub struct LearnTokenizer<'a> {
    /// The texts.
    pub corpus: &'a Corpus,
    /// What to do with records that cannot be read.
    pub on_broken: OnBroken,
    /// Name of the pre-tokenizer, as `tokenizer.ggml.pre` has it.
    pub pre: &'a str,
    /// The vocabulary.
    pub training: BpeTraining,
    /// Threads that count.
    pub n_threads: NonZeroUsize,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerProgress {
    /// Bytes on the disk, of all.
    Reading(u64, u64),
    /// Merges, of those that are wanted.
    Merging(usize, usize),
}

/// Why no tokenizer came out.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerTrainingError {
    /// The texts.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The vocabulary.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// What was learnt makes no tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A vocabulary and what it was learnt from.
#[derive(Debug)]
pub struct LearntTokenizer {
    /// The vocabulary.
    pub bpe: TrainedBpe,
    /// What was read.
    pub corpus: CorpusSummary,
    /// Different words of two bytes and more.
    pub n_words: usize,
    /// How well each language is packed, on a sample of the corpus; the language with the most text first.
    pub languages: Vec<LanguageShare>,
}

/// One language of the sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanguageShare {
    /// Its English name, or `other` for text whose language is not clear.
    pub language: &'static str,
    /// Bytes of its documents in the sample.
    pub n_bytes: usize,
    /// What they are as tokens.
    pub n_tokens: usize,
}

/// Learns a vocabulary. `progress` may break it off.
///
/// # Errors
/// Where the corpus cannot be read, the settings contradict themselves, or `progress` breaks off.
pub fn learn_tokenizer(
    task: &LearnTokenizer<'_>,
    progress: &mut dyn FnMut(TokenizerProgress) -> ControlFlow<()>,
) -> Result<LearntTokenizer, TokenizerTrainingError> {
    task.training.check()?;
    let mut sample = Sample::default();
    let (counts, corpus) = count(task, &mut sample, progress)?;
    let bpe = task.training.train(&counts, &mut |done, of| progress(TokenizerProgress::Merging(done, of)))?;
    let tokenizer = Tokenizer::new(&bpe.vocabulary())?;
    Ok(LearntTokenizer { languages: sample.by_language(&tokenizer), n_words: counts.len(), bpe, corpus })
}

/// Texts on their way to a counter: where each ends in one string.
#[derive(Default)]
struct Batch {
    texts: String,
    ends: Vec<usize>,
}

impl Batch {
    fn push(&mut self, text: &str) {
        self.texts.push_str(text);
        self.ends.push(self.texts.len());
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.texts[start..end])
    }
}

fn count(
    task: &LearnTokenizer<'_>,
    sample: &mut Sample,
    progress: &mut dyn FnMut(TokenizerProgress) -> ControlFlow<()>,
) -> Result<(WordCounts, CorpusSummary), TokenizerTrainingError> {
    let mut counts = WordCounts::new(task.pre)?;
    let n_threads = task.n_threads.get();
    let of = task.corpus.bytes_on_disk();
    let (send, receive) = sync_channel::<Batch>(2 * n_threads);
    let receive = Mutex::new(receive);
    std::thread::scope(|scope| {
        let send = send;
        let counters: Vec<_> = (0..n_threads)
            .map(|_| {
                let counts = WordCounts::new(task.pre);
                let receive = &receive;
                scope.spawn(move || {
                    let mut counts = counts?;
                    while let Some(batch) = next(receive) {
                        batch.texts().for_each(|text| counts.add(text.as_bytes()));
                    }
                    Ok::<_, TrainingError>(counts)
                })
            })
            .collect();
        let mut batch = Batch::default();
        let summary = task.corpus.read(task.on_broken, &mut |piece, done| {
            sample.see(piece);
            batch.push(piece.text);
            if batch.texts.len() >= BATCH_LEN {
                if progress(TokenizerProgress::Reading(done, of)).is_break() {
                    return Err(CorpusError::Stopped);
                }
                // Fails only when all counters are gone, whose end is seen below.
                let _ = send.send(std::mem::take(&mut batch));
            }
            Ok(())
        });
        let _ = send.send(batch);
        drop(send);
        for counter in counters {
            match counter.join() {
                Ok(part) => counts.add_all(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok((counts, summary?))
    })
}

fn next(receive: &Mutex<Receiver<Batch>>) -> Option<Batch> {
    receive.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Documents from all over the corpus, evenly: of every `stride` one.
struct Sample {
    texts: Vec<String>,
    n_bytes: usize,
    stride: usize,
    n_seen: usize,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample { texts: Vec::new(), n_bytes: 0, stride: 1, n_seen: 0 }
    }
}

impl Sample {
    /// Every piece counts as a document here, so that a few long ones are seen in many places.
    fn see(&mut self, piece: Piece<'_>) {
        let take = self.n_seen.is_multiple_of(self.stride);
        self.n_seen += 1;
        if !take {
            return;
        }
        let mut len = piece.text.len().min(SAMPLE_LEN / 64);
        while !piece.text.is_char_boundary(len) {
            len -= 1;
        }
        self.texts.push(piece.text[..len].to_owned());
        self.n_bytes += len;
        while self.n_bytes > SAMPLE_LEN && self.texts.len() > 1 {
            self.stride *= 2;
            let mut kept = 0;
            self.texts.retain(|_| {
                kept += 1;
                kept % 2 == 1
            });
            self.n_bytes = self.texts.iter().map(String::len).sum();
        }
    }

    fn by_language(&self, tokenizer: &Tokenizer) -> Vec<LanguageShare> {
        let mut shares: HashMap<&'static str, LanguageShare> = HashMap::new();
        for text in &self.texts {
            let language = language_of(text);
            let share = shares.entry(language).or_insert(LanguageShare { language, n_bytes: 0, n_tokens: 0 });
            share.n_bytes += text.len();
            share.n_tokens += tokenizer.encode(text.as_bytes(), Specials::AsText).len();
        }
        let mut shares: Vec<LanguageShare> = shares.into_values().collect();
        shares.sort_by(|a, b| b.n_bytes.cmp(&a.n_bytes).then(a.language.cmp(b.language)));
        shares
    }
}

/// The language of a text by its beginning.
fn language_of(text: &str) -> &'static str {
    let mut len = text.len().min(LANGUAGE_LEN);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    whatlang::detect(&text[..len])
        .filter(|info| info.is_reliable())
        .map_or("other", |info| info.lang().eng_name())
}
