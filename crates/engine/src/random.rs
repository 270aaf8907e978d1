//! Random numbers counted by (seed, position): the n-th token's draw depends on nothing else.
//!
//! No state is carried from draw to draw, so a token gets the same number whether it is drawn
//! alone, in a batch, after a preemption or while checking a speculation.

/// A number in [0, 1) for the token at `position` of a sequence with `seed`.
///
/// Two rounds of the splitmix64 finaliser over a Weyl-spaced counter; 53 bits of the result.
pub(crate) fn uniform(seed: u64, position: u64) -> f64 {
    let key = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
    let bits = mix(key ^ position.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014; constants of Stafford's variant 13).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_and_depend_on_seed_and_position() {
        for seed in [0, 1, 42, u64::MAX] {
            let n = 20_000;
            let mut buckets = [0usize; 16];
            for position in 0..n {
                let u = uniform(seed, position);
                assert!((0.0..1.0).contains(&u));
                buckets[(u * 16.0) as usize] += 1;
            }
            // 1,250 expected each, standard deviation 34: six of them is never seen by chance.
            for count in buckets {
                assert!((1_040..1_460).contains(&count), "seed {seed}: {buckets:?}");
            }
        }
        assert_ne!(uniform(1, 5), uniform(2, 5));
        assert_ne!(uniform(1, 5), uniform(1, 6));
        assert_eq!(uniform(7, 9), uniform(7, 9));
    }
}
