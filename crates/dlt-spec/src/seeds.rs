//! Named random streams from one root seed.
//!
//! Each purpose draws from its own stream, so an additional draw in one place does not change the
//! draws elsewhere.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The stream called `name` of root seed `root`: ChaCha8 keyed by `root`, on the stream whose
/// number is the 64-bit FNV-1a hash of `name`.
///
/// ```
/// use rand_chacha::rand_core::RngCore;
/// let draw = |root, name| dlt_spec::seeds::stream(root, name).next_u64();
/// assert_eq!(draw(1, "policy"), draw(1, "policy"));
/// assert_ne!(draw(1, "policy"), draw(1, "data"));
/// assert_ne!(draw(1, "policy"), draw(2, "policy"));
/// ```
#[must_use]
pub fn stream(root: u64, name: &str) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(root);
    rng.set_stream(fnv1a(name.as_bytes()));
    rng
}

/// The 64-bit FNV-1a hash.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
