//! Sums, differences and products.

use super::draw::Draw;
use super::task::Document;

/// `n` different problems: sums and differences of numbers of two digits, products of numbers of one.
pub(crate) fn problems(draw: &mut Draw, n: usize, word: impl Fn(u32, char, u32) -> String) -> Vec<Document> {
    let mut documents: Vec<Document> = Vec::with_capacity(n);
    while documents.len() < n {
        let (a, sign, b, result) = match documents.len() % 3 {
            0 => {
                let (a, b) = (draw.between(10, 99), draw.between(10, 99));
                (a, '+', b, a + b)
            }
            1 => {
                let (a, b) = (draw.between(10, 99), draw.between(10, 99));
                (a.max(b), '-', a.min(b), a.abs_diff(b))
            }
            _ => {
                let (a, b) = (draw.between(2, 9), draw.between(2, 9));
                (a, '×', b, a * b)
            }
        };
        let question = word(a, sign, b);
        if !documents.iter().any(|document| document.question() == question) {
            documents.push(Document::Generation {
                question,
                answers: vec![result.to_string()],
                checks: vec![],
            });
        }
    }
    documents
}
