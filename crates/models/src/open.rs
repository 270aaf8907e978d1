//! A model file becomes something that can be run: mapped weights, configuration, tokenizer, chat template.
//!
//! Before it is handed out it proves what can be proved without running it: every tensor is there in the right
//! shape, special ids exist, the template renders a conversation whose ids lie in the vocabulary, and a model of
//! the catalog gives the ids that the catalog knows. A file that fails is named with its reason and not opened.

mod error;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizer::{ChatMessage, ChatTemplate, RenderInput, Specials, Tokenizer};
use weights::{Adapter, Gguf, MemoryNeed, ModelConfig, ScaledAdapter, VocabularyMetadata};

pub use error::{OpenError, OpenProblem};

use crate::catalog::{Catalog, CatalogEntry};
use crate::digest::Hasher;
use crate::library::{LocalModel, Origin};

/// What the caller decides about a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpenOptions {
    /// Jinja source to use instead of the model's own template.
    pub chat_template: Option<String>,
    /// Adapters to run it with.
    pub adapters: Vec<AdapterFile>,
}

/// An adapter that somebody named.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFile {
    /// Its file.
    pub path: PathBuf,
    /// How much of it: 1 for what was trained.
    pub scale: f32,
}

/// A model that is ready for the engine.
#[derive(Debug)]
pub struct OpenModel {
    /// Name by which it was asked for.
    pub name: String,
    /// The (first) file.
    pub path: PathBuf,
    /// The mapped file.
    pub gguf: Arc<Gguf>,
    /// What the engine must know of its architecture.
    pub config: ModelConfig,
    /// What changes its weights; each fits.
    pub adapters: Vec<ScaledAdapter>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its chat template, the given one, or the fallback.
    pub template: Arc<ChatTemplate>,
    /// Digest of the template's source.
    pub template_sha256: String,
    /// What a person should know before trusting its answers.
    pub warnings: Vec<Warning>,
    /// Languages it answers in, as far as catalog or file tell; empty when they do not.
    pub languages: Vec<String>,
    /// Digest of the (first) file when it is known; `Library::sha256` computes it.
    pub sha256: Option<String>,
}

/// Something that works less well than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Word for programs.
    pub code: &'static str,
    /// Sentence for people.
    pub message: String,
}

impl OpenModel {
    /// Opens and proves the model. Reads the whole vocabulary (some 100 ms for a large one), not the weights.
    pub fn open(
        model: &LocalModel,
        catalog: &Catalog,
        options: &OpenOptions,
    ) -> Result<OpenModel, OpenError> {
        let fail =
            |problem: OpenProblem| OpenError { path: model.path().to_path_buf(), problem: Box::new(problem) };
        let gguf = Gguf::open(model.path()).map_err(|error| fail(error.into()))?;
        let config = ModelConfig::from_gguf(&gguf).map_err(|error| fail(error.into()))?;
        weights::check_tensors(&gguf, &config).map_err(|error| fail(error.into()))?;
        let metadata = weights::vocabulary_metadata(&gguf).map_err(|error| fail(error.into()))?;
        let tokenizer = vocabulary::tokenizer(&metadata, config.vocab_size).map_err(fail)?;
        let mut warnings: Vec<Warning> = (tokenizer.warnings().iter())
            .map(|warning| Warning { code: "tokenizer", message: warning.to_string() })
            .collect();
        let template = template(&metadata, options, &tokenizer, &mut warnings).map_err(fail)?;
        prove_template(&template, &tokenizer).map_err(fail)?;
        if tokenizer.end_of_generation_ids().is_empty() {
            let message =
                "the file names no token that ends an answer: answers end at their length limit only";
            warnings.push(Warning { code: "no_end_token", message: message.to_string() });
        }
        let adapters = (options.adapters.iter())
            .map(|file| open_adapter(file, &gguf, &config, &mut warnings))
            .collect::<Result<_, _>>()
            .map_err(fail)?;
        let entry = entry_of(model, catalog);
        if let Some(entry) = entry {
            prove_ids(entry, &tokenizer).map_err(fail)?;
        }
        let languages = match entry {
            Some(entry) => entry.languages.clone(),
            None => file_languages(&gguf),
        };
        let mut hasher = Hasher::default();
        hasher.update(template.source().as_bytes());
        Ok(OpenModel {
            name: model.name.clone(),
            path: model.path().to_path_buf(),
            gguf: Arc::new(gguf),
            config,
            adapters,
            tokenizer: Arc::new(tokenizer),
            template: Arc::new(template),
            template_sha256: hasher.finish(),
            warnings,
            languages,
            sha256: model.sha256.clone(),
        })
    }

    /// The files of its adapters, each with its scale; their names are those of the files, without endings.
    pub fn adapter_files(&self) -> impl Iterator<Item = (LocalModel, f32)> {
        self.adapters.iter().map(|ScaledAdapter { adapter, scale }| {
            let path = adapter.path();
            let stem = path.file_stem().unwrap_or(path.as_os_str());
            let file = LocalModel {
                name: stem.to_string_lossy().into_owned(),
                paths: adapter.gguf().paths().map(Path::to_owned).collect(),
                size: adapter.gguf().file_size(),
                origin: Origin::File,
                sha256: None,
            };
            (file, *scale)
        })
    }

    /// What it will take to run it with conversations of `ctx` tokens.
    pub fn memory_need(&self, ctx: usize) -> MemoryNeed {
        let mut need = weights::memory_need(&self.config, &self.gguf, ctx);
        let adapters = self.adapters.iter().map(|scaled| scaled.adapter.memory_bytes());
        need.weights = adapters.fold(need.weights, u64::saturating_add);
        need
    }

    /// Whether it answers in this language (any BCP 47 tag). A model that tells no languages may.
    pub fn speaks(&self, language: &str) -> bool {
        let primary = language.split(['-', '_']).next().unwrap_or(language).to_lowercase();
        self.languages.is_empty() || self.languages.contains(&primary)
    }
}

/// The adapter, held against its base.
fn open_adapter(
    file: &AdapterFile,
    base: &Gguf,
    config: &ModelConfig,
    warnings: &mut Vec<Warning>,
) -> Result<ScaledAdapter, OpenProblem> {
    let adapter = Adapter::open(&file.path)?;
    adapter.fit(config)?;
    if let Some(message) = adapter.base_warning(base) {
        warnings.push(Warning { code: "adapter_of_another_file", message });
    }
    Ok(ScaledAdapter { adapter: Arc::new(adapter), scale: file.scale })
}

/// The tokenizer alone, also of a file that holds nothing else.
///
/// # Errors
/// Where the file is damaged or its vocabulary contradicts itself.
pub fn open_tokenizer(path: &Path) -> Result<Tokenizer, OpenError> {
    let fail = |problem: OpenProblem| OpenError { path: path.to_owned(), problem: Box::new(problem) };
    let gguf = Gguf::open(path).map_err(|error| fail(error.into()))?;
    let metadata = weights::vocabulary_metadata(&gguf).map_err(|error| fail(error.into()))?;
    vocabulary::tokenizer(&metadata, metadata.tokens.len()).map_err(fail)
}

/// What the catalog says of this file: by its digest, or by the name under which it lies in one of our folders.
fn entry_of<'a>(model: &LocalModel, catalog: &'a Catalog) -> Option<&'a CatalogEntry> {
    let by_digest = model.sha256.as_deref().and_then(|digest| catalog.find_sha256(digest));
    by_digest.or_else(|| match model.origin {
        Origin::Pulled | Origin::Shared => catalog.entries().iter().find(|entry| entry.name == model.name),
        _ => None,
    })
}

/// `general.languages`, as primary tags.
fn file_languages(gguf: &Gguf) -> Vec<String> {
    let Ok(Some(languages)) = gguf.get_array_bytes("general.languages") else {
        return Vec::new();
    };
    let tag = |bytes: &&[u8]| {
        let text = std::str::from_utf8(bytes).ok()?;
        let primary = text.split(['-', '_']).next()?.to_lowercase();
        ((2..=3).contains(&primary.len()) && primary.bytes().all(|byte| byte.is_ascii_lowercase()))
            .then_some(primary)
    };
    let mut tags: Vec<String> = languages.iter().filter_map(tag).collect();
    tags.sort();
    tags.dedup();
    tags
}

/// The given template, else the model's own, else ChatML with a warning.
fn template(
    metadata: &VocabularyMetadata<'_>,
    options: &OpenOptions,
    tokenizer: &Tokenizer,
    warnings: &mut Vec<Warning>,
) -> Result<ChatTemplate, OpenProblem> {
    if let Some(source) = &options.chat_template {
        return ChatTemplate::new(source, tokenizer.special_texts())
            .map_err(|error| OpenProblem::Template { whose: "the given", error });
    }
    let named = |name: &str| {
        metadata.named_chat_templates.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
    };
    let own = metadata.chat_template.or_else(|| named("default")).filter(|source| !source.is_empty());
    match own {
        Some(source) => {
            let source = std::str::from_utf8(source).map_err(|_| OpenProblem::TemplateNotText)?;
            ChatTemplate::new(source, tokenizer.special_texts())
                .map_err(|error| OpenProblem::Template { whose: "the model's own", error })
        }
        None => {
            let known = tokenizer.token_id(b"<|im_start|>").is_some_and(|id| tokenizer.is_control(id));
            let doubt = if known { "" } else { ", whose tokens it does not have" };
            let message = format!(
                "the model has no chat template: ChatML is used{doubt}, so answers may be poor or may not end; \
                 give the right one with --chat-template FILE"
            );
            warnings.push(Warning { code: "no_chat_template", message });
            Ok(ChatTemplate::chatml(tokenizer.special_texts()))
        }
    }
}

/// What the proof says; any template must carry it through.
const PROOF_TEXT: &str = "Good morning.";

/// Renders and encodes one simple conversation.
fn prove_template(template: &ChatTemplate, tokenizer: &Tokenizer) -> Result<(), OpenProblem> {
    let messages = [ChatMessage::new("user", PROOF_TEXT)];
    let rendered = template
        .render(&RenderInput::prompt(&messages, 0))
        .map_err(|error| OpenProblem::Template { whose: "the", error })?;
    if !rendered.text().contains(PROOF_TEXT) {
        return Err(OpenProblem::TemplateLosesText);
    }
    let ids = tokenizer.encode_rendered(&rendered);
    let n_tokens = tokenizer.vocab_size();
    match ids.iter().find(|&&id| id as usize >= n_tokens) {
        Some(&id) => Err(OpenProblem::SpecialId { name: "a token of the rendered template", id, n_tokens }),
        None if ids.is_empty() => Err(OpenProblem::TemplateLosesText),
        None => Ok(()),
    }
}

/// A model of the catalog gives the ids that the catalog knows.
fn prove_ids(entry: &CatalogEntry, tokenizer: &Tokenizer) -> Result<(), OpenProblem> {
    let Some(probe) = &entry.probe else {
        return Ok(());
    };
    let found = tokenizer.encode(probe.text.as_bytes(), Specials::Parse);
    if found == probe.ids {
        return Ok(());
    }
    Err(OpenProblem::Probe {
        name: entry.name.clone(),
        text: probe.text.clone(),
        expected: probe.ids.clone(),
        found,
    })
}
