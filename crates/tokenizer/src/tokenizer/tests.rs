//! Rules that no golden file shows.
#![allow(clippy::unwrap_used)]

use unicode_normalization::UnicodeNormalization;

use super::*;

#[test]
fn composing_piece_by_piece_is_composing() {
    let mut state = 1u64;
    let mut next = |n: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % n
    };
    let blocks = [
        0x41, 0xC0, 0x300, 0x301, 0x323, 0x391, 0x5D0, 0x9C7, 0x9BE, 0x1100, 0x1161, 0x11A8, 0xAC00, 0xAC01,
        0x1E00, 0x212B, 0x3042, 0x3099, 0x304B, 0x4E2D, 0xF900, 0xFB1D, 0x1D15E, 0x2F800, 0x20,
    ];
    for _ in 0..2000 {
        let text: String = (0..next(12))
            .filter_map(|_| char::from_u32(blocks[next(blocks.len() as u32) as usize] + next(3)))
            .collect();
        let composed = compose(text.as_bytes()).unwrap_or_else(|| text.as_bytes().to_vec());
        assert_eq!(String::from_utf8(composed).unwrap(), text.nfc().collect::<String>(), "{text:?}");
    }
    for c in (0..0x11_0000).filter_map(char::from_u32).filter(|&c| !may_combine(c)) {
        let text = format!("{c}");
        assert_eq!(is_nfc_quick(text.chars()), IsNormalized::Yes, "{c:?}");
        assert_eq!(unicode_normalization::char::canonical_combining_class(c), 0, "{c:?}");
    }
    assert_eq!(compose("e\u{301}\u{FF}".as_bytes()), Some("é\u{FF}".into()));
    assert_eq!(compose(b"e\xCC\x81 \xFF\xCC"), Some(b"\xC3\xA9 \xFF\xCC".to_vec()));
}
