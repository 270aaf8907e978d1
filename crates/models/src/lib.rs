//! Which file is this name, how does it get here, and what does it hold?
//!
//! A name is looked up in the [`Catalog`], [`pull`] fetches its file into the [`Library`], and the library finds it
//! again, beside the models that other programs have on this disk.

#![forbid(unsafe_code)]

mod byte_count;
mod cancel;
mod catalog;
mod digest;
mod hub;
mod hub_name;
mod library;
mod manifest;
mod pull;
mod pull_lock;
mod quant;
mod settings;
mod web;

pub use cancel::Cancel;
pub use catalog::{Catalog, CatalogEntry, CatalogError, Probe, Source, Wheel};
pub use hub_name::HubName;
pub use library::{CacheFolders, Library, LibraryConfig, LocalModel, Origin, RemoveError, ResolveError};
pub use pull::{Phase, Progress, PullError, SourceError, SourceFailure, pull};
pub use settings::Settings;
