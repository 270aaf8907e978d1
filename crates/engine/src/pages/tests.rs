//! Tests of the page table against small trees and a random walk.
#![allow(clippy::unwrap_used)]

use super::*;

const PAGE_LEN: usize = 4;

/// Writes `tokens` as a finished sequence would: full pages shared, the rest left as a leaf.
fn remember(table: &mut PageTable, scope: u64, tokens: &[TokenId]) {
    let found = table.match_prefix(scope, tokens);
    if let Some((idx, _)) = found.partial {
        table.release(&[idx]);
    }
    let mut path = found.path;
    let n_held = path.len() * PAGE_LEN;
    for chunk in tokens[n_held..].chunks(PAGE_LEN) {
        let page = table.allocate().unwrap();
        if chunk.len() == PAGE_LEN {
            let idx = table.insert_full(scope, path.last().copied(), chunk, page);
            path.push(idx);
        } else {
            table.insert_partial(scope, path.last().copied(), chunk, page);
        }
    }
    table.release(&path);
}

/// Full pages and further tokens found for `tokens`, leaving the tree as it was.
fn probe(table: &mut PageTable, scope: u64, tokens: &[TokenId]) -> (usize, usize) {
    let found = table.match_prefix(scope, tokens);
    let n_partial = found.partial.map_or(0, |(_, n)| n);
    if let Some((idx, _)) = found.partial {
        table.release(&[idx]);
    }
    table.release(&found.path);
    (found.path.len(), n_partial)
}

#[test]
fn a_finished_sequence_is_found_again_to_the_token() {
    let mut table = PageTable::new(8, PAGE_LEN);
    remember(&mut table, 1, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(table.n_used(), 3);
    assert_eq!(table.n_cached(), 3);
    assert_eq!(probe(&mut table, 1, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), (2, 2));
    assert_eq!(probe(&mut table, 1, &[1, 2, 3, 4, 5, 6, 99]), (1, 2));
    assert_eq!(probe(&mut table, 1, &[2, 3]), (0, 0));
    assert_eq!(table.n_cached(), 3);
}

#[test]
fn scopes_never_see_each_other() {
    let mut table = PageTable::new(8, PAGE_LEN);
    remember(&mut table, 1, &[1, 2, 3, 4, 5]);
    assert_eq!(probe(&mut table, 2, &[1, 2, 3, 4, 5]), (0, 0));
}

#[test]
fn the_same_page_computed_twice_is_kept_once() {
    let mut table = PageTable::new(8, PAGE_LEN);
    let (a, b) = (table.allocate().unwrap(), table.allocate().unwrap());
    let first = table.insert_full(0, None, &[1, 2, 3, 4], a);
    let second = table.insert_full(0, None, &[1, 2, 3, 4], b);
    assert_eq!(first, second);
    assert_eq!(table.n_used(), 1);
    assert_eq!(table.n_cached(), 0);
    table.release(&[first]);
    assert_eq!(table.n_cached(), 0, "one user is left");
    table.release(&[second]);
    assert_eq!(table.n_cached(), 1);
}

#[test]
fn a_longer_page_replaces_the_leaf_it_covers() {
    let mut table = PageTable::new(8, PAGE_LEN);
    remember(&mut table, 0, &[1, 2]);
    remember(&mut table, 0, &[1, 2, 3]);
    assert_eq!(table.n_used(), 1);
    remember(&mut table, 0, &[1, 2, 3, 4, 5]);
    assert_eq!(table.n_used(), 2);
    remember(&mut table, 0, &[1, 2]);
    assert_eq!(table.n_used(), 2, "a prefix of what is held adds nothing");
}

#[test]
fn the_least_recently_used_leaf_goes_first_and_used_pages_never() {
    let mut table = PageTable::new(4, PAGE_LEN);
    remember(&mut table, 0, &[1, 1, 1, 1, 2]);
    remember(&mut table, 0, &[3, 3, 3, 3, 4]);
    // Touch the first, then hold its full page.
    let held = table.match_prefix(0, &[1, 1, 1, 1]).path;
    assert_eq!(held.len(), 1);
    assert_eq!(table.n_available(), 3);
    assert_eq!(table.n_used(), 4);
    for _ in 0..3 {
        table.allocate().unwrap();
    }
    assert_eq!(table.allocate(), None);
    assert_eq!(table.n_cached(), 0);
    assert_eq!(table.page(held[0]), table.page(held[0]));
    table.release(&held);
    assert_eq!(table.n_available(), 1);
}

#[test]
fn counts_stay_true_over_a_random_walk() {
    let mut state = 12345u64;
    let mut next = move |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let mut table = PageTable::new(24, PAGE_LEN);
    // (scope, tokens, path, own pages): sequences in the middle of their work.
    /// A sequence that holds pages: its scope, tokens, nodes of shared prefixes, and pages.
    type Live = (u64, Vec<TokenId>, Vec<NodeIdx>, Vec<PageId>);
    let mut live: Vec<Live> = Vec::new();
    for _ in 0..5_000 {
        if live.len() < 4 && next(2) == 0 {
            let scope = next(2);
            let n = next(14) as usize + 1;
            let tokens: Vec<TokenId> = (0..n).map(|_| next(2) as TokenId).collect();
            let found = table.match_prefix(scope, &tokens);
            if let Some((idx, _)) = found.partial {
                table.release(&[idx]);
            }
            live.push((scope, tokens, found.path, Vec::new()));
        } else if !live.is_empty() {
            let i = next(live.len() as u64) as usize;
            let (scope, tokens, path, own) = &mut live[i];
            let n_held = path.len() * PAGE_LEN;
            if n_held + PAGE_LEN <= tokens.len()
                && own.is_empty()
                && let Some(page) = table.allocate()
            {
                let chunk = &tokens[n_held..n_held + PAGE_LEN];
                let idx = table.insert_full(*scope, path.last().copied(), chunk, page);
                path.push(idx);
            } else {
                let (scope, tokens, path, _) = live.swap_remove(i);
                let tail = &tokens[path.len() * PAGE_LEN..];
                if !tail.is_empty()
                    && tail.len() < PAGE_LEN
                    && let Some(page) = table.allocate()
                {
                    table.insert_partial(scope, path.last().copied(), tail, page);
                }
                table.release(&path);
            }
        }
        let in_tree = table.nodes.iter().flatten().count();
        let unused = table.nodes.iter().flatten().filter(|n| n.n_users == 0).count();
        let leaves = table.nodes.iter().flatten().filter(|n| n.n_users == 0 && n.children.is_empty()).count();
        assert_eq!(table.n_used(), in_tree);
        assert_eq!(table.n_cached(), unused);
        assert_eq!(table.evictable.len(), leaves);
    }
    for (_, _, path, _) in live {
        table.release(&path);
    }
    assert_eq!(table.n_available(), 24);
}
