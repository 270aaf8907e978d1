//! Inputs for tests: seeded random numbers and valid random blocks of every type.
#![allow(clippy::unwrap_used)]

use half::f16;

use crate::matmul::copy;
use crate::{FactorRoom, Isa, Pool, Precision, WeightType};

/// Numbers between −1 and 1, the same for the same seed.
pub(crate) fn random_floats(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.float()).collect()
}

/// Numbers as halves, and the floats that these are.
pub(crate) fn as_halves(pool: &Pool, x: &[f32]) -> (FactorRoom, Vec<f32>) {
    let mut room = FactorRoom::default();
    copy(pool, x, room.room(x.len(), Precision::Bf16));
    let floats = x.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect();
    (room, floats)
}

/// A small generator (splitmix64): the tests need spread, not quality.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Random blocks of `ty` with finite scales of a plausible size; `n` weights.
pub(crate) fn random_blocks(ty: WeightType, seed: u64, n: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = vec![0u8; ty.bytes_of(n)];
    bytes.iter_mut().for_each(|b| *b = random.next() as u8);
    let f16_at: &[usize] = match ty {
        WeightType::F32 => {
            bytes.chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&random.float().to_le_bytes()));
            return bytes;
        }
        WeightType::BF16 => {
            let value = |x| half::bf16::from_f32(x).to_le_bytes();
            bytes.chunks_exact_mut(2).for_each(|b| b.copy_from_slice(&value(random.float())));
            return bytes;
        }
        WeightType::F16 | WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => &[0],
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => &[0, 2],
        WeightType::Q6K => &[208],
    };
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        for &at in f16_at {
            block[at..at + 2].copy_from_slice(&f16::from_f32(random.float() * 0.02).to_le_bytes());
        }
    }
    bytes
}

/// A pool of each instruction set that this machine has, with one and with two threads.
pub(crate) fn available_pools() -> Vec<Pool> {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    isas.flat_map(|isa| [1, 2].map(|n_threads| Pool::new(n_threads, isa).unwrap())).collect()
}
