// Softmax cross-entropy of rows of logits, and its gradient, which replaces them. A block has a row: `vocabulary`
// logits, then padding to the length `width`, whose gradient is zero.
#include "softmax.cuh"

template <bool with_gradient, class T, class Logits>
DEVICE void cross_entropy(Logits logits, In<unsigned> targets, Out<double> losses, unsigned vocabulary, unsigned width,
                          float scale) {
    SHARED(float, mosts, MOST_THREADS);
    SHARED(float, sums, MOST_THREADS);
    const Size first = Size(BLOCK_X) * width;
    const unsigned target = targets[BLOCK_X];
    PHASE {
        Seen seen = nothing_seen();
        for (unsigned i = thread; i < vocabulary; i += THREADS) see(seen, get(logits[first + i]));
        mosts[thread] = seen.most;
        sums[thread] = seen.sum;
    }
    combine_seen(mosts, sums);
    PHASE {
        if (thread == 0) {
            losses[BLOCK_X] = double(mosts[0]) + log(double(sums[0])) - double(get(logits[first + target]));
        }
    }
    if constexpr (with_gradient) {
        PHASE {
            const float most = mosts[0], sum = sums[0], factor = scale / sum;
            for (unsigned i = thread; i < vocabulary; i += THREADS) {
                const float e = exponential(get(logits[first + i]) - most);
                put(logits[first + i], (i == target ? e - sum : e) * factor);
            }
            for (unsigned i = vocabulary + thread; i < width; i += THREADS) put(logits[first + i], 0.0f);
        }
    }
}

#define LOSSES(suffix, T)                                                                                              \
    KERNEL(cross_entropy_##suffix, In<T> logits, In<unsigned> targets, Out<double> losses, unsigned vocabulary,        \
           unsigned width) {                                                                                           \
        cross_entropy<false, T>(logits, targets, losses, vocabulary, width, 1.0f);                                     \
    }                                                                                                                  \
    KERNEL(cross_entropy_gradient_##suffix, Out<T> logits, In<unsigned> targets, Out<double> losses,                   \
           unsigned vocabulary, unsigned width, float scale) {                                                         \
        cross_entropy<true, T>(logits, targets, losses, vocabulary, width, scale);                                     \
    }

LOSSES(f32, float)
LOSSES(bf16, Bf16)
