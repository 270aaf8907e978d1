//! Tests of the sampler against slow, plain definitions.
#![allow(clippy::unwrap_used)]

use super::*;

const FREE: Allowed<'static> = Allowed { forbidden: &[], mask: None };

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let unit = |i: usize| uniform(seed, i as u64) as f32;
    (0..n).map(|i| unit(i) * 12.0 - 6.0).collect()
}

fn with(change: impl FnOnce(&mut SamplingParams)) -> SamplingParams {
    let mut params = SamplingParams::greedy();
    params.temperature = 1.0;
    change(&mut params);
    params
}

/// How often each token is drawn over many positions.
fn histogram(params: &SamplingParams, logits: &[f32], n_draws: usize) -> Vec<usize> {
    let sampler = Sampler::new(params.clone(), None, &[]);
    let mut scratch = Scratch::new(Isa::detect());
    let mut counts = vec![0; logits.len()];
    for position in 0..n_draws {
        let choice = sampler.draw(&mut logits.to_vec(), position, &FREE, &mut scratch).unwrap();
        counts[choice.id as usize] += 1;
    }
    counts
}

fn softmax(logits: &[f32], temperature: f32) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&x| f64::from((x - max) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

#[test]
fn temperature_zero_takes_the_lowest_id_among_equals() {
    let sampler = Sampler::new(SamplingParams::greedy(), None, &[]);
    let mut scratch = Scratch::new(Isa::detect());
    for (logits, expected) in [
        (vec![0.0, 3.0, 3.0, 1.0], 1),
        (vec![-5.0; 40], 0),
        ((0..100).map(|i| if i >= 50 { 7.5 } else { -1.0 }).collect(), 50),
    ] {
        let choice = sampler.draw(&mut logits.clone(), 0, &FREE, &mut scratch).unwrap();
        assert_eq!(choice.id, expected, "{logits:?}");
    }
}

#[test]
fn nan_and_infinite_logits_are_refused_wherever_they_stand() {
    let sampler = Sampler::new(SamplingParams::greedy(), None, &[]);
    let mut scratch = Scratch::new(Isa::detect());
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 1, 15, 16, 31, 36] {
            let mut logits = noise(37, 1);
            logits[place] = bad;
            let drawn = sampler.draw(&mut logits, 0, &FREE, &mut scratch);
            assert_eq!(drawn, Err(NoChoice::NonFinite), "{bad} at {place}");
        }
    }
}

#[test]
fn draws_follow_the_softmax_at_every_temperature() {
    let logits = noise(12, 3);
    for temperature in [0.5, 1.0, 1.7] {
        let counts = histogram(&with(|p| p.temperature = temperature), &logits, 20_000);
        for (count, p) in counts.iter().zip(softmax(&logits, temperature)) {
            // Five standard deviations of the count, plus one.
            let bound = 5.0 * (20_000.0 * p * (1.0 - p)).sqrt() + 1.0;
            let miss = (*count as f64 - 20_000.0 * p).abs();
            assert!(miss <= bound, "temperature {temperature}: {count} against p {p}");
        }
    }
}

#[test]
fn filters_keep_exactly_the_tokens_of_their_definition() {
    let logits = noise(50, 9);
    let p = softmax(&logits, 1.0);
    let mut by_rank: Vec<usize> = (0..50).collect();
    by_rank.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let prefix_until = |mass: f64| {
        let mut sum = 0.0;
        let n = by_rank.iter().take_while(|&&i| {
            let before = sum;
            sum += p[i];
            before < mass
        });
        n.count()
    };
    let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
    let mut by_surprise = by_rank.clone();
    by_surprise.sort_by(|&a, &b| {
        let distance = |i: usize| (-p[i].ln() - entropy).abs();
        distance(a).total_cmp(&distance(b))
    });
    let mut sum = 0.0;
    let n_typical = by_surprise
        .iter()
        .take_while(|&&i| {
            let before = sum;
            sum += p[i];
            before < 0.4
        })
        .count();

    let cases: Vec<(&str, SamplingParams, Vec<usize>)> = vec![
        ("top_k 5", with(|p| p.top_k = 5), by_rank[..5].to_vec()),
        ("top_k 1", with(|p| p.top_k = 1), by_rank[..1].to_vec()),
        ("top_p 0.5", with(|p| p.top_p = 0.5), by_rank[..prefix_until(0.5)].to_vec()),
        ("top_p 0.99", with(|p| p.top_p = 0.99), by_rank[..prefix_until(0.99)].to_vec()),
        ("top_p 0", with(|p| p.top_p = 0.0), by_rank[..1].to_vec()),
        (
            "min_p 0.2",
            with(|p| p.min_p = 0.2),
            by_rank.iter().copied().filter(|&i| p[i] >= 0.2 * p[by_rank[0]]).collect(),
        ),
        (
            "top_k 9, min_p 0.3",
            with(|p| {
                p.top_k = 9;
                p.min_p = 0.3;
            }),
            by_rank[..9].iter().copied().filter(|&i| p[i] >= 0.3 * p[by_rank[0]]).collect(),
        ),
        ("typical 0.4", with(|p| p.typical_p = 0.4), by_surprise[..n_typical].to_vec()),
    ];
    for (name, mut params, mut expected) in cases {
        // So hot that every kept token is drawn within the tries.
        params.temperature = 50.0;
        let counts = histogram(&params, &logits, 4_000);
        let mut drawn: Vec<usize> = (0..50).filter(|&i| counts[i] > 0).collect();
        drawn.sort_unstable();
        expected.sort_unstable();
        assert_eq!(drawn, expected, "{name}");
    }
}

#[test]
fn log_probabilities_are_those_before_bias_penalties_and_temperature() {
    let logits = noise(30, 5);
    let p = softmax(&logits, 1.0);
    let params = with(|p| {
        p.temperature = 0.3;
        p.logit_bias = vec![(7, 100.0)];
        p.repetition_penalty = 1.5;
        p.presence_penalty = 1.0;
    });
    let sampler = Sampler::new(params, Some(3), &[1, 2, 7]);
    let mut scratch = Scratch::new(Isa::detect());
    let choice = sampler.draw(&mut logits.clone(), 3, &FREE, &mut scratch).unwrap();
    assert_eq!(choice.id, 7);
    assert!((f64::from(choice.logprob) - p[7].ln()).abs() < 1e-4);
    assert_eq!(choice.top.len(), 3);
    for (id, logprob) in &choice.top {
        assert!((f64::from(*logprob) - p[*id as usize].ln()).abs() < 1e-4);
    }
    assert!(choice.top.is_sorted_by(|a, b| a.1 >= b.1));
}

#[test]
fn penalties_count_the_window_and_the_answer() {
    let mut params = SamplingParams::greedy();
    params.repetition_penalty = 2.0;
    params.frequency_penalty = 0.5;
    params.presence_penalty = 0.25;
    params.repeat_last_n = 3;
    let mut sampler = Sampler::new(params, None, &[0, 1, 2, 3]);
    let touch = |sampler: &Sampler| {
        let mut logits = vec![4.0, 4.0, 4.0, -4.0, 4.0];
        sampler.apply_bias_and_penalties(&mut logits);
        logits
    };
    // The window is 1, 2, 3; nothing is generated yet.
    assert_eq!(touch(&sampler), [4.0, 2.0, 2.0, -8.0, 4.0]);
    sampler.accept(&[0, 1, 2, 3, 4]);
    // The window is 2, 3, 4; token 4 was generated once.
    assert_eq!(touch(&sampler), [4.0, 4.0, 2.0, -8.0, 2.0 - 0.75]);
    sampler.accept(&[0, 1, 2, 3, 4, 4]);
    assert_eq!(touch(&sampler), [4.0, 4.0, 4.0, -8.0, 2.0 - 1.25]);
}

#[test]
fn forbidden_and_masked_tokens_are_never_drawn() {
    let logits = noise(20, 11);
    let best = most_likely(Isa::detect(), &logits).unwrap();
    let mut mask = BitMask::all_set(20);
    mask.fill(false);
    mask.set(4, true);
    mask.set(9, true);
    let sampler = Sampler::new(SamplingParams::greedy(), None, &[]);
    let mut scratch = Scratch::new(Isa::detect());
    let mut draw =
        |allowed: &Allowed<'_>| sampler.draw(&mut logits.clone(), 0, allowed, &mut scratch).map(|c| c.id);
    let not_best = Allowed { forbidden: &[best], mask: None };
    assert_ne!(draw(&not_best), Ok(best));
    let masked = Allowed { forbidden: &[], mask: Some(&mask) };
    let expected = if logits[4] >= logits[9] { 4 } else { 9 };
    assert_eq!(draw(&masked), Ok(expected));
    let nothing = Allowed { forbidden: &[4, 9], mask: Some(&mask) };
    assert_eq!(draw(&nothing), Err(NoChoice::NothingAllowed));
}

#[test]
fn a_seed_and_a_position_decide_the_draw() {
    let logits = noise(40, 2);
    let draws = |seed: u64| -> Vec<TokenId> {
        let sampler = Sampler::new(with(|p| p.seed = seed), None, &[]);
        let mut scratch = Scratch::new(Isa::detect());
        (0..30).map(|pos| sampler.draw(&mut logits.clone(), pos, &FREE, &mut scratch).unwrap().id).collect()
    };
    assert_eq!(draws(1), draws(1));
    assert_ne!(draws(1), draws(2));
}

#[test]
fn the_whole_vocabulary_can_be_drawn_from_even_if_most_of_it_is_masked() {
    let logits = noise(5_000, 13);
    let allowed_ids = [3, 2_047, 2_048, 4_999];
    let mut mask = BitMask::all_set(5_000);
    mask.fill(false);
    allowed_ids.iter().for_each(|&id| mask.set(id, true));
    let sampler = Sampler::new(with(|p| p.temperature = 3.0), None, &[]);
    let mut scratch = Scratch::new(Isa::detect());
    let mut counts = [0; 4];
    for position in 0..2_000 {
        let allowed = Allowed { forbidden: &[], mask: Some(&mask) };
        let id = sampler.draw(&mut logits.clone(), position, &allowed, &mut scratch).unwrap().id;
        counts[allowed_ids.iter().position(|&a| a == id).unwrap()] += 1;
    }
    let kept: Vec<f32> = allowed_ids.iter().map(|&id| logits[id as usize]).collect();
    for (count, p) in counts.iter().zip(softmax(&kept, 3.0)) {
        let bound = 5.0 * (2_000.0 * p * (1.0 - p)).sqrt() + 1.0;
        assert!((f64::from(*count) - 2_000.0 * p).abs() <= bound, "{counts:?}");
    }
}
