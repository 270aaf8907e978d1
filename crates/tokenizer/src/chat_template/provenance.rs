//! Which bytes of a rendered text are data.
//!
//! A template may cut, join and repeat its strings, so their origin is carried inside them: single characters of the
//! data are replaced by private-use characters that occur nowhere in this rendering, and put back afterwards. The
//! first and last character of a content (white space aside, which templates trim) tell where it stands; the first
//! character of every special token's spelling is replaced too, so that it is known wherever the template may carry
//! it. A replaced character is one character again, so lengths and slices stay as they are.

use std::collections::HashMap;
use std::ops::Range;

use crate::chat::{Rendered, SpecialTexts};
use crate::reasoning::TAGS;
use crate::special_tokens::SpecialTokens;

/// The private-use planes 15 and 16, from which marks are taken.
const MARK_RANGES: [Range<u32>; 2] = [0xF_0000..0xF_FFFE, 0x10_0000..0x10_FFFE];

/// The tokens of a vocabulary whose spelling in data is marked.
#[derive(Debug)]
pub(super) struct Structure {
    tokens: SpecialTokens,
    /// By index in `tokens`: added words, which some templates look for in the data.
    added: Vec<bool>,
    /// By index in `tokens`: tags around reasoning, which templates look for in answers.
    tags: Vec<bool>,
}

impl Structure {
    /// All control tokens, and the added words that the template itself writes.
    pub(super) fn new(specials: &SpecialTexts, source: &str) -> Structure {
        let added = specials.added.iter().filter(|text| !text.is_empty() && source.contains(text.as_str()));
        let texts: Vec<(&str, bool)> = specials
            .control
            .iter()
            .map(|text| (text.as_str(), false))
            .chain(added.map(|text| (text.as_str(), true)))
            .collect();
        Structure {
            tokens: SpecialTokens::new(
                (0..).zip(&texts).map(|(idx, (text, _))| (text.as_bytes(), idx, true)),
            ),
            added: texts.iter().map(|(_, added)| *added).collect(),
            tags: texts
                .iter()
                .map(|(text, _)| TAGS.iter().any(|(open, close)| text == open || text == close))
                .collect(),
        }
    }
}

/// How much is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// The ends of contents, and the spelling of all structure.
    EndsAndAll,
    /// The spelling of all structure.
    AllSpecials,
    /// The spelling of control tokens only.
    ControlOnly,
}

/// What one mark stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    original: char,
    role: Role,
    /// Whether the spelling of a token begins here.
    spells: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Begin(usize),
    End(usize),
    /// A content of one character.
    Whole(usize),
    /// A character inside.
    Inside,
}

/// The marks of one rendering.
#[derive(Debug)]
pub(super) struct Marks<'a> {
    /// What is marked; nothing where there is none.
    plan: Option<(Detail, &'a Structure)>,
    /// Characters that the plain text holds and that are no marks therefore.
    taken: Vec<char>,
    next: u32,
    marks: HashMap<char, Mark>,
    /// The mark for each first character of special tokens: shared, for they may be many.
    special_marks: HashMap<char, char>,
}

impl<'a> Marks<'a> {
    /// Marks nothing.
    pub(super) fn none() -> Marks<'a> {
        Marks { plan: None, taken: Vec::new(), next: 0, marks: HashMap::new(), special_marks: HashMap::new() }
    }

    /// Marks for strings whose plain rendering is `plain`.
    ///
    /// A private-use character that the data holds is either in the plain text, and then no mark, or was dropped by
    /// the template; if it survives in the marked text alone, the texts differ, which the caller sees.
    pub(super) fn new(detail: Detail, structure: &'a Structure, plain: &str) -> Marks<'a> {
        let mut taken: Vec<char> = plain.chars().filter(|&c| c >= '\u{F0000}').collect();
        taken.sort_unstable();
        taken.dedup();
        Marks {
            plan: Some((detail, structure)),
            taken,
            next: MARK_RANGES[0].start,
            marks: HashMap::new(),
            special_marks: HashMap::new(),
        }
    }

    /// The content of message `idx` with its ends and the structure that it spells marked. In an answer the tags
    /// around reasoning are left alone, for templates cut them out.
    pub(super) fn content(&mut self, content: &str, idx: usize, is_answer: bool) -> String {
        let mut marked = self.spelled(content, is_answer);
        if !matches!(self.plan, Some((Detail::EndsAndAll, _))) {
            return marked;
        }
        let trimmed = marked.trim();
        let start = marked.len() - marked.trim_start().len();
        let Some(first) = trimmed.chars().next() else { return marked };
        let last = trimmed.chars().next_back().unwrap_or(first);
        let last_start = start + trimmed.len() - last.len_utf8();
        if start == last_start {
            self.replace(&mut marked, start, first, Role::Whole(idx));
        } else {
            self.replace(&mut marked, last_start, last, Role::End(idx));
            self.replace(&mut marked, start, first, Role::Begin(idx));
        }
        marked
    }

    /// Words of data with the structure that they spell marked.
    pub(super) fn words(&mut self, text: &str) -> String {
        self.spelled(text, false)
    }

    fn spelled(&mut self, text: &str, keep_tags: bool) -> String {
        let Some((detail, structure)) = self.plan else { return text.to_owned() };
        let mut marked = String::new();
        let mut done = 0;
        let mut from = 0;
        while let Some(found) = structure.tokens.find(text.as_bytes(), from, &|_, _| true) {
            let Some(first) = text[found.start..].chars().next() else { break };
            // The search goes on inside the token just found: another may begin there.
            from = found.start + first.len_utf8();
            let idx = found.id as usize;
            if (structure.added[idx] && detail == Detail::ControlOnly) || (structure.tags[idx] && keep_tags) {
                continue;
            }
            let mark = match self.special_marks.get(&first) {
                Some(&mark) => Some(mark),
                None => self.new_mark(Mark { original: first, role: Role::Inside, spells: true }),
            };
            let Some(mark) = mark else { break };
            self.special_marks.insert(first, mark);
            marked.push_str(&text[done..found.start]);
            marked.push(mark);
            done = from;
        }
        marked.push_str(&text[done..]);
        marked
    }

    fn replace(&mut self, text: &mut String, at: usize, c: char, role: Role) {
        let (original, spells) = self.marks.get(&c).map_or((c, false), |mark| (mark.original, true));
        if let Some(mark) = self.new_mark(Mark { original, role, spells }) {
            text.replace_range(at..at + c.len_utf8(), mark.encode_utf8(&mut [0; 4]));
        }
    }

    /// A character that is not in use yet; none when the planes are used up.
    fn new_mark(&mut self, mark: Mark) -> Option<char> {
        loop {
            if self.next == MARK_RANGES[0].end {
                self.next = MARK_RANGES[1].start;
            }
            if self.next >= MARK_RANGES[1].end {
                return None;
            }
            let c = char::from_u32(self.next)?;
            self.next += 1;
            if self.taken.binary_search(&c).is_err() {
                self.marks.insert(c, mark);
                return Some(c);
            }
        }
    }

    /// The text with the original characters back in place, and where the data stands in it.
    pub(super) fn restore(&self, marked: &str) -> Rendered {
        let mut text = String::with_capacity(marked.len());
        let mut contents: Vec<(usize, Range<usize>)> = Vec::new();
        let mut points: Vec<Range<usize>> = Vec::new();
        let mut spelled = Vec::new();
        let mut open: Option<(usize, usize)> = None;
        for c in marked.chars() {
            let Some(mark) = (c >= '\u{F0000}').then(|| self.marks.get(&c)).flatten() else {
                text.push(c);
                continue;
            };
            let start = text.len();
            text.push(mark.original);
            let end = text.len();
            points.push(start..end);
            spelled.extend(mark.spells.then_some(start));
            match mark.role {
                Role::Begin(idx) => open = Some((idx, start)),
                Role::Whole(idx) => contents.push((idx, start..end)),
                Role::End(idx) => {
                    if let Some((opened, from)) = open.take()
                        && opened == idx
                    {
                        contents.push((idx, from..end));
                    }
                }
                Role::Inside => {}
            }
        }
        let data = union(points, &contents);
        Rendered { text, data, contents, spelled }
    }
}

/// All ranges together, ascending and without overlap.
fn union(mut ranges: Vec<Range<usize>>, contents: &[(usize, Range<usize>)]) -> Vec<Range<usize>> {
    ranges.extend(contents.iter().map(|(_, range)| range.clone()));
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut union: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match union.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => union.push(range),
        }
    }
    union
}
