//! Which model is this, without reading all of it?

use xxhash_rust::xxh3::Xxh3;

use crate::gguf::Gguf;

/// So many bytes at both ends of each tensor are looked at: a page of the file.
const END_BYTES: usize = 4096;

impl Gguf {
    /// A mark of the model's tensors, 32 hexadecimal digits: names, types, shapes, and the first and last 4 KiB of
    /// each. The order in the file, the split into parts and the metadata do not matter.
    ///
    /// It tells models apart that were not made to be confused; who wants to be sure compares whole files.
    pub fn fingerprint(&self) -> String {
        let mut tensors: Vec<_> = self.tensors().iter().collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let mut hash = Xxh3::new();
        for info in tensors {
            // Lengths first, so that no two lists of tensors are the same bytes.
            hash.update(&(info.name.len() as u64).to_le_bytes());
            hash.update(info.name.as_bytes());
            hash.update(&(info.kind.name().len() as u64).to_le_bytes());
            hash.update(info.kind.name().as_bytes());
            let shape = info.shape();
            hash.update(&(shape.len() as u64).to_le_bytes());
            shape.iter().for_each(|n| hash.update(&n.to_le_bytes()));
            let bytes = self.bytes(info);
            hash.update(&bytes[..bytes.len().min(END_BYTES)]);
            hash.update(&bytes[bytes.len().saturating_sub(END_BYTES)..]);
        }
        format!("{:032x}", hash.digest128())
    }
}
