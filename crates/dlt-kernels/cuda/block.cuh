// The language of the kernels, which both nvcc and a plain C++ compiler accept. The second build runs on a CPU, block
// by block, and the tests check it.
//
// A kernel is a sequence of phases. Each thread of the block runs the body of `PHASE { ... }`, with its number in
// `thread`. The next phase begins when all threads have ended this one. Values that outlive a phase are in `SHARED`
// memory. Within a phase, no thread reads what another one writes.
#pragma once

#ifdef __CUDACC__

#define DEVICE __device__ __forceinline__
#define KERNEL(name, ...) extern "C" __global__ void name(__VA_ARGS__)
#define PHASE for (unsigned thread = threadIdx.x, once = 1; once; once = 0, __syncthreads())
#define SHARED(type, name, count) __shared__ type name[count]
#define BLOCK_X blockIdx.x
#define BLOCK_Y blockIdx.y
#define THREADS blockDim.x

typedef unsigned long long Size;
template <class T> using In = const T* __restrict__;
template <class T> using Out = T*;

DEVICE unsigned bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(unsigned bits) { return __uint_as_float(bits); }

#else
#include "host.hpp"
#endif

// The most threads of a block. The number of threads is always a power of two.
#define MOST_THREADS 1024

// Rows of a table that a thread handles one after the other. `launch.rs` has the same number.
#define TABLE_ROWS 8

// A number of 16 bits, the upper half of a float.
struct Bf16 {
    unsigned short bits;
};

DEVICE float get(float x) { return x; }
DEVICE float get(Bf16 x) { return float_of(unsigned(x.bits) << 16); }
DEVICE void put(float& into, float x) { into = x; }
// Rounds to the nearest number, and halfway to the even one. NaN stays NaN.
DEVICE void put(Bf16& into, float x) {
    const unsigned bits = bits_of(x);
    const unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    into.bits = x != x ? (unsigned short)(bits >> 16 | 0x40u) : (unsigned short)rounded;
}

// The number of this thread among all threads of a grid of one dimension.
#define ELEMENT (Size(BLOCK_X) * THREADS + thread)

// The column of an element in rows of `width`. A GPU divides 64-bit numbers several times slower than 32-bit numbers.
DEVICE unsigned column_of(Size element, unsigned width) {
    return element >> 32 ? unsigned(element % width) : unsigned(element) % width;
}

// Leaves the sum of the threads' numbers in the first element: halves are added until one number is left.
template <class Scratch> DEVICE void sum_threads(Scratch& scratch) {
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        PHASE {
            if (thread < half) scratch[thread] += scratch[thread + half];
        }
    }
}
