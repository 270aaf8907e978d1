#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;

use super::*;
use crate::corpus::{Corpus, OnBroken};
use crate::data::{DataSource, PrepareData, prepare_data};
use crate::test_support::byte_tokenizer;

const DOCUMENT: TokenId = 0;

/// Two sources: documents of letters from `a` on and of `z`, 10 to 49 and 3 bytes long.
fn data(folder: &Path, weights: [Option<f64>; 2]) -> Data {
    let letters = |i: usize| char::from(b'a' + (i % 20) as u8);
    let long: Vec<String> = (0..40).map(|i| letters(i).to_string().repeat(10 + i)).collect();
    let short: Vec<String> = (0..30).map(|i| format!("z{i:02}")).collect();
    let sources: Vec<DataSource> = [("long", long), ("short", short)]
        .into_iter()
        .zip(weights)
        .map(|((name, texts), weight)| {
            let lines: Vec<String> =
                texts.iter().map(|text| serde_json::json!({ "text": text }).to_string()).collect();
            let path = folder.join(format!("{name}.jsonl"));
            std::fs::write(&path, lines.join("\n")).unwrap();
            DataSource { corpus: Corpus::find(&[path]).unwrap(), weight }
        })
        .collect();
    let task = PrepareData {
        sources: &sources,
        on_broken: OnBroken::Stop,
        languages: &[],
        held_out_share: 0.2,
        tokenizer: &byte_tokenizer(),
        document_token: DOCUMENT,
        n_threads: NonZeroUsize::MIN,
    };
    let out = folder.join("data");
    if out.exists() {
        std::fs::remove_dir_all(&out).unwrap();
    }
    prepare_data(&task, &out, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn taken(batches: &mut Batches<'_>, n_rows: usize) -> Rows {
    let mut rows = Rows::default();
    batches.next(n_rows, &mut rows);
    rows
}

#[test]
fn an_epoch_reads_every_token_once_in_another_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), [None, None]);
    let n = data.n_tokens() as usize;
    let mut batches = Batches::new(&data, DOCUMENT, 16, 7);
    let mut counts = HashMap::new();
    let (first, second) = (taken(&mut batches, n), taken(&mut batches, n));
    for (rows, sign) in [(&first, 1), (&second, -1)] {
        assert_eq!(rows.len(), n);
        for (&token, &target) in rows.batch().tokens.iter().zip(rows.batch().targets) {
            *counts.entry((token, target)).or_insert(0) += sign;
        }
    }
    assert!(counts.values().all(|&n| n == 0), "two epochs have the same pairs: {counts:?}");
    assert_ne!(first, second);
    assert!((batches.n_epochs() - 2.0).abs() < 1e-9);
}

#[test]
fn targets_follow_their_tokens_and_documents_end_with_the_document_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), [None, None]);
    let mut batches = Batches::new(&data, DOCUMENT, 16, 7);
    let n = data.n_tokens() as usize;
    let rows = taken(&mut batches, n);
    let batch = rows.batch();
    let mut n_ends = 0;
    for sequence in batch.sequences {
        assert!(sequence.len() <= 16);
        for at in sequence.clone() {
            assert_eq!(batch.positions[at] as usize, at - sequence.start);
            if at + 1 < sequence.end {
                assert_eq!(batch.targets[at], batch.tokens[at + 1]);
            }
            n_ends += usize::from(batch.targets[at] == DOCUMENT);
        }
    }
    let n_documents: usize = data.train.iter().map(TokenFile::n_documents).sum();
    assert_eq!(n_ends, n_documents);
}

#[test]
fn what_was_skipped_was_taken() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), [Some(1.0), Some(2.5)]);
    for (n_batches, n_rows) in [(1, 5), (3, 100), (40, 333)] {
        let mut taking = Batches::new(&data, DOCUMENT, 16, 7);
        for _ in 0..n_batches {
            taken(&mut taking, n_rows);
        }
        let mut skipping = Batches::new(&data, DOCUMENT, 16, 7);
        skipping.skip((n_batches * n_rows) as u64);
        assert_eq!(taken(&mut skipping, 200), taken(&mut taking, 200));
    }
}

#[test]
fn seeds_and_weights_are_heeded() {
    let folder = tempfile::tempdir().unwrap();
    let share_of_short = |weights| {
        let data = data(folder.path(), weights);
        let rows = taken(&mut Batches::new(&data, DOCUMENT, 16, 7), 20_000);
        let z = byte_tokenizer().encode(b"z", tokenizer::Specials::AsText)[0];
        let n = rows.batch().tokens.iter().filter(|&&token| token == z).count();
        // A document of the second source is its token, z and two digits.
        (4 * n) as f64 / rows.len() as f64
    };
    let by_size = share_of_short([None, None]);
    let thrice = share_of_short([Some(1.0), Some(3.0)]);
    let odds = |share: f64| share / (1.0 - share);
    assert!((odds(thrice) / odds(by_size) - 3.0).abs() < 0.05, "{by_size} {thrice}");
    let data = data(folder.path(), [None, None]);
    let of = |seed| taken(&mut Batches::new(&data, DOCUMENT, 16, seed), 500);
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn what_is_held_out_is_always_the_same_and_counts_text_only() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), [None, None]);
    let of = |n_rows| held_out_rows(&data, DOCUMENT, 16, n_rows, &|token| token != DOCUMENT);
    let all = of(1_000_000);
    let n: usize = all.iter().map(Rows::len).sum();
    assert_eq!(n as u64, data.held_out.iter().map(TokenFile::n_tokens).sum::<u64>());
    let n_bytes: u64 = data.held_out.iter().map(TokenFile::n_bytes).sum();
    // A token for each byte here.
    assert_eq!(all.iter().map(Rows::weight).sum::<f64>(), n_bytes as f64);
    let some: usize = of(n / 2).iter().map(Rows::len).sum();
    assert!((n / 2..n / 2 + 3).contains(&some), "{some} of {n}");
    assert!(held_out_rows(&data, DOCUMENT, 16, 0, &|_| true).is_empty());
}

#[test]
fn a_document_ends_with_the_token_that_ends_texts() {
    const END: TokenId = 1;
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), [None, None]);
    let rows = taken(&mut Batches::new(&data, END, 16, 7), data.n_tokens() as usize);
    let n_documents: usize = data.train.iter().map(TokenFile::n_documents).sum();
    assert_eq!(rows.batch().targets.iter().filter(|&&target| target == END).count(), n_documents);
    assert!(!rows.batch().targets.contains(&DOCUMENT), "nobody has to say how a text begins");
    let held_out = held_out_rows(&data, END, 16, 1_000_000, &|_| true);
    assert!(held_out.iter().all(|rows| !rows.batch().targets.contains(&DOCUMENT)));
}
