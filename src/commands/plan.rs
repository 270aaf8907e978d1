//! `daybreak plan`: what training a model takes, or what can be trained with what there is.

mod report;

pub(crate) use report::{energy, money_json, money_text};

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use kernels::{MachinePeaks, Pool};
use trainer::DecoderOptions;
use trainer::plan::{
    ASSUMED_MFU, AcceleratorError, Accelerators, Amount, Cost, ExchangeRate, Machines, Money, NumberFormat,
    Optimum, Plan, Price, Prices, THIS_MACHINE, affordable_tokens, gpt3,
};
use weights::{Gguf, ModelConfig};

use super::train::decoder_options;
use crate::cli;
use crate::config::{ModelSettings, default_threads, isa};

/// Sequences are no longer than this unless asked for: longer ones come last in training, and briefly.
const MAX_DEFAULT_SEQ_LEN: usize = 2048;
/// Largest file of accelerators that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Everything that is reported.
struct Report {
    name: String,
    config: ModelConfig,
    plan: Plan,
    machine: Machine,
    cost: Cost,
    /// Rent and electricity, in the currency asked for.
    money: Option<Money>,
    /// Exchange rates that money went through.
    rates: Vec<ExchangeRate>,
    /// Where time or money was given.
    optimum: Option<Optimum>,
    is_gpt3: bool,
}

/// What the run runs on, and where its figures come from.
struct Machine {
    title: String,
    machines: Machines,
    /// Where peak, memory and power stand, and since when.
    source: Option<(String, String)>,
    price: Option<Price>,
    mfu_from: &'static str,
    format: NumberFormat,
}

pub(crate) fn plan(args: &cli::Plan) -> Result<()> {
    let is_gpt3 = args.model.as_deref().is_some_and(|name| matches!(name, "gpt-3" | "gpt3"));
    let options = decoder_options(args.tied, args.window, seq_len(args, MAX_DEFAULT_SEQ_LEN))?;
    let given = given_model(args, is_gpt3, options)?;
    if given.is_none() && args.budget.is_none() && args.time.is_none() {
        bail!("say what to plan: a model (gpt-3 for an example), --depth, --time or --budget");
    }
    let known = known_accelerators(args)?;
    let machine = machine(args, &known, is_gpt3)?;
    let optimum = affordable_flops(args, &machine, &known)?.map(Optimum::of);
    let (name, config) = match (given, &optimum) {
        (Some(given), _) => given,
        (None, Some(optimum)) => {
            let seq_len = seq_len(args, MAX_DEFAULT_SEQ_LEN);
            new_decoder(
                trainer::depth_for(optimum.flops, Some(args.vocab_size as usize), seq_len, options),
                args,
                options,
            )
        }
        (None, None) => unreachable!("refused above"),
    };
    let seq_len = seq_len(args, config.max_seq_len);
    let tokens = match (args.tokens, &optimum) {
        (Some(tokens), _) => tokens,
        (None, Some(optimum)) => affordable_tokens(optimum.flops, &config, seq_len),
        (None, None) if is_gpt3 => gpt3::TOKENS,
        (None, None) => trainer::tokens_for(&config),
    };
    let plan = Plan::of(&config, tokens, seq_len, u64::from(args.sequences), machine.format);
    let cost = machine.machines.cost(plan.flops_exact);
    let money = total(args, &cost, &known)?;
    let rates = rates(args, &cost, money.as_ref(), &known);
    let report = Report { name, config, plan, machine, cost, money, rates, optimum, is_gpt3 };
    let mut out = std::io::stdout().lock();
    if args.json { report.write_json(&mut out) } else { report.write_table(&mut out) }
}

fn given_model(
    args: &cli::Plan,
    is_gpt3: bool,
    options: DecoderOptions,
) -> Result<Option<(String, ModelConfig)>> {
    Ok(match (&args.model, args.depth) {
        (Some(_), _) if is_gpt3 => Some(("gpt-3".to_owned(), gpt3::config())),
        (Some(name), _) => {
            let local = ModelSettings::new(&args.data)?.library.resolve(name)?;
            Some((name.clone(), ModelConfig::from_gguf(&Gguf::open(local.path())?)?))
        }
        (None, Some(depth)) => Some(new_decoder(usize::from(depth), args, options)),
        (None, None) => None,
    })
}

fn new_decoder(depth: usize, args: &cli::Plan, options: DecoderOptions) -> (String, ModelConfig) {
    let seq_len = seq_len(args, MAX_DEFAULT_SEQ_LEN);
    let shape = trainer::decoder_shape(depth, args.vocab_size as usize, seq_len, options);
    (format!("new decoder of depth {depth}"), shape.config())
}

fn seq_len(args: &cli::Plan, max_seq_len: usize) -> usize {
    args.seq_len.map_or(max_seq_len.clamp(1, MAX_DEFAULT_SEQ_LEN), |n| n as usize)
}

fn known_accelerators(args: &cli::Plan) -> Result<Accelerators> {
    args.accelerators.iter().try_fold(Accelerators::builtin(), |known, path| {
        let failed = || format!("accelerators {} cannot be read", path.display());
        let size = std::fs::metadata(path).with_context(failed)?.len();
        if size > MAX_FILE_BYTES {
            bail!("accelerators {} is {size} bytes long, at most {MAX_FILE_BYTES} are read", path.display());
        }
        let text = std::fs::read_to_string(path).with_context(failed)?;
        Ok(known.with_file(&text, &path.display().to_string())?)
    })
}

/// The machine that is named, with what the flags say otherwise.
fn machine(args: &cli::Plan, known: &Accelerators, is_gpt3: bool) -> Result<Machine> {
    // GPT-3 ran on the machine that was published, unless another is named.
    let is_published = is_gpt3 && args.on.is_none();
    let name = args.on.as_deref().unwrap_or(if is_gpt3 { gpt3::ACCELERATOR } else { THIS_MACHINE });
    let mut machine =
        if name == THIS_MACHINE { this_machine(args)? } else { accelerator(args, known, name)? };
    let machines = &mut machine.machines;
    machines.count = args.count.unwrap_or(if is_published { gpt3::N_ACCELERATORS } else { 1 });
    (machines.mfu, machine.mfu_from) = match args.mfu {
        Some(mfu) => (mfu, "as given"),
        None if is_published => (gpt3::mfu(), "from the published time"),
        None => (ASSUMED_MFU, "assumed; --mfu sets it"),
    };
    if is_published {
        machine.price = Some(gpt3::price());
    }
    let stated = stated(&args.prices, args.currency.as_deref())?;
    if stated.rent_per_hour.is_some() {
        machine.price = None;
    }
    let published = machine.price.as_ref().map(|price| price.per_hour.clone());
    machines.prices = Prices {
        watts: stated.watts.or(machines.prices.watts),
        rent_per_hour: stated.rent_per_hour.or(published),
        ..stated
    };
    Ok(machine)
}

fn accelerator(args: &cli::Plan, known: &Accelerators, name: &str) -> Result<Machine> {
    let entry = known.find(name)?;
    Ok(Machine {
        title: entry.title.clone(),
        machines: bare(entry.peak_flops, entry.memory_bytes, entry.watts),
        source: Some((entry.as_of.clone(), entry.source.clone())),
        price: entry.price(currency(args)).cloned(),
        mfu_from: "",
        format: NumberFormat::Mixed,
    })
}

/// Measured now, in the fastest number format that training here uses.
fn this_machine(args: &cli::Plan) -> Result<Machine> {
    let n_threads = args.threads.map_or_else(default_threads, usize::from);
    let isa = isa()?;
    let peaks = MachinePeaks::measure(&Pool::new(n_threads, isa)?);
    let peak_flops = peaks.bf16_ops.unwrap_or(0.0).max(peaks.f32_ops);
    Ok(Machine {
        title: format!("this machine ({}, {n_threads} threads, measured)", isa.name()),
        machines: bare(peak_flops, models::MachineMemory::read().total_bytes, None),
        source: None,
        price: None,
        mfu_from: "",
        format: if peaks.bf16_ops.is_some() { NumberFormat::Bf16Factors } else { NumberFormat::Single },
    })
}

fn bare(peak_flops: f64, memory_bytes: u64, watts: Option<f64>) -> Machines {
    let prices = Prices { watts, ..Prices::default() };
    Machines { count: 1, peak_flops, mfu: ASSUMED_MFU, memory_bytes, prices }
}

/// The currency in which money is told, where one was named.
fn currency(args: &cli::Plan) -> Option<&str> {
    args.currency.as_deref().or_else(|| args.budget.as_ref()?.currency.as_deref())
}

/// What is given; amounts without a currency are in this one.
pub(crate) fn stated(prices: &cli::PriceArgs, currency: Option<&str>) -> Result<Prices> {
    let stated = |amount: &Option<Amount>, flag| {
        amount.as_ref().map(|amount| money(amount, currency, flag)).transpose()
    };
    Ok(Prices {
        watts: prices.watts,
        rent_per_hour: stated(&prices.price_per_hour, "--price-per-hour")?,
        price_per_kwh: stated(&prices.price_per_kwh, "--price-per-kwh")?,
    })
}

fn money(amount: &Amount, currency: Option<&str>, flag: &str) -> Result<Money> {
    let currency = amount.currency.as_deref().or(currency);
    let currency = currency.with_context(|| format!("{flag} has no currency; write it like \"5 USD\""))?;
    Ok(Money { amount: amount.value, currency: currency.to_owned() })
}

/// The arithmetic that time and money allow, whichever is less.
fn affordable_flops(args: &cli::Plan, machine: &Machine, known: &Accelerators) -> Result<Option<f64>> {
    let in_time = args.time.map(|seconds| machine.machines.flops_for_time(seconds));
    let Some(budget) = &args.budget else { return Ok(in_time) };
    let budget = money(budget, args.currency.as_deref(), "--budget")?;
    let Some(for_money) = machine.machines.flops_for_money(&budget, known)? else {
        bail!(
            "no price of {} is known; give --price-per-hour, or --watts with --price-per-kwh",
            machine.title
        );
    };
    Ok(Some(in_time.map_or(for_money, |in_time| in_time.min(for_money))))
}

fn total(args: &cli::Plan, cost: &Cost, known: &Accelerators) -> Result<Option<Money>, AcceleratorError> {
    let mut parts = cost.rent.iter().chain(&cost.electricity);
    let Some(first) = parts.next() else { return Ok(None) };
    let mut total = known.convert(first, currency(args).unwrap_or(&first.currency))?;
    for part in parts {
        total.amount += known.convert(part, &total.currency)?.amount;
    }
    Ok(Some(total))
}

/// The rates of all currencies that play a part, where there are several.
fn rates(args: &cli::Plan, cost: &Cost, money: Option<&Money>, known: &Accelerators) -> Vec<ExchangeRate> {
    let parts = cost.rent.iter().chain(&cost.electricity).chain(money).map(|money| money.currency.as_str());
    let budget = args.budget.as_ref().and_then(|budget| budget.currency.as_deref());
    let currencies: BTreeSet<&str> = parts.chain(budget).collect();
    let is_converted = currencies.len() > 1;
    currencies
        .into_iter()
        .filter(|_| is_converted)
        .filter_map(|currency| known.rate(currency))
        .cloned()
        .collect()
}
