//! The Content-Security-Policy of a page: no requests, and no style or script except the page's
//! own.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::{PageKind, SCRIPT, STYLE};

static SOURCES: LazyLock<String> = LazyLock::new(|| {
    format!("style-src 'sha256-{}'; script-src 'sha256-{}'", checksum(STYLE), checksum(SCRIPT))
});

/// The policy of the page. Pictures may be `data:` addresses: the icon is one, and so are large
/// figures.
pub(super) fn of_page(kind: PageKind) -> String {
    let connections = if kind == PageKind::Live { "; connect-src 'self'" } else { "" };
    format!(
        "default-src 'none'; {}; img-src data:{connections}; base-uri 'none'; form-action 'none'",
        *SOURCES
    )
}

/// SHA-256 in base 64, the form in which a policy names a source.
pub(super) fn checksum(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_reference_base64_of_sha256() {
        // printf abc | openssl dgst -sha256 -binary | base64
        assert_eq!(checksum("abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_eq!(checksum(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }
}
