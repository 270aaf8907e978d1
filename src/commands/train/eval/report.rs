//! Figures as tables.

use std::io::Write;

use anyhow::Result;
use trainer::eval::{Comparison, Figure, Interval, Results, Scale, TaskResult, built_in_tasks};

use crate::terminal::{printable, table};

/// The tasks that come with the program, one on each line.
pub(super) fn list(out: &mut impl Write) -> Result<()> {
    for task in built_in_tasks() {
        let (name, kind, n) = (&task.name, task.kind.name(), task.documents.len());
        writeln!(out, "{name:16}  {kind:15}  {n:>4}  {}", task.about)?;
    }
    Ok(())
}

/// The figures of one model.
pub(super) fn results(out: &mut impl Write, results: &Results) -> Result<()> {
    let heads = ["task", "examples", "put as", "n", "figure", "value", "95 % interval"];
    let mut rows = Vec::new();
    for task in &results.tasks {
        for metric in &task.metrics {
            let Figure { value, interval, .. } = metric.figure;
            let is_share = metric.scale == Scale::Share;
            rows.push([
                task.task.clone(),
                task.num_fewshot.to_string(),
                task.template.clone(),
                task.n.to_string(),
                metric.metric.clone(),
                number(value, is_share),
                interval.map_or_else(String::new, |interval| between(interval, is_share)),
            ]);
        }
    }
    writeln!(out, "{}", printable(results.model.as_bytes()))?;
    table(out, heads, rows, &[1, 3, 5])?;
    notes(out, &results.tasks)
}

/// The figures of two models.
pub(super) fn comparison(
    out: &mut impl Write,
    before: &Results,
    after: &Results,
    changes: &[Comparison],
) -> Result<()> {
    let heads = [
        "task",
        "n",
        "figure",
        "before",
        "95 % interval",
        "after",
        "95 % interval",
        "change",
        "95 % interval",
        "",
    ];
    let mut rows = Vec::new();
    for change in changes {
        let is_share = change.scale == Scale::Share;
        let figure = |figure: Figure| {
            let interval = figure.interval.map_or_else(String::new, |interval| between(interval, is_share));
            (number(figure.value, is_share), interval)
        };
        let ((value_before, interval_before), (value_after, interval_after)) =
            (figure(change.before), figure(change.after));
        let verdict = match (change.is_certain(), change.is_better()) {
            (true, true) => "better",
            (true, false) => "worse",
            (false, _) => "",
        };
        rows.push([
            change.task.clone(),
            change.n.to_string(),
            change.metric.clone(),
            value_before,
            interval_before,
            value_after,
            interval_after,
            signed(change.difference, is_share),
            change.interval.map_or_else(String::new, |interval| signed_between(interval, is_share)),
            verdict.to_owned(),
        ]);
    }
    writeln!(out, "before: {}", printable(before.model.as_bytes()))?;
    writeln!(out, "after:  {}", printable(after.model.as_bytes()))?;
    table(out, heads, rows, &[1, 3, 5, 7])?;
    writeln!(out, "better, worse: the interval of the change leaves out 0")?;
    for task in &after.tasks {
        let Some(other) = before.tasks.iter().find(|other| other.task == task.task) else { continue };
        let put = |task: &TaskResult| format!("{} with {} examples", task.template, task.num_fewshot);
        if put(task) != put(other) || (task.num_fewshot > 0 && task.seed != other.seed) {
            writeln!(
                out,
                "{} was put differently: before {} (seed {}), after {} (seed {})",
                task.task,
                put(other),
                other.seed,
                put(task),
                task.seed
            )?;
        }
    }
    notes(out, &after.tasks)
}

fn notes(out: &mut impl Write, tasks: &[TaskResult]) -> Result<()> {
    for task in tasks.iter().filter(|task| task.n_cut > 0) {
        writeln!(
            out,
            "{}: the beginning of {} of {} prompts was cut off, they are longer than --ctx",
            task.task, task.n_cut, task.n
        )?;
    }
    Ok(())
}

fn number(value: f64, is_share: bool) -> String {
    if is_share { format!("{:.1} %", 100.0 * value) } else { format!("{value:.4}") }
}

fn signed(value: f64, is_share: bool) -> String {
    if is_share { format!("{:+.1}", 100.0 * value) } else { format!("{value:+.4}") }
}

fn between(Interval { low, high }: Interval, is_share: bool) -> String {
    match is_share {
        true => format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high),
        false => format!("{low:.4} to {high:.4}"),
    }
}

fn signed_between(Interval { low, high }: Interval, is_share: bool) -> String {
    format!("{} to {}", signed(low, is_share), signed(high, is_share))
}
