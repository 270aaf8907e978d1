//! daybreak
fn main() {}
