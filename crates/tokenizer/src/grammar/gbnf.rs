//! llama.cpp's GBNF, put into Lark.
//!
//! GBNF knows no terminals, llguidance's parser lives from them: whatever part of a grammar does not refer to itself is
//! a regular expression, and becomes one terminal, as large as possible. A grammar without recursion is one terminal
//! and means exactly what it meant. In one with recursion, a terminal takes the longest text that it can, as in Lark.

use std::collections::HashMap;
use std::fmt::Write;

use super::GrammarError;
use super::lark::syntax;

/// Groups inside each other.
const MAX_DEPTH: usize = 64;
/// Rules.
const MAX_RULES: usize = 4096;
/// Repetitions of one part.
const MAX_REPEAT: u32 = 10_000;

type Alternatives = Vec<Vec<Item>>;

/// A part of a rule and how often it comes; no `max` is any number of times.
struct Item {
    part: Part,
    min: u32,
    max: Option<u32>,
}

enum Part {
    /// A regular expression of one literal or character.
    Pattern(String),
    Rule(usize),
    Group(Alternatives),
}

/// The grammar in Lark.
pub(super) fn to_lark(text: &str) -> Result<String, GrammarError> {
    let mut reader = Reader { text, at: 0, names: HashMap::new(), rules: Vec::new(), n_wrapped: 0 };
    reader.grammar()?;
    let mut bodies = Vec::with_capacity(reader.rules.len());
    for rule in reader.rules {
        let Some(body) = rule.body else {
            return Err(syntax(text, rule.first_seen, &format!("no rule is named {:?}", rule.name)));
        };
        bodies.push(body);
    }
    let Some(&root) = reader.names.get("root") else {
        return Err(GrammarError::Invalid { reason: "no rule is named \"root\"".to_owned() });
    };
    let regular = regular_rules(&bodies);
    let mut writer = Writer { regular: &regular, lark: String::new(), n_terminals: 0 };
    for (idx, body) in bodies.iter().enumerate() {
        let text = match regular[idx] {
            true => writer.terminal(body),
            false => writer.rule(body),
        };
        let name = name_of(&regular, idx);
        // Writing to a string cannot fail.
        let _ = writeln!(writer.lark, "{name}: {text}");
    }
    let _ = writeln!(writer.lark, "start: {}", name_of(&regular, root));
    Ok(writer.lark)
}

fn name_of(regular: &[bool], idx: usize) -> String {
    if regular[idx] { format!("T{idx}") } else { format!("r{idx}") }
}

/// The rules from which no way leads back to where it began.
fn regular_rules(bodies: &[Alternatives]) -> Vec<bool> {
    let mut n_open = vec![0usize; bodies.len()];
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); bodies.len()];
    for (user, body) in bodies.iter().enumerate() {
        each_rule(body, &mut |used| {
            n_open[user] += 1;
            users[used].push(user);
        });
    }
    let mut ready: Vec<usize> = (0..bodies.len()).filter(|&idx| n_open[idx] == 0).collect();
    let mut regular = vec![false; bodies.len()];
    while let Some(idx) = ready.pop() {
        regular[idx] = true;
        for &user in &users[idx] {
            n_open[user] -= 1;
            if n_open[user] == 0 {
                ready.push(user);
            }
        }
    }
    regular
}

fn each_rule(alternatives: &Alternatives, visit: &mut impl FnMut(usize)) {
    for item in alternatives.iter().flatten() {
        match &item.part {
            Part::Pattern(_) => {}
            Part::Rule(idx) => visit(*idx),
            Part::Group(inner) => each_rule(inner, visit),
        }
    }
}

struct Writer<'a> {
    regular: &'a [bool],
    lark: String,
    n_terminals: usize,
}

fn is_regular(item: &Item, regular: &[bool]) -> bool {
    match &item.part {
        Part::Pattern(_) => true,
        Part::Rule(idx) => regular[*idx],
        Part::Group(inner) => inner.iter().flatten().all(|item| is_regular(item, regular)),
    }
}

impl Writer<'_> {
    /// The body of a terminal.
    fn terminal(&self, alternatives: &Alternatives) -> String {
        let sequence = |items: &Vec<Item>| self.terminal_sequence(items.iter());
        alternatives.iter().map(sequence).collect::<Vec<_>>().join(" | ")
    }

    fn terminal_sequence<'i>(&self, items: impl Iterator<Item = &'i Item>) -> String {
        let parts: Vec<String> = items
            .map(|item| {
                let part = match &item.part {
                    Part::Pattern(pattern) => pattern.clone(),
                    Part::Rule(idx) => name_of(self.regular, *idx),
                    Part::Group(inner) => format!("({})", self.terminal(inner)),
                };
                part + &repetition(item)
            })
            .collect();
        if parts.is_empty() { "\"\"".to_owned() } else { parts.join(" ") }
    }

    /// The body of a rule: every run of regular parts becomes a terminal of its own.
    fn rule(&mut self, alternatives: &Alternatives) -> String {
        let mut written = Vec::with_capacity(alternatives.len());
        for items in alternatives {
            let mut parts: Vec<String> = Vec::new();
            let regular = self.regular;
            for run in items.chunk_by(|a, b| is_regular(a, regular) && is_regular(b, regular)) {
                if is_regular(&run[0], regular) {
                    let body = self.terminal_sequence(run.iter());
                    let name = format!("X{}", self.n_terminals);
                    self.n_terminals += 1;
                    let _ = writeln!(self.lark, "{name}: {body}");
                    parts.push(name);
                    continue;
                }
                for item in run {
                    let part = match &item.part {
                        Part::Group(inner) => format!("({})", self.rule(inner)),
                        Part::Rule(idx) => name_of(self.regular, *idx),
                        Part::Pattern(pattern) => pattern.clone(),
                    };
                    parts.push(part + &repetition(item));
                }
            }
            written.push(if parts.is_empty() { "\"\"".to_owned() } else { parts.join(" ") });
        }
        written.join(" | ")
    }
}

fn repetition(item: &Item) -> String {
    match (item.min, item.max) {
        (1, Some(1)) => String::new(),
        (0, Some(1)) => "?".to_owned(),
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (min, None) => format!("{{{min},}}"),
        (min, Some(max)) => format!("{{{min},{max}}}"),
    }
}

struct Rule {
    name: String,
    /// Where it is named first.
    first_seen: usize,
    body: Option<Alternatives>,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    names: HashMap<String, usize>,
    rules: Vec<Rule>,
    n_wrapped: usize,
}

impl Reader<'_> {
    fn grammar(&mut self) -> Result<(), GrammarError> {
        self.space(true);
        while self.peek().is_some() {
            let start = self.at;
            let idx = self.name()?;
            self.space(false);
            if !self.text[self.at..].starts_with("::=") {
                return Err(self.wrong("expected \"::=\" after the name of a rule"));
            }
            self.at += 3;
            self.space(true);
            let body = self.alternatives(0)?;
            if self.rules[idx].body.replace(body).is_some() {
                let reason = format!("the rule {:?} is already there", self.rules[idx].name);
                return Err(syntax(self.text, start, &reason));
            }
            match self.peek() {
                None | Some('\n' | '\r') => self.space(true),
                Some(c) => return Err(self.wrong(&format!("{c:?} is not expected here"))),
            }
        }
        Ok(())
    }

    fn alternatives(&mut self, depth: usize) -> Result<Alternatives, GrammarError> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("groups are nested too deeply, expected at most 64 levels"));
        }
        let mut alternatives = vec![self.sequence(depth)?];
        while self.peek() == Some('|') {
            self.at += 1;
            self.space(true);
            alternatives.push(self.sequence(depth)?);
        }
        Ok(alternatives)
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Item>, GrammarError> {
        let mut items = Vec::new();
        loop {
            let part = match self.peek() {
                Some('"') => self.literal()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.at += 1;
                    Part::Pattern("/(?s:.)/".to_owned())
                }
                Some('(') => {
                    self.at += 1;
                    self.space(true);
                    let inner = self.alternatives(depth + 1)?;
                    if self.peek() != Some(')') {
                        return Err(self.wrong("expected \")\""));
                    }
                    self.at += 1;
                    Part::Group(inner)
                }
                Some('<' | '!') => {
                    return Err(self.wrong("special tokens cannot stand in an answer; leave <…> out"));
                }
                Some(c) if is_name(c) => Part::Rule(self.name()?),
                _ => return Ok(items),
            };
            self.space(depth > 0);
            let item = self.repeated(part)?;
            self.space(depth > 0);
            items.push(item);
        }
    }

    /// Reads `*`, `+`, `?` or `{m,n}` behind a part, any number of them.
    fn repeated(&mut self, part: Part) -> Result<Item, GrammarError> {
        let mut item = Item { part, min: 1, max: Some(1) };
        loop {
            let (min, max) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.at += 1;
                    self.bounds()?
                }
                _ => return Ok(item),
            };
            self.at += 1;
            if (item.min, item.max) != (1, Some(1)) {
                self.n_wrapped += 1;
                if self.n_wrapped > MAX_DEPTH {
                    return Err(self.wrong("repetitions are nested too deeply"));
                }
                item = Item { part: Part::Group(vec![vec![item]]), min: 1, max: Some(1) };
            }
            (item.min, item.max) = (min, max);
        }
    }

    /// `m}`, `m,}` or `m,n}`; the brace that closes is left.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), GrammarError> {
        let min = self.number()?;
        if self.peek() == Some('}') {
            return Ok((min, Some(min)));
        }
        if self.peek() != Some(',') {
            return Err(self.wrong("expected \",\" or \"}\""));
        }
        self.at += 1;
        self.space(false);
        let max = if self.peek() == Some('}') { None } else { Some(self.number()?) };
        if self.peek() != Some('}') {
            return Err(self.wrong("expected \"}\""));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.wrong("the second bound is below the first"));
        }
        Ok((min, max))
    }

    fn number(&mut self) -> Result<u32, GrammarError> {
        self.space(false);
        let rest = &self.text[self.at..];
        let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..len].parse::<u32>().ok().filter(|number| *number <= MAX_REPEAT);
        let Some(number) = number else {
            return Err(self.wrong(&format!("expected a number from 0 to {MAX_REPEAT}")));
        };
        self.at += len;
        self.space(false);
        Ok(number)
    }

    fn name(&mut self) -> Result<usize, GrammarError> {
        let rest = &self.text[self.at..];
        let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.wrong("expected the name of a rule"));
        }
        let (name, first_seen) = (&rest[..len], self.at);
        if let Some(&idx) = self.names.get(name) {
            self.at += len;
            return Ok(idx);
        }
        let idx = self.rules.len();
        if idx >= MAX_RULES {
            let what = "the number of rules";
            return Err(GrammarError::TooLarge { what, found: idx + 1, limit: MAX_RULES });
        }
        self.names.insert(name.to_owned(), idx);
        self.rules.push(Rule { name: name.to_owned(), first_seen, body: None });
        self.at += len;
        Ok(idx)
    }

    fn literal(&mut self) -> Result<Part, GrammarError> {
        self.at += 1;
        let mut pattern = String::new();
        while self.peek() != Some('"') {
            let c = self.char()?;
            pattern.push_str(&code(c));
        }
        self.at += 1;
        let pattern = if pattern.is_empty() { "\"\"".to_owned() } else { format!("/{pattern}/") };
        Ok(Part::Pattern(pattern))
    }

    fn class(&mut self) -> Result<Part, GrammarError> {
        self.at += 1;
        let is_negated = self.peek() == Some('^');
        self.at += usize::from(is_negated);
        let mut ranges = String::new();
        while self.peek() != Some(']') {
            let start = self.at;
            let from = self.char()?;
            let mut to = from;
            if self.peek() == Some('-') && !self.text[self.at..].starts_with("-]") {
                self.at += 1;
                to = self.char()?;
            }
            if to < from {
                return Err(syntax(self.text, start, "the range's end comes before its beginning"));
            }
            ranges.push_str(&code(from));
            ranges.push('-');
            ranges.push_str(&code(to));
        }
        self.at += 1;
        Ok(Part::Pattern(match (ranges.is_empty(), is_negated) {
            (true, false) => return Err(self.wrong("an empty class matches nothing")),
            (true, true) => "/(?s:.)/".to_owned(),
            (false, false) => format!("/[{ranges}]/"),
            (false, true) => format!("/[^{ranges}]/"),
        }))
    }

    /// One character of a literal or a class, escapes read.
    fn char(&mut self) -> Result<char, GrammarError> {
        let Some(c) = self.peek() else {
            return Err(self.wrong("it ends inside a literal or a class"));
        };
        let start = self.at;
        self.at += c.len_utf8();
        if c != '\\' {
            return Ok(c);
        }
        let escape = self.peek();
        self.at += escape.map_or(0, char::len_utf8);
        let n_digits = match escape {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^' | '.')) => return Ok(c),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => return Err(syntax(self.text, start, "unknown escape")),
        };
        let digits = self.text[self.at..].get(..n_digits);
        let c = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
        let Some(c) = c else {
            let reason = format!("expected {n_digits} hexadecimal digits of a character");
            return Err(syntax(self.text, start, &reason));
        };
        self.at += n_digits;
        Ok(c)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// Skips white space and comments; line ends only where a rule may go on behind them.
    fn space(&mut self, newlines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\n' | '\r' if newlines => self.at += 1,
                '#' => {
                    self.at += self.text[self.at..].find(['\n', '\r']).unwrap_or(self.text.len() - self.at)
                }
                _ => return,
            }
        }
    }

    fn wrong(&self, reason: &str) -> GrammarError {
        syntax(self.text, self.at, reason)
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// A character as a regular expression writes it anywhere.
fn code(c: char) -> String {
    format!("\\u{{{:X}}}", u32::from(c))
}
