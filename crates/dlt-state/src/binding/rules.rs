//! The readings of the method that a binding follows. Each is a row of DEVIATIONS.

/// Declares an enum of readings, whose names in text are kebab-case words.
macro_rules! readings {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(rename_all = "kebab-case")
        )]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }
    };
}

readings! {
    /// What a tied event does to the weights (row 32).
    Tie {
        /// The layer uses its owner's weights from then on.
        Share,
        /// The layer gets a copy of them and trains the copy by itself, with fresh moments
        /// (ablation v).
        Replicate,
    }
}

readings! {
    /// What happens to weights and moments that a tied event leaves without a layer (row 42).
    Merge {
        /// They are dropped; those of the owner stay as they are.
        Overwrite,
        /// They are averaged into the block that replaces them, weighted by the number of layers
        /// that used each before.
        Average,
    }
}

readings! {
    /// First tie of a frozen layer (row 5).
    FirstTie {
        /// It takes its owner's weights, as section 3 (iii) says.
        Replicate,
        /// Nothing happens until its state changes, as Algorithm 1 line 11 says.
        Literal,
    }
}

readings! {
    /// Which positions contribute to the gradient of shared weights (row 2).
    Gradient {
        /// Every position that uses them.
        Sum,
        /// Only positions that the state calls independent.
        Owner,
    }
}

readings! {
    /// What untying does to the weights (row 3).
    Untie {
        /// The layer gets its own copy.
        Copy,
        /// The layer keeps sharing the storage, with a separate optimizer state.
        Alias,
    }
}

readings! {
    /// What happens to a layer whose owner is tied to another layer (row 4).
    Retied {
        /// It follows its owner, as Eq. 1 says.
        Follow,
        /// It keeps the old owner's storage; only visited layers move, to the named layer's present
        /// storage.
        Keep,
    }
}

/// The readings of the method that a binding follows (DEVIATIONS rows 2 to 5, 32, 42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What a tied event does to the weights. Under [`Tie::Replicate`] no two layers share storage,
    /// from the start on. The binding then follows the state, whatever `gradient`, `untie` and
    /// `retied` say.
    pub tie: Tie,
    /// Which positions contribute to the gradient of shared weights.
    pub gradient: Gradient,
    /// What untying does to the weights.
    pub untie: Untie,
    /// What happens to a layer whose owner is tied to another layer.
    pub retied: Retied,
    /// What happens to a frozen layer whose owner stays layer 0.
    pub first_tie: FirstTie,
    /// What happens to weights that no layer uses any more after a tied event.
    pub merge: Merge,
}

impl Rules {
    /// What the paper says: storage is always grouped as the state says.
    pub const PAPER: Self = Self {
        tie: Tie::Share,
        gradient: Gradient::Sum,
        untie: Untie::Copy,
        retied: Retied::Follow,
        first_tie: FirstTie::Replicate,
        merge: Merge::Overwrite,
    };

    /// What the authors' code does: storage is shared ever more, whatever the state says.
    pub const REFERENCE: Self = Self {
        gradient: Gradient::Owner,
        untie: Untie::Alias,
        retied: Retied::Keep,
        ..Self::PAPER
    };
}
