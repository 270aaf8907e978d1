//! The right side of a product: numbers, or a matrix as it lies in a file.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use super::pack::pack_right;
use super::{Matrix, dispatch};
use crate::blocks::unpack;
use crate::disjoint::Disjoint;
use crate::simd::{Kernel, Lanes};
use crate::{Isa, Pool, WeightType};

/// Columns of a stored matrix that are unpacked together: whole blocks of every type, whole panels of every width.
const STRIP: usize = 256;
/// Rows of a strip that are unpacked together.
const STRIP_ROWS: usize = 256;

thread_local! {
    /// What a worker has unpacked. It is taken out and put back: a closure that borrows it would be compiled without the
    /// kernel's vectors.
    static UNPACKED: RefCell<Vec<f32>> = RefCell::default();
}

/// A matrix as it lies in a file, which is unpacked piece by piece while a product packs it.
#[derive(Debug, Clone, Copy)]
pub struct StoredMatrix<'a> {
    ty: WeightType,
    bytes: &'a [u8],
    row_bytes: usize,
    /// The first row and column, and how many there are, of the rows as they are stored.
    first: (usize, usize),
    len: (usize, usize),
    is_transposed: bool,
}

impl<'a> StoredMatrix<'a> {
    /// `bytes`: `n_rows` rows of `n_cols` weights, whole blocks of `ty` as in a file.
    ///
    /// # Panics
    /// When rows are not whole blocks, or there are fewer or more bytes.
    #[must_use]
    pub fn new(ty: WeightType, bytes: &'a [u8], n_rows: usize, n_cols: usize) -> StoredMatrix<'a> {
        let row_bytes = ty.bytes_of(n_cols);
        assert_eq!(bytes.len(), n_rows * row_bytes, "the matrix must be [{n_rows}, {n_cols}]");
        StoredMatrix { ty, bytes, row_bytes, first: (0, 0), len: (n_rows, n_cols), is_transposed: false }
    }

    /// Columns for rows; nothing is moved.
    #[must_use]
    pub fn transposed(self) -> StoredMatrix<'a> {
        StoredMatrix { is_transposed: !self.is_transposed, ..self }
    }

    /// Rows and columns as the product sees them.
    fn shape(&self) -> (usize, usize) {
        if self.is_transposed { (self.len.1, self.len.0) } else { self.len }
    }

    /// Some rows and columns as the product sees them; those along a stored row must be whole blocks.
    fn part(self, rows: Range<usize>, cols: Range<usize>) -> StoredMatrix<'a> {
        let (rows, cols) = if self.is_transposed { (cols, rows) } else { (rows, cols) };
        let first = (self.first.0 + rows.start, self.first.1 + cols.start);
        StoredMatrix { first, len: (rows.len(), cols.len()), ..self }
    }

    /// Unpacks columns `cols` of row `row`, of the rows as they are stored.
    #[inline(always)]
    fn unpack(&self, row: usize, cols: Range<usize>, to: &mut [f32]) {
        let from = self.ty.bytes_of(self.first.1 + cols.start);
        let row = &self.bytes[(self.first.0 + row) * self.row_bytes..][..self.row_bytes];
        unpack(self.ty, &row[from..][..self.ty.bytes_of(cols.len())], to);
    }
}

/// The right side of a product.
#[derive(Debug, Clone, Copy)]
pub enum RightSide<'a> {
    /// Numbers.
    Numbers(Matrix<'a>),
    /// A matrix as in a file.
    Stored(StoredMatrix<'a>),
}

impl<'a> From<Matrix<'a>> for RightSide<'a> {
    fn from(matrix: Matrix<'a>) -> RightSide<'a> {
        RightSide::Numbers(matrix)
    }
}

impl<'a> From<StoredMatrix<'a>> for RightSide<'a> {
    fn from(matrix: StoredMatrix<'a>) -> RightSide<'a> {
        RightSide::Stored(matrix)
    }
}

impl<'a> RightSide<'a> {
    /// Rows and columns.
    pub(super) fn shape(&self) -> (usize, usize) {
        match self {
            RightSide::Numbers(matrix) => (matrix.n_rows, matrix.n_cols),
            RightSide::Stored(matrix) => matrix.shape(),
        }
    }

    /// Whether its numbers are bf16 already.
    pub(super) fn is_halves(&self) -> bool {
        matches!(self, RightSide::Numbers(matrix) if matrix.is_halves())
    }

    /// Columns for rows; nothing is moved.
    #[must_use]
    pub fn transposed(self) -> RightSide<'a> {
        match self {
            RightSide::Numbers(matrix) => matrix.transposed().into(),
            RightSide::Stored(matrix) => matrix.transposed().into(),
        }
    }

    /// Some rows and columns; in a stored matrix whole strips, or to the end.
    pub(super) fn part(self, rows: Range<usize>, cols: Range<usize>) -> RightSide<'a> {
        match self {
            RightSide::Numbers(matrix) => matrix.part(rows, cols).into(),
            RightSide::Stored(matrix) => matrix.part(rows, cols).into(),
        }
    }

    /// Packs all panels; `packed`: `[n_panels, n_words, width]`.
    pub(super) fn pack(self, pool: &Pool, isa: Isa, is_bf16: bool, width: usize, packed: &mut [u32]) {
        let n_panels = self.shape().1.div_ceil(width);
        let panel_len = packed.len() / n_panels;
        let packed = Disjoint::new(packed);
        let panels = |panel: usize| {
            // SAFETY: each panel is packed once.
            unsafe { packed.range(panel * panel_len, panel_len) }
        };
        match self {
            RightSide::Numbers(right) => pool.run(n_panels, &|panel, _| {
                dispatch(isa, is_bf16, PackFloats { right, panel, is_bf16, to: panels(panel) });
            }),
            RightSide::Stored(right) if right.is_transposed => pool.run(n_panels, &|panel, _| {
                dispatch(isa, is_bf16, PackRows { right, panel, is_bf16, to: panels(panel) });
            }),
            RightSide::Stored(right) => {
                let n_blocks = right.len.0.div_ceil(STRIP_ROWS);
                pool.run(right.len.1.div_ceil(STRIP) * n_blocks, &|task, _| {
                    let (strip, block) = (task / n_blocks, task % n_blocks);
                    let rows = block * STRIP_ROWS..right.len.0.min((block + 1) * STRIP_ROWS);
                    let cols = strip * STRIP..right.len.1.min((strip + 1) * STRIP);
                    let room = PackedRoom { packed: &packed, panel_len };
                    dispatch(isa, is_bf16, PackStrip { right, rows, cols, is_bf16, room });
                });
            }
        }
    }
}

#[inline(always)]
fn pack_panel<L: Lanes>(l: L, is_bf16: bool, right: Matrix<'_>, panel: usize, to: &mut [u32]) {
    if is_bf16 {
        pack_right::<L, true>(l, right, panel, to);
    } else {
        pack_right::<L, false>(l, right, panel, to);
    }
}

fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

struct PackFloats<'a> {
    right: Matrix<'a>,
    panel: usize,
    is_bf16: bool,
    to: &'a mut [u32],
}

impl Kernel for PackFloats<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let PackFloats { right, panel, is_bf16, to } = self;
        pack_panel(l, is_bf16, right, panel, to);
    }
}

/// A panel whose columns are rows as they are stored.
struct PackRows<'a> {
    right: StoredMatrix<'a>,
    panel: usize,
    is_bf16: bool,
    to: &'a mut [u32],
}

impl Kernel for PackRows<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let PackRows { right, panel, is_bf16, to } = self;
        let width = super::tile::width_of::<L>();
        let (n_rows, n_cols) = right.len;
        let rows = panel * width..n_rows.min((panel + 1) * width);
        let mut buffer = UNPACKED.take();
        let numbers = room(&mut buffer, rows.len() * n_cols);
        for (row, to) in rows.clone().zip(numbers.chunks_exact_mut(n_cols)) {
            right.unpack(row, 0..n_cols, to);
        }
        pack_panel(l, is_bf16, Matrix::new(numbers, rows.len(), n_cols).transposed(), 0, to);
        UNPACKED.set(buffer);
    }
}

/// Panels that several pack at once.
struct PackedRoom<'a> {
    packed: &'a Disjoint<'a, u32>,
    panel_len: usize,
}

/// Some rows of the panels of a strip.
struct PackStrip<'a> {
    right: StoredMatrix<'a>,
    rows: Range<usize>,
    cols: Range<usize>,
    is_bf16: bool,
    room: PackedRoom<'a>,
}

impl Kernel for PackStrip<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let PackStrip { right, rows, cols, is_bf16, room: PackedRoom { packed, panel_len } } = self;
        let width = super::tile::width_of::<L>();
        let (first_word, n_words) =
            if is_bf16 { (rows.start / 2, rows.len().div_ceil(2)) } else { (rows.start, rows.len()) };
        let mut buffer = UNPACKED.take();
        let numbers = room(&mut buffer, rows.len() * cols.len());
        for (row, to) in rows.clone().zip(numbers.chunks_exact_mut(cols.len())) {
            right.unpack(row, cols.clone(), to);
        }
        let strip = Matrix::new(numbers, rows.len(), cols.len());
        for panel in 0..cols.len().div_ceil(width) {
            let at = (cols.start / width + panel) * panel_len + first_word * width;
            // SAFETY: each task packs its rows of its panels.
            let to = unsafe { packed.range(at, n_words * width) };
            pack_panel(l, is_bf16, strip, panel, to);
        }
        UNPACKED.set(buffer);
    }
}
