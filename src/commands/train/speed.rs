//! `daybreak train speed`: how fast a model of a given size, or an adapter of a model, is trained on this machine, with tokens
//! drawn at random.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use kernels::Pool;
use serde_json::json;
use trainer::{
    Decay, Frozen, LoopSettings, LoraSettings, MatrixOptimizer, Objective, OptimizerSettings, Products, Rows,
    Training,
};
use weights::{Gguf, ModelConfig};

use super::running::Base;
use super::{decoder_options, n_threads};
use crate::cli;
use crate::commands::bench::peak_memory_bytes;
use crate::config::{ModelSettings, isa};
use crate::terminal::human_bytes;

/// Steps before the clock starts.
const WARM_UP: u32 = 2;

pub(super) fn speed(args: &cli::TrainSpeed) -> Result<()> {
    let n_threads = n_threads(args.threads)?;
    let pool = Pool::new(n_threads.get(), isa()?)?;
    let (seq_len, n_sequences) = (args.seq_len as usize, args.sequences as usize);
    let products = if args.products == "f32" { Products::F32 } else { Products::Bf16 };
    let matrices = if args.optimizer == "muon" { MatrixOptimizer::Muon } else { MatrixOptimizer::AdamW };
    let settings = LoopSettings {
        seed: 1,
        seq_len,
        batch_rows: seq_len * n_sequences,
        n_batches: 1,
        n_steps: u64::MAX,
        products,
        optimizer: OptimizerSettings { matrices, ..OptimizerSettings::adamw(1e-4) },
        schedule: trainer::schedule_for(Decay::Constant, 1),
        clip: None,
        eval_every: u64::MAX,
        eval_rows: 0,
        patience: None,
        checkpoint_seconds: f64::MAX,
    };
    let (base, lora) = match (&args.model, args.lora) {
        (Some(model), Some(rank)) => adapter(&pool, args, model, usize::from(rank))?,
        _ => (new_model(args)?, None),
    };
    let config = base.config.clone();
    let model = base.model(products, lora.as_ref(), args.recompute)?;
    let objective = Box::new(Noise {
        seq_len,
        n_sequences,
        n_read_only: ((1.0 - args.answer_share.min(1.0)) * seq_len as f64) as usize,
        vocab_size: config.vocab_size as u32,
        random: fastrand::Rng::with_seed(1),
    });
    let per_token = trainer::training_flops_per_token(&config, seq_len);
    let n_parameters = base.parameters.len();
    let mut training = Training::new(&pool, settings, objective, model, base.parameters, String::new());
    let mut seconds = Vec::new();
    let mut loss = 0.0;
    for step in 0..WARM_UP + args.steps {
        let start = Instant::now();
        loss = training.step().loss;
        if step >= WARM_UP {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    let speed = |seconds: f64| (seq_len * n_sequences) as f64 / seconds;
    let (median, best) = (speed(seconds[seconds.len() / 2]), speed(seconds[0]));
    let peak_memory = peak_memory_bytes();
    if args.json {
        let report = json!({
            "tokens_per_second": median, "best_tokens_per_second": best, "peak_memory_bytes": peak_memory,
            "n_parameters": n_parameters, "flops_per_token": per_token, "loss": loss,
            "isa": pool.isa().name(), "n_threads": n_threads,
        });
        println!("{report}");
        return Ok(());
    }
    println!("parameters      {n_parameters:>12}");
    println!("tokens/s        {median:>12.0}   (best {best:.0})");
    println!("GFLOP/s         {:>12.0}   (best {:.0})", median * per_token / 1e9, best * per_token / 1e9);
    if let Some(bytes) = peak_memory {
        println!("peak memory     {:>12}", human_bytes(bytes));
    }
    Ok(())
}

/// A model of a given size before its first step.
fn new_model(args: &cli::TrainSpeed) -> Result<Base<'static>> {
    let depth = usize::from(args.depth);
    let seq_len = args.seq_len as usize;
    let options = decoder_options(false, args.window, seq_len)?;
    let mut shape = trainer::decoder_shape(depth, args.vocab_size as usize, seq_len, options);
    if let Some(n_kv_heads) = args.kv_heads {
        shape.n_kv_heads = usize::from(n_kv_heads);
    }
    if !shape.n_heads.is_multiple_of(shape.n_kv_heads) {
        anyhow::bail!("{} heads cannot share {} heads of keys and values", shape.n_heads, shape.n_kv_heads);
    }
    let config = shape.config();
    let parameters = trainer::initial_parameters(&config, 1);
    Ok(Base { header: Vec::new(), config, parameters, frozen: None })
}

/// A new adapter of all matrices of a model.
fn adapter(
    pool: &Pool,
    args: &cli::TrainSpeed,
    model: &str,
    rank: usize,
) -> Result<(Base<'static>, Option<LoraSettings>)> {
    let path = ModelSettings::new(&args.data)?.library.resolve(model)?.path().to_owned();
    let gguf = Gguf::open(&path)?;
    let config = ModelConfig::from_gguf(&gguf)?;
    let lora = LoraSettings::new(rank, None, trainer::lora_targets("all")?, path, &gguf);
    let frozen = Some(Arc::new(Frozen::new(pool, Arc::new(gguf), &config)?));
    let base = Base { header: Vec::new(), parameters: lora.initial(&config, 1), config, frozen };
    Ok((base, Some(lora)))
}

/// Tokens that say nothing: speed does not depend on what is learnt.
struct Noise {
    seq_len: usize,
    n_sequences: usize,
    /// Tokens of a sequence before those that are learnt.
    n_read_only: usize,
    vocab_size: u32,
    random: fastrand::Rng,
}

impl Objective for Noise {
    fn next(&mut self, rows: &mut Rows) {
        rows.clear();
        for _ in 0..self.n_sequences {
            let tokens: Vec<u32> = (0..=self.seq_len).map(|_| self.random.u32(..self.vocab_size)).collect();
            let is_learnt = |idx: usize| f32::from(u8::from(idx >= self.n_read_only));
            rows.push(tokens.windows(2).enumerate().map(|(idx, pair)| (pair[0], pair[1], is_learnt(idx))));
        }
    }

    fn skip(&mut self, n_batches: u64) {
        let mut rows = Rows::default();
        (0..n_batches).for_each(|_| self.next(&mut rows));
    }

    fn n_epochs(&self) -> f64 {
        0.0
    }
}
