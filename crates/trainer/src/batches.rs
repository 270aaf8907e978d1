//! Which tokens come next? Documents, cut where they are longer than a sequence, in an order that the seed and the
//! epoch decide; sources in turn, so that at every moment each has given its share.
//!
//! The order is a function of data, settings and the number of rows taken, so a run that is taken up again goes on
//! exactly.

use tokenizer::TokenId;

use crate::data::{Data, TokenFile};
use crate::rows::Rows;

/// The endless stream of a run's batches.
#[derive(Debug)]
pub struct Batches<'a> {
    data: &'a Data,
    end_token: TokenId,
    seed: u64,
    streams: Vec<Stream>,
}

/// One source's place.
#[derive(Debug)]
struct Stream {
    source_idx: usize,
    weight: f64,
    segments: Vec<Segment>,
    epoch: u64,
    /// The epoch's order of segments.
    order: Vec<u32>,
    /// How many of them are done, and rows of the one at hand.
    n_done: usize,
    n_rows_of_next: usize,
    /// Rows taken so far.
    n_rows: u64,
}

/// A document, or as much of it as a sequence holds.
#[derive(Debug, Clone, Copy)]
struct Segment {
    start: u64,
    len: u32,
    /// Whether its document ends here.
    is_last: bool,
}

impl<'a> Batches<'a> {
    /// From the first token of the first epoch; behind each document stands `end_token`.
    #[must_use]
    pub fn new(data: &'a Data, end_token: TokenId, seq_len: usize, seed: u64) -> Batches<'a> {
        let mut streams: Vec<Stream> = Vec::new();
        for (source_idx, (file, source)) in data.train.iter().zip(&data.summary.sources).enumerate() {
            let segments: Vec<Segment> = segments(file, seq_len).collect();
            if segments.is_empty() {
                continue;
            }
            streams.push(Stream {
                source_idx,
                weight: source.weight.unwrap_or(1.0) * file.n_tokens() as f64,
                order: order(seed, source_idx, 0, segments.len()),
                segments,
                epoch: 0,
                n_done: 0,
                n_rows_of_next: 0,
                n_rows: 0,
            });
        }
        Batches { data, end_token, seed, streams }
    }

    /// The next `n_rows` tokens. None come where there is no data.
    pub fn next(&mut self, n_rows: usize, rows: &mut Rows) {
        rows.clear();
        let (data, end_token) = (self.data, self.end_token);
        self.take(n_rows, &mut |source_idx, segment, from, n| {
            let file = &data.train[source_idx];
            let first = segment.start as usize + from;
            let end = segment.start as usize + segment.len as usize;
            rows.push((first..first + n).map(|at| {
                let ends_document = segment.is_last && at + 1 == end;
                let target = if ends_document { end_token } else { file.token(at + 1) };
                (file.token(at), target, 1.0)
            }));
        });
    }

    /// As if so many tokens had been taken.
    pub fn skip(&mut self, n_rows: u64) {
        let mut left = n_rows;
        while left > 0 {
            let n = left.min(1 << 30);
            self.take(n as usize, &mut |_, _, _, _| {});
            left -= n;
        }
    }

    /// How often all of the data was read: of the source that was read most often.
    #[must_use]
    pub fn n_epochs(&self) -> f64 {
        let of = |stream: &Stream| {
            let n_rows: u64 = stream.segments.iter().map(|segment| u64::from(segment.len)).sum();
            stream.n_rows as f64 / n_rows as f64
        };
        self.streams.iter().map(of).fold(0.0, f64::max)
    }

    /// Hands over the pieces that make up the next `n_rows` rows: source, segment, its first row and how many.
    fn take(&mut self, n_rows: usize, sink: &mut dyn FnMut(usize, Segment, usize, usize)) {
        let mut left = n_rows;
        while left > 0 {
            // Who has given the least of its share; the first of equals.
            let behind = |a: &Stream, b: &Stream| {
                (a.n_rows as f64 / a.weight).total_cmp(&(b.n_rows as f64 / b.weight))
            };
            let Some(idx) =
                (0..self.streams.len()).min_by(|&a, &b| behind(&self.streams[a], &self.streams[b]))
            else {
                return;
            };
            let stream = &mut self.streams[idx];
            let segment = stream.segments[stream.order[stream.n_done] as usize];
            let from = stream.n_rows_of_next;
            let n = left.min(segment.len as usize - from);
            sink(stream.source_idx, segment, from, n);
            left -= n;
            stream.n_rows += n as u64;
            stream.n_rows_of_next += n;
            if stream.n_rows_of_next == segment.len as usize {
                stream.n_rows_of_next = 0;
                stream.n_done += 1;
            }
            if stream.n_done == stream.order.len() {
                stream.n_done = 0;
                stream.epoch += 1;
                stream.order = order(self.seed, stream.source_idx, stream.epoch, stream.segments.len());
            }
        }
    }
}

/// A file's documents, cut to sequences.
fn segments(file: &TokenFile, seq_len: usize) -> impl Iterator<Item = Segment> {
    (0..file.n_documents()).flat_map(move |idx| {
        let document = file.document(idx);
        document.clone().step_by(seq_len).map(move |start| Segment {
            start: start as u64,
            len: seq_len.min(document.end - start) as u32,
            is_last: start + seq_len >= document.end,
        })
    })
}

/// The order of one epoch.
pub(crate) fn order(seed: u64, source_idx: usize, epoch: u64, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut random = fastrand::Rng::with_seed(seed);
    for more in [source_idx as u64, epoch] {
        random = fastrand::Rng::with_seed(random.u64(..) ^ more);
    }
    random.shuffle(&mut order);
    order
}

/// What is held out, cut to sequences: of every source its share of about `n_rows` in all, always the same.
#[must_use]
pub fn held_out_rows(
    data: &Data,
    end_token: TokenId,
    seq_len: usize,
    n_rows: usize,
    counts: &dyn Fn(TokenId) -> bool,
) -> Vec<Rows> {
    let all: u64 = data.held_out.iter().map(TokenFile::n_tokens).sum();
    let share = (n_rows as f64 / all.max(1) as f64).min(1.0);
    let mut batches = Vec::new();
    let mut rows = Rows::default();
    for file in &data.held_out {
        let mut left = (file.n_tokens() as f64 * share).ceil() as usize;
        for segment in segments(file, seq_len) {
            if left == 0 {
                break;
            }
            let start = segment.start as usize;
            let n = left.min(segment.len as usize);
            rows.push((start..start + n).map(|at| {
                let ends_document = segment.is_last && at + 1 == start + segment.len as usize;
                let target = if ends_document { end_token } else { file.token(at + 1) };
                (file.token(at), target, if counts(target) { 1.0 } else { 0.0 })
            }));
            left -= n;
            if rows.len() >= 4 * seq_len {
                batches.push(std::mem::take(&mut rows));
            }
        }
    }
    if !rows.is_empty() {
        batches.push(rows);
    }
    batches
}

#[cfg(test)]
mod tests;
