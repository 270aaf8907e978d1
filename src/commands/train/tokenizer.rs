//! `daybreak train tokenizer`: texts → a vocabulary, as a folder with `tokenizer.json` and `tokenizer.gguf`.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use tokenizer::{BpeTraining, TrainingError};
use trainer::{
    Corpus, CorpusError, LanguageShare, LearnTokenizer, LearntTokenizer, OnBroken, TokenizerProgress,
    TokenizerTrainingError, learn_tokenizer, tokenizer_json, vocabulary_gguf,
};
use weights::AtomicFile;

use super::{check_output, n_threads};
use crate::cli;
use crate::progress::CountBar;
use crate::terminal::{Interrupted, human_bytes, stop_on_ctrl_c};

/// Languages in the table.
const MAX_LANGUAGES: usize = 8;

pub(super) fn train(args: &cli::TrainTokenizer) -> Result<()> {
    check_output(&args.output, args.force)?;
    let corpus = Corpus::find(&args.texts)?;
    let task = LearnTokenizer {
        corpus: &corpus,
        on_broken: if args.skip_broken { OnBroken::Skip } else { OnBroken::Stop },
        pre: &args.pre,
        training: BpeTraining {
            vocab_size: args.vocab_size as usize,
            special_tokens: args.special_tokens.clone(),
            min_count: args.min_count,
        },
        n_threads: n_threads(args.threads)?,
    };
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_ctrl_c(&stop)?;
    let start = Instant::now();
    let learnt = learn(&task, &stop)?;
    let seconds = start.elapsed().as_secs_f64();
    write(&args.output, &learnt)?;
    report(args, &learnt, seconds)
}

pub(super) fn learn(task: &LearnTokenizer<'_>, stop: &AtomicBool) -> Result<LearntTokenizer> {
    let mut reading = Some(CountBar::new("megabytes", task.corpus.bytes_on_disk() >> 20));
    let mut merging = None;
    let learnt = learn_tokenizer(task, &mut |progress| {
        match progress {
            TokenizerProgress::Reading(done, _) => {
                if let Some(bar) = &reading {
                    bar.show(done >> 20, "counting words");
                }
            }
            TokenizerProgress::Merging(done, of) => {
                if let Some(bar) = reading.take() {
                    bar.clear();
                }
                let bar = merging.get_or_insert_with(|| CountBar::new("merges", of as u64));
                bar.show(done as u64, "merging");
            }
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    reading.iter().chain(&merging).for_each(CountBar::clear);
    learnt.map_err(|error| match error {
        TokenizerTrainingError::Corpus(CorpusError::Stopped)
        | TokenizerTrainingError::Training(TrainingError::Stopped) => Interrupted.into(),
        error => error.into(),
    })
}

pub(super) fn write(folder: &Path, learnt: &LearntTokenizer) -> Result<()> {
    let failed = || format!("{} cannot be written", folder.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    let json = serde_json::to_vec(&tokenizer_json(&learnt.bpe))?;
    let mut file = AtomicFile::create(&folder.join("tokenizer.json")).with_context(failed)?;
    file.write_all(&json).and_then(|()| file.finish()).with_context(failed)?;
    vocabulary_gguf(&learnt.bpe)?.write_to(&folder.join("tokenizer.gguf"))?;
    Ok(())
}

fn report(args: &cli::TrainTokenizer, learnt: &LearntTokenizer, seconds: f64) -> Result<()> {
    let LearntTokenizer { bpe, corpus, n_words, languages } = learnt;
    let per_token = |share: &LanguageShare| share.n_bytes as f64 / share.n_tokens.max(1) as f64;
    if args.json {
        let languages: Vec<_> = languages
            .iter()
            .map(|share| json!({ "language": share.language, "bytes": share.n_bytes, "tokens": share.n_tokens, "bytes_per_token": per_token(share) }))
            .collect();
        let report = json!({
            "vocab_size": bpe.tokens().len(),
            "merges": bpe.merges().len(),
            "pre": bpe.pre(),
            "files": corpus.n_files,
            "documents": corpus.n_documents,
            "bytes": corpus.n_bytes,
            "empty_records": corpus.n_empty,
            "broken_records": corpus.n_broken,
            "words": n_words,
            "seconds": seconds,
            "languages": languages,
        });
        println!("{report}");
        return Ok(());
    }
    println!(
        "{} tokens from {} in {} documents ({n_words} different words) in {seconds:.1} s: {}",
        bpe.tokens().len(),
        human_bytes(corpus.n_bytes),
        corpus.n_documents,
        args.output.display()
    );
    if bpe.tokens().len() < args.vocab_size as usize {
        println!(
            "fewer than the {} asked for: no other pair occurs {} times",
            args.vocab_size, args.min_count
        );
    }
    if !languages.is_empty() {
        println!("\nlanguage        bytes per token   of a sample of");
    }
    for share in languages.iter().take(MAX_LANGUAGES) {
        let language = format!("{:24}", share.language);
        println!("{language} {:6.2}   {}", per_token(share), human_bytes(share.n_bytes as u64));
    }
    for record in &corpus.broken {
        eprintln!("daybreak: left out: {record}");
    }
    if corpus.n_broken > corpus.broken.len() as u64 {
        eprintln!("daybreak: left out {} records in all", corpus.n_broken);
    }
    Ok(())
}
