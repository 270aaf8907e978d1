//! Which quantisation is this file, and which of a repository's files is the one to take? Split files too.

use std::path::{Path, PathBuf};

/// Quantisations in the order in which one is chosen when none is asked for: good quality for its size first.
/// All are ones that the engine runs.
pub(crate) const PREFERRED: [&str; 15] = [
    "Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1", "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0", "BF16", "F16",
    "FP16", "F32", "Q4_K_L",
];

/// Every word that names a quantisation in a file name, longest first where one begins another.
const KNOWN: [&str; 46] = [
    "Q2_K_L", "Q2_K_S", "Q2_K", "Q3_K_XL", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q3_K", "Q4_K_XL", "Q4_K_L",
    "Q4_K_M", "Q4_K_S", "Q4_K", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "Q4_0", "Q4_1", "Q5_K_XL", "Q5_K_L",
    "Q5_K_M", "Q5_K_S", "Q5_K", "Q5_0", "Q5_1", "Q6_K_XL", "Q6_K_L", "Q6_K", "Q8_K_XL", "Q8_0", "IQ1_S",
    "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_XS",
    "IQ4_NL", "MXFP4", "BF16", "F16", "F32",
];

/// The quantisation that a file name tells, upper case; none if it tells none.
pub(crate) fn of_file_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path).to_uppercase();
    let name = name.strip_suffix(".GGUF").unwrap_or(&name);
    let name = without_split_number(name);
    let is_edge = |c: Option<char>| c.is_none_or(|c| matches!(c, '-' | '.' | '_'));
    let mut best: Option<(usize, &str)> = None;
    for known in KNOWN {
        for (at, _) in name.match_indices(known) {
            let before = name[..at].chars().next_back();
            let after = name[at + known.len()..].chars().next();
            let edges = before.is_none_or(|c| matches!(c, '-' | '.' | '_')) && is_edge(after);
            // The last word counts, and of two that begin at one place the longer.
            if edges && best.is_none_or(|(old, word)| at > old || (at == old && known.len() > word.len())) {
                best = Some((at, known));
            }
        }
    }
    let (at, word) = best?;
    // unsloth's dynamic variants: `UD-Q4_K_XL`.
    if name[..at].ends_with("UD-") { Some(format!("UD-{word}")) } else { Some(word.to_string()) }
}

/// `-00001-of-00003` at the end → (1, 3).
fn split_number(stem: &str) -> Option<(u32, u32)> {
    let (rest, total) = stem.rsplit_once("-of-").or_else(|| stem.rsplit_once("-OF-"))?;
    let (_, number) = rest.rsplit_once('-')?;
    let five_digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !five_digits(number) || !five_digits(total) {
        return None;
    }
    let (number, total) = (number.parse().ok()?, total.parse().ok()?);
    (1 <= number && number <= total).then_some((number, total))
}

/// The name without `-00001-of-00003`, which may stand at its end or before the first dot.
pub(crate) fn without_split_number(name: &str) -> &str {
    const LEN: usize = "-00001-of-00003".len();
    let stem_len = name.find('.').unwrap_or(name.len());
    let (stem, ending) = name.split_at(stem_len);
    if split_number(name).is_some() {
        return &name[..name.len() - LEN];
    }
    // `rest-00001-of-00003.gguf.part` → `.gguf.part`: only what follows a stem is asked for here.
    if split_number(stem).is_some() && stem.len() == LEN { ending } else { name }
}

/// All files of the split model that `path` belongs to, in order; `path` alone when it is not split.
/// Missing ones are named too: opening tells what is missing.
pub(crate) fn split_siblings(path: &Path) -> Vec<PathBuf> {
    let alone = || vec![path.to_path_buf()];
    let Some(stem) =
        path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".gguf"))
    else {
        return alone();
    };
    match split_number(stem) {
        Some((1, total)) if total <= MAX_SPLITS => {
            let base = without_split_number(stem);
            (1..=total).map(|n| path.with_file_name(format!("{base}-{n:05}-of-{total:05}.gguf"))).collect()
        }
        _ => alone(),
    }
}

/// Most files of one model; the largest on the hub have about a hundred.
const MAX_SPLITS: u32 = 999;

/// A file of a repository, as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Path inside the repository.
    pub(crate) path: String,
    /// Length in bytes.
    pub(crate) size: u64,
    /// Digest that the hub states.
    pub(crate) sha256: Option<String>,
}

/// The files of one choice: its quantisation and its parts in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Upper case; the file's name when it tells no quantisation.
    pub(crate) quant: String,
    /// In order.
    pub(crate) files: Vec<RemoteFile>,
}

impl Choice {
    /// Name of the file without folder, number and ending.
    fn stem(&self) -> &str {
        let path = self.files[0].path.as_str();
        let name = path.rsplit('/').next().unwrap_or(path);
        without_split_number(name.strip_suffix(".gguf").unwrap_or(name))
    }

    /// Bytes of all files; what a hub states may be beyond any sum.
    fn n_bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| file.size.saturating_add(sum))
    }

    /// Name and bytes.
    fn by_stem(&self) -> (String, u64) {
        (self.stem().to_string(), self.n_bytes())
    }
}

/// Why no file of a repository was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoChoice {
    /// There is no GGUF file of a language model.
    NoGguf,
    /// Not that one; these are there (name, bytes).
    Other(Vec<(String, u64)>),
    /// Several files are that one.
    Several(Vec<(String, u64)>),
}

/// All models of a repository: GGUF files that are no vision projectors or importance matrices, split files
/// joined.
fn choices(files: &[RemoteFile]) -> Vec<Choice> {
    let mut choices: Vec<(String, Choice)> = Vec::new();
    for file in files {
        let lower = file.path.to_lowercase();
        if !lower.ends_with(".gguf") || is_side_file(&lower) {
            continue;
        }
        let stem = &file.path[..file.path.len() - ".gguf".len()];
        let base = without_split_number(stem).to_string();
        match choices.iter_mut().find(|(known, _)| *known == base) {
            Some((_, choice)) => choice.files.push(file.clone()),
            None => {
                let quant = of_file_name(&file.path)
                    .or_else(|| of_folder(&file.path))
                    .unwrap_or_else(|| base.rsplit('/').next().unwrap_or(&base).to_uppercase());
                choices.push((base, Choice { quant, files: vec![file.clone()] }));
            }
        }
    }
    let mut choices: Vec<Choice> = choices.into_iter().map(|(_, choice)| choice).collect();
    choices.iter_mut().for_each(|choice| choice.files.sort_by(|a, b| a.path.cmp(&b.path)));
    choices.retain(is_complete);
    choices
}

/// Some repositories keep each quantisation in a folder of its name.
fn of_folder(path: &str) -> Option<String> {
    let (folder, _) = path.rsplit_once('/')?;
    of_file_name(folder)
}

/// A split model with all its parts, or a single file.
fn is_complete(choice: &Choice) -> bool {
    let numbers: Vec<_> =
        choice.files.iter().map(|file| split_number(file.path.trim_end_matches(".gguf"))).collect();
    match numbers.first() {
        Some(Some((1, total))) => {
            *total <= MAX_SPLITS
                && numbers.len() == *total as usize
                && numbers.iter().zip(1..).all(|(number, n)| *number == Some((n, *total)))
        }
        Some(None) => numbers.len() == 1,
        _ => false,
    }
}

/// Files that lie beside models and are none: vision projectors, importance matrices, adapters.
pub(crate) fn is_side_file(lower_path: &str) -> bool {
    let name = lower_path.rsplit('/').next().unwrap_or(lower_path);
    name.contains("mmproj") || name.contains("imatrix") || name.starts_with("lora-")
}

/// Chooses the files of quantisation `wanted`, or the usual one when none is asked for.
pub(crate) fn choose(files: &[RemoteFile], wanted: Option<&str>) -> Result<Choice, NoChoice> {
    let choices = choices(files);
    if choices.is_empty() {
        return Err(NoChoice::NoGguf);
    }
    let listing = |choices: &[&Choice]| {
        choices.iter().map(|choice| (choice.quant.clone(), choice.n_bytes())).collect::<Vec<(String, u64)>>()
    };
    let all: Vec<&Choice> = choices.iter().collect();
    let of = |quant: &str| -> Vec<&Choice> {
        all.iter().copied().filter(|choice| choice.quant.eq_ignore_ascii_case(quant)).collect()
    };
    if let Some(wanted) = wanted {
        // Of several files of one quantisation, each can be asked for by its name.
        let by_name = all.iter().find(|choice| choice.stem().eq_ignore_ascii_case(wanted));
        return match (of(wanted).as_slice(), by_name) {
            ([one], _) => Ok((*one).clone()),
            (_, Some(choice)) => Ok(Choice { quant: wanted.to_uppercase(), ..(*choice).clone() }),
            ([], None) => Err(NoChoice::Other(listing(&all))),
            (several, None) => {
                Err(NoChoice::Several(several.iter().map(|choice| choice.by_stem()).collect()))
            }
        };
    }
    if let [one] = all.as_slice() {
        return Ok((*one).clone());
    }
    for quant in PREFERRED {
        if let [one] = of(quant).as_slice() {
            return Ok((*one).clone());
        }
    }
    Err(NoChoice::Other(listing(&all)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantisation_is_read_from_names_as_people_write_them() {
        for (name, expected) in [
            ("SmolLM2-135M-Instruct.Q4_1.gguf", Some("Q4_1")),
            ("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", Some("Q4_K_M")),
            ("Qwen3-0.6B-Q8_0.gguf", Some("Q8_0")),
            ("model-q5_k_m-00001-of-00002.gguf", Some("Q5_K_M")),
            ("Model-UD-Q4_K_XL.gguf", Some("UD-Q4_K_XL")),
            ("gemma-3-4b-it-bf16.gguf", Some("BF16")),
            ("F16-model-Q6_K.gguf", Some("Q6_K")),
            ("Phi-3-mini-4k-instruct-q4.gguf", None),
            ("model.gguf", None),
        ] {
            assert_eq!(of_file_name(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn split_numbers_are_only_what_the_format_says() {
        assert_eq!(split_number("m-00002-of-00003"), Some((2, 3)));
        for name in ["m-00004-of-00003", "m-00000-of-00003", "m-1-of-3", "m-of-00003", "m"] {
            assert_eq!(split_number(name), None, "{name}");
        }
        assert_eq!(without_split_number("m-00002-of-00003"), "m");
        assert_eq!(without_split_number("-00002-of-00003.gguf.part"), ".gguf.part");
        assert_eq!(without_split_number(".gguf.part"), ".gguf.part");
        assert_eq!(
            split_siblings(Path::new("/x/m-00001-of-00002.gguf"))[1],
            Path::new("/x/m-00002-of-00002.gguf")
        );
        assert_eq!(split_siblings(Path::new("/x/m.gguf")), [Path::new("/x/m.gguf")]);
    }

    fn remote(path: &str) -> RemoteFile {
        RemoteFile { path: path.to_string(), size: 1, sha256: None }
    }

    #[test]
    fn choosing_prefers_good_for_its_size_and_refuses_to_guess() {
        let paths = |choice: Result<Choice, NoChoice>| {
            choice.map(|choice| choice.files.into_iter().map(|file| file.path).collect::<Vec<_>>())
        };
        let files = ["m-Q8_0.gguf", "m-Q4_0.gguf", "m-F16.gguf"].map(remote);
        assert_eq!(paths(choose(&files, None)), Ok(vec!["m-Q4_0.gguf".to_string()]));
        assert_eq!(paths(choose(&files, Some("f16"))), Ok(vec!["m-F16.gguf".to_string()]));
        // Only one file: whatever it is called.
        assert_eq!(paths(choose(&[remote("strange.gguf")], None)), Ok(vec!["strange.gguf".to_string()]));
        // Two that are both Q8_0, and nothing else.
        let twins = ["a-Q8_0.gguf", "b-Q8_0.gguf"].map(remote);
        assert!(matches!(choose(&twins, None), Err(NoChoice::Other(_))));
        assert_eq!(
            choose(&twins, Some("Q8_0")),
            Err(NoChoice::Several(vec![("a-Q8_0".into(), 1), ("b-Q8_0".into(), 1)]))
        );
        assert_eq!(paths(choose(&twins, Some("B-Q8_0"))), Ok(vec!["b-Q8_0.gguf".to_string()]));
        // A split model with a part missing does not count.
        let half = ["m-Q4_0-00001-of-00002.gguf"].map(remote);
        assert_eq!(choose(&half, None), Err(NoChoice::NoGguf));
        assert_eq!(choose(&[remote("mmproj-F16.gguf"), remote("README.md")], None), Err(NoChoice::NoGguf));
    }
}
