//! Random numbers from the operating system: the only source of seeds, secrets and session ids.

use crate::Error;
use zeroize::Zeroizing;

/// Random bytes. Wrap them in [`Zeroizing`] if they are secret.
///
/// # Errors
/// The system has none.
pub fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    #[cfg(test)]
    if crate::ot::tests::fixed(&mut bytes) {
        return Ok(bytes);
    }
    getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(bytes)
}

/// A secret random block.
///
/// # Errors
/// The system has none.
pub fn block() -> Result<Zeroizing<u128>, Error> {
    Ok(Zeroizing::new(u128::from_le_bytes(*Zeroizing::new(bytes()?))))
}
