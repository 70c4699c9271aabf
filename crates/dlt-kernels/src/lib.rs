//! Differentiable CPU kernels for candle, each beside a composed reference.
