//! `daybreak quantize`: a model file → the same model in another number format, tensor by tensor.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use engine::weight_type;
use kernels::{Pool, WeightType};
use weights::{
    FileType, Gguf, GgufStream, GgufWriter, ImportanceMatrix, MixFacts, TensorInfo, TensorKind, TensorType,
    Value,
};

use crate::cli;
use crate::config::{ModelSettings, default_threads, isa};
use crate::progress::CountBar;
use crate::terminal::{Interrupted, human_bytes, printable, stop_on_ctrl_c};

/// Weights that are converted between two writes: 16 MB of floats, however large a tensor is.
pub(super) const SLAB_LEN: usize = 4 << 20;
/// ggml's number for the layout of its blocks.
const QUANTIZATION_VERSION: u32 = 2;

pub(crate) fn quantize(args: cli::Quantize) -> Result<()> {
    let input = ModelSettings::new(&args.data)?.library.resolve(&args.input)?;
    let gguf = Gguf::open(input.path())?;
    check_output(&args.output, &gguf, args.force)?;
    let importance = args.imatrix.as_deref().map(ImportanceMatrix::open).transpose()?;
    let plan = plan(&gguf, &args, importance.as_ref())?;
    let writer = header(&gguf, &args, importance.as_ref(), &plan)?;

    let n_threads = args.threads.map_or_else(default_threads, usize::from);
    let pool = Pool::new(n_threads, isa()?)?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_ctrl_c(&stop)?;
    let total: u64 = gguf.tensors().iter().map(TensorInfo::n_elements).sum();
    let mut job = Job::new(&gguf, &pool, &stop, writer.stream_to(&args.output)?);
    for step in &plan {
        job.tensor(step, |_, _| Ok(None))?;
    }
    job.finish()?;
    print_summary(&args, &gguf, &plan, total)
}

/// One tensor and what becomes of it.
pub(super) struct Step<'a> {
    pub(super) info: &'a TensorInfo,
    pub(super) from: TensorType,
    pub(super) to: TensorType,
    /// How much each column's errors count: `[n_cols]`.
    pub(super) importance: Option<&'a [f32]>,
}

/// Nothing is overwritten without being asked, the model itself not even then.
pub(super) fn check_output(output: &Path, gguf: &Gguf, force: bool) -> Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(output) else { return Ok(()) };
    if metadata.is_dir() {
        bail!("{} is a directory; expected the name of a file to write", output.display());
    }
    let same =
        |path: &Path| path.canonicalize().ok().zip(output.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    if gguf.paths().any(same) {
        bail!("{} is the model to read; write to another file", output.display());
    }
    if !force {
        bail!("{} exists; --force replaces it", output.display());
    }
    Ok(())
}

fn plan<'a>(
    gguf: &'a Gguf,
    args: &cli::Quantize,
    importance: Option<&'a ImportanceMatrix>,
) -> Result<Vec<Step<'a>>> {
    let facts = MixFacts::of(gguf, importance.is_some(), args.pure);
    let shapes: Vec<(&str, &[u64])> =
        gguf.tensors().iter().map(|info| (info.name.as_str(), info.dims.as_slice())).collect();
    let types = args.file_type.tensor_types(&shapes, &facts);
    let mut plan = Vec::with_capacity(types.len());
    for (info, to) in gguf.tensors().iter().zip(types) {
        let name = printable(info.name.as_bytes());
        let TensorKind::Known(from) = info.kind else {
            bail!("tensor {name} is in {}, which cannot be converted", info.kind);
        };
        let to = to.unwrap_or(from);
        if from != to && !from.is_float() && !args.allow_requantize {
            bail!(
                "tensor {name} is quantised already ({from}); quantise the original, or lose precision twice with \
                 --allow-requantize"
            );
        }
        let importance = importance.filter(|_| from != to && !to.is_float());
        let importance = importance.and_then(|matrix| matrix.get(&info.name));
        if let Some(found) = importance.map(<[f32]>::len).filter(|n| *n as u64 != info.n_cols()) {
            bail!(
                "the importance matrix has {found} numbers for {name}, expected {}: it belongs to another model",
                info.n_cols()
            );
        }
        plan.push(Step { info, from, to, importance });
    }
    Ok(plan)
}

/// What a model says of itself, and in which number format it is now.
pub(super) fn with_metadata(gguf: &Gguf, file_type: Option<FileType>) -> Result<GgufWriter<'_>> {
    let mut writer = GgufWriter::new(gguf.alignment())?;
    for (key, value) in gguf.metadata() {
        let name = key.as_str().with_context(|| format!("metadata key {key} is not text"))?;
        if name != "general.alignment" && !name.starts_with("split.") {
            writer.set(name, value)?;
        }
    }
    if let Some(file_type) = file_type {
        writer.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION))?;
        writer.set("general.file_type", Value::U32(file_type.id()))?;
    }
    Ok(writer)
}

/// The model's metadata with the keys that change, and its tensors in their new types.
fn header<'a>(
    gguf: &'a Gguf,
    args: &cli::Quantize,
    importance: Option<&ImportanceMatrix>,
    plan: &[Step<'_>],
) -> Result<GgufWriter<'a>> {
    let mut writer = with_metadata(gguf, Some(args.file_type))?;
    if let (Some(matrix), Some(path)) = (importance, &args.imatrix) {
        let text = |text: String| Value::String(text.into_bytes().into());
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        writer.set("quantize.imatrix.file", text(file))?;
        writer.set("quantize.imatrix.entries_count", Value::U32(matrix.len() as u32))?;
        if let Some(dataset) = &matrix.dataset {
            writer.set("quantize.imatrix.dataset", text(dataset.clone()))?;
        }
        if let Some(n) = matrix.n_chunks {
            writer.set("quantize.imatrix.chunks_count", Value::U32(n))?;
        }
    }
    for step in plan {
        writer.declare_tensor(&step.info.name, &step.info.dims, step.to)?;
    }
    Ok(writer)
}

/// The conversion while it runs.
pub(super) struct Job<'a> {
    gguf: &'a Gguf,
    pool: &'a Pool,
    stop: &'a AtomicBool,
    bar: CountBar,
    n_done: u64,
    stream: GgufStream,
    slab: Vec<u8>,
}

impl<'a> Job<'a> {
    pub(super) fn new(gguf: &'a Gguf, pool: &'a Pool, stop: &'a AtomicBool, stream: GgufStream) -> Job<'a> {
        let total: u64 = gguf.tensors().iter().map(TensorInfo::n_elements).sum();
        let bar = CountBar::new("million weights", total / 1_000_000);
        Job { gguf, pool, stop, bar, n_done: 0, stream, slab: Vec::new() }
    }

    /// Writes a tensor. `change(first_row, rows)` may give other rows for these, as f32.
    pub(super) fn tensor(
        &mut self,
        step: &Step<'_>,
        mut change: impl FnMut(usize, &[u8]) -> Result<Option<Vec<u8>>>,
    ) -> Result<()> {
        self.bar.show(self.n_done / 1_000_000, &printable(step.info.name.as_bytes()));
        let (from, to) = (weight_type(step.from), weight_type(step.to));
        let n_cols = step.info.n_cols() as usize;
        let rows_per_slab = (SLAB_LEN / n_cols).max(1);
        let name = || format!("tensor {}", printable(step.info.name.as_bytes()));
        let bytes = self.gguf.bytes(step.info);
        for (i, rows) in bytes.chunks(rows_per_slab * from.bytes_of(n_cols)).enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Interrupted.into());
            }
            let n = rows.len() / from.block_bytes() * from.block_len();
            let changed = change(i * rows_per_slab, rows)?;
            if from == to && changed.is_none() {
                kernels::check_finite(self.pool, from, rows).with_context(name)?;
                self.stream.write(rows)?;
            } else {
                let (from, rows) = match &changed {
                    Some(rows) => (WeightType::F32, rows.as_slice()),
                    None => (from, rows),
                };
                self.slab.resize(to.bytes_of(n), 0);
                kernels::requantize(self.pool, from, rows, to, n_cols, step.importance, &mut self.slab)
                    .with_context(name)?;
                self.stream.write(&self.slab)?;
            }
            self.n_done += n as u64;
            self.bar.advance_to(self.n_done / 1_000_000);
        }
        self.gguf.release(step.info);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<()> {
        self.bar.clear();
        Ok(self.stream.finish()?)
    }
}

fn print_summary(args: &cli::Quantize, gguf: &Gguf, plan: &[Step<'_>], n_weights: u64) -> Result<()> {
    let written = std::fs::metadata(&args.output).map_or(0, |metadata| metadata.len());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for step in plan {
        *counts.entry(step.to.name()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(ty, n)| format!("{n} {ty}")).collect();
    println!(
        "{}  {}  {} → {}, {:.2} bits a weight  ({} tensors)",
        args.output.display(),
        args.file_type,
        human_bytes(gguf.file_size()),
        human_bytes(written),
        written as f64 * 8.0 / n_weights.max(1) as f64,
        counts.join(", ")
    );
    let n_unknown = plan.iter().filter(|step| step.from != step.to && !step.to.is_float());
    let n_unknown = n_unknown.filter(|step| step.importance.is_none()).count();
    if args.imatrix.is_some() && n_unknown > 0 {
        eprintln!("daybreak: the importance matrix says nothing of {n_unknown} of the quantised tensors");
    }
    Ok(())
}
