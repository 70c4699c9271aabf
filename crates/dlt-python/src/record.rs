//! Plain results: Python classes with fields, equality, `repr` and pickling.

/// Declares one. Options of `pyclass` and traits to derive are for records that can be hashed.
macro_rules! record {
    (
        $(#[$doc:meta])*
        $name:ident [$($option:ident),*] [$($derived:ident),*] {
            $($(#[$field_doc:meta])* $field:ident: $type:ty),+ $(,)?
        }
    ) => {
        $(#[$doc])*
        #[pyo3::pyclass(
            module = "dlt_state",
            frozen,
            get_all,
            eq,
            new = "from_fields",
            from_py_object
            $(, $option)*
        )]
        #[derive(Clone, Debug, PartialEq $(, $derived)*)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub(crate) $field: $type),+
        }

        #[pyo3::pymethods]
        impl $name {
            fn __repr__(&self, py: pyo3::Python<'_>) -> pyo3::PyResult<String> {
                use pyo3::types::{PyAnyMethods, PyTupleMethods};

                let mut fields = Vec::new();
                let names = [$(stringify!($field)),+];
                for (name, value) in names.iter().zip(self.__getnewargs__(py)?.iter()) {
                    fields.push(format!("{name}={}", value.repr()?));
                }

                Ok(format!("{}({})", stringify!($name), fields.join(", ")))
            }

            fn __getnewargs__<'py>(
                &self,
                py: pyo3::Python<'py>,
            ) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::types::PyTuple>> {
                use pyo3::IntoPyObjectExt;

                let fields = [$(self.$field.clone().into_bound_py_any(py)?),+];
                pyo3::types::PyTuple::new(py, fields)
            }
        }
    };
}

pub(crate) use record;
