//! The algebra of dynamic layer tying: actions, states, transitions, patterns and recordings.
