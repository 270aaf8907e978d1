//! Embeds the web app: every file of `web/dist`, as it is and compressed, becomes one entry of the table
//! `FILES` that `src/page.rs` includes. Brotli comes from the web app's own build, which leaves `NAME.br` beside `NAME`:
//! Node has it built in, so that no Rust crate must be compiled for it. Without a built web app the table is empty and
//! the page says so.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};

fn main() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("set by cargo"));
    let dist = root.join("../../web/dist");
    // A path that does not exist would make cargo run this script at every build.
    let _ = fs::create_dir_all(&dist);
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", dist.display());

    let mut paths = Vec::new();
    // A web app without its index.html is one that is just being built.
    if dist.join("index.html").is_file() {
        collect(&dist, &mut paths);
    }
    paths.sort();
    let mut table = String::from("static FILES: &[EmbeddedFile] = &[\n");
    for (idx, path) in paths.iter().enumerate() {
        let name = path.strip_prefix(&dist).expect("collected below it").to_string_lossy().replace('\\', "/");
        if name.ends_with(".map") || name.ends_with(".br") {
            continue;
        }
        let brotli = PathBuf::from(format!("{}.br", path.display()));
        let brotli = match fs::read(&brotli) {
            Ok(bytes) => {
                let copy = out.join(format!("page-{idx}.br"));
                fs::write(&copy, bytes).unwrap_or_else(|error| panic!("{}: {error}", copy.display()));
                format!("Some(include_bytes!({copy:?}))")
            }
            Err(_) => "None".to_string(),
        };
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let plain = out.join(format!("page-{idx}"));
        fs::write(&plain, &bytes).unwrap_or_else(|error| panic!("{}: {error}", plain.display()));
        let gzip = compressible(&name).then(|| compress(&bytes)).filter(|gzip| gzip.len() < bytes.len());
        let gzip = match gzip {
            Some(gzip) => {
                let path = out.join(format!("page-{idx}.gz"));
                fs::write(&path, gzip).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                format!("Some(include_bytes!({path:?}))")
            }
            None => "None".to_string(),
        };
        let etag = format!("\"{:016x}\"", hasher.finish());
        writeln!(
            table,
            "    EmbeddedFile {{ path: {:?}, plain: include_bytes!({plain:?}), brotli: {brotli}, gzip: {gzip}, etag: {etag:?} }},",
            format!("/{name}")
        )
        .expect("writing to a string");
    }
    table.push_str("];\n");
    fs::write(out.join("page_files.rs"), table).expect("OUT_DIR is writable");
}

/// All files below a folder.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder being read").path();
        if path.is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// Pictures and fonts are compressed already.
fn compressible(name: &str) -> bool {
    let ending = name.rsplit('.').next().unwrap_or("");
    matches!(ending, "html" | "js" | "mjs" | "css" | "json" | "svg" | "txt" | "webmanifest" | "xml" | "ico")
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}
