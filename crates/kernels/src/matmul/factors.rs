//! Factors of a product as they wait for it: in single precision, or rounded to bf16 by whoever computed them, so that
//! no product rounds them again and they take half the memory.

#![allow(unsafe_code)]

use std::ops::Range;

use super::{Precision, is_bf16};
use crate::Pool;
use crate::aligned::AlignedWords;
use crate::disjoint::Disjoint;
use crate::simd::{Kernel, Lanes, run_on_with_bf16};

/// Numbers that a task copies.
const CHUNK: usize = 1 << 14;

/// Numbers that products read.
#[derive(Debug, Clone, Copy)]
pub enum Factors<'a> {
    /// In single precision.
    Floats(&'a [f32]),
    /// As bf16, two neighbours in a word, the first in its lower half.
    Halves(&'a [u32]),
}

impl<'a> Factors<'a> {
    /// How many numbers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Factors::Floats(x) => x.len(),
            Factors::Halves(x) => 2 * x.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether they are bf16 already.
    pub(crate) fn is_halves(&self) -> bool {
        matches!(self, Factors::Halves(_))
    }

    /// Some of them.
    ///
    /// # Panics
    /// When the range lies outside, or would cut a word.
    #[must_use]
    #[inline(always)]
    pub fn part(&self, range: Range<usize>) -> Factors<'a> {
        match self {
            Factors::Floats(x) => Factors::Floats(&x[range]),
            Factors::Halves(x) => Factors::Halves(&x[words(range.start)..words(range.end)]),
        }
    }

    /// to += these numbers.
    ///
    /// # Panics
    /// When there are more or fewer.
    pub fn add_to(&self, to: &mut [f32]) {
        assert_eq!(to.len(), self.len(), "as many numbers on both sides");
        match self {
            Factors::Floats(x) => to.iter_mut().zip(*x).for_each(|(to, x)| *to += x),
            Factors::Halves(_) => to.iter_mut().enumerate().for_each(|(i, to)| *to += self.get(i)),
        }
    }

    /// One of them.
    pub(crate) fn get(&self, at: usize) -> f32 {
        match self {
            Factors::Floats(x) => x[at],
            Factors::Halves(x) => {
                f32::from_bits(if at.is_multiple_of(2) { x[at / 2] << 16 } else { x[at / 2] & 0xffff_0000 })
            }
        }
    }

    /// A vector at a place, filled up with zeros where they end.
    #[inline(always)]
    pub(crate) fn vector<L: Lanes>(&self, l: L, at: usize) -> L::V {
        match self {
            Factors::Floats(x) => get(l, x, at),
            Factors::Halves(x) => {
                debug_assert!(at.is_multiple_of(2), "halves lie two in a word");
                let x = &x[at / 2..];
                if x.len() >= L::N / 2 {
                    // SAFETY: as many words as a vector has pairs.
                    return unsafe { l.load_bf16(x.as_ptr().cast()) };
                }
                let mut room = [0u32; 8];
                room[..x.len()].copy_from_slice(x);
                // SAFETY: the buffer holds the widest vector.
                unsafe { l.load_bf16(room.as_ptr().cast()) }
            }
        }
    }

    /// Rows of `n` numbers.
    #[inline(always)]
    pub(crate) fn rows(self, n: usize) -> impl Iterator<Item = Factors<'a>> {
        (0..self.len() / n).map(move |row| self.part(row * n..(row + 1) * n))
    }

    /// Where they begin, and bytes of each.
    pub(crate) fn start(&self) -> (*const u8, usize) {
        match self {
            Factors::Floats(x) => (x.as_ptr().cast(), size_of::<f32>()),
            Factors::Halves(x) => (x.as_ptr().cast(), size_of::<u16>()),
        }
    }

    /// Those from a place on.
    pub(crate) fn from(&self, first: usize) -> Factors<'a> {
        self.part(first..self.len())
    }
}

/// Words of so many halves.
#[inline(always)]
fn words(n_halves: usize) -> usize {
    assert!(n_halves.is_multiple_of(2), "halves lie two in a word");
    n_halves / 2
}

/// Room for numbers that products will read.
#[derive(Debug)]
pub enum FactorsMut<'a> {
    /// In single precision.
    Floats(&'a mut [f32]),
    /// As bf16: see [`Factors::Halves`].
    Halves(&'a mut [u32]),
}

impl FactorsMut<'_> {
    /// How many numbers there is room for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether there is no room.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As what they are to be read.
    #[must_use]
    pub fn as_ref(&self) -> Factors<'_> {
        match self {
            FactorsMut::Floats(x) => Factors::Floats(x),
            FactorsMut::Halves(x) => Factors::Halves(x),
        }
    }

    /// Row `row` of rows of `n` numbers.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize, n: usize) -> FactorsMut<'_> {
        match self {
            FactorsMut::Floats(x) => FactorsMut::Floats(&mut x[row * n..][..n]),
            FactorsMut::Halves(x) => FactorsMut::Halves(&mut x[words(row * n)..][..words(n)]),
        }
    }

    /// Puts one number at a place.
    pub(crate) fn set(&mut self, at: usize, x: f32) {
        match self {
            FactorsMut::Floats(to) => to[at] = x,
            FactorsMut::Halves(to) if at.is_multiple_of(2) => {
                to[at / 2] = to[at / 2] & 0xffff_0000 | half_of(x)
            }
            FactorsMut::Halves(to) => to[at / 2] = to[at / 2] & 0xffff | half_of(x) << 16,
        }
    }

    /// Puts a vector at a place, or what of it has room.
    #[inline(always)]
    pub(crate) fn put<L: Lanes>(&mut self, l: L, at: usize, x: L::V) {
        match self {
            FactorsMut::Floats(to) => put(l, &mut to[at..], x),
            FactorsMut::Halves(to) => {
                debug_assert!(at.is_multiple_of(2), "halves lie two in a word");
                let to = &mut to[at / 2..];
                if to.len() >= L::N / 2 {
                    // SAFETY: as many words as a vector has pairs.
                    unsafe { l.store_bf16(to.as_mut_ptr().cast(), x) };
                    return;
                }
                let mut room = [0u32; 8];
                // SAFETY: the buffer holds the widest vector.
                unsafe { l.store_bf16(room.as_mut_ptr().cast(), x) };
                to.copy_from_slice(&room[..to.len()]);
            }
        }
    }
}

/// Rounded to nearest even; a NaN stays one.
fn half_of(x: f32) -> u32 {
    u32::from(half::bf16::from_f32(x).to_bits())
}

/// Floats as room for as many halves, in their first half.
#[inline(always)]
pub(crate) fn halves_of(floats: &mut [f32]) -> FactorsMut<'_> {
    // SAFETY: a word is as large and as aligned as a float, and both take any bits.
    let words = unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), floats.len() / 2) };
    FactorsMut::Halves(words)
}

/// A vector at the start of a slice, or what of it has room.
#[inline(always)]
pub(crate) fn put<L: Lanes>(l: L, to: &mut [f32], x: L::V) {
    if to.len() >= L::N {
        // SAFETY: a whole vector.
        unsafe { l.store(to.as_mut_ptr(), x) };
        return;
    }
    let mut room = [0.0; 16];
    // SAFETY: the buffer holds the widest vector.
    unsafe { l.store(room.as_mut_ptr(), x) };
    let n = to.len();
    to.copy_from_slice(&room[..n]);
}

/// A vector at a place of a slice, filled up with zeros where it ends.
#[inline(always)]
pub(crate) fn get<L: Lanes>(l: L, x: &[f32], at: usize) -> L::V {
    let x = &x[at..];
    if x.len() >= L::N {
        // SAFETY: a whole vector.
        return unsafe { l.load(x.as_ptr()) };
    }
    let mut room = [0.0; 16];
    room[..x.len()].copy_from_slice(x);
    // SAFETY: the buffer holds the widest vector.
    unsafe { l.load(room.as_ptr()) }
}

/// Room that several workers write at once, each its own part.
pub(crate) enum DisjointFactors<'a> {
    Floats(Disjoint<'a, f32>),
    Halves(Disjoint<'a, u32>),
}

impl<'a> DisjointFactors<'a> {
    pub(crate) fn new(factors: FactorsMut<'a>) -> DisjointFactors<'a> {
        match factors {
            FactorsMut::Floats(x) => DisjointFactors::Floats(Disjoint::new(x)),
            FactorsMut::Halves(x) => DisjointFactors::Halves(Disjoint::new(x)),
        }
    }

    /// The numbers `from .. from + len`.
    ///
    /// # Safety
    /// As [`Disjoint::range`].
    pub(crate) unsafe fn range(&self, from: usize, len: usize) -> FactorsMut<'_> {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                DisjointFactors::Floats(x) => FactorsMut::Floats(x.range(from, len)),
                DisjointFactors::Halves(x) => FactorsMut::Halves(x.range(words(from), words(len))),
            }
        }
    }
}

/// A buffer of factors that grows.
#[derive(Default)]
pub struct FactorRoom(AlignedWords);

impl FactorRoom {
    /// Room for so many numbers, to be written anew; `precision`: [`Precision::stored`].
    pub fn room(&mut self, len: usize, precision: Precision) -> FactorsMut<'_> {
        self.0.at_least(match precision {
            Precision::F32 => len,
            Precision::Bf16 => words(len),
        });
        self.again(len, precision)
    }

    /// What was written into [`FactorRoom::room`] of that length, to be changed.
    pub fn again(&mut self, len: usize, precision: Precision) -> FactorsMut<'_> {
        match precision {
            Precision::F32 => FactorsMut::Floats(&mut self.0.as_mut_floats()[..len]),
            Precision::Bf16 => FactorsMut::Halves(&mut self.0.as_mut_slice()[..words(len)]),
        }
    }

    /// What was written into [`FactorRoom::room`] of that length.
    #[must_use]
    pub fn get(&self, len: usize, precision: Precision) -> Factors<'_> {
        match precision {
            Precision::F32 => Factors::Floats(&self.0.as_floats()[..len]),
            Precision::Bf16 => Factors::Halves(&self.0.as_slice()[..words(len)]),
        }
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }
}

impl Precision {
    /// In what factors wait that are rows of these widths: halves lie two in a word.
    #[must_use]
    pub fn stored(self, pool: &Pool, widths: &[usize]) -> Precision {
        let even = widths.iter().all(|width| width.is_multiple_of(2));
        if is_bf16(self, pool.isa()) && even { Precision::Bf16 } else { Precision::F32 }
    }
}

/// Copies numbers, rounded where halves are wanted.
///
/// # Panics
/// When lengths differ.
pub fn copy(pool: &Pool, x: &[f32], out: FactorsMut<'_>) {
    assert_eq!(out.len(), x.len(), "out must be as large as x");
    let out = DisjointFactors::new(out);
    pool.run(x.len().div_ceil(CHUNK), &|tile, _| {
        let x = &x[tile * CHUNK..x.len().min((tile + 1) * CHUNK)];
        // SAFETY: tiles take numbers of their own.
        let out = unsafe { out.range(tile * CHUNK, x.len()) };
        run_on_with_bf16(pool.isa(), Copy { x, out });
    });
}

struct Copy<'a> {
    x: &'a [f32],
    out: FactorsMut<'a>,
}

impl Kernel for Copy<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Copy { x, mut out } = self;
        for at in (0..x.len()).step_by(L::N) {
            out.put(l, at, get(l, x, at));
        }
    }
}
