//! A weight matrix in the order in which the kernels read it.
//!
//! Rows lie in groups as wide as a vector register holds 32-bit lanes (8, with AVX-512 16). A group is a
//! sequence of blocks of 32 columns; in a block, one after the other for the rows of the group:
//!
//! | part | bytes per row |
//! |---|---|
//! | scale (and minimum), f16, or the K types' two small integers | 2 or 4 |
//! | fifth bits (1 dword) or fifth and sixth bits (2 dwords) | 0, 4 or 8 |
//! | nibbles (4 dwords), or 8-bit weights (8 dwords) | 16 or 32 |
//!
//! A dword is four columns of one row, so a register load brings the same four columns of every row of the
//! group, ready to meet one broadcast dword of activations. Nibble dword j holds columns 4j.. low and 16 + 4j..
//! high, as in the files. Bit g of byte c of the fifth-bits dword belongs to column 4g + c; bits 2·(g mod 4)
//! of byte c of dword g / 4 likewise for six bits. The K types begin each eight blocks with their f16 scales,
//! and have their 6-bit scales unpacked to bytes. No type grows by more than 3 %.
//!
//! Float types have no blocks: column by column, the group's rows side by side; bf16 that meets bf16 two columns of a
//! row at a time.

use half::bf16;

use crate::aligned::AlignedBytes;
use crate::blocks::{
    BLOCK_LEN, Block, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
    SUPER_LEN, blocks_are_finite, f16_value, scale_and_min,
};
use crate::disjoint::Disjoint;
use crate::elementwise::for_each_row;
use crate::{Isa, KernelError, Pool, WeightType};

/// What a matrix multiplies with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Activations quantised to 8 bits.
    Int8,
    /// Activations as they are.
    F32,
    /// Activations rounded to bf16, two columns in one multiplication.
    Bf16,
}

impl Operand {
    /// What a matrix of that shape multiplies with on that instruction set.
    fn of(ty: WeightType, isa: Isa, n_cols: usize) -> Operand {
        match ty {
            WeightType::BF16 if isa.has_bf16() && n_cols.is_multiple_of(2) => Operand::Bf16,
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => Operand::F32,
            _ => Operand::Int8,
        }
    }
}

/// A matrix of weights, `[n_rows, n_cols]`, in the layout of one instruction set; opaque.
pub struct PackedMatrix {
    ty: WeightType,
    isa: Isa,
    needs: Operand,
    n_rows: usize,
    n_cols: usize,
    layout: Layout,
    group_bytes: usize,
    data: AlignedBytes,
}

/// Where the parts of a block lie, for groups of a given number of rows. Offsets are in bytes from the start
/// of the block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Rows in a group.
    pub(crate) rows: usize,
    /// Bytes before the first of the blocks that share them (K types), else 0.
    pub(crate) header: usize,
    /// Blocks behind one header.
    pub(crate) n_blocks: usize,
    /// Bytes of a block; of a column for float types.
    pub(crate) block: usize,
    /// Offset of the minimums.
    pub(crate) min: usize,
    /// Offset of the fifth (and sixth) bits.
    pub(crate) high: usize,
    /// Offset of the nibbles or bytes.
    pub(crate) quants: usize,
}

impl Layout {
    pub(crate) const fn new(ty: WeightType, rows: usize) -> Layout {
        let r = rows;
        // (header, blocks per header, offset of minimums, of high bits, of quants, bytes of a block) per row
        let (header, n_blocks, min, high, quants, block) = match ty {
            WeightType::F32 => (0, 1, 0, 0, 0, 4),
            WeightType::F16 | WeightType::BF16 => (0, 1, 0, 0, 0, 2),
            WeightType::Q4_0 => (0, 1, 2, 2, 2, 18),
            WeightType::Q4_1 => (0, 1, 2, 4, 4, 20),
            WeightType::Q5_0 => (0, 1, 2, 2, 6, 22),
            WeightType::Q5_1 => (0, 1, 2, 4, 8, 24),
            WeightType::Q8_0 => (0, 1, 2, 2, 2, 34),
            WeightType::Q4K => (4, 8, 1, 2, 2, 18),
            WeightType::Q5K => (4, 8, 1, 2, 6, 22),
            WeightType::Q6K => (2, 8, 1, 2, 10, 26),
        };
        Layout {
            rows,
            header: header * r,
            n_blocks,
            block: block * r,
            min: min * r,
            high: high * r,
            quants: quants * r,
        }
    }

    /// Bytes of a group of rows of `n_cols` columns.
    const fn group_bytes(&self, ty: WeightType, n_cols: usize) -> usize {
        match ty {
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => n_cols * self.block,
            _ => n_cols / BLOCK_LEN / self.n_blocks * (self.header + self.n_blocks * self.block),
        }
    }

    /// Offset of block `block_idx` in its group, and of the header above it.
    fn at(&self, block_idx: usize) -> (usize, usize) {
        let (super_idx, idx) = (block_idx / self.n_blocks, block_idx % self.n_blocks);
        let header = super_idx * (self.header + self.n_blocks * self.block);
        (header + self.header + idx * self.block, header)
    }
}

/// Rows in a group.
pub(crate) const fn group_rows(isa: Isa) -> usize {
    match isa {
        Isa::Scalar | Isa::Avx2 => 8,
        Isa::Avx512 | Isa::Amx => 16,
    }
}

/// Bytes that one tile packs, so that a tile is worth its start and there are enough of them.
const PACK_TILE_BYTES: usize = 256 * 1024;

impl PackedMatrix {
    /// Packs `data`, `n_rows` rows of `n_cols` weights in blocks of `ty` as they lie in a file.
    pub fn pack(
        pool: &Pool,
        ty: WeightType,
        n_rows: usize,
        n_cols: usize,
        data: &[u8],
    ) -> Result<PackedMatrix, KernelError> {
        let block_len = ty.block_len();
        if !n_cols.is_multiple_of(block_len) {
            return Err(KernelError::BadColumns { ty: ty.name(), n_cols, block_len });
        }
        let row_bytes = ty.bytes_of(n_cols);
        let expected = n_rows.saturating_mul(row_bytes);
        if data.len() != expected {
            return Err(KernelError::BadLength {
                ty: ty.name(),
                n_rows,
                n_cols,
                expected,
                found: data.len(),
            });
        }
        let needs = Operand::of(ty, pool.isa(), n_cols);
        let layout = Layout::new(ty, group_rows(pool.isa()));
        let group_bytes = layout.group_bytes(ty, n_cols);
        let n_groups = n_rows.div_ceil(layout.rows);
        let mut packed = pool.memory(n_groups * group_bytes);
        let first_bad = std::sync::atomic::AtomicUsize::new(usize::MAX);
        if n_cols > 0 {
            let groups_per_tile = (PACK_TILE_BYTES / group_bytes).max(1);
            let shared = Disjoint::new(&mut packed);
            pool.run(n_groups.div_ceil(groups_per_tile), &|tile, _| {
                let first = tile * groups_per_tile;
                for group_idx in first..(first + groups_per_tile).min(n_groups) {
                    let first_row = group_idx * layout.rows;
                    let rows =
                        &data[first_row * row_bytes..(first_row + layout.rows).min(n_rows) * row_bytes];
                    let group = group_of(&shared, group_idx, group_bytes);
                    if let Err(row) = pack_group(ty, needs, &layout, rows, row_bytes, group) {
                        first_bad.fetch_min(first_row + row, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
        match first_bad.into_inner() {
            usize::MAX => Ok(PackedMatrix {
                ty,
                isa: pool.isa(),
                needs,
                n_rows,
                n_cols,
                layout,
                group_bytes,
                data: packed,
            }),
            row => Err(KernelError::NonFinite { row }),
        }
    }

    /// Number of rows: outputs of the projection.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Number of columns: inputs of the projection.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Bytes in memory; a projection reads them once per batch.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// The type it was packed from.
    pub fn weight_type(&self) -> WeightType {
        self.ty
    }

    /// Which form of activations it multiplies with.
    pub fn needs(&self) -> Operand {
        self.needs
    }

    /// The weights of some rows, as [`crate::dequantize`] gives them: out `[rows.len(), n_cols]`.
    ///
    /// # Panics
    /// When a row does not exist or `out` has another length.
    pub fn unpack_rows(&self, pool: &Pool, rows: &[u32], out: &mut [f32]) {
        assert_eq!(out.len(), rows.len() * self.n_cols, "out must be [rows, n_cols]");
        for_each_row(pool, out, self.n_cols, |i, out| {
            let row = rows[i] as usize;
            assert!(row < self.n_rows, "row {row} of a matrix of {} rows", self.n_rows);
            self.unpack_row(row, out);
        });
    }

    fn unpack_row(&self, row: usize, out: &mut [f32]) {
        let group = self.group(row / self.layout.rows);
        let (r, rows) = (row % self.layout.rows, self.layout.rows);
        let half = |i: usize| [group[2 * (i * rows + r)], group[2 * (i * rows + r) + 1]];
        match self.ty {
            WeightType::F32 => out.iter_mut().enumerate().for_each(|(i, w)| {
                let at = 4 * (i * rows + r);
                *w = f32::from_le_bytes([group[at], group[at + 1], group[at + 2], group[at + 3]]);
            }),
            WeightType::F16 => out.iter_mut().enumerate().for_each(|(i, w)| *w = f16_value(half(i))),
            WeightType::BF16 => out.iter_mut().enumerate().for_each(|(i, w)| {
                let bytes = match self.needs {
                    Operand::Bf16 => {
                        let at = 4 * (i / 2 * rows + r) + i % 2 * 2;
                        [group[at], group[at + 1]]
                    }
                    _ => half(i),
                };
                *w = bf16::from_le_bytes(bytes).to_f32();
            }),
            _ => out.chunks_exact_mut(BLOCK_LEN).enumerate().for_each(|(block_idx, out)| {
                let block = PackedBlock::read(self.ty, &self.layout, group, block_idx, r);
                // One rounding as in `dequantize`: d · (q − offset) for types without minimums.
                for (i, (w, q)) in out.iter_mut().zip(block.quants).enumerate() {
                    *w = block.scales[i / 16] * (i32::from(q) - block.offset) as f32 + block.min;
                }
            }),
        }
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Groups of rows; the last may be filled up with zero rows.
    pub(crate) fn n_groups(&self) -> usize {
        self.n_rows.div_ceil(self.layout.rows)
    }

    pub(crate) fn group_bytes(&self) -> usize {
        self.group_bytes
    }

    pub(crate) fn group(&self, group_idx: usize) -> &[u8] {
        &self.data[group_idx * self.group_bytes..][..self.group_bytes]
    }
}

#[allow(unsafe_code)]
#[allow(clippy::mut_from_ref)] // as `Disjoint::range`
fn group_of<'a>(shared: &'a Disjoint<'_, u8>, group_idx: usize, group_bytes: usize) -> &'a mut [u8] {
    // SAFETY: every group is packed by one tile, and groups do not overlap.
    unsafe { shared.range(group_idx * group_bytes, group_bytes) }
}

/// How much larger a type's quants are stored than they count.
pub(crate) const fn offset(ty: WeightType) -> i32 {
    match ty {
        WeightType::Q4_0 => 8,
        WeightType::Q5_0 => 16,
        WeightType::Q6K => 32,
        _ => 0,
    }
}

/// One row's block of 32 weights, read back from a group:
/// w = scales[column / 16] · (quant − offset) + min
pub(crate) struct PackedBlock {
    pub(crate) quants: [i16; 32],
    pub(crate) offset: i32,
    pub(crate) scales: [f32; 2],
    pub(crate) min: f32,
}

impl PackedBlock {
    /// Block `block_idx` of row `r` of a group of a quantised type.
    pub(crate) fn read(
        ty: WeightType,
        layout: &Layout,
        group: &[u8],
        block_idx: usize,
        r: usize,
    ) -> PackedBlock {
        let rows = layout.rows;
        let (at, header) = layout.at(block_idx);
        let block = &group[at..at + layout.block];
        let header = &group[header..header + layout.header];
        let half =
            |part: &[u8], i: usize| f16_value([part[2 * (i * rows + r)], part[2 * (i * rows + r) + 1]]);
        let dword = |part: usize, i: usize| -> [u8; 4] {
            let at = part + 4 * (i * rows + r);
            [block[at], block[at + 1], block[at + 2], block[at + 3]]
        };
        let nibble = |i: usize| {
            let byte = dword(layout.quants, i % 16 / 4)[i % 4];
            if i < 16 { byte & 15 } else { byte >> 4 }
        };
        let fifth = |i: usize| (dword(layout.high, 0)[i % 4] >> (i / 4) & 1) << 4;
        let two = |i: usize| (dword(layout.high, i / 16)[i % 4] >> (i / 4 % 4 * 2) & 3) << 4;
        let quants = std::array::from_fn(|i| match ty {
            WeightType::Q4_0 | WeightType::Q4_1 | WeightType::Q4K => i16::from(nibble(i)),
            WeightType::Q5_0 | WeightType::Q5_1 | WeightType::Q5K => i16::from(nibble(i) | fifth(i)),
            WeightType::Q6K => i16::from(nibble(i) | two(i)),
            WeightType::Q8_0 => i16::from(dword(layout.quants, i / 4)[i % 4] as i8),
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => {
                unreachable!("float types have no blocks")
            }
        });
        let (scales, min) = match ty {
            WeightType::Q4_1 | WeightType::Q5_1 => ([half(block, 0); 2], half(block, 1)),
            WeightType::Q4K | WeightType::Q5K => {
                let (scale, min) = (f32::from(block[r]), f32::from(block[layout.min + r]));
                ([half(header, 0) * scale; 2], -(half(header, 1) * min))
            }
            WeightType::Q6K => {
                let d = half(header, 0);
                ([d * f32::from(block[r] as i8), d * f32::from(block[layout.min + r] as i8)], 0.0)
            }
            _ => ([half(block, 0); 2], 0.0),
        };
        PackedBlock { quants, offset: offset(ty), scales, min }
    }
}

/// Packs up to `layout.rows` rows into a group of zero bytes; the error is the first row, counted within the
/// group, with a number that is not finite.
fn pack_group(
    ty: WeightType,
    needs: Operand,
    layout: &Layout,
    rows: &[u8],
    row_bytes: usize,
    group: &mut [u8],
) -> Result<(), usize> {
    if let Some(row) = rows.chunks_exact(row_bytes).position(|row| !blocks_are_finite(ty, row)) {
        return Err(row);
    }
    let is_full = layout.rows * row_bytes == rows.len();
    // Bytes of a row that stay together.
    let width = if needs == Operand::Bf16 { 2 * ty.block_bytes() } else { ty.block_bytes() };
    match (needs, width, layout.rows) {
        (Operand::Int8, ..) => pack_blocks(ty, layout, rows, row_bytes, group),
        (_, 4, 8) if is_full => interleave::<4, 8>(rows, row_bytes, group),
        (_, 4, 16) if is_full => interleave::<4, 16>(rows, row_bytes, group),
        (_, 2, 8) if is_full => interleave::<2, 8>(rows, row_bytes, group),
        (_, 2, 16) if is_full => interleave::<2, 16>(rows, row_bytes, group),
        _ => {
            for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
                for (i, part) in row.chunks_exact(width).enumerate() {
                    group[(i * layout.rows + r) * width..][..width].copy_from_slice(part);
                }
            }
        }
    }
    Ok(())
}

/// The blocks of up to `layout.rows` rows of a quantised type.
fn pack_blocks(ty: WeightType, layout: &Layout, rows: &[u8], row_bytes: usize, group: &mut [u8]) {
    let block_bytes = ty.block_bytes();
    let (super_bytes, n_rows) = (layout.header + layout.n_blocks * layout.block, layout.rows);
    // Blocks outside, rows inside: each packed block is written while it is in the cache.
    for (i, packed) in group.chunks_exact_mut(super_bytes).enumerate() {
        for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
            let block = &row[i * block_bytes..(i + 1) * block_bytes];
            let mut to = PackedRow { layout, r, n_rows, packed };
            match ty {
                WeightType::F32 | WeightType::F16 | WeightType::BF16 => {
                    unreachable!("float types have no blocks")
                }
                WeightType::Q4_0 => to.q4_0(&Block::read(block)),
                WeightType::Q4_1 => to.q4_1(&Block::read(block)),
                WeightType::Q5_0 => to.q5_0(&Block::read(block)),
                WeightType::Q5_1 => to.q5_1(&Block::read(block)),
                WeightType::Q8_0 => to.q8_0(&Block::read(block)),
                WeightType::Q4K => to.q4k(&Block::read(block)),
                WeightType::Q5K => to.q5k(&Block::read(block)),
                WeightType::Q6K => to.q6k(&Block::read(block)),
            }
        }
    }
}

/// A full group of `R` rows of floats of `W` bytes: column by column, the rows side by side.
fn interleave<const W: usize, const R: usize>(rows: &[u8], row_bytes: usize, group: &mut [u8]) {
    /// Columns that are moved together, so that loads and stores are whole registers.
    const COLUMNS: usize = 8;
    let rows: [&[[u8; W]]; R] = std::array::from_fn(|r| rows[r * row_bytes..][..row_bytes].as_chunks().0);
    let columns: &mut [[[u8; W]; R]] = group.as_chunks_mut().0.as_chunks_mut().0;
    let (parts, rest) = columns.as_chunks_mut::<COLUMNS>();
    let n_in_parts = parts.len() * COLUMNS;
    for (i, part) in parts.iter_mut().enumerate() {
        let x: [[[u8; W]; COLUMNS]; R] = rows.map(|row| row.as_chunks().0[i]);
        for (c, column) in part.iter_mut().enumerate() {
            *column = std::array::from_fn(|r| x[r][c]);
        }
    }
    for (c, column) in rest.iter_mut().enumerate() {
        *column = rows.map(|row| row[n_in_parts + c]);
    }
}

/// Row `r` of a header and its blocks, to be filled from a block of a file.
struct PackedRow<'a> {
    layout: &'a Layout,
    r: usize,
    n_rows: usize,
    packed: &'a mut [u8],
}

impl PackedRow<'_> {
    /// Writes the `i`th f16 of the part at `at`.
    #[inline(always)]
    fn half(&mut self, at: usize, i: usize, value: [u8; 2]) {
        let at = at + 2 * (i * self.n_rows + self.r);
        self.packed[at..at + 2].copy_from_slice(&value);
    }

    /// Writes the `i`th dword of the part at `at`.
    #[inline(always)]
    fn dword(&mut self, at: usize, i: usize, value: u32) {
        let at = at + 4 * (i * self.n_rows + self.r);
        self.packed[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    #[inline(always)]
    fn dwords(&mut self, at: usize, bytes: &[u8]) {
        for (i, four) in bytes.as_chunks().0.iter().enumerate() {
            self.dword(at, i, u32::from_le_bytes(*four));
        }
    }

    fn q4_0(&mut self, block: &BlockQ4_0) {
        self.half(0, 0, block.d);
        self.dwords(self.layout.quants, &block.qs);
    }

    fn q4_1(&mut self, block: &BlockQ4_1) {
        self.half(0, 0, block.d);
        self.half(self.layout.min, 0, block.m);
        self.dwords(self.layout.quants, &block.qs);
    }

    fn q5_0(&mut self, block: &BlockQ5_0) {
        self.half(0, 0, block.d);
        self.dword(self.layout.high, 0, spread_fifth_bits(block.qh));
        self.dwords(self.layout.quants, &block.qs);
    }

    fn q5_1(&mut self, block: &BlockQ5_1) {
        self.half(0, 0, block.d);
        self.half(self.layout.min, 0, block.m);
        self.dword(self.layout.high, 0, spread_fifth_bits(block.qh));
        self.dwords(self.layout.quants, &block.qs);
    }

    fn q8_0(&mut self, block: &BlockQ8_0) {
        self.half(0, 0, block.d);
        self.dwords(self.layout.quants, &block.qs);
    }

    /// The scales of a Q4_K or Q5_K super-block.
    fn k_scales(&mut self, d: [u8; 2], dmin: [u8; 2], scales: &[u8; 12]) {
        self.half(0, 0, d);
        self.half(0, 1, dmin);
        for b in 0..8 {
            let at = self.layout.header + b * self.layout.block;
            let (scale, min) = scale_and_min(scales, b);
            self.packed[at + self.r] = scale;
            self.packed[at + self.layout.min + self.r] = min;
        }
    }

    /// The nibbles of block `b` out of `qs`, which holds 32 columns in low nibbles and 32 more in high ones.
    #[inline(always)]
    fn k_nibbles(&mut self, b: usize, qs: &[[u8; 4]], shift: u32) {
        let at = self.layout.header + b * self.layout.block + self.layout.quants;
        for j in 0..4 {
            let low = u32::from_le_bytes(qs[j]) >> shift & 0x0f0f_0f0f;
            let high = u32::from_le_bytes(qs[j + 4]) >> shift & 0x0f0f_0f0f;
            self.dword(at, j, low | high << 4);
        }
    }

    fn q4k(&mut self, block: &BlockQ4K) {
        self.k_scales(block.d, block.dmin, &block.scales);
        for b in 0..8 {
            self.k_nibbles(b, &block.qs.as_chunks().0[b / 2 * 8..][..8], b as u32 % 2 * 4);
        }
    }

    fn q5k(&mut self, block: &BlockQ5K) {
        self.k_scales(block.d, block.dmin, &block.scales);
        let qh: [u32; 8] = std::array::from_fn(|g| u32::from_le_bytes(block.qh.as_chunks().0[g]));
        for b in 0..8 {
            self.k_nibbles(b, &block.qs.as_chunks().0[b / 2 * 8..][..8], b as u32 % 2 * 4);
            let bits = (0..8).fold(0, |bits, g| bits | (qh[g] >> b & 0x0101_0101) << g);
            self.dword(self.layout.header + b * self.layout.block + self.layout.high, 0, bits);
        }
    }

    fn q6k(&mut self, block: &BlockQ6K) {
        self.half(0, 0, block.d);
        for b in 0..8 {
            let (half, quarter) = (b / 4, b % 4);
            let at = self.layout.header + b * self.layout.block;
            self.packed[at + self.r] = block.scales[2 * b];
            self.packed[at + self.layout.min + self.r] = block.scales[2 * b + 1];
            let ql = &block.ql.as_chunks().0[half * 16 + quarter % 2 * 8..][..8];
            self.k_nibbles(b, ql, quarter as u32 / 2 * 4);
            let qh = &block.qh.as_chunks().0[half * 8..][..8];
            for i in 0..2 {
                let bits = (0..4).fold(0, |bits, g| {
                    bits | (u32::from_le_bytes(qh[4 * i + g]) >> (2 * quarter) & 0x0303_0303) << (2 * g)
                });
                self.dword(at + self.layout.high, i, bits);
            }
        }
    }
}

/// From bit c for column c to bit g of byte c for column 4g + c.
#[inline(always)]
fn spread_fifth_bits(qh: [u8; 4]) -> u32 {
    let qh = u32::from_le_bytes(qh);
    (0..4).fold(0, |spread, c| {
        let mut bits = qh >> c & 0x1111_1111;
        bits = (bits | bits >> 3) & 0x0303_0303;
        bits = (bits | bits >> 6) & 0x000f_000f;
        bits = (bits | bits >> 12) & 0xff;
        spread | bits << (8 * c)
    })
}

const _: () = assert!(SUPER_LEN == 8 * BLOCK_LEN);

#[cfg(test)]
mod tests;
