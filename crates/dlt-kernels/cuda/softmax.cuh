// The largest number and the sum of exponentials of a row that many threads read.
#pragma once
#include "numbers.cuh"

// What a thread has seen of a row: the largest number, and the sum of exp(number - most).
struct Seen {
    float most;
    float sum;
};

DEVICE Seen nothing_seen() { return Seen{float_of(0xff800000u), 0.0f}; }

// One pass: a new largest number rescales the sum so far.
DEVICE void see(Seen& seen, float x) {
    if (x > seen.most) {
        seen.sum = fmaf(seen.sum, exponential(seen.most - x), 1.0f);
        seen.most = x;
    } else {
        seen.sum += exponential(x - seen.most);
    }
}

// Combines what all threads have seen, in the first elements.
template <class Mosts, class Scratch> DEVICE void combine_seen(Mosts& mosts, Scratch& sums) {
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        PHASE {
            if (thread < half) {
                const float a = mosts[thread], b = mosts[thread + half];
                const float most = a > b ? a : b;
                // A thread that has seen nothing has a sum of zero, and minus infinity minus itself is NaN.
                const float of_a = a == most ? sums[thread] : sums[thread] * exponential(a - most);
                const float of_b = b == most ? sums[thread + half] : sums[thread + half] * exponential(b - most);
                mosts[thread] = most;
                sums[thread] = of_a + of_b;
            }
        }
    }
}
