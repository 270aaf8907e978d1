//! Which tasks are meant: names, languages and files.

use std::path::Path;

use anyhow::{Result, bail};
use trainer::OnBroken;
use trainer::eval::{Task, built_in_tasks, read_task};

/// The tasks of these names; all that come with the program where there are none.
pub(super) fn choose(names: &[String], skip_broken: bool) -> Result<Vec<Task>> {
    let built_in = built_in_tasks();
    if names.is_empty() {
        return Ok(built_in);
    }
    let mut chosen: Vec<Task> = Vec::new();
    for name in names {
        let suffix = format!("-{name}");
        let mut found: Vec<Task> = built_in
            .iter()
            .filter(|task| task.name == *name || task.name.ends_with(&suffix))
            .cloned()
            .collect();
        if found.is_empty() {
            found.push(from_file(name, skip_broken)?);
        }
        for task in found {
            if chosen.iter().any(|other| other.name == task.name) {
                bail!("{} is asked twice; name each task once, or give a file another \"name\"", task.name);
            }
            chosen.push(task);
        }
    }
    Ok(chosen)
}

fn from_file(name: &str, skip_broken: bool) -> Result<Task> {
    let path = Path::new(name);
    if !path.is_file() {
        bail!(
            "{name:?} is neither a task nor a file of records; `daybreak train eval --list` shows the tasks"
        );
    }
    let on_broken = if skip_broken { OnBroken::Skip } else { OnBroken::Stop };
    let (task, summary) = read_task(path, on_broken)?;
    if let Some(first) = summary.broken.first() {
        eprintln!("daybreak: {} records were left out, the first: {first}", summary.n_broken);
    }
    Ok(task)
}
