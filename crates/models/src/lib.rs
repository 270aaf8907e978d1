//! Which file is this name, how does it get here, and what does it hold?
//!
//! A name is looked up in the [`Catalog`], [`pull`] fetches its file into the [`Library`], the library finds it again
//! beside the models that other programs have on this disk, and [`OpenModel`] makes of the file what the engine and
//! the server need: mapped weights, configuration, tokenizer and chat template, proved as far as that goes without
//! running it.

#![forbid(unsafe_code)]

mod byte_count;
mod cancel;
mod catalog;
mod digest;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod hub;
mod hub_name;
mod library;
mod manifest;
mod open;
mod pull;
mod pull_lock;
mod quant;
mod recommend;
mod resolver;
mod settings;
mod web;

pub use cancel::Cancel;
pub use catalog::{Catalog, CatalogEntry, CatalogError, Probe, Source, Wheel};
pub use hub_name::HubName;
pub use library::{CacheFolders, Library, LibraryConfig, LocalModel, Origin, RemoveError, ResolveError};
pub use open::{AdapterFile, OpenError, OpenModel, OpenOptions, OpenProblem, Warning, open_tokenizer};
pub use pull::{Phase, Progress, PullError, SourceError, SourceFailure, pull};
pub use recommend::{MachineMemory, estimate_memory, recommend};
pub use settings::Settings;
