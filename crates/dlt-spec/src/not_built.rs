//! The error of a program that was built without an optional part.

/// Something needs a cargo feature, and this program was built without it.
///
/// ```
/// let error = dlt_spec::NotBuilt { what: "cannot draw `Loss`".to_owned(), feature: "figures" };
/// assert_eq!(
///     error.to_string(),
///     "cannot draw `Loss`: this program was built without the feature `figures`; to add it: cargo \
///      install --path crates/dlt-cli --features figures"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what}: this program was built without the feature `{feature}`; to add it: cargo install \
     --path crates/dlt-cli --features {feature}"
)]
pub struct NotBuilt {
    /// What cannot be done, as in "cannot read rows.parquet".
    pub what: String,
    /// The feature, as cargo knows it.
    pub feature: &'static str,
}
