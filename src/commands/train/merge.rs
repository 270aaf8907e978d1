//! `daybreak train merge`: a model and adapters → the model that they make together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};
use engine::weight_type;
use kernels::{Pool, dequantize};
use trainer::Merge;
use weights::{
    Adapter, Gguf, MixFacts, ModelConfig, ScaledAdapter, TensorInfo, TensorKind, TensorType, check_tensors,
};

use crate::cli;
use crate::commands::quantize::{Job, Step, check_output, with_metadata};
use crate::config::{ModelSettings, default_threads, isa};
use crate::terminal::{human_bytes, printable, stop_on_ctrl_c};

pub(super) fn merge(args: &cli::TrainMerge) -> Result<()> {
    let local = ModelSettings::new(&args.data)?.library.resolve(&args.base)?;
    let gguf = Gguf::open(local.path())?;
    check_output(&args.output, &gguf, args.force)?;
    let config = ModelConfig::from_gguf(&gguf)?;
    check_tensors(&gguf, &config)?;
    let adapters = open_adapters(args, &gguf)?;
    let merge = Merge::new(&adapters, &config)?;
    let plan = plan(args, &gguf, &merge)?;

    let mut writer = with_metadata(&gguf, args.file_type)?;
    for step in &plan {
        writer.declare_tensor(&step.info.name, &step.info.dims, step.to)?;
    }
    let pool = Pool::new(args.threads.map_or_else(default_threads, usize::from), isa()?)?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_ctrl_c(&stop)?;
    let mut job = Job::new(&gguf, &pool, &stop, writer.stream_to(&args.output)?);
    for step in &plan {
        let (name, n_cols) = (step.info.name.as_str(), step.info.n_cols() as usize);
        let ty = weight_type(step.from);
        job.tensor(step, |first_row, rows| {
            if !merge.changes(name) {
                return Ok(None);
            }
            let mut floats = vec![0.0; rows.len() / ty.block_bytes() * ty.block_len()];
            dequantize(ty, rows, &mut floats);
            merge.add_to(&pool, name, first_row, n_cols, &mut floats);
            Ok(Some(floats.iter().flat_map(|x| x.to_le_bytes()).collect()))
        })?;
    }
    job.finish()?;
    print_summary(args, &merge, &plan)
}

fn open_adapters(args: &cli::TrainMerge, base: &Gguf) -> Result<Vec<ScaledAdapter>> {
    let mut adapters = Vec::with_capacity(args.adapters.len());
    for file in &args.adapters {
        let adapter = Adapter::open(&file.path)?;
        if let Some(warning) = adapter.base_warning(base) {
            eprintln!("daybreak: {warning}");
        }
        adapters.push(ScaledAdapter { adapter: Arc::new(adapter), scale: file.scale });
    }
    Ok(adapters)
}

/// Which type each tensor gets: its own, or what the format of the whole file gives it.
fn plan<'a>(args: &cli::TrainMerge, gguf: &'a Gguf, merge: &Merge) -> Result<Vec<Step<'a>>> {
    let shapes: Vec<(&str, &[u64])> =
        gguf.tensors().iter().map(|info| (info.name.as_str(), info.dims.as_slice())).collect();
    let types = match args.file_type {
        Some(file_type) => file_type.tensor_types(&shapes, &MixFacts::of(gguf, false, false)),
        None => vec![None; shapes.len()],
    };
    let step = |(info, to): (&'a TensorInfo, Option<TensorType>)| {
        let name = printable(info.name.as_bytes());
        let TensorKind::Known(from) = info.kind else {
            bail!("tensor {name} is in {}, which cannot be converted", info.kind);
        };
        let to = to.unwrap_or(from);
        if from != to && !from.is_float() && !to.is_float() {
            bail!(
                "tensor {name} is quantised already ({from}, not {to}); merge into the original, or keep the types by \
                 leaving out --type"
            );
        }
        Ok(Step { info, from, to, importance: None })
    };
    let plan: Vec<Step<'_>> = gguf.tensors().iter().zip(types).map(step).collect::<Result<_>>()?;
    let again = plan
        .iter()
        .filter(|step| merge.changes(&step.info.name) && !step.from.is_float() && step.from == step.to);
    let n_again = again.count();
    if n_again > 0 {
        eprintln!("daybreak: {n_again} quantised tensors are quantised again, which loses a little");
    }
    Ok(plan)
}

fn print_summary(args: &cli::TrainMerge, merge: &Merge, plan: &[Step<'_>]) -> Result<()> {
    let written = std::fs::metadata(&args.output)?.len();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for step in plan {
        *counts.entry(step.to.name()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(ty, n)| format!("{n} {ty}")).collect();
    println!(
        "{}  {}, {} of {} tensors changed  ({})",
        args.output.display(),
        human_bytes(written),
        merge.n_changed(),
        plan.len(),
        counts.join(", ")
    );
    Ok(())
}
