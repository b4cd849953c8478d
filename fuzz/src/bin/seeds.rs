//! Writes the inputs that need our keys and packers into the corpus: run it as `cargo +nightly fuzz` built it, in `fuzz/`.

fn main() -> std::io::Result<()> {
    for (target, name, bytes) in ledger::fuzzing::samples() {
        let folder = std::path::Path::new("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
