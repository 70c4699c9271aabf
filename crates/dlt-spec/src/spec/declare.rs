//! The macros with which a spec is declared: a section with its fields, and the words of a field.

/// Declares an enum whose values are kebab-case words in a spec file.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// What a field of this type accepts.
            pub const WORDS: crate::fields::Values =
                crate::fields::Values::Word(|| crate::fields::words_of(Self::ALL));
        }
    };
}

/// Declares a section, each field once:
///
/// ```text
/// /// Meaning, as it is printed above the field in a spec file: no Markdown.
/// name: Type = default, values that it accepts, unit_is("…"), paper_says("value", "place");
/// ```
///
/// What follows the values are the methods of `Field` that add to a row of the table. From the
/// declaration follow the struct, its default, and `ROWS`, its part of the table of fields. The
/// section's name in a spec file is in brackets, with a dot; it is empty for the spec itself, whose
/// sections come after `with`.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $struct:ident in $section:tt {
            $(
                $(#[doc = $meaning:literal])+
                $name:ident: $type:ty = $default:expr, $values:expr
                    $(, $mark:ident($($argument:expr),+ $(,)?))*;
            )+
        }
        $(with {
            $($(#[doc = $about_part:literal])+ $part:ident: $part_type:ty,)+
        })?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[allow(rustdoc::broken_intra_doc_links, reason = "meanings are not Markdown")]
        pub struct $struct {
            $($(#[doc = $meaning])+ pub $name: $type,)+
            $($($(#[doc = $about_part])+ pub $part: $part_type,)+)?
        }

        impl Default for $struct {
            fn default() -> Self {
                Self {
                    $($name: $default,)+
                    $($($part: <$part_type>::default(),)+)?
                }
            }
        }

        impl $struct {
            /// Its rows of the table of fields, without those of its sections.
            pub(crate) const ROWS: &'static [crate::fields::Field] = &[
                $(row!($section $name, $values, $($meaning)+)$(.$mark($($argument),+))*,)+
            ];
        }

        $(impl $struct {
            /// Its rows and those of its sections.
            pub(crate) const SECTIONS: &'static [&'static [crate::fields::Field]] =
                &[Self::ROWS, $(<$part_type>::ROWS),+];
        })?
    };
}

/// One row of the table. The key and the way to read it are made from the same path, so they cannot
/// differ. A doc comment has a space at the start of each line, also of the first.
macro_rules! row {
    ([$($section:ident.)?] $name:ident, $values:expr, $($meaning:literal)+) => {
        crate::fields::Field::new(
            concat!($(stringify!($section), ".",)? stringify!($name)),
            |spec| crate::fields::toml_value(&spec.$($section.)?$name),
            $values,
            concat!($($meaning),+).trim_ascii_start(),
        )
    };
}
