//! Numbers by chance that are the same on every machine and in every version: SplitMix64 (Steele, Lea and Flood 2014).

/// A stream of numbers that its seed alone decides.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    state: u64,
}

impl Draw {
    /// The stream of a seed and the name of what it is for.
    pub(crate) fn new(seed: u64, purpose: &str) -> Draw {
        Draw { state: xxhash_rust::xxh3::xxh3_64_with_seed(purpose.as_bytes(), seed) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n` - 1.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A number from `first` to `last`.
    pub(crate) fn between(&mut self, first: u32, last: u32) -> u32 {
        first + self.below((last - first + 1) as usize) as u32
    }

    /// One of them.
    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// `n` different ones, in the order in which they were drawn.
    pub(crate) fn sample<'a, T>(&mut self, all: &'a [T], n: usize) -> Vec<&'a T> {
        let mut left: Vec<&T> = all.iter().collect();
        (0..n.min(all.len())).map(|_| left.swap_remove(self.below(left.len()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Draw;

    #[test]
    fn a_seed_gives_its_numbers_and_a_sample_no_thing_twice() {
        // The first outputs of the reference implementation from the state 0.
        let mut draw = Draw { state: 0 };
        assert_eq!([draw.next(), draw.next()], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
        let mut draw = Draw::new(7, "test");
        let mut counts = [0; 6];
        for _ in 0..6000 {
            counts[draw.below(6)] += 1;
        }
        assert!(counts.iter().all(|n| (850..1150).contains(n)), "{counts:?}");
        let all = [1, 2, 3, 4, 5];
        let mut sample: Vec<i32> = draw.sample(&all, 5).into_iter().copied().collect();
        sample.sort_unstable();
        assert_eq!(sample, all);
        assert_ne!(Draw::new(7, "a").next(), Draw::new(7, "b").next());
    }
}
