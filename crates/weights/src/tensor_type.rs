//! The number formats of tensors: ggml's ids, names and block sizes.
//!
//! A tensor's rows are stored as blocks of `block_len` elements in `block_bytes` bytes. Eleven formats can be loaded
//! ([`TensorType`]); the rest is known by name and size so that `inspect` can list a file that holds them.

use std::fmt;

/// A format that kernels can compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the formats' own
pub enum TensorType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl TensorType {
    /// Every loadable format.
    pub const ALL: [TensorType; 11] = [
        TensorType::F32,
        TensorType::F16,
        TensorType::BF16,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q5_0,
        TensorType::Q5_1,
        TensorType::Q8_0,
        TensorType::Q4K,
        TensorType::Q5K,
        TensorType::Q6K,
    ];

    /// (ggml id, name, elements of a block, bytes of a block)
    const fn facts(self) -> (u32, &'static str, usize, usize) {
        match self {
            TensorType::F32 => (0, "F32", 1, 4),
            TensorType::F16 => (1, "F16", 1, 2),
            TensorType::BF16 => (30, "BF16", 1, 2),
            TensorType::Q4_0 => (2, "Q4_0", 32, 18),
            TensorType::Q4_1 => (3, "Q4_1", 32, 20),
            TensorType::Q5_0 => (6, "Q5_0", 32, 22),
            TensorType::Q5_1 => (7, "Q5_1", 32, 24),
            TensorType::Q8_0 => (8, "Q8_0", 32, 34),
            TensorType::Q4K => (12, "Q4_K", 256, 144),
            TensorType::Q5K => (13, "Q5_K", 256, 176),
            TensorType::Q6K => (14, "Q6_K", 256, 210),
        }
    }

    /// ggml's number for the format, as stored in GGUF.
    pub const fn to_ggml_id(self) -> u32 {
        self.facts().0
    }

    /// The loadable format with this ggml number, if it is one.
    pub fn from_ggml_id(id: u32) -> Option<TensorType> {
        TensorType::ALL.into_iter().find(|ty| ty.to_ggml_id() == id)
    }

    /// ggml's name, e.g. `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.facts().1
    }

    /// Elements in one block; a row's length must be a multiple of it.
    pub const fn block_len(self) -> usize {
        self.facts().2
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        self.facts().3
    }

    /// Whether the format stores plain floats, one by one.
    pub const fn is_float(self) -> bool {
        matches!(self, TensorType::F32 | TensorType::F16 | TensorType::BF16)
    }

    /// Bytes of a row of `n` elements, or `None` when `n` is not a whole number of blocks or too large to count.
    pub fn row_bytes(self, n: usize) -> Option<usize> {
        n.is_multiple_of(self.block_len()).then(|| (n / self.block_len()).checked_mul(self.block_bytes()))?
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// ggml's formats that this crate knows by size but no kernel computes with:
/// (id, name, elements of a block, bytes of a block), from the table `GGML_QUANT_SIZES` of the `gguf` package 0.19.
const OTHER: [(u32, &str, usize, usize); 23] = [
    (9, "Q8_1", 32, 40),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

/// The format of a tensor as a file states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// One that can be loaded.
    Known(TensorType),
    /// One that can only be listed.
    Other {
        /// ggml's number.
        id: u32,
        /// ggml's name.
        name: &'static str,
        /// Elements of a block.
        block_len: usize,
        /// Bytes of a block.
        block_bytes: usize,
    },
}

impl TensorKind {
    /// The format with this ggml number; `None` when its layout is not known here.
    pub fn from_ggml_id(id: u32) -> Option<TensorKind> {
        if let Some(ty) = TensorType::from_ggml_id(id) {
            return Some(TensorKind::Known(ty));
        }
        OTHER
            .iter()
            .find(|other| other.0 == id)
            .map(|&(id, name, block_len, block_bytes)| TensorKind::Other { id, name, block_len, block_bytes })
    }

    /// The loadable format, if it is one.
    pub fn loadable(self) -> Option<TensorType> {
        match self {
            TensorKind::Known(ty) => Some(ty),
            TensorKind::Other { .. } => None,
        }
    }

    /// ggml's name.
    pub fn name(self) -> &'static str {
        match self {
            TensorKind::Known(ty) => ty.name(),
            TensorKind::Other { name, .. } => name,
        }
    }

    /// Elements of a block.
    pub fn block_len(self) -> usize {
        match self {
            TensorKind::Known(ty) => ty.block_len(),
            TensorKind::Other { block_len, .. } => block_len,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            TensorKind::Known(ty) => ty.block_bytes(),
            TensorKind::Other { block_bytes, .. } => block_bytes,
        }
    }
}

impl fmt::Display for TensorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ids_names_and_sizes_are_those_of_ggml() {
        // (name, id, elements, bytes) from ggml's own type traits
        let cases = [
            ("F32", 0, 1, 4),
            ("F16", 1, 1, 2),
            ("BF16", 30, 1, 2),
            ("Q4_0", 2, 32, 2 + 16),
            ("Q4_1", 3, 32, 2 + 2 + 16),
            ("Q5_0", 6, 32, 2 + 4 + 16),
            ("Q5_1", 7, 32, 2 + 2 + 4 + 16),
            ("Q8_0", 8, 32, 2 + 32),
            ("Q4_K", 12, 256, 2 + 2 + 12 + 128),
            ("Q5_K", 13, 256, 2 + 2 + 12 + 32 + 128),
            ("Q6_K", 14, 256, 128 + 64 + 16 + 2),
        ];
        assert_eq!(cases.len(), TensorType::ALL.len());
        for (name, id, block_len, block_bytes) in cases {
            let ty = TensorType::from_ggml_id(id).unwrap();
            assert_eq!((ty.name(), ty.block_len(), ty.block_bytes()), (name, block_len, block_bytes));
        }
    }

    #[test]
    fn a_format_without_kernels_is_listed_but_not_loadable() {
        let kind = TensorKind::from_ggml_id(23).unwrap();
        assert_eq!(kind.name(), "IQ4_XS");
        assert_eq!(kind.loadable(), None);
        assert_eq!(TensorKind::from_ggml_id(4), None, "Q4_2 left ggml long ago");
        assert_eq!(TensorKind::from_ggml_id(u32::MAX), None);
    }

    #[test]
    fn a_row_is_a_whole_number_of_blocks() {
        assert_eq!(TensorType::Q4K.row_bytes(512), Some(288));
        assert_eq!(TensorType::Q4K.row_bytes(500), None);
        assert_eq!(TensorType::F32.row_bytes(usize::MAX), None);
    }
}
