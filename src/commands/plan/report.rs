//! A plan as a table for people, and as JSON.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};
use trainer::plan::{Money, TOKENS_PER_PARAMETER, gpt3};

use super::Report;
use crate::terminal::{human_bytes, human_count, human_duration};

impl Report {
    pub(super) fn write_table(&self, out: &mut impl Write) -> Result<()> {
        if let Some(optimum) = &self.optimum {
            writeln!(
                out,
                "best spent   {} FLOPs on {} parameters and {} tokens ({TOKENS_PER_PARAMETER} for each; Hoffmann et al. 2022, \
                 arXiv:2203.15556)",
                flops(optimum.flops),
                human_count(optimum.parameters),
                human_count(optimum.tokens)
            )?;
        }
        self.write_model(out)?;
        self.write_machine(out)?;
        self.write_cost(out)?;
        if self.is_gpt3 { write_published(out) } else { Ok(()) }
    }

    fn write_model(&self, out: &mut impl Write) -> Result<()> {
        let (config, plan) = (&self.config, &self.plan);
        let n = plan.parameters;
        let heads = config.layers.first().map_or(0, |layer| layer.n_heads);
        writeln!(
            out,
            "model        {}: {} layers, n_embd {}, n_heads {heads}, vocab_size {}",
            self.name,
            config.n_layers(),
            config.n_embd,
            config.vocab_size
        )?;
        let output =
            if n.output > 0 { format!(", output {}", human_count(n.output as f64)) } else { String::new() };
        writeln!(
            out,
            "parameters   {}: layers {}, embeddings {}{output}, norms and biases {}",
            human_count(n.total as f64),
            human_count(n.layers as f64),
            human_count(n.embeddings as f64),
            human_count(n.vectors as f64)
        )?;
        writeln!(
            out,
            "tokens       {}, {:.1} for each parameter, in sequences of {}",
            human_count(plan.tokens as f64),
            plan.tokens_per_parameter(),
            plan.seq_len
        )?;
        writeln!(
            out,
            "FLOPs        {} counted exactly; {} as 6 N D, {} with the scores that masks hide",
            flops(plan.flops_exact),
            flops(plan.flops_6nd),
            flops(plan.flops_unmasked)
        )?;
        let memory = plan.memory;
        writeln!(
            out,
            "memory       {}: weights {}, gradients {}, AdamW {}, activations of {} tokens at a time {}, buffers {}",
            bytes(memory.total()),
            bytes(memory.weights),
            bytes(memory.gradients),
            bytes(memory.optimizer),
            plan.n_rows,
            bytes(memory.activations),
            bytes(memory.buffers)
        )?;
        Ok(())
    }

    fn write_machine(&self, out: &mut impl Write) -> Result<()> {
        let machine = &self.machine;
        let machines = &machine.machines;
        writeln!(
            out,
            "machine      {} × {}, {} of memory: {} TFLOP/s each, of which training gets {:.1} % ({})",
            machines.count,
            machine.title,
            bytes(machines.memory_bytes),
            significant(machines.peak_flops / 1e12),
            machines.mfu * 100.0,
            machine.mfu_from
        )?;
        if let Some((as_of, source)) = &machine.source {
            writeln!(out, "             {as_of}: {source}")?;
        }
        let needed = machines.n_needed(&self.plan.memory);
        if needed > u64::from(machines.count) {
            writeln!(out, "             too small for that memory: at least {needed} of them are needed")?;
        }
        Ok(())
    }

    fn write_cost(&self, out: &mut impl Write) -> Result<()> {
        let (cost, machines) = (&self.cost, &self.machine.machines);
        writeln!(out, "time         {}", human_duration(cost.seconds))?;
        match cost.kilowatt_hours.zip(machines.prices.watts) {
            Some((kwh, watts)) => writeln!(
                out,
                "energy       {} at {watts} W each; what stands around them and cooling come on top",
                energy(kwh)
            )?,
            None => writeln!(out, "energy       unknown; --watts gives the power of one")?,
        }
        let Some(total) = &self.money else {
            writeln!(
                out,
                "money        unknown: no price of it is known; give --price-per-hour, or --watts with --price-per-kwh"
            )?;
            return Ok(());
        };
        let mut parts = Vec::new();
        if let (Some(rent), Some(per_hour)) = (&cost.rent, &machines.prices.rent_per_hour) {
            parts.push(format!("rent {} at {} an hour each", money_text(rent), money_text(per_hour)));
        }
        if let (Some(electricity), Some(per_kwh)) = (&cost.electricity, &machines.prices.price_per_kwh) {
            parts.push(format!("electricity {} at {} a kWh", money_text(electricity), money_text(per_kwh)));
        }
        writeln!(out, "money        {}: {}", money_text(total), parts.join(", "))?;
        if let Some(price) = &self.machine.price {
            writeln!(out, "             {}: {}", price.as_of, price.source)?;
        }
        for rate in &self.rates {
            let (per_usd, currency) = (rate.per_usd, &rate.currency);
            writeln!(out, "             {}: {per_usd} {currency} for 1 USD: {}", rate.as_of, rate.source)?;
        }
        Ok(())
    }

    pub(super) fn write_json(&self, out: &mut impl Write) -> Result<()> {
        let (plan, cost) = (&self.plan, &self.cost);
        let (n, memory) = (plan.parameters, plan.memory);
        let money = |money: &Option<Money>| money.as_ref().map(money_json);
        let report = json!({
            "model": self.name,
            "n_layers": self.config.n_layers(),
            "n_embd": self.config.n_embd,
            "vocab_size": self.config.vocab_size,
            "parameters": {
                "total": n.total,
                "layers": n.layers,
                "embeddings": n.embeddings,
                "output": n.output,
                "vectors": n.vectors,
            },
            "tokens": plan.tokens,
            "seq_len": plan.seq_len,
            "flops": {
                "exact": plan.flops_exact,
                "six_n_d": plan.flops_6nd,
                "unmasked": plan.flops_unmasked,
            },
            "memory_bytes": {
                "total": memory.total(),
                "weights": memory.weights,
                "gradients": memory.gradients,
                "optimizer": memory.optimizer,
                "activations": memory.activations,
                "buffers": memory.buffers,
            },
            "rows": plan.n_rows,
            "machine": self.machine_json(),
            "seconds": cost.seconds,
            "kilowatt_hours": cost.kilowatt_hours,
            "rent": money(&cost.rent),
            "electricity": money(&cost.electricity),
            "money": money(&self.money),
            "exchange": self.rates.iter().map(|rate| json!({
                "currency": rate.currency,
                "per_usd": rate.per_usd,
                "as_of": rate.as_of,
                "source": rate.source,
            })).collect::<Vec<_>>(),
            "optimum": self.optimum.as_ref().map(|optimum| json!({
                "flops": optimum.flops,
                "parameters": optimum.parameters,
                "tokens": optimum.tokens,
            })),
            "published": self.is_gpt3.then(published_json),
        });
        writeln!(out, "{report}")?;
        Ok(())
    }

    fn machine_json(&self) -> Value {
        let (machine, machines) = (&self.machine, &self.machine.machines);
        json!({
            "title": machine.title,
            "count": machines.count,
            "needed": machines.n_needed(&self.plan.memory),
            "peak_flops": machines.peak_flops,
            "mfu": machines.mfu,
            "memory_bytes": machines.memory_bytes,
            "watts": machines.prices.watts,
            "as_of": machine.source.as_ref().map(|(as_of, _)| as_of),
            "source": machine.source.as_ref().map(|(_, source)| source),
            "price_per_hour": machines.prices.rent_per_hour.as_ref().map(money_json),
            "price_as_of": machine.price.as_ref().map(|price| &price.as_of),
            "price_source": machine.price.as_ref().map(|price| &price.source),
        })
    }
}

pub(crate) fn money_json(money: &Money) -> Value {
    json!({ "amount": money.amount, "currency": money.currency })
}

fn published_json() -> Value {
    let rows = gpt3::comparisons().into_iter().map(|row| {
        json!({
            "what": row.what,
            "unit": row.unit,
            "ours": row.ours,
            "published": row.published,
            "source": row.source,
        })
    });
    rows.collect()
}

/// What was published of GPT-3, beside ours.
fn write_published(out: &mut impl Write) -> Result<()> {
    writeln!(out, "\nGPT-3                                           here  published")?;
    for row in gpt3::comparisons() {
        let ours = row.ours.map_or_else(|| "as given".to_owned(), significant);
        let published = significant(row.published);
        writeln!(out, "{:41} {ours:>10} {published:>10} {:12}  {}", row.what, row.unit, row.source)?;
    }
    Ok(())
}

/// Four digits, without zeros that say nothing.
fn significant(x: f64) -> String {
    let text = match x {
        x if x >= 1000.0 => return format!("{x:.0}"),
        x if x >= 100.0 => format!("{x:.1}"),
        x if x >= 10.0 => format!("{x:.2}"),
        x => format!("{x:.3}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `174604259328` → `174.6 billion`.
fn flops(x: f64) -> String {
    format!("{x:.2e}")
}

/// As `human_bytes`, and terabytes.
fn bytes(n: u64) -> String {
    if n < 1_000_000_000_000 { human_bytes(n) } else { format!("{:.2} TB", n as f64 / 1e12) }
}

/// As people read it.
pub(crate) fn energy(kwh: f64) -> String {
    match kwh {
        kwh if kwh < 1.0 => format!("{:.1} Wh", kwh * 1e3),
        kwh if kwh < 10_000.0 => format!("{kwh:.1} kWh"),
        kwh => format!("{:.0} MWh", kwh / 1e3),
    }
}

/// As people read it.
pub(crate) fn money_text(money: &Money) -> String {
    let currency = &money.currency;
    match money.amount {
        x if x < 0.01 => format!("{x:.1e} {currency}"),
        x if x < 10_000.0 => format!("{x:.2} {currency}"),
        x if x < 1e6 => format!("{x:.0} {currency}"),
        x => format!("{} {currency}", human_count(x)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_say_them() {
        assert_eq!(human_count(174_604_259_328.0), "174.6 billion");
        assert_eq!(human_count(999_999.0), "999999");
        assert_eq!(flops(3.1856e23), "3.19e23");
        assert_eq!(bytes(2_793_668_149_248), "2.79 TB");
        assert_eq!(human_duration(28_800.0), "8.0 hours");
        assert_eq!(human_duration(1.3e6), "15.0 days");
        assert_eq!(human_duration(355.0 * 31_557_600.0), "355.0 years");
        assert_eq!(energy(1_082_000.0), "1082 MWh");
        assert_eq!(significant(300.0), "300");
        assert_eq!(significant(10_000.0), "10000");
        assert_eq!(significant(3.1429), "3.143");
        assert_eq!(money_text(&Money { amount: 5_400_000.0, currency: "USD".into() }), "5.4 million USD");
        assert_eq!(money_text(&Money { amount: 200.0, currency: "CNY".into() }), "200.00 CNY");
    }
}
