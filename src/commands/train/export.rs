//! `daybreak train export`: a model file → a folder that `transformers` loads.

use anyhow::Result;
use kernels::Pool;
use models::LocalModel;
use serde_json::Value as Json;
use tokenizer::Tokenizer;
use trainer::{
    HuggingFaceExtras, Parameters, SpecialIds, gguf_tokenizer_json, hugging_face_config, write_hugging_face,
};
use weights::{Gguf, ModelConfig, VocabularyMetadata, vocabulary_metadata};

use super::check_output;
use crate::cli;
use crate::config::{ModelSettings, default_threads, isa};
use crate::terminal::human_bytes;

pub(super) fn export(args: &cli::TrainExport) -> Result<()> {
    let cli::ExportFormat::Safetensors = args.format;
    check_output(&args.output, args.force)?;
    let local = ModelSettings::new(&args.data)?.library.resolve(&args.model)?;
    let gguf = Gguf::open(local.path())?;
    let config = ModelConfig::from_gguf(&gguf)?;
    // What cannot be written is told before anything else is read.
    hugging_face_config(&config, args.dtype, &SpecialIds::default())?;
    let metadata = vocabulary_metadata(&gguf)?;
    let (tokenizer, tokenizer_json) = tokenizer(&local, &metadata);
    let eos = ends(&metadata, tokenizer.as_ref());
    let ids = SpecialIds {
        bos: tokenizer.as_ref().map_or(metadata.bos_token_id, Tokenizer::bos),
        eos: &eos,
        pad: metadata.padding_token_id,
    };
    let pool = Pool::new(args.threads.map_or_else(default_threads, usize::from), isa()?)?;
    let parameters = Parameters::from_gguf(&pool, &gguf, &config)?;
    let extras = HuggingFaceExtras {
        dtype: args.dtype,
        ids,
        tokenizer_json: tokenizer_json.as_ref(),
        chat_template: chat_template(&metadata),
    };
    write_hugging_face(&args.output, &config, &parameters, &extras)?;
    let written = std::fs::metadata(args.output.join("model.safetensors"))?.len();
    println!(
        "{}  {}, {} in {}",
        args.output.display(),
        config.arch.name(),
        human_bytes(written),
        args.dtype.name()
    );
    Ok(())
}

/// The model's tokenizer, and its file for other programs; what cannot be had is told.
fn tokenizer(local: &LocalModel, metadata: &VocabularyMetadata<'_>) -> (Option<Tokenizer>, Option<Json>) {
    let told = |error: &dyn std::error::Error| eprintln!("daybreak: the tokenizer is left out: {error}");
    let tokenizer = models::open_tokenizer(local.path()).inspect_err(|error| told(error)).ok();
    let json = tokenizer.as_ref().map(|tokenizer| gguf_tokenizer_json(metadata, tokenizer));
    let json = json.and_then(|json| json.inspect_err(|error| told(error)).ok());
    (tokenizer, json)
}

/// The tokens that end an answer, the one that ends a text first.
fn ends(metadata: &VocabularyMetadata<'_>, tokenizer: Option<&Tokenizer>) -> Vec<u32> {
    let eos = tokenizer.map_or(metadata.eos_token_id, Tokenizer::eos);
    let all = tokenizer.map_or(&[][..], Tokenizer::end_of_generation_ids);
    eos.into_iter().chain(all.iter().copied().filter(|&id| Some(id) != eos)).collect()
}

fn chat_template<'a>(metadata: &VocabularyMetadata<'a>) -> Option<&'a str> {
    let named = metadata.named_chat_templates.iter().find(|(name, _)| *name == "default");
    let source = metadata.chat_template.or(named.map(|(_, source)| *source))?;
    std::str::from_utf8(source).ok().filter(|source| !source.is_empty())
}
