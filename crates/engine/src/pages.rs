//! The page table: which page of the KV memory holds which tokens, who uses it, what is kept.
//!
//! KV memory is cut into pages of `PAGE_LEN` tokens, numbered alike in every layer. A page is free,
//! owned by one sequence that still writes it, or a node of the prefix tree. The tree's nodes are
//! the pages whose content is settled: a full page stands below the page that holds the tokens
//! before it, and below a scope at the root, so that a path from a root spells a token prefix.
//! Sequences with the same prefix in the same scope walk the same path and share its pages; a
//! node counts its users. When a sequence ends, its last page, only partly filled, becomes a leaf;
//! a later sequence that shares a part of any page copies that part into a page of its own.
//!
//! Nodes without users are the cache: the least recently used leaf goes first when a page is needed.
//! A user of a node uses all nodes above it, so below an unused node all are unused.

use std::collections::{BTreeSet, HashMap};

use crate::request::TokenId;

/// A page's number, the same in every layer.
pub(crate) type PageId = u32;
/// A node of the prefix tree.
pub(crate) type NodeIdx = usize;

/// All pages and the prefix tree over them.
pub(crate) struct PageTable {
    page_len: usize,
    n_pages: usize,
    free: Vec<PageId>,
    nodes: Vec<Option<Node>>,
    vacant: Vec<NodeIdx>,
    roots: HashMap<u64, Vec<NodeIdx>>,
    /// Leaves without users, least recently used first.
    evictable: BTreeSet<(u64, NodeIdx)>,
    /// Nodes without users, leaves or not.
    n_cached: usize,
    clock: u64,
}

struct Node {
    scope: u64,
    parent: Option<NodeIdx>,
    children: Vec<NodeIdx>,
    /// `page_len` tokens, or fewer in a leaf.
    tokens: Box<[TokenId]>,
    page: PageId,
    n_users: usize,
    last_used: u64,
}

/// What the tree holds of a prompt.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct PrefixMatch {
    /// The nodes whose full pages match, in order; they have one more user now.
    pub(crate) path: Vec<NodeIdx>,
    /// A further node that matches in its first tokens, with their number; it has one more user,
    /// to be given back with `release` once it is copied.
    pub(crate) partial: Option<(NodeIdx, usize)>,
}

impl PageTable {
    /// `n_pages` free pages of `page_len` tokens.
    pub(crate) fn new(n_pages: usize, page_len: usize) -> PageTable {
        PageTable {
            page_len,
            n_pages,
            free: (0..n_pages as PageId).rev().collect(),
            nodes: Vec::new(),
            vacant: Vec::new(),
            roots: HashMap::new(),
            evictable: BTreeSet::new(),
            n_cached: 0,
            clock: 0,
        }
    }

    /// Pages in all.
    pub(crate) fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// Pages that hold something: owned, shared or cached.
    pub(crate) fn n_used(&self) -> usize {
        self.n_pages - self.free.len()
    }

    /// Pages held only for later: they go when memory is needed.
    pub(crate) fn n_cached(&self) -> usize {
        self.n_cached
    }

    /// Pages that `allocate` can still give.
    pub(crate) fn n_available(&self) -> usize {
        self.free.len() + self.n_cached
    }

    /// A page for the caller to own: a free one, else the least recently used of the cache.
    pub(crate) fn allocate(&mut self) -> Option<PageId> {
        if let Some(page) = self.free.pop() {
            return Some(page);
        }
        let &(_, idx) = self.evictable.first()?;
        Some(self.remove_leaf(idx))
    }

    /// Gives back a page that the caller owned.
    pub(crate) fn free(&mut self, page: PageId) {
        debug_assert!(!self.free.contains(&page));
        self.free.push(page);
    }

    /// The page of a node.
    pub(crate) fn page(&self, idx: NodeIdx) -> PageId {
        self.node(idx).page
    }

    /// Finds the longest cached prefix of `tokens` in `scope` and takes a share in its nodes.
    pub(crate) fn match_prefix(&mut self, scope: u64, tokens: &[TokenId]) -> PrefixMatch {
        let mut found = PrefixMatch::default();
        let mut rest = tokens;
        loop {
            let parent = found.path.last().copied();
            let Some((idx, n_common)) = self.best_child(scope, parent, rest) else {
                return found;
            };
            self.acquire(idx);
            if n_common < self.page_len {
                found.partial = Some((idx, n_common));
                return found;
            }
            found.path.push(idx);
            rest = &rest[n_common..];
        }
    }

    /// The node below `parent` that holds exactly these tokens, with one more user.
    ///
    /// tokens: [page_len]
    pub(crate) fn find_full(
        &mut self,
        scope: u64,
        parent: Option<NodeIdx>,
        tokens: &[TokenId],
    ) -> Option<NodeIdx> {
        assert_eq!(tokens.len(), self.page_len);
        let (idx, n_common) = self.best_child(scope, parent, tokens)?;
        if n_common < self.page_len {
            return None;
        }
        self.acquire(idx);
        Some(idx)
    }

    /// The page that holds the last `page_len` of these tokens below all others, if it is there; nobody's share changes.
    ///
    /// tokens: whole pages, at least one
    pub(crate) fn page_of(&self, scope: u64, tokens: &[TokenId]) -> Option<PageId> {
        let mut parent = None;
        for tokens in tokens.chunks_exact(self.page_len) {
            let (idx, n_common) = self.best_child(scope, parent, tokens)?;
            if n_common < self.page_len {
                return None;
            }
            parent = Some(idx);
        }
        parent.map(|idx| self.page(idx))
    }

    /// Turns a full page that the caller owns into a node below `parent`, with the caller as user.
    ///
    /// tokens: [page_len]. If the tree already holds this very content, that node is shared and the
    /// caller's page is freed: the content is bit-equal, because a token's keys and values depend on
    /// nothing but its prefix.
    pub(crate) fn insert_full(
        &mut self,
        scope: u64,
        parent: Option<NodeIdx>,
        tokens: &[TokenId],
        page: PageId,
    ) -> NodeIdx {
        assert_eq!(tokens.len(), self.page_len);
        if let Some(idx) = self.find_full(scope, parent, tokens) {
            self.free(page);
            return idx;
        }
        self.drop_covered_leaf(scope, parent, tokens);
        let idx = self.add(scope, parent, tokens, page);
        self.acquire(idx);
        idx
    }

    /// Leaves the caller's partly filled last page to the cache, below `parent`.
    ///
    /// tokens: at least one and fewer than `page_len`. The page is freed if the tree already holds
    /// these tokens.
    pub(crate) fn insert_partial(
        &mut self,
        scope: u64,
        parent: Option<NodeIdx>,
        tokens: &[TokenId],
        page: PageId,
    ) {
        assert!(!tokens.is_empty() && tokens.len() < self.page_len);
        if let Some((_, n_common)) = self.best_child(scope, parent, tokens)
            && n_common == tokens.len()
        {
            self.free(page);
            return;
        }
        self.drop_covered_leaf(scope, parent, tokens);
        let idx = self.add(scope, parent, tokens, page);
        let last_used = self.node(idx).last_used;
        self.n_cached += 1;
        self.evictable.insert((last_used, idx));
    }

    /// Gives back one share in each node, the deepest first.
    pub(crate) fn release(&mut self, path: &[NodeIdx]) {
        self.clock += 1;
        for &idx in path.iter().rev() {
            let clock = self.clock;
            let node = self.node_mut(idx);
            node.n_users -= 1;
            node.last_used = clock;
            if node.n_users == 0 {
                let is_leaf = node.children.is_empty();
                self.n_cached += 1;
                if is_leaf {
                    self.evictable.insert((clock, idx));
                }
            }
        }
    }

    fn node(&self, idx: NodeIdx) -> &Node {
        self.nodes[idx].as_ref().expect("a linked node is present")
    }

    fn node_mut(&mut self, idx: NodeIdx) -> &mut Node {
        self.nodes[idx].as_mut().expect("a linked node is present")
    }

    fn children(&self, scope: u64, parent: Option<NodeIdx>) -> &[NodeIdx] {
        match parent {
            Some(idx) => &self.node(idx).children,
            None => self.roots.get(&scope).map_or(&[], |roots| roots.as_slice()),
        }
    }

    /// The child that shares most tokens with `tokens`, and how many (at least one).
    fn best_child(
        &self,
        scope: u64,
        parent: Option<NodeIdx>,
        tokens: &[TokenId],
    ) -> Option<(NodeIdx, usize)> {
        let n_common = |idx: NodeIdx| {
            let held = &self.node(idx).tokens;
            held.iter().zip(tokens).take_while(|(a, b)| a == b).count()
        };
        let mut best = None;
        for &idx in self.children(scope, parent) {
            let n = n_common(idx);
            if n > best.map_or(0, |(_, n)| n) {
                best = Some((idx, n));
            }
        }
        best
    }

    fn acquire(&mut self, idx: NodeIdx) {
        let node = self.node_mut(idx);
        node.n_users += 1;
        if node.n_users == 1 {
            let key = (node.last_used, idx);
            // A node that was just added is not counted as cached yet.
            if self.evictable.remove(&key) || !self.node(idx).children.is_empty() {
                self.n_cached -= 1;
            }
        }
    }

    fn add(&mut self, scope: u64, parent: Option<NodeIdx>, tokens: &[TokenId], page: PageId) -> NodeIdx {
        self.clock += 1;
        let node = Node {
            scope,
            parent,
            children: Vec::new(),
            tokens: tokens.into(),
            page,
            n_users: 0,
            last_used: self.clock,
        };
        let idx = match self.vacant.pop() {
            Some(idx) => {
                self.nodes[idx] = Some(node);
                idx
            }
            None => {
                self.nodes.push(Some(node));
                self.nodes.len() - 1
            }
        };
        match parent {
            Some(parent_idx) => {
                let key = (self.node(parent_idx).last_used, parent_idx);
                self.evictable.remove(&key);
                self.node_mut(parent_idx).children.push(idx);
            }
            None => self.roots.entry(scope).or_default().push(idx),
        }
        idx
    }

    /// Removes an unused leaf below `parent` whose tokens are all among the first of `tokens`.
    fn drop_covered_leaf(&mut self, scope: u64, parent: Option<NodeIdx>, tokens: &[TokenId]) {
        let covered = self.children(scope, parent).iter().copied().find(|&idx| {
            let node = self.node(idx);
            node.n_users == 0 && node.children.is_empty() && tokens.starts_with(&node.tokens)
        });
        if let Some(idx) = covered {
            let page = self.remove_leaf(idx);
            self.free(page);
        }
    }

    /// Takes an unused leaf out of the tree; its page is the caller's.
    fn remove_leaf(&mut self, idx: NodeIdx) -> PageId {
        let node = self.nodes[idx].take().expect("a linked node is present");
        debug_assert!(node.n_users == 0 && node.children.is_empty());
        self.evictable.remove(&(node.last_used, idx));
        self.n_cached -= 1;
        self.vacant.push(idx);
        match node.parent {
            Some(parent_idx) => {
                let parent = self.node_mut(parent_idx);
                parent.children.retain(|&child| child != idx);
                if parent.n_users == 0 && parent.children.is_empty() {
                    let key = (parent.last_used, parent_idx);
                    self.evictable.insert(key);
                }
            }
            None => {
                let roots = self.roots.get_mut(&node.scope).expect("a root's scope is listed");
                roots.retain(|&root| root != idx);
                if roots.is_empty() {
                    self.roots.remove(&node.scope);
                }
            }
        }
        node.page
    }
}

#[cfg(test)]
mod tests;
