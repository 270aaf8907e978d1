//! `daybreak inspect`: what a model file holds and the memory it will need.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use weights::{Gguf, ModelConfig, Value, check_tensors, memory_need};

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

    let config =
        ModelConfig::from_gguf(&gguf).and_then(|config| check_tensors(&gguf, &config).map(|()| config));
    if let Ok(config) = &config {
        write_shape(&mut out, config)?;
        let ctx = context_plan(args.ctx, None, config).max_seq_len;
        let need = memory_need(config, &gguf, ctx);
        writeln!(
            out,
            "memory      {} for one conversation of {ctx} tokens: weights {}, keys and values {}, scratch {}",
            human_bytes(need.total()),
            human_bytes(need.weights),
            human_bytes(need.kv_cache),
            human_bytes(need.scratch)
        )?;
    }
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
    config?;
    Ok(())
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
