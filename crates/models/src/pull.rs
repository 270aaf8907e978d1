//! A name becomes a file on this disk: sources in order, the first that gives the model wins, and the file appears
//! whole, checked and synced, or not at all.
//!
//! While it comes, it is `STEM.gguf.part` beside `STEM.gguf.part.json` (`pull/part.rs`); a lock keeps other
//! processes away (`pull_lock.rs`); last of all the manifest `STEM.json` is written.

mod disk;
mod error;
mod fetch;
mod job;
mod local_file;
pub(crate) mod part;
mod pins;
mod report;
#[cfg(test)]
mod tests;
pub(crate) mod wheels;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

pub use error::{PullError, SourceError, SourceFailure};
pub use report::{Phase, Progress};

use crate::cancel::Cancel;
use crate::catalog::{CatalogEntry, Source};
use crate::hub::{self, Hub};
use crate::hub_name::HubName;
use crate::library::{self, Library, LocalModel, Origin};
use crate::manifest::{Manifest, ManifestFile};
use crate::pull_lock::PullLock;
use crate::quant::{self, Choice, NoChoice, RemoteFile};
use crate::settings::Settings;
use crate::web::Web;

use error::Stop;
use fetch::Remote;
use job::{Fetched, Job, StopOnDrop};
use part::PartPaths;
use report::Report;

/// How often a lock that another process holds is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(250);

/// Fetches the model `name` (a catalog name or `hf:OWNER/REPO[:QUANT]`), unless it is here already.
///
/// `progress` is called at most ten times a second. Dropping the future, or throwing `cancel`, stops at once; what
/// has come stays as a part that the next pull takes up.
pub async fn pull(
    library: &Library,
    name: &str,
    settings: &Settings,
    progress: &(dyn Fn(Progress) + Send + Sync),
    cancel: &Cancel,
) -> Result<LocalModel, PullError> {
    let report = Report::new(progress);
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(PullError::Cancelled { name: name.to_string() }),
        result = pull_now(library, name, settings, &report) => result,
    }
}

async fn pull_now(
    library: &Library,
    name: &str,
    settings: &Settings,
    report: &Report<'_>,
) -> Result<LocalModel, PullError> {
    let stop = StopOnDrop::default();
    let entry = library.catalog().find(name).cloned();
    let hub_name = HubName::parse(name);
    if entry.is_none() && hub_name.is_none() {
        // A file that is named by its path, or another program's model, is here or nowhere.
        return in_background(library, name).await?.map_err(PullError::Unknown);
    }
    if let Some(model) = already_here(library, entry.as_ref(), name).await? {
        return Ok(model);
    }
    let folder = library.models_dir().to_path_buf();
    std::fs::create_dir_all(&folder).map_err(|source| PullError::Io { path: folder.clone(), source })?;
    let full_name = entry.as_ref().map_or_else(|| name.to_string(), |entry| entry.name.clone());
    let fail = |source: String, error| PullError::AllSourcesFailed {
        name: full_name.clone(),
        failures: vec![SourceFailure { source, error }],
    };
    let web = Web::new(settings).map_err(|error| fail("settings".to_string(), error))?;
    let wanted = match (entry, hub_name) {
        (Some(entry), _) => Wanted::of_entry(entry),
        (None, Some(hub_name)) => {
            let source = Source::HuggingFace {
                repo: hub_name.repo.clone(),
                file: None,
                quant: hub_name.quant.clone(),
                revision: "main".to_string(),
            };
            report.start_source(source.to_string());
            report.at(Phase::Connecting, 0);
            Wanted::of_hub(&web, settings, &hub_name)
                .await
                .map_err(|error| fail(source.to_string(), error))?
        }
        (None, None) => unreachable!("one of both is there, see above"),
    };
    let stem = library::stem_of(&wanted.name);
    let lock = wait_for_lock(&folder, &stem, report).await?;
    // Whoever held the lock may have fetched it.
    if let Some(manifest) = Manifest::read(&folder, &stem) {
        return Ok(library::of_manifest(&folder, &manifest));
    }
    report.set_total(Some(wanted.file_size));
    let job = Job { settings, web: &web, report, folder, lock: Arc::new(lock), stop: stop.0.clone() };
    let mut failures = Vec::new();
    for source in &wanted.sources {
        report.start_source(source.to_string());
        report.at(Phase::Connecting, 0);
        match job.try_source(source, &wanted, &stem).await {
            Ok(model) => return Ok(model),
            Err(stop) => {
                job.drop_empty_parts(&stem);
                match stop {
                    Stop::All(error) => return Err(error),
                    Stop::Source(error) => failures.push(SourceFailure { source: source.to_string(), error }),
                }
            }
        }
    }
    Err(PullError::AllSourcesFailed { name: wanted.name, failures })
}

/// `Library::resolve`, which reads folders, away from the threads that serve others.
async fn in_background(
    library: &Library,
    name: &str,
) -> Result<Result<LocalModel, library::ResolveError>, PullError> {
    let (library, name) = (library.clone(), name.to_string());
    let folder = library.models_dir().to_path_buf();
    tokio::task::spawn_blocking(move || library.resolve(&name))
        .await
        .map_err(|error| PullError::Io { path: folder, source: std::io::Error::other(error) })
}

/// The model, if it is on this disk. A file in the shared folder counts only with the right digest.
async fn already_here(
    library: &Library,
    entry: Option<&CatalogEntry>,
    name: &str,
) -> Result<Option<LocalModel>, PullError> {
    let Ok(model) = in_background(library, name).await? else {
        return Ok(None);
    };
    let expected = entry.and_then(|entry| entry.sha256.clone());
    let (Origin::Shared, Some(expected)) = (model.origin, expected) else {
        return Ok(Some(model));
    };
    let (library, shared) = (library.clone(), model.clone());
    let digest = tokio::task::spawn_blocking(move || library.sha256(&shared)).await;
    match digest {
        Ok(Ok(digest)) if digest == expected => Ok(Some(LocalModel { sha256: Some(digest), ..model })),
        _ => Ok(None),
    }
}

async fn wait_for_lock(folder: &Path, stem: &str, report: &Report<'_>) -> Result<PullLock, PullError> {
    loop {
        match PullLock::try_take(folder, stem) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) => {
                report.at(Phase::Waiting, 0);
                tokio::time::sleep(LOCK_INTERVAL).await;
            }
            Err(source) => return Err(PullError::Io { path: folder.to_path_buf(), source }),
        }
    }
}

/// What is to be fetched.
struct Wanted {
    name: String,
    quant: Option<String>,
    /// Exact when there is a digest.
    file_size: u64,
    sha256: Option<String>,
    sources: Vec<Source>,
    /// The hub's digests are pinned under the name.
    pinned: bool,
    /// The files of a hub repository, when they are chosen already.
    choice: Option<Choice>,
}

impl Wanted {
    fn of_entry(entry: CatalogEntry) -> Wanted {
        Wanted {
            name: entry.name,
            quant: Some(entry.quant),
            file_size: entry.file_size,
            pinned: entry.sha256.is_none(),
            sha256: entry.sha256,
            sources: entry.sources,
            choice: None,
        }
    }

    /// Asks the hub which files `name` means.
    async fn of_hub(web: &Web, settings: &Settings, name: &HubName) -> Result<Wanted, SourceError> {
        let files = hub::list_files(web, settings, Hub::HuggingFace, &name.repo, "main").await?;
        let choice = choose(&files, &name.repo, None, name.quant.as_deref())?;
        let full_name = HubName { repo: name.repo.clone(), quant: Some(choice.quant.clone()) };
        Ok(Wanted {
            name: full_name.to_string(),
            quant: Some(choice.quant.clone()),
            file_size: choice.files.iter().map(|file| file.size).sum(),
            sha256: None,
            sources: vec![Source::HuggingFace {
                repo: name.repo.clone(),
                file: None,
                quant: Some(choice.quant.clone()),
                revision: "main".to_string(),
            }],
            pinned: false,
            choice: Some(choice),
        })
    }

    /// The exact length, when there is a digest to go with it.
    fn exact_size(&self) -> Option<u64> {
        self.sha256.as_ref().map(|_| self.file_size)
    }
}

/// The named file (with its other parts, if it is split), or the files of a quantisation.
fn choose(
    files: &[RemoteFile],
    repo: &str,
    file: Option<&str>,
    wanted: Option<&str>,
) -> Result<Choice, SourceError> {
    if let Some(path) = file {
        let names = quant::split_siblings(Path::new(path));
        let found: Option<Vec<RemoteFile>> = names
            .iter()
            .map(|name| files.iter().find(|file| Path::new(&file.path) == name).cloned())
            .collect();
        let files = found.ok_or_else(|| SourceError::NotFound { what: format!("{path} in {repo}") })?;
        return Ok(Choice { quant: wanted.unwrap_or("").to_string(), files });
    }
    quant::choose(files, wanted).map_err(|problem| match problem {
        NoChoice::NoGguf => SourceError::NoGguf { repo: repo.to_string() },
        NoChoice::Other(available) | NoChoice::Several(available) => {
            SourceError::ChooseQuant { repo: repo.to_string(), wanted: wanted.map(str::to_string), available }
        }
    })
}

impl Job<'_> {
    /// Everything from one source, up to the manifest.
    async fn try_source(&self, source: &Source, wanted: &Wanted, stem: &str) -> Result<LocalModel, Stop> {
        let single = PartPaths::new(&self.folder, &format!("{stem}.gguf"));
        let one = |fetched: Fetched| vec![(format!("{stem}.gguf"), fetched)];
        let (size, digest) = (wanted.exact_size(), wanted.sha256.as_deref());
        let files = match source {
            Source::HuggingFace { repo, file, quant, revision } => {
                let hub = (Hub::HuggingFace, repo.as_str(), revision.as_str());
                self.try_hub(hub, file.as_deref(), quant.as_deref(), wanted, stem).await?
            }
            Source::ModelScope { repo, file, quant, revision } => {
                let hub = (Hub::ModelScope, repo.as_str(), revision.as_str());
                self.try_hub(hub, file.as_deref(), quant.as_deref(), wanted, stem).await?
            }
            Source::Url(url) => {
                let url = Url::parse(url)
                    .map_err(|error| SourceError::Setup { detail: format!("address {url:?}: {error}") })?;
                let remote = Remote { url, token: None, hub: None, size, sha256: digest.map(str::to_string) };
                one(self.fetch(&remote, &single).await?)
            }
            Source::File(path) => one(self.copy(path, &single, size, digest).await?),
            Source::Wheels(wheels) => one(self.fetch_wheels(wheels, &single, size, digest).await?),
        };
        let files: Vec<ManifestFile> = files
            .into_iter()
            .map(|(file, fetched)| ManifestFile { file, size: fetched.size, sha256: fetched.sha256 })
            .collect();
        if wanted.pinned {
            let digests = files.iter().map(|file| file.sha256.clone()).collect();
            let path = pins::path(&self.folder);
            pins::set(&self.folder, &wanted.name, digests)
                .map_err(|error| disk::write_error(&path, error))?;
        }
        let manifest = Manifest::new(&wanted.name, files, &source.to_string());
        let path = crate::manifest::path(&self.folder, stem);
        manifest.write(&self.folder, stem).map_err(|error| disk::write_error(&path, error))?;
        Ok(library::of_manifest(&self.folder, &manifest))
    }

    /// The file or the parts from a repository. A digest of the catalog is enough to ask for the file at once;
    /// otherwise the hub is asked what it has.
    async fn try_hub(
        &self,
        (hub, repo, revision): (Hub, &str, &str),
        file: Option<&str>,
        quant: Option<&str>,
        wanted: &Wanted,
        stem: &str,
    ) -> Result<Vec<(String, Fetched)>, Stop> {
        let files = match (&wanted.choice, file, &wanted.sha256) {
            (Some(choice), ..) => choice.files.clone(),
            (None, Some(file), Some(digest)) => {
                let sha256 = Some(digest.clone());
                vec![RemoteFile { path: file.to_string(), size: wanted.file_size, sha256 }]
            }
            (None, file, digest) => {
                let listed = hub::list_files(self.web, self.settings, hub, repo, revision).await?;
                let mut choice = choose(&listed, repo, file, quant.or(wanted.quant.as_deref()))?;
                if let (Some(digest), [one]) = (digest, choice.files.as_mut_slice()) {
                    one.sha256 = Some(digest.clone());
                }
                choice.files
            }
        };
        if wanted.pinned {
            let stated: Option<Vec<String>> = files.iter().map(|file| file.sha256.clone()).collect();
            if let Some(stated) = stated {
                pins::check(&self.folder, &wanted.name, &stated)?;
            }
        }
        self.report.set_total(Some(files.iter().map(|file| file.size).sum()));
        let names = file_names(stem, files.len());
        // Room for all parts, before the first one comes.
        let paths: Vec<PartPaths> = names.iter().map(|name| PartPaths::new(&self.folder, name)).collect();
        let here =
            |place: &PartPaths| place.len() + std::fs::metadata(&place.target).map_or(0, |meta| meta.len());
        let missing =
            files.iter().zip(&paths).map(|(file, place)| file.size.saturating_sub(here(place))).sum();
        self.check_room(&paths[0], missing)?;
        let mut fetched = Vec::new();
        for ((file, place), name) in files.iter().zip(&paths).zip(names) {
            let one = match self.complete_already(place, file).await? {
                Some(done) => done,
                None => {
                    let remote = Remote {
                        url: hub::file_url(self.settings, hub, repo, revision, &file.path)?,
                        token: hub::token(self.settings, hub),
                        hub: Some((hub, repo.to_string())),
                        size: Some(file.size),
                        sha256: file.sha256.clone(),
                    };
                    self.fetch(&remote, place).await?
                }
            };
            self.report.file_done(one.size);
            fetched.push((name, one));
        }
        Ok(fetched)
    }

    /// A source that brought nothing leaves nothing.
    fn drop_empty_parts(&self, stem: &str) {
        for part in library::parts_of(&self.folder, stem) {
            let is_empty = std::fs::metadata(&part).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
            if let (true, Some(name)) = (is_empty, part.file_stem().and_then(|name| name.to_str())) {
                let _ = PartPaths::new(&self.folder, name).drop_part();
            }
        }
    }

    /// A part of a split model that an earlier, broken-off pull has completed.
    async fn complete_already(&self, place: &PartPaths, file: &RemoteFile) -> Result<Option<Fetched>, Stop> {
        let Some(expected) = file.sha256.clone() else {
            return Ok(None);
        };
        if std::fs::metadata(&place.target).map_or(true, |meta| meta.len() != file.size) {
            return Ok(None);
        }
        let path = place.target.clone();
        let digest = self.blocking(Phase::Checking, 0, move |_, _| crate::digest::of_file(&path)).await?;
        let found = digest.map_err(|error| self.io(&place.target, error))?;
        Ok((found == expected).then_some(Fetched { size: file.size, sha256: found }))
    }
}

/// Names of the files of a model of `n` parts.
fn file_names(stem: &str, n: usize) -> Vec<String> {
    match n {
        1 => vec![format!("{stem}.gguf")],
        n => (1..=n).map(|idx| format!("{stem}-{idx:05}-of-{n:05}.gguf")).collect(),
    }
}
