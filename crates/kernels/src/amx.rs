//! The tile registers of AMX: which shapes they have while a kernel uses them, and what they can do at most.
#![allow(unsafe_code)]

use std::arch::asm;

/// Rows of a tile, and its columns of 32 bits.
const TILE_LEN: usize = 16;
/// Bytes of a row of a full tile.
const ROW_BYTES: usize = 64;

/// The shapes of the eight tiles: what `ldtilecfg` reads (Intel's manual, volume 1, chapter 18).
#[repr(C, align(64))]
pub(crate) struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// (rows, bytes of a row) of each tile.
    ///
    /// # Panics
    /// When a tile would be empty or larger than a full one.
    pub(crate) const fn new(tiles: [(u8, u16); 8]) -> Shapes {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut i = 0;
        while i < tiles.len() {
            (rows[i], row_bytes[i]) = tiles[i];
            assert!(rows[i] > 0 && rows[i] as usize <= TILE_LEN, "a tile has 1 to 16 rows");
            assert!(row_bytes[i] > 0 && row_bytes[i] as usize <= ROW_BYTES, "of up to 64 bytes");
            i += 1;
        }
        Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }
}

/// Tiles that can be used, as long as it lives. After it a change of thread saves none.
pub(crate) struct Tiles(());

impl Tiles {
    /// Gives the tiles of this thread these shapes; all are zero.
    ///
    /// # Safety
    /// [`crate::Isa::Amx`] must be available.
    pub(crate) unsafe fn shaped(shapes: &Shapes) -> Tiles {
        // SAFETY: the processor has tiles, the system allows them, and palette 1 has the shapes that `new` makes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const *shapes, options(nostack, preserves_flags)) };
        Tiles(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: tiles are there, or this value would not be; no kernel keeps anything in them.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// Multiplies full tiles `steps` times, of bytes or of bf16; gives the number of operations.
///
/// # Safety
/// As [`Tiles::shaped`].
pub(crate) unsafe fn peak(steps: usize, bf16: bool) -> usize {
    const SHAPES: Shapes = Shapes::new([(16, 64); 8]);
    // SAFETY: as the caller promises.
    let _tiles = unsafe { Tiles::shaped(&SHAPES) };
    for _ in 0..steps {
        // SAFETY: tiles are there, their contents of no interest.
        unsafe {
            if bf16 {
                asm!("tdpbf16ps tmm0, tmm1, tmm2", "tdpbf16ps tmm4, tmm5, tmm6", options(nostack, nomem));
            } else {
                asm!("tdpbssd tmm0, tmm1, tmm2", "tdpbssd tmm4, tmm5, tmm6", options(nostack, nomem));
            }
        }
    }
    let per_sum = ROW_BYTES / if bf16 { size_of::<u16>() } else { 1 };
    steps * 2 * 2 * TILE_LEN * TILE_LEN * per_sum
}
