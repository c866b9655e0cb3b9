//! x
use super::ModelError;
use std::path::Path;

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    use std::io::Read;
    let place = path.display().to_string();
    let fail = |e: std::io::Error| ModelError::new(&place, e.to_string());
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(fail)?.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    super::require(bytes.len() as u64 <= limit, &place, || format!("more than {limit} bytes"))?;
    Ok(bytes)
}
