//! From a row of logits to a token: bias, penalties, filters, temperature, draw.
//!
//! The steps run in llama.cpp's order (see `SamplingParams`). Filters work on a short list of
//! candidates wherever the settings allow it, so that the vocabulary is never sorted. A draw is a
//! pure function of the logits, the settings, the tokens so far and (seed, position).

use std::collections::HashMap;

use kernels::Isa;

use crate::random::uniform;
use crate::request::{BitMask, SamplingParams, TokenId};

/// What was taken from one row of logits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    pub(crate) id: TokenId,
    /// NaN unless log-probabilities were asked for.
    pub(crate) logprob: f32,
    pub(crate) top: Vec<(TokenId, f32)>,
}

/// Why no token could be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoChoice {
    /// A logit is NaN or infinite.
    NonFinite,
    /// Every token is forbidden.
    NothingAllowed,
}

/// The tokens that one draw may take.
pub(crate) struct Allowed<'a> {
    /// Never drawn.
    pub(crate) forbidden: &'a [TokenId],
    /// If present, only these are drawn.
    pub(crate) mask: Option<&'a BitMask>,
}

/// Buffers of a draw, reused from token to token.
pub(crate) struct Scratch {
    isa: Isa,
    candidates: Vec<Candidate>,
    order: Vec<(f32, u32)>,
    masses: Vec<f64>,
}

impl Scratch {
    /// Empty buffers; sums over the vocabulary use `isa`.
    pub(crate) fn new(isa: Isa) -> Scratch {
        Scratch { isa, candidates: Vec::new(), order: Vec::new(), masses: Vec::new() }
    }
}

/// A token and its logit.
type Candidate = (TokenId, f32);

/// At lower temperatures only the most likely token has a chance that f32 can tell from zero.
const MIN_TEMPERATURE: f32 = 1e-4;

/// One sequence's settings and the counts that its penalties need.
pub(crate) struct Sampler {
    params: SamplingParams,
    logprobs: Option<u8>,
    /// Per token: occurrences in the repetition window, and among the generated tokens.
    counts: HashMap<TokenId, Count>,
}

#[derive(Default, Clone, Copy)]
struct Count {
    in_window: u32,
    generated: u32,
}

impl Sampler {
    /// A sampler for a sequence that begins with `prompt`.
    pub(crate) fn new(params: SamplingParams, logprobs: Option<u8>, prompt: &[TokenId]) -> Sampler {
        let mut sampler = Sampler { params, logprobs, counts: HashMap::new() };
        if sampler.penalises() {
            let n = sampler.params.repeat_last_n.min(prompt.len());
            for &id in &prompt[prompt.len() - n..] {
                sampler.counts.entry(id).or_default().in_window += 1;
            }
        }
        sampler
    }

    /// Notes the last of `tokens` (prompt and answer so far) as generated.
    pub(crate) fn accept(&mut self, tokens: &[TokenId]) {
        if !self.penalises() {
            return;
        }
        let window = self.params.repeat_last_n;
        let newest = tokens[tokens.len() - 1];
        let count = self.counts.entry(newest).or_default();
        count.generated += 1;
        if window == 0 {
            return;
        }
        count.in_window += 1;
        if tokens.len() > window {
            let oldest = tokens[tokens.len() - 1 - window];
            if let Some(count) = self.counts.get_mut(&oldest) {
                count.in_window = count.in_window.saturating_sub(1);
                if count.in_window == 0 && count.generated == 0 {
                    self.counts.remove(&oldest);
                }
            }
        }
    }

    /// Draws the token at `position` (counted from the start of the prompt).
    ///
    /// logits: [vocab_size], changed in place.
    pub(crate) fn draw(
        &self,
        logits: &mut [f32],
        position: usize,
        allowed: &Allowed<'_>,
        scratch: &mut Scratch,
    ) -> Result<Choice, NoChoice> {
        if !kernels::finite(scratch.isa, logits) {
            return Err(NoChoice::NonFinite);
        }
        let listed = self.logprobs.map(|n| {
            let total = kernels::log_sum_exp(scratch.isa, logits, 1.0);
            kernels::top_k(logits, n as usize, &mut scratch.candidates);
            let top = scratch.candidates.iter();
            (total, top.map(|(id, logit)| (*id, logit - total)).collect::<Vec<_>>())
        });
        // The chosen token's own logit is needed before bias and penalties touch it.
        let raw = listed.is_some().then(|| self.touched_logits(logits));
        self.apply_bias_and_penalties(logits);
        for &id in allowed.forbidden {
            logits[id as usize] = f32::NEG_INFINITY;
        }
        if let Some(mask) = allowed.mask {
            apply_mask(logits, mask);
        }
        let id = if self.params.temperature < MIN_TEMPERATURE {
            most_likely(scratch.isa, logits)
        } else {
            let u = uniform(self.params.seed, position as u64);
            self.draw_at_random(logits, u, scratch)
        };
        let id = id.ok_or(NoChoice::NothingAllowed)?;
        let (logprob, top) = match (listed, raw) {
            (Some((total, top)), Some(raw)) => {
                let logit = raw.get(&id).copied().unwrap_or(logits[id as usize]);
                (logit - total, top)
            }
            _ => (f32::NAN, Vec::new()),
        };
        Ok(Choice { id, logprob, top })
    }

    fn penalises(&self) -> bool {
        let p = &self.params;
        (p.repetition_penalty != 1.0 && p.repeat_last_n > 0)
            || p.presence_penalty != 0.0
            || p.frequency_penalty != 0.0
    }

    /// The logits, as they are now, of all tokens that bias or penalties may change.
    fn touched_logits(&self, logits: &[f32]) -> HashMap<TokenId, f32> {
        let biased = self.params.logit_bias.iter().map(|&(id, _)| id);
        let counted = self.counts.keys().copied();
        biased.chain(counted).map(|id| (id, logits[id as usize])).collect()
    }

    fn apply_bias_and_penalties(&self, logits: &mut [f32]) {
        let p = &self.params;
        for &(id, bias) in &p.logit_bias {
            logits[id as usize] += bias;
        }
        for (&id, count) in &self.counts {
            let logit = &mut logits[id as usize];
            if count.in_window > 0 && p.repetition_penalty != 1.0 {
                if *logit > 0.0 {
                    *logit /= p.repetition_penalty;
                } else {
                    *logit *= p.repetition_penalty;
                }
            }
            if count.generated > 0 {
                *logit -= p.presence_penalty + p.frequency_penalty * count.generated as f32;
            }
        }
    }

    fn draw_at_random(&self, logits: &[f32], u: f64, scratch: &mut Scratch) -> Option<TokenId> {
        let p = &self.params;
        let max = logits[most_likely(scratch.isa, logits)? as usize];
        let list = &mut scratch.candidates;
        if p.top_k > 0 {
            kernels::top_k(logits, p.top_k, list);
            list.retain(|c| c.1 > f32::NEG_INFINITY);
        } else if p.typical_p < 1.0 {
            candidates_above(logits, f32::NEG_INFINITY, list);
        } else if p.top_p < 1.0 {
            // Only top-p (and min-p) remain: the mass is that of the whole vocabulary.
            let total = f64::from(kernels::log_sum_exp(scratch.isa, logits, 1.0) - max).exp();
            nucleus(logits, max, f64::from(p.top_p) * total, list);
        } else if p.min_p > 0.0 {
            candidates_above(logits, max + p.min_p.ln(), list);
        } else {
            return draw_from_all(logits, p.temperature, max, u, scratch);
        }
        if p.typical_p < 1.0 {
            keep_typical(list, p.typical_p, &mut scratch.order);
        }
        if p.top_p < 1.0 && (p.top_k > 0 || p.typical_p < 1.0) {
            keep_top_p(list, p.top_p);
        }
        if p.min_p > 0.0 {
            let floor = list[0].1 + p.min_p.ln();
            let n = list.iter().take_while(|c| c.1 >= floor).count();
            list.truncate(n.max(1));
        }
        draw_from(list, p.temperature, u)
    }
}

/// The lowest id among those with the largest logit; `None` if all are -inf.
fn most_likely(isa: Isa, logits: &[f32]) -> Option<TokenId> {
    let best = kernels::argmax(isa, logits)?;
    (logits[best] > f32::NEG_INFINITY).then_some(best as TokenId)
}

/// exp((logit - max) / temperature), in f64 so that sums lose nothing.
fn weight(logit: f32, max: f32, temperature: f32) -> f64 {
    f64::from(((logit - max) / temperature).exp())
}

fn apply_mask(logits: &mut [f32], mask: &BitMask) {
    debug_assert_eq!(logits.len(), mask.len());
    for (logits, &word) in logits.chunks_mut(64).zip(mask.words()) {
        match word {
            u64::MAX => {}
            0 => logits.fill(f32::NEG_INFINITY),
            _ => {
                for (bit, logit) in logits.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

/// Best first; the lower id among equals.
fn rank(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// All tokens whose logit is at least `floor` and not -inf, best first.
fn candidates_above(logits: &[f32], floor: f32, list: &mut Vec<Candidate>) {
    list.clear();
    let inside = logits.iter().enumerate().filter(|(_, x)| **x >= floor && **x > f32::NEG_INFINITY);
    list.extend(inside.map(|(id, &logit)| (id as TokenId, logit)));
    list.sort_unstable_by(rank);
}

/// The smallest set of most likely tokens whose weights, relative to the best, sum to `wanted`.
fn nucleus(logits: &[f32], max: f32, wanted: f64, list: &mut Vec<Candidate>) {
    // The set usually lies within a few nats of the best; widen until its mass suffices.
    for width in [4.0, 8.0, 16.0, f32::INFINITY] {
        candidates_above(logits, max - width, list);
        let mass: f64 = list.iter().map(|c| weight(c.1, max, 1.0)).sum();
        if mass >= wanted || width == f32::INFINITY {
            truncate_at_mass(list, wanted);
            return;
        }
    }
}

/// Keeps the first candidates until `top_p` of the list's own mass is reached.
fn keep_top_p(list: &mut Vec<Candidate>, top_p: f32) {
    let max = list[0].1;
    let total: f64 = list.iter().map(|c| weight(c.1, max, 1.0)).sum();
    truncate_at_mass(list, f64::from(top_p) * total);
}

/// Cuts a list, best first, behind the candidate with which its mass reaches `wanted`.
fn truncate_at_mass(list: &mut Vec<Candidate>, wanted: f64) {
    let max = list[0].1;
    let mut mass = 0.0;
    for i in 0..list.len() {
        mass += weight(list[i].1, max, 1.0);
        if mass >= wanted {
            list.truncate(i + 1);
            return;
        }
    }
}

/// Locally typical sampling (Meister et al. 2022): keeps the tokens whose surprise is nearest the
/// distribution's entropy until their mass reaches `typical_p`; the list stays best first.
fn keep_typical(list: &mut Vec<Candidate>, typical_p: f32, order: &mut Vec<(f32, u32)>) {
    let max = list[0].1;
    let total: f64 = list.iter().map(|c| weight(c.1, max, 1.0)).sum();
    let log_total = total.ln();
    let surprise = |c: &Candidate| log_total - f64::from(c.1 - max);
    let entropy: f64 = list.iter().map(|c| weight(c.1, max, 1.0) / total * surprise(c)).sum();
    order.clear();
    let distances = list.iter().map(|c| (surprise(c) - entropy).abs() as f32);
    order.extend(distances.zip(0u32..));
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut mass = 0.0;
    let mut n_kept = order.len();
    for (n, &(_, i)) in order.iter().enumerate() {
        mass += weight(list[i as usize].1, max, 1.0) / total;
        if mass >= f64::from(typical_p) {
            n_kept = n + 1;
            break;
        }
    }
    order.truncate(n_kept);
    order.sort_unstable_by_key(|&(_, i)| i);
    for (slot, &(_, i)) in order.iter().enumerate() {
        list[slot] = list[i as usize];
    }
    list.truncate(n_kept);
}

/// Draws from a list, best first, at `temperature`.
fn draw_from(list: &[Candidate], temperature: f32, u: f64) -> Option<TokenId> {
    let max = list.first()?.1;
    let total: f64 = list.iter().map(|c| weight(c.1, max, temperature)).sum();
    let mut left = u * total;
    for c in list {
        left -= weight(c.1, max, temperature);
        if left < 0.0 {
            return Some(c.0);
        }
    }
    // Rounding left a crumb: the last candidate takes it.
    list.last().map(|c| c.0)
}

/// Draws from the whole vocabulary, in id order.
///
/// The mass of each block of tokens is summed first, so that only one block is walked token by token.
fn draw_from_all(
    logits: &[f32],
    temperature: f32,
    max: f32,
    u: f64,
    scratch: &mut Scratch,
) -> Option<TokenId> {
    const BLOCK_LEN: usize = 1024;
    let isa = scratch.isa;
    let mass_of =
        |block: &[f32]| f64::from(kernels::log_sum_exp(isa, block, temperature) - max / temperature).exp();
    scratch.masses.clear();
    scratch.masses.extend(logits.chunks(BLOCK_LEN).map(mass_of));
    let mut left = u * scratch.masses.iter().sum::<f64>();
    // Rounding may leave a crumb behind the last block: then its last token takes it.
    let mut last = None;
    for (block_idx, mass) in scratch.masses.iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
        last = Some(block_idx);
        if left < *mass {
            break;
        }
        left -= mass;
    }
    let first_id = last? * BLOCK_LEN;
    let block = &logits[first_id..(first_id + BLOCK_LEN).min(logits.len())];
    let mut drawn = None;
    for (i, &x) in block.iter().enumerate().filter(|(_, x)| **x > f32::NEG_INFINITY) {
        drawn = Some((first_id + i) as TokenId);
        left -= weight(x, max, temperature);
        if left < 0.0 {
            break;
        }
    }
    drawn
}

#[cfg(test)]
mod tests;
