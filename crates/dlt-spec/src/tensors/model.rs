//! The layout of model files, as far as it can be checked without the model.

use std::path::Path;

use super::{CHECKSUM, Examined, Number, TensorError, TensorFile};

/// Key of the layout's version in the metadata.
pub const LAYOUT_KEY: &str = "dlt-model";

/// Key of the names of parameters that each layer keeps for itself.
pub const KEPT_KEY: &str = "kept";

/// Version of the layout of models whose layers keep parameters for themselves. It has a checksum.
pub const LAYOUT: &str = "3";

/// Version of the layout of all other models. It has a checksum too.
pub const WHOLE_BLOCKS: &str = "2";

/// The first version, without a checksum. It can still be read.
pub const FIRST_LAYOUT: &str = "1";

/// Opens a model file and checks all of its bytes: layout, types, checksum, numbers.
///
/// # Errors
/// [`TensorError::Format`] if it is not a model file of a layout that this program reads, has a
/// tensor that is not f32, or is damaged; [`TensorError::NotFinite`] if a weight is not finite;
/// [`TensorError::Io`] if it cannot be read.
pub fn open_model(path: &Path) -> Result<(TensorFile, Examined), TensorError> {
    let file = TensorFile::open(path)?;
    let header = file.header();
    match (
        header.metadata.get(LAYOUT_KEY).map(String::as_str),
        header.metadata.contains_key(CHECKSUM),
    ) {
        (Some(LAYOUT | WHOLE_BLOCKS), true) | (Some(FIRST_LAYOUT), false) => {}
        (Some(LAYOUT | WHOLE_BLOCKS), false) => {
            return Err(file.refuse("it is damaged: the metadata lacks its checksum"));
        }
        (Some(FIRST_LAYOUT), true) => {
            return Err(file.refuse(format!(
                "it is damaged: layout version {FIRST_LAYOUT} has no checksum, but the metadata \
                 holds one"
            )));
        }
        (Some(other), _) => {
            return Err(file.refuse(format!(
                "expected model layout version {FIRST_LAYOUT}, {WHOLE_BLOCKS} or {LAYOUT}, got {other}"
            )));
        }
        (None, _) => {
            return Err(file.refuse("a safetensors file, but not one of dlt's model files"));
        }
    }

    if let Some((name, place)) = header.tensors.iter().find(|(_, place)| place.dtype != Number::F32)
    {
        return Err(
            file.refuse(format!("tensor `{name}`: expected numbers in F32, got {:?}", place.dtype))
        );
    }

    let examined = file.check()?;
    Ok((file, examined))
}
