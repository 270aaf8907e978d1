//! What is done with every fuzzed vocabulary and text, shared by the fuzz target and the corpus test of
//! `crates/tokenizer`.
//!
//! ```text
//! bpe gpt-2 bytes bos=0 eos=300      kind, pre-tokenizer, whether the 256 bytes are tokens, special ids and switches
//! 3 0 <|im_end|>                     a token: kind, score, text
//! (an empty line)
//! a b                                a merge, until an empty line
//! (an empty line)
//! all the rest is the text
//! ```

use std::sync::Arc;

use tokenizer::{
    ChatMessage, ChatTemplate, RenderInput, Specials, TokenId, TokenKind, TokenStream, Tokenizer, Vocabulary,
    VocabularyKind, known_pre_tokenizers,
};

/// Pre-tokenizers that compose the text first or know no bytes, so that it may come back changed.
const CHANGES_TEXT: [&str; 8] =
    ["mpt", "olmo", "command-r", "qwen2", "megrez", "stablelm2", "qwen35", "gemma4"];

/// The next line without its end, and what follows.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

/// The lines until an empty one, and what follows.
fn paragraph(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut lines = Vec::new();
    loop {
        let (first, rest) = line(bytes);
        bytes = rest;
        if first.is_empty() {
            return (lines, bytes);
        }
        lines.push(first);
    }
}

/// The 256 tokens for bytes: in the alphabet of byte-level BPE, or as `<0x0A>`.
fn byte_tokens(kind: VocabularyKind) -> Vec<String> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut n_hidden = 0;
    (0..256)
        .map(|byte| match kind {
            VocabularyKind::Spm => format!("<0x{byte:02X}>"),
            VocabularyKind::Bpe if printable(byte) => char::from_u32(byte).expect("a letter").to_string(),
            VocabularyKind::Bpe => {
                n_hidden += 1;
                char::from_u32(255 + n_hidden).expect("a letter").to_string()
            }
        })
        .collect()
}

/// Builds the tokenizer that the bytes describe and holds it to its promises.
///
/// Returns the error's text where there is no such tokenizer. Panics only if a promise is broken.
pub(crate) fn exercise(bytes: &[u8]) -> Option<String> {
    let (head, rest) = line(bytes);
    let (tokens, rest) = paragraph(rest);
    let (merges, text) = paragraph(rest);
    let head = String::from_utf8_lossy(head).into_owned();
    let kind = if head.starts_with("spm") { VocabularyKind::Spm } else { VocabularyKind::Bpe };
    let words = || head.split(' ').skip(1);
    let id = |name: &str| words().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
    let switch = |name: &str| id(name).map(|on: TokenId| on != 0);
    let all_bytes = words().any(|word| word == "bytes");
    let bytes_texts = if all_bytes { byte_tokens(kind) } else { Vec::new() };

    let mut vocabulary = Vocabulary::new(kind, bytes_texts.iter().map(String::as_bytes).collect());
    let byte_kind = if kind == VocabularyKind::Spm { TokenKind::Byte } else { TokenKind::Normal };
    vocabulary.kinds = vec![byte_kind; bytes_texts.len()];
    vocabulary.scores = vec![0.0; bytes_texts.len()];
    for token in tokens {
        let mut fields = token.splitn(3, |&byte| byte == b' ');
        let mut number = || fields.next().and_then(|field| std::str::from_utf8(field).ok()?.parse().ok());
        let (kind, score): (Option<f32>, Option<f32>) = (number(), number());
        vocabulary.kinds.push(TokenKind::from_ggml_id(kind.unwrap_or(1.0) as i32));
        vocabulary.scores.push(score.unwrap_or(f32::NAN));
        vocabulary.tokens.push(fields.next().unwrap_or_default());
    }
    vocabulary.pre = words().find(|word| !word.contains('=') && *word != "bytes").map(str::to_owned);
    vocabulary.merges = merges;
    vocabulary.bos = id("bos");
    vocabulary.eos = id("eos");
    vocabulary.eot = id("eot");
    vocabulary.unk = id("unk");
    vocabulary.pad = id("pad");
    vocabulary.more_eog = id("eog").into_iter().collect();
    vocabulary.add_bos = switch("add_bos");
    vocabulary.add_eos = switch("add_eos");
    vocabulary.add_space_prefix = switch("add_space_prefix");

    let tokenizer = match Tokenizer::new(&vocabulary) {
        Ok(tokenizer) => Arc::new(tokenizer),
        Err(error) => return Some(error.to_string()),
    };
    let pre = vocabulary.pre.as_deref();
    // Byte-level words leave out what they cannot say; the others say that it is unknown.
    let says_unknown = kind == VocabularyKind::Spm || pre == Some("gemma4");
    let unk = vocabulary.unk.or((kind == VocabularyKind::Spm).then_some(0)).filter(|_| says_unknown);
    // Byte-level words give back any bytes, as long as every byte is a token and none is structure.
    let is_lossless = kind == VocabularyKind::Bpe
        && all_bytes
        && pre.is_some_and(|pre| known_pre_tokenizers().any(|known| known == pre))
        && !pre.is_some_and(|pre| CHANGES_TEXT.contains(&pre))
        && (0..256).all(|id| !tokenizer.is_control(id));

    let ids = tokenizer.encode(text, Specials::AsText);
    assert_eq!(ids, tokenizer.encode(text, Specials::AsText), "the same text, other ids");
    for &id in &ids {
        assert!((id as usize) < tokenizer.vocab_size(), "id {id} is no token");
        assert!(!tokenizer.is_control(id) || Some(id) == unk, "the text became the special token {id}");
    }
    let parsed = tokenizer.encode(text, Specials::Parse);
    if is_lossless {
        assert_eq!(tokenizer.decode(&ids), text, "the text came back changed");
        assert_eq!(tokenizer.decode_with_specials(&parsed), text, "the text came back changed");
    }
    let _ = tokenizer.encode_with_bos(text, Specials::Parse);

    // Ids of the text, and ids of nothing in particular.
    let any_ids = text.chunks(2).map(|pair| pair.iter().fold(0, |id, &byte| id << 8 | TokenId::from(byte)));
    streams_whole_characters(&tokenizer, &parsed);
    streams_whole_characters(&tokenizer, &any_ids.collect::<Vec<_>>());
    keeps_data_apart(&tokenizer, text, is_lossless);
    None
}

/// A stream's pieces, joined, are the text of all bytes: no character was cut.
fn streams_whole_characters(tokenizer: &Arc<Tokenizer>, ids: &[TokenId]) {
    let mut stream = TokenStream::new(Arc::clone(tokenizer));
    let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
    streamed.push_str(&stream.finish());
    let shown = ids.iter().filter(|&&id| !tokenizer.is_hidden(id));
    let bytes: Vec<u8> = shown.flat_map(|&id| tokenizer.piece(id)).copied().collect();
    assert_eq!(streamed, String::from_utf8_lossy(&bytes));
}

/// In a rendered chat no special token touches what a person said.
fn keeps_data_apart(tokenizer: &Tokenizer, text: &[u8], is_lossless: bool) {
    let template = ChatTemplate::chatml(tokenizer.special_texts());
    let said = String::from_utf8_lossy(text).into_owned();
    let messages = [ChatMessage::new("user", &said)];
    let rendered = template.render(&RenderInput::prompt(&messages, 0)).expect("ChatML takes any text");
    assert!(rendered.text().contains(&said), "ChatML changed what was said");
    let ids = tokenizer.encode_rendered(&rendered);
    if !is_lossless {
        return;
    }
    // A BOS that was set before the text is no part of it.
    let n_bytes: usize = ids.iter().map(|&id| tokenizer.piece(id).len()).sum();
    let has_bos = tokenizer.adds_bos() && ids.first().copied() == tokenizer.bos();
    let skipped = usize::from(has_bos && n_bytes > rendered.text().len());
    let mut at = 0;
    for &id in &ids[skipped..] {
        let end = at + tokenizer.piece(id).len();
        let is_said = rendered.data().iter().any(|data| data.start < end && at < data.end);
        assert!(!(tokenizer.is_control(id) && is_said), "the special token {id} stands at {at} in {said:?}");
        at = end;
    }
    assert_eq!(at, rendered.text().len(), "the prompt came back changed");
}
