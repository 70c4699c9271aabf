// The functions of `lanes.rs`, `gelu.rs`, `gated.rs` and `dropout.rs`, with the same steps and so the same bits. The
// compiler contracts nothing: the kernels are compiled with `--fmad=false`.
#pragma once
#include "block.cuh"

// exp(x) to about one unit in the last place for x up to 88; zero below -87; NaN stays NaN.
DEVICE float exponential(float x) {
    const float round = 12582912.0f;
    const bool low = x < -87.0f;
    x = low ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float shifted = fmaf(x, 1.44269504f, round);
    const float n = shifted - round;
    const float r = fmaf(n, 2.1219444e-4f, fmaf(n, -0.6933594f, x));
    float p = 1.3836835e-3f;
    p = fmaf(p, r, 8.374824e-3f);
    p = fmaf(p, r, 4.1668226e-2f);
    p = fmaf(p, r, 0.1666642f);
    p = fmaf(p, r, 0.4999999f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    const float power = float_of((bits_of(shifted) << 23) + 0x3f800000u);
    return low ? 0.0f : p * power;
}

// A function of x between zero and one, and its derivative.
struct Gate {
    float open;
    float slope;
};

// 1 / (1 + exp(-z)). It uses the exponential of -|z|, so that nothing overflows.
DEVICE Gate logistic(float z) {
    const float e = exponential(-fabsf(z));
    const float s = 1.0f / (1.0f + e);
    return Gate{z < 0.0f ? e * s : s, e * s * s};
}

// (1 + tanh(u)) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3).
struct Tanh {
    static DEVICE Gate gate(float x) {
        const float twice_root = 1.595769f, cubic = 0.044715f;
        const float square = x * x;
        const float u = twice_root * x * fmaf(cubic, square, 1.0f);
        const float e = exponential(-fabsf(u));
        const float s = 1.0f / (1.0f + e);
        const float du = twice_root * fmaf(3.0f * cubic, fminf(square, 1e6f), 1.0f);
        return Gate{u < 0.0f ? e * s : s, e * s * s * du};
    }
};

// The standard normal distribution function, and its density.
struct Erf {
    static DEVICE Gate gate(float x) {
        const float root_half = 0.70710677f, density = 0.3989423f;
        const float size = fabsf(x);
        const float z = size > 13.0f ? 13.0f : size;
        const float t = 1.0f / fmaf(0.5f * root_half, z, 1.0f);
        float p = -5.392304e-2f;
        p = fmaf(p, t, 2.5799543e-1f);
        p = fmaf(p, t, -4.281456e-1f);
        p = fmaf(p, t, 2.0421743e-1f);
        p = fmaf(p, t, 3.0474525e-2f);
        p = fmaf(p, t, 1.7447142e-1f);
        p = fmaf(p, t, 2.5198606e-1f);
        p = fmaf(p, t, 2.8066232e-1f);
        p = fmaf(p, t, 2.822697e-1f);
        p = fmaf(p, t, -8.279356e-6f);
        const float e = exponential(-0.5f * z * z);
        const float tail = 0.5f * e * p;
        return Gate{x < 0.0f ? tail : 1.0f - tail, density * e};
    }
};

// A bijective mixer of 32 bits.
DEVICE unsigned mix(unsigned x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

// The factor of element `counter` of a dropout stream. A threshold of zero keeps everything.
struct Dropout {
    unsigned first_key, second_key, threshold;
    float scale;

    DEVICE float factor(Size counter) const {
        const unsigned high = mix((unsigned(counter >> 32) * 0x9e3779b9u) ^ first_key);
        const unsigned hash = mix(mix(unsigned(counter) ^ high) + second_key);
        return hash >= threshold ? scale : 0.0f;
    }
};
