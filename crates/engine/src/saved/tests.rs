#![allow(clippy::unwrap_used)]

use super::*;

const LAYOUT: Layout = Layout { page_len: 4, n_bytes: 100 };
const RECORD: u64 = 4 * 4 + 100 + 8;
const KEY: u64 = 7;

fn page(tokens: &[TokenId]) -> SavedPage {
    let data = (0..LAYOUT.n_bytes).map(|i| (i as u32 * 31 + tokens.iter().sum::<u32>()) as u8).collect();
    SavedPage { tokens: tokens.to_vec(), data }
}

/// Hands over the pages from `first` on and waits until they are written.
fn save_from(saved: &SavedPrefixes, name: &str, tokens: &[TokenId], first: usize) {
    let mut before = KEY;
    for (page_idx, tokens) in tokens.chunks_exact(LAYOUT.page_len).enumerate() {
        if page_idx >= first {
            let name = name.to_owned();
            let write = Write { name, key: KEY, layout: LAYOUT, page_idx, before, page: page(tokens) };
            let mut waiting = saved.write(write);
            while let Err(write) = waiting {
                waiting = saved.write(*write);
            }
        }
        before = chain(before, tokens);
    }
    saved.flush();
}

fn save(saved: &SavedPrefixes, name: &str, tokens: &[TokenId]) {
    saved.allow(name);
    save_from(saved, name, tokens, saved.n_known(name, KEY, LAYOUT.page_len, tokens).expect("it was read"));
}

/// How many pages come back; each must be right.
fn restore(saved: &SavedPrefixes, name: &str, tokens: &[TokenId], first: usize) -> usize {
    let Some(pages) = saved.read(name, KEY, LAYOUT, tokens, first) else { return 0 };
    let found: Vec<SavedPage> = pages.iter().collect();
    for (found, tokens) in found.iter().zip(tokens.chunks_exact(LAYOUT.page_len).skip(first)) {
        assert_eq!(found.tokens, tokens);
        assert_eq!(found.data, page(tokens).data);
    }
    found.len()
}

/// As after a restart: nothing is known of the files but their lengths.
fn reopen(saved: SavedPrefixes, folder: &Path) -> SavedPrefixes {
    drop(saved);
    SavedPrefixes::open(folder, 1 << 20).unwrap()
}

fn file_of(folder: &Path, name: &str) -> PathBuf {
    path_of(folder, name, KEY)
}

#[test]
fn pages_come_back_as_far_as_their_tokens_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let saved = SavedPrefixes::open(folder.path(), 1 << 20).unwrap();
    let tokens: Vec<TokenId> = (0..22).collect();
    save(&saved, "a", &tokens);
    assert_eq!(saved.n_bytes(), 24 + 5 * RECORD, "whole pages only");
    assert_eq!(std::fs::metadata(file_of(folder.path(), "a")).unwrap().len(), saved.n_bytes());

    let saved = reopen(saved, folder.path());
    assert_eq!(saved.n_bytes(), 24 + 5 * RECORD);
    assert_eq!(saved.n_known("a", KEY, 4, &tokens), None, "not read yet");
    assert_eq!(restore(&saved, "a", &tokens, 5), 0);
    assert_eq!(saved.n_known("a", KEY, 4, &tokens), Some(5));
    assert_eq!(restore(&saved, "a", &tokens, 0), 5);
    assert_eq!(restore(&saved, "a", &tokens, 3), 2);
    assert_eq!(restore(&saved, "a", &tokens, 5), 0);
    assert_eq!(restore(&saved, "b", &tokens, 0), 0);
    assert_eq!(restore(&saved, "a", &tokens[1..], 0), 0);
    let mut other = tokens.clone();
    other[9] = 100;
    let saved = reopen(saved, folder.path());
    assert_eq!(restore(&saved, "a", &other, 0), 2);
}

#[test]
fn a_longer_conversation_is_written_behind_and_another_branch_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let saved = SavedPrefixes::open(folder.path(), 1 << 20).unwrap();
    let tokens: Vec<TokenId> = (0..24).collect();
    save(&saved, "a", &tokens[..12]);
    assert_eq!(saved.n_known("a", KEY, 4, &tokens), Some(3));
    save(&saved, "a", &tokens);
    assert_eq!(restore(&saved, "a", &tokens, 0), 6);
    let mut branch = tokens[..20].to_vec();
    branch[8] = 100;
    save(&saved, "a", &branch);
    assert_eq!(saved.n_bytes(), 24 + 5 * RECORD);
    let saved = reopen(saved, folder.path());
    assert_eq!(restore(&saved, "a", &branch, 0), 5);
    let saved = reopen(saved, folder.path());
    assert_eq!(restore(&saved, "a", &tokens, 0), 2);
    // A page that does not follow on what the file holds is not written.
    save_from(&saved, "a", &tokens, 4);
    assert_eq!(restore(&saved, "a", &tokens, 0), 2);
}

#[test]
fn a_damaged_file_holds_what_stands_before_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = file_of(folder.path(), "a");
    let tokens: Vec<TokenId> = (0..20).collect();
    let mut saved = SavedPrefixes::open(folder.path(), 1 << 20).unwrap();
    save(&saved, "a", &tokens);
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        saved = reopen(saved, folder.path());
        let n_good = (at as u64).checked_sub(24).map_or(0, |at| at / RECORD) as usize;
        assert_eq!(restore(&saved, "a", &tokens, 0), n_good, "byte {at}");
    }
    for len in 0..good.len() {
        std::fs::write(&path, &good[..len]).unwrap();
        saved = reopen(saved, folder.path());
        let n_good = (len as u64).checked_sub(24).map_or(0, |at| at / RECORD) as usize;
        assert_eq!(restore(&saved, "a", &tokens, 0), n_good, "{len} bytes");
    }
    // It is mended by the next page.
    std::fs::write(&path, &good[..300]).unwrap();
    saved = reopen(saved, folder.path());
    assert_eq!(restore(&saved, "a", &tokens, 0), 2);
    save(&saved, "a", &tokens);
    assert!(std::fs::read(&path).unwrap() == good);
}

#[test]
fn a_file_of_another_model_or_shape_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let saved = SavedPrefixes::open(folder.path(), 1 << 20).unwrap();
    let tokens: Vec<TokenId> = (0..20).collect();
    save(&saved, "a", &tokens);
    assert!(saved.read("a", KEY + 1, LAYOUT, &tokens, 0).is_none());
    std::fs::rename(file_of(folder.path(), "a"), path_of(folder.path(), "a", KEY + 1)).unwrap();
    let saved = reopen(saved, folder.path());
    let pages = saved.read("a", KEY + 1, LAYOUT, &tokens, 0).unwrap();
    assert_eq!(pages.iter().count(), 0, "its header names another key");
    let shape = Layout { page_len: 4, n_bytes: 50 };
    std::fs::rename(path_of(folder.path(), "a", KEY + 1), file_of(folder.path(), "a")).unwrap();
    let saved = reopen(saved, folder.path());
    assert_eq!(saved.read("a", KEY, shape, &tokens, 0).unwrap().iter().count(), 0);
}

#[test]
fn what_is_forgotten_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let saved = SavedPrefixes::open(folder.path(), 1 << 20).unwrap();
    let tokens: Vec<TokenId> = (0..20).collect();
    save(&saved, "a", &tokens);
    save(&saved, "b", &tokens);
    saved.forget("a");
    assert!(!folder.path().join("a").exists());
    assert_eq!(saved.n_bytes(), 24 + 5 * RECORD);
    // A page that was still on its way.
    save_from(&saved, "a", &tokens, 0);
    assert!(!folder.path().join("a").exists());
    saved.retain(|name| name != "b");
    assert!(!folder.path().join("b").exists());
    assert_eq!(saved.n_bytes(), 0);
    // A name that leads out of the folder is none.
    save(&saved, "../c", &tokens);
    assert_eq!(saved.n_bytes(), 0);
}

#[test]
fn the_least_recently_used_goes_when_the_bound_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let saved = SavedPrefixes::open(folder.path(), 12 * RECORD).unwrap();
    let tokens: Vec<TokenId> = (0..60).collect();
    save(&saved, "a", &tokens[..20]);
    save(&saved, "b", &tokens[..20]);
    saved.allow("a");
    save(&saved, "c", &tokens[..20]);
    assert_eq!(restore(&saved, "a", &tokens, 0), 5);
    assert_eq!(restore(&saved, "b", &tokens, 0), 0);
    assert_eq!(restore(&saved, "c", &tokens, 0), 5);
    // One that is larger than all the room is kept as far as it fits, and nobody has to go for the rest.
    save(&saved, "c", &tokens);
    assert!(saved.n_bytes() <= 12 * RECORD);
    assert_eq!(restore(&saved, "c", &tokens, 0), 11);
    // A smaller bound holds from the start.
    drop(saved);
    let saved = SavedPrefixes::open(folder.path(), 3 * RECORD).unwrap();
    assert_eq!(saved.n_bytes(), 0);
}
