//! Takes the place of `reader` in a program without the feature `parquet`: no table can be opened.

use super::{Cell, DataFile, Flow, TextColumn};
use crate::error::DataError;
use dlt_spec::NotBuilt;
use std::{convert::Infallible, marker::PhantomData, ops::Range};

/// As `reader::Table`. There is none.
pub(crate) struct Table<'a> {
    none: Infallible,
    of: PhantomData<&'a DataFile>,
}

#[cfg_attr(test, allow(dead_code, reason = "tests have a reader too"))]
impl<'a> Table<'a> {
    pub(crate) fn open(file: &'a DataFile) -> Result<Self, DataError> {
        let what = format!("cannot read {} as Parquet", file.path.display());
        Err(DataError::NotBuilt(NotBuilt { what, feature: "parquet" }))
    }

    pub(crate) fn columns(&self) -> Vec<String> {
        match self.none {}
    }

    pub(super) fn rows(&self) -> u64 {
        match self.none {}
    }

    pub(super) fn text_column(&self, _: Option<&str>) -> Result<TextColumn, DataError> {
        match self.none {}
    }

    pub(crate) fn column(&self, _: &str) -> Result<usize, DataError> {
        match self.none {}
    }

    pub(super) fn bytes(&self, _: usize) -> u64 {
        match self.none {}
    }

    pub(crate) fn cells(
        &self,
        _: usize,
        _: &Range<u64>,
        _: &mut dyn FnMut(u64, Cell<'_>) -> Result<Flow, DataError>,
    ) -> Result<Flow, DataError> {
        match self.none {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn no_table_can_be_opened() {
        let file = DataFile::at(Path::new("rows.parquet"));
        let error = Table::open(&file).err().unwrap().to_string();
        assert!(
            error.starts_with(
                "cannot read rows.parquet as Parquet: this program was built without the feature \
                 `parquet`"
            ),
            "{error}"
        );
    }
}
