//! What a model can be taught from nothing on one machine: generated lessons with their tests, in a folder.

mod arithmetic;
mod elements;
mod first_light;
mod manners;
mod spelling;

pub use first_light::{FirstLight, Language};

/// A question, its answer, and what is kept out of the lessons so that it can be asked in a test.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lesson {
    pub(crate) question: String,
    pub(crate) answer: String,
}

impl Lesson {
    pub(crate) fn new(question: impl Into<String>, answer: impl Into<String>) -> Lesson {
        Lesson { question: question.into(), answer: answer.into() }
    }
}

/// Whether the thing of this name is kept for tests; one in `of` is. The same in every run, whatever the seed.
pub(crate) fn is_test(name: &str, of: u64) -> bool {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes()).is_multiple_of(of)
}
