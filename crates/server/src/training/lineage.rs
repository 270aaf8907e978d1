//! What a model is made of: data, the model it began with, and what that was made of, as far as it is known.

use serde_json::{Value as Json, json};
use store::JobId;

use super::Training;
use super::run::{Base, Run};

/// From the run's own data to the first known beginning.
pub(super) fn of(run: &Run, data_digest: Option<String>) -> Vec<Json> {
    let mut all = vec![match &run.dataset {
        Some(dataset) => json!({
            "kind": "data",
            "name": dataset,
            "bytes": run.data_bytes,
            "n_files": run.n_data_files,
            "digest": data_digest,
        }),
        None => json!({"kind": "recipe", "recipe": run.recipe, "digest": data_digest}),
    }];
    if let Some(base) = &run.base {
        all.push(match &base.run {
            Some(id) => json!({"kind": "run", "name": base.name, "id": id}),
            None => json!({"kind": "model", "name": base.name, "sha256": base.sha256}),
        });
        all.extend(base.lineage.iter().cloned());
    }
    all
}

impl Training {
    /// What a model that a run made was made of, for runs that begin with it.
    pub(super) fn base_of_run(&self, name: String, path: std::path::PathBuf, id: JobId, run: &Run) -> Base {
        let digest = self.config.desk.data_digest(&self.run_folder(id, run));
        Base { name, path, sha256: None, run: Some(id.to_string()), lineage: of(run, digest) }
    }
}
