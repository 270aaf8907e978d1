//! Between the engine's pages and the disk: conversations that wait to be saved, and those that come back.
//!
//! Both go a page at a time, between the steps of others. What is to be saved has no share in its pages: if they are
//! needed meanwhile, it is saved as far as it came.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use kernels::PAGE_LEN;
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::EngineConfig;
use crate::model::Model;
use crate::pages::PageTable;
use crate::request::TokenId;
use crate::saved::{Keep, Layout, MIN_PAGES, SavedPage, SavedPrefixes, Write, chain};
use crate::sequence::Sequence;

/// Conversations that wait; the oldest goes when there are more.
const MAX_WAITING: usize = 64;
/// How long the end of the engine waits until they are written.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Saves conversations that have been computed.
pub(crate) struct Saver {
    /// Tells engines apart whose keys and values differ in their bits.
    engine: u64,
    layout: Layout,
    waiting: VecDeque<Saving>,
    /// Has pages that may not be written yet.
    unflushed: Option<SavedPrefixes>,
}

/// A conversation that is being saved.
struct Saving {
    keep: Keep,
    key: u64,
    scope: u64,
    /// Whole pages.
    tokens: Vec<TokenId>,
    next_page: usize,
    /// See [`chain`].
    before: u64,
    /// The next page, when the writer had no room for it.
    ready: Option<Box<Write>>,
}

/// The pages of a sequence that come from disk.
pub(crate) struct Restoring {
    pages: Receiver<SavedPage>,
    next_page: usize,
    /// One that has come while the thread waited.
    held: Option<SavedPage>,
    is_open: bool,
}

impl Saver {
    pub(crate) fn new(model: &Model, config: &EngineConfig) -> Saver {
        // The kernels of another version may round otherwise; some rotary embeddings depend on the context's length.
        let kv_type = model.kv_type();
        let (version, isa) = (env!("CARGO_PKG_VERSION"), config.isa.name());
        let mut engine = format!("{version} {isa} {kv_type:?} {}", config.max_seq_len);
        if let Some(key) = model.adapters_key {
            engine.push_str(&format!(" adapters {key:x}"));
        }
        Saver {
            engine: xxh3_64(engine.as_bytes()),
            layout: Layout { page_len: PAGE_LEN, n_bytes: model.page_bytes() },
            waiting: VecDeque::new(),
            unflushed: None,
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes in a conversation whose pages are in the cache.
    ///
    /// tokens: whole pages
    pub(crate) fn add(&mut self, keep: Keep, scope: u64, tokens: &[TokenId]) {
        if tokens.len() < MIN_PAGES * PAGE_LEN {
            return;
        }
        let key = keep.key(self.engine);
        self.waiting.retain(|saving| saving.key != key || saving.keep.name != keep.name);
        let Some(next_page) = keep.saved.n_known(&keep.name, key, PAGE_LEN, tokens) else { return };
        let before = tokens.chunks_exact(PAGE_LEN).take(next_page).fold(key, chain);
        self.waiting.push_back(Saving {
            keep,
            key,
            scope,
            tokens: tokens.to_vec(),
            next_page,
            before,
            ready: None,
        });
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
        }
    }

    /// Hands at most so many pages to the writer, as many as it takes.
    pub(crate) fn advance(&mut self, table: &PageTable, model: &Model, max_pages: usize) {
        for _ in 0..max_pages {
            let Some(saving) = self.waiting.front_mut() else { return };
            let page = saving.ready.take().or_else(|| saving.next(table, model, self.layout));
            let Some(page) = page else {
                self.waiting.pop_front();
                continue;
            };
            let before = chain(page.before, &page.page.tokens);
            match saving.keep.saved.write(*page) {
                Ok(()) => {
                    (saving.next_page, saving.before) = (saving.next_page + 1, before);
                    self.unflushed = Some(saving.keep.saved.clone());
                }
                Err(page) => {
                    saving.ready = Some(page);
                    return;
                }
            }
        }
    }

    /// Saves what waits, for two seconds at most: the program is about to end.
    pub(crate) fn finish(&mut self, table: &PageTable, model: &Model) {
        let end = Instant::now() + FINISH_TIMEOUT;
        while !self.is_idle() && Instant::now() < end {
            self.advance(table, model, usize::MAX);
            std::thread::sleep(Duration::from_micros(200));
        }
        if let Some(saved) = self.unflushed.take() {
            saved.flush();
        }
    }

    /// Begins to bring back what a sequence that has just begun still lacks and the disk may have.
    pub(crate) fn restore(&self, sequence: &Sequence) -> Option<Restoring> {
        let keep = sequence.keep.as_ref()?;
        // The last token is always computed.
        let tokens = &sequence.tokens[..sequence.tokens.len() - 1];
        let next_page = sequence.n_computed / PAGE_LEN;
        if tokens.len() < MIN_PAGES * PAGE_LEN {
            return None;
        }
        let pages = keep.saved.read(&keep.name, keep.key(self.engine), self.layout, tokens, next_page)?;
        Some(Restoring { pages, next_page, held: None, is_open: true })
    }
}

impl Saving {
    fn next(&self, table: &PageTable, model: &Model, layout: Layout) -> Option<Box<Write>> {
        let tokens = self.tokens.get(..(self.next_page + 1) * PAGE_LEN)?;
        let page = table.page_of(self.scope, tokens)?;
        let tokens = tokens[self.next_page * PAGE_LEN..].to_vec();
        Some(Box::new(Write {
            name: self.keep.name.clone(),
            key: self.key,
            layout,
            page_idx: self.next_page,
            before: self.before,
            page: SavedPage { tokens, data: model.read_page(page) },
        }))
    }
}

impl Restoring {
    /// The next page that has come, with its place in the sequence.
    pub(crate) fn next(&mut self) -> Option<(usize, SavedPage)> {
        let page = match self.held.take() {
            Some(page) => page,
            None => match self.pages.try_recv() {
                Ok(page) => page,
                Err(error) => {
                    self.is_open = error == TryRecvError::Empty;
                    return None;
                }
            },
        };
        self.next_page += 1;
        Some((self.next_page - 1, page))
    }

    /// Whether more may come.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Waits for the next page, at most so long.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        if self.held.is_some() {
            return;
        }
        match self.pages.recv_timeout(timeout) {
            Ok(page) => self.held = Some(page),
            Err(error) => self.is_open = error == RecvTimeoutError::Timeout,
        }
    }
}
