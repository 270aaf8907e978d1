//! What can be wrong with what the kernels are given.

/// Why a pool could not start or a matrix could not be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The instruction set was asked for by name and the processor lacks it.
    #[error(
        "instruction set {isa} is not available on this processor; leave the choice open or take a slower one"
    )]
    IsaUnavailable {
        /// Its name.
        isa: &'static str,
    },
    /// The system refused a thread.
    #[error("worker thread {worker} of {n_threads} could not be started: {reason}")]
    Spawn {
        /// Which worker.
        worker: usize,
        /// How many were asked for.
        n_threads: usize,
        /// The system's words.
        reason: String,
    },
    /// The data of a tensor has another length than its shape and type say.
    #[error("{ty} data of {n_rows} rows and {n_cols} columns: expected {expected} bytes, found {found}")]
    BadLength {
        /// Type of the data.
        ty: &'static str,
        /// Number of rows.
        n_rows: usize,
        /// Length of a row, in weights.
        n_cols: usize,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// A row does not consist of whole blocks.
    #[error("a row of {n_cols} weights does not consist of whole {ty} blocks of {block_len}")]
    BadColumns {
        /// Type of the data.
        ty: &'static str,
        /// Length of a row.
        n_cols: usize,
        /// Weights in a block.
        block_len: usize,
    },
    /// A weight, or the scale of a block, is infinite or not a number.
    #[error("row {row} holds a value that is infinite or not a number; the file is damaged")]
    NonFinite {
        /// First row with such a value.
        row: usize,
    },
    /// A weight cannot be stored in a type because the type's scales do not reach so far.
    #[error("row {row} holds a value that is too large for {ty}; choose a type of wider range, such as BF16")]
    TooLarge {
        /// First row with such a value.
        row: usize,
        /// Type that was asked for.
        ty: &'static str,
    },
}
