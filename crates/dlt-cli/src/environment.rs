//! Folders that environment variables name, read as Python reads them.

use std::env;
use std::path::PathBuf;

use crate::failure::{Failure, Result};

/// The folder that a variable names, if it is set. A service manager or a container may pass a
/// value that no shell has expanded. So `~` is the home folder here too, and `$NAME` or `${NAME}`
/// is another variable.
///
/// # Errors
/// If the value begins with `~` and the home folder is somebody else's or unknown.
pub(crate) fn folder(name: &str) -> Result<Option<PathBuf>> {
    let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    let Some(text) = value.to_str() else { return Ok(Some(PathBuf::from(value))) };
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());

    match expanded(text, &variable) {
        Some(path) => Ok(Some(PathBuf::from(path))),
        None => Err(Failure::usage(format!(
            "{name}: expected a folder, ~/FOLDER with HOME set, or $VARIABLE/FOLDER, got {text}; write the full path"
        ))),
    }
}

/// A folder in the user's cache, which is `XDG_CACHE_HOME` or else `~/.cache`; `None` if neither is
/// known.
pub(crate) fn in_user_cache(name: &str) -> Result<Option<PathBuf>> {
    let cache = match folder("XDG_CACHE_HOME")? {
        Some(cache) => Some(cache),
        None => folder("HOME")?.map(|home| home.join(".cache")),
    };
    Ok(cache.map(|cache| cache.join(name)))
}

/// A path with `~` and variables replaced; `None` if it needs the home folder of another user, or
/// `HOME` is not set. A variable that is not set stays as it is written.
fn expanded(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let text = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            format!("{}{rest}", variable("HOME")?)
        }
        Some(_) => return None,
        None => text.to_owned(),
    };

    let mut parts = text.split('$');
    let mut whole = parts.next().unwrap_or_default().to_owned();

    for part in parts {
        let braced = part.strip_prefix('{').and_then(|part| part.split_once('}'));
        let end = part.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let (name, rest) = braced.unwrap_or_else(|| part.split_at(end.unwrap_or(part.len())));

        match variable(name) {
            Some(value) => whole.push_str(&format!("{value}{rest}")),
            None => whole.push_str(&format!("${part}")),
        }
    }

    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_what_a_shell_would_have_made_of_it() {
        let variable = |name: &str| match name {
            "HOME" => Some("/home/me".to_owned()),
            "BIG_DISK" => Some("/big".to_owned()),
            _ => None,
        };

        for (text, path) in [
            ("~", Some("/home/me")),
            ("~/x/y", Some("/home/me/x/y")),
            ("~you/x", None),
            ("/a/~/b", Some("/a/~/b")),
            ("$BIG_DISK/hf", Some("/big/hf")),
            ("${BIG_DISK}er/hf$HOME", Some("/biger/hf/home/me")),
            ("$NOTHING/x${ALSO}$", Some("$NOTHING/x${ALSO}$")),
            ("/plain", Some("/plain")),
        ] {
            assert_eq!(expanded(text, &variable).as_deref(), path, "{text}");
        }

        assert_eq!(expanded("~/x", &|_| None), None);
    }
}
