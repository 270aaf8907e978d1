//! `daybreak inspect`: what a model file or an adapter holds and the memory it will need.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use weights::{Adapter, Gguf, ModelConfig, Value, check_tensors, memory_need};

use crate::cli;
use crate::config::{ModelSettings, context_plan};
use crate::terminal::{human_bytes, printable};

/// Items of an array, and characters of a string, shown without `--full`.
const SHOWN_ITEMS: usize = 4;
const SHOWN_CHARS: usize = 100;

pub(crate) fn inspect(args: cli::Inspect) -> Result<()> {
    let local = ModelSettings::new(&args.data)?.library.resolve(&args.model)?;
    let gguf = Gguf::open(local.path())?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for path in gguf.paths() {
        writeln!(out, "file        {}", path.display())?;
    }
    writeln!(
        out,
        "format      GGUF v{}, {}, aligned to {}",
        gguf.version(),
        human_bytes(gguf.file_size()),
        gguf.alignment()
    )?;

    let fault = match Adapter::is_adapter(&gguf) {
        true => write_adapter(&mut out, local.path())?,
        false => write_model(&mut out, &gguf, args.ctx)?,
    };
    write_types(&mut out, &gguf)?;

    writeln!(out, "\nmetadata")?;
    for (key, value) in gguf.metadata() {
        writeln!(out, "  {key} = {}", describe(&value, args.full))?;
    }
    if args.full {
        writeln!(out, "\ntensors")?;
        for tensor in gguf.tensors() {
            let shape = tensor.shape().iter().map(u64::to_string).collect::<Vec<_>>().join(" × ");
            writeln!(out, "  {:40} {:6} {shape}", printable(tensor.name.as_bytes()), tensor.kind.name())?;
        }
    } else {
        writeln!(out, "\n{} tensors (--full lists them)", gguf.tensors().len())?;
    }
    out.flush()?;
    // A file that can be read but not run: everything above is still worth seeing.
    fault.map_or(Ok(()), Err)
}

/// The model's shape and the memory it needs; or why it cannot be run.
fn write_model(out: &mut impl Write, gguf: &Gguf, ctx: Option<u32>) -> Result<Option<anyhow::Error>> {
    let config =
        ModelConfig::from_gguf(gguf).and_then(|config| check_tensors(gguf, &config).map(|()| config));
    let config = match config {
        Ok(config) => config,
        Err(error) => return Ok(Some(error.into())),
    };
    write_shape(out, &config)?;
    let ctx = context_plan(ctx, None, &config).max_seq_len;
    let need = memory_need(&config, gguf, ctx);
    writeln!(
        out,
        "memory      {} for one conversation of {ctx} tokens: weights {}, keys and values {}, scratch {}",
        human_bytes(need.total()),
        human_bytes(need.weights),
        human_bytes(need.kv_cache),
        human_bytes(need.scratch)
    )?;
    Ok(None)
}

/// What an adapter changes; or why it is of no use.
fn write_adapter(out: &mut impl Write, path: &Path) -> Result<Option<anyhow::Error>> {
    let adapter = match Adapter::open(path) {
        Ok(adapter) => adapter,
        Err(error) => return Ok(Some(error.into())),
    };
    let arch = printable(adapter.arch.as_bytes());
    writeln!(out, "adapter     LoRA for a {arch} model, alpha {}", adapter.alpha)?;
    // By what stands between `blk.3.` and `.weight`: on how many layers, and in which ranks.
    let mut kinds: BTreeMap<&str, (usize, BTreeSet<usize>)> = BTreeMap::new();
    for pair in &adapter.pairs {
        let name = pair.tensor.strip_suffix(".weight").unwrap_or(&pair.tensor);
        let in_layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let (count, ranks) = kinds.entry(in_layer.map_or(name, |(_, stem)| stem)).or_default();
        *count += 1;
        ranks.insert(pair.rank);
    }
    for (i, (kind, (count, ranks))) in kinds.into_iter().enumerate() {
        let head = if i == 0 { "changes" } else { "" };
        let (first, last) = (ranks.first().copied().unwrap_or(0), ranks.last().copied().unwrap_or(0));
        let ranks = if first == last { format!("rank {first}") } else { format!("ranks {first} to {last}") };
        writeln!(out, "{head:11} {:12} {count:>4} matrices, {ranks}", printable(kind.as_bytes()))?;
    }
    writeln!(out, "memory      {} beside the model", human_bytes(adapter.memory_bytes()))?;
    Ok(None)
}

fn write_shape(out: &mut impl Write, config: &ModelConfig) -> Result<()> {
    writeln!(
        out,
        "model       {}, {} layers, n_embd {}, vocab_size {}, trained for {} tokens of context",
        config.arch.name(),
        config.n_layers(),
        config.n_embd,
        config.vocab_size,
        config.max_seq_len
    )?;
    if let Some(layer) = config.layers.first() {
        writeln!(
            out,
            "layer 0     n_heads {}, n_kv_heads {}, head_dim {}, n_ff {}",
            layer.n_heads, layer.n_kv_heads, layer.head_dim_k, layer.n_ff
        )?;
    }
    Ok(())
}

/// Bytes and elements by quantisation type.
fn write_types(out: &mut impl Write, gguf: &Gguf) -> Result<()> {
    let mut types: BTreeMap<String, (usize, u64, u64)> = BTreeMap::new();
    for tensor in gguf.tensors() {
        let (count, elements, bytes) = types.entry(tensor.kind.name().to_string()).or_default();
        *count += 1;
        *elements += tensor.n_elements();
        *bytes += tensor.n_bytes();
    }
    let parameters: u64 = types.values().map(|(_, elements, _)| elements).sum();
    writeln!(out, "parameters  {:.1} million", parameters as f64 / 1e6)?;
    for (name, (count, _, bytes)) in types {
        writeln!(out, "            {name:6} {count:>4} tensors, {}", human_bytes(bytes))?;
    }
    Ok(())
}

fn describe(value: &Value<'_>, full: bool) -> String {
    match value {
        Value::Array(array) => {
            let shown = if full { array.len() } else { array.len().min(SHOWN_ITEMS) };
            let items: Vec<String> = array.iter().take(shown).map(|item| describe(&item, full)).collect();
            let more =
                if shown < array.len() { format!(", … {} in all", array.len()) } else { String::new() };
            format!("[{}{more}]", items.join(", "))
        }
        Value::String(bytes) => {
            let text = printable(bytes);
            match text.char_indices().nth(SHOWN_CHARS) {
                Some((end, _)) if !full => format!("{:?} … {} bytes", &text[..end], bytes.len()),
                _ => format!("\"{text}\""),
            }
        }
        other => other.describe(),
    }
}
