//! Ids equal those of the reference implementations, on vocabularies that these trained.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod golden_file;

use golden_file::{committed, differences, read_folder};

#[test]
fn ids_equal_the_references() {
    let mut folders = vec![committed()];
    // More goldens, too large for the tree: `DAYBREAK_TOKENIZERS=folder cargo test`.
    folders.extend(std::env::var_os("DAYBREAK_TOKENIZERS").map(Into::into));
    let mut told = Vec::new();
    let mut n_cases = 0;
    for file in folders.iter().flat_map(|folder| read_folder(folder)) {
        n_cases += file.cases.len();
        let different = differences(&file);
        eprintln!("{}: {} of {} cases differ", file.path.display(), different.len(), file.cases.len());
        told.extend(different);
    }
    assert!(n_cases > 0, "no goldens found; run scripts/golden_tokenizers.py");
    assert!(told.is_empty(), "{} of {n_cases} cases differ:\n{}", told.len(), told.join("\n"));
}
