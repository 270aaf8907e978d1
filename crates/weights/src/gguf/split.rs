//! Models split over several files: `name-00001-of-00003.gguf` and its siblings.
//!
//! The metadata of part 1 is the model's; each part holds its own tensors and the keys `split.no` (from 0),
//! `split.count` and `split.tensors.count`.

use std::path::{Path, PathBuf};

use super::error::GgufError;
use super::header::{Header, limits};

const KEY_NO: &str = "split.no";
const KEY_COUNT: &str = "split.count";
const KEY_TENSORS: &str = "split.tensors.count";

/// A split model: the paths of all its parts, first to last.
#[derive(Debug)]
pub(super) struct Split {
    /// The part that was named.
    opened: PathBuf,
    pub(super) paths: Vec<PathBuf>,
    /// Tensors of all parts together, if the opened part says so.
    n_tensors: Option<u64>,
}

impl Split {
    /// The split that `path` belongs to, `None` for a whole model.
    pub(super) fn of(path: &Path, header: &Header, bytes: &[u8]) -> Result<Option<Split>, GgufError> {
        let count = header.integer(bytes, KEY_COUNT).unwrap_or(0);
        if count <= 1 {
            return Ok(None);
        }
        let mismatch = |field, expected: String, found: String| {
            Err(GgufError::Split { path: path.to_owned(), field, expected, found })
        };
        if count > limits::MAX_PARTS as u64 {
            return mismatch("part count", format!("at most {}", limits::MAX_PARTS), count.to_string());
        }
        let count = count as usize;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some((prefix, no, of)) = parse_name(&name) else {
            let expected = format!("a file name that ends in -00001-of-{count:05}.gguf, as its siblings' do");
            return mismatch("name", expected, name);
        };
        if of != count {
            return mismatch("part count", format!("{of} (from the file's name)"), count.to_string());
        }
        if no == 0 || no > count {
            return mismatch("part number in the name", format!("1 to {count}"), no.to_string());
        }
        let paths = (1..=count).map(|i| path.with_file_name(part_name(prefix, i, count))).collect();
        Ok(Some(Split { opened: path.to_owned(), paths, n_tensors: header.integer(bytes, KEY_TENSORS) }))
    }

    /// Fails with the names of the parts that are not there.
    pub(super) fn check_all_present(&self) -> Result<(), GgufError> {
        let missing: Vec<String> = self
            .paths
            .iter()
            .filter(|path| !path.exists())
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(GgufError::MissingParts { path: self.opened.clone(), n_parts: self.paths.len(), missing })
    }

    /// Fails when the file at position `part_idx` says that it is another part, or of another split.
    pub(super) fn check_part(
        &self,
        path: &Path,
        part_idx: usize,
        header: &Header,
        bytes: &[u8],
    ) -> Result<(), GgufError> {
        let facts =
            [("part number", KEY_NO, part_idx as u64), ("part count", KEY_COUNT, self.paths.len() as u64)];
        for (field, key, expected) in facts {
            let found = header.integer(bytes, key);
            if found != Some(expected) {
                let found = found.map_or("no such key".to_owned(), |n| n.to_string());
                let expected = format!("{key} = {expected}");
                return Err(GgufError::Split { path: path.to_owned(), field, expected, found });
            }
        }
        Ok(())
    }

    /// Fails when the parts do not hold as many tensors as was said.
    pub(super) fn check_tensor_count(&self, found: usize) -> Result<(), GgufError> {
        match self.n_tensors {
            Some(expected) if expected != found as u64 => Err(GgufError::Split {
                path: self.opened.clone(),
                field: "tensor count",
                expected: format!("{KEY_TENSORS} = {expected}"),
                found: found.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

fn part_name(prefix: &str, no: usize, count: usize) -> String {
    format!("{prefix}-{no:05}-of-{count:05}.gguf")
}

/// `("name", 2, 3)` from `name-00002-of-00003.gguf`.
fn parse_name(name: &str) -> Option<(&str, usize, usize)> {
    let rest = name.strip_suffix(".gguf")?;
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    let number = |text: &str| if text.len() == 5 { text.parse().ok() } else { None };
    Some((prefix, number(no)?, number(count)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_understood() {
        assert_eq!(parse_name("big-q4-00002-of-00010.gguf"), Some(("big-q4", 2, 10)));
        assert_eq!(parse_name("big.gguf"), None);
        assert_eq!(parse_name("big-2-of-10.gguf"), None);
        assert_eq!(part_name("big-q4", 2, 10), "big-q4-00002-of-00010.gguf");
    }
}
