// Layer normalisation, and normalisation by the root mean square, which is the same with a mean of zero. A block has a
// row.
#include "numbers.cuh"

// Leaves the mean and the inverse deviation of the row at `first` in `moments`.
template <bool centred, class T, class Scratch, class Moments>
DEVICE void find_moments(In<T> x, Size first, unsigned width, float epsilon, Scratch& scratch, Moments& moments) {
    PHASE {
        float sum = 0.0f;
        if (centred) {
            for (unsigned i = thread; i < width; i += THREADS) sum += get(x[first + i]);
        }
        scratch[thread] = sum;
    }
    if (centred) sum_threads(scratch);
    PHASE {
        if (thread == 0) moments[0] = scratch[0] / float(width);
    }
    // From the deviations: with a large mean, mean(x²) - mean² would lose digits.
    PHASE {
        const float mean = moments[0];
        float sum = 0.0f;
        for (unsigned i = thread; i < width; i += THREADS) {
            const float deviation = get(x[first + i]) - mean;
            sum = fmaf(deviation, deviation, sum);
        }
        scratch[thread] = sum;
    }
    sum_threads(scratch);
    PHASE {
        if (thread == 0) moments[1] = 1.0f / sqrtf(scratch[0] / float(width) + epsilon);
    }
}

template <class T>
DEVICE void layer_norm(In<T> x, In<float> weight, In<float> bias, Out<T> y, unsigned width, float epsilon) {
    SHARED(float, scratch, MOST_THREADS);
    SHARED(float, moments, 2);
    const Size first = Size(BLOCK_X) * width;
    find_moments<true, T>(x, first, width, epsilon, scratch, moments);
    PHASE {
        for (unsigned i = thread; i < width; i += THREADS) {
            put(y[first + i], fmaf((get(x[first + i]) - moments[0]) * moments[1], weight[i], bias[i]));
        }
    }
}

template <class T> DEVICE void rms_norm(In<T> x, In<float> weight, Out<T> y, unsigned width, float epsilon) {
    SHARED(float, scratch, MOST_THREADS);
    SHARED(float, moments, 2);
    const Size first = Size(BLOCK_X) * width;
    find_moments<false, T>(x, first, width, epsilon, scratch, moments);
    PHASE {
        for (unsigned i = thread; i < width; i += THREADS) {
            put(y[first + i], get(x[first + i]) * moments[1] * weight[i]);
        }
    }
}

// The gradient of x. The moments of the rows are kept for the sums below.
template <bool centred, class T>
DEVICE void norm_gradient(In<T> x, In<float> weight, In<T> gradient, Out<T> dx, Out<float> row_moments, unsigned width,
                          float epsilon) {
    SHARED(float, scratch, MOST_THREADS);
    SHARED(float, other, MOST_THREADS);
    SHARED(float, moments, 2);
    const Size first = Size(BLOCK_X) * width;
    find_moments<centred, T>(x, first, width, epsilon, scratch, moments);
    PHASE {
        float outer_sum = 0.0f, along = 0.0f;
        for (unsigned i = thread; i < width; i += THREADS) {
            const float outer = get(gradient[first + i]) * weight[i];
            outer_sum += outer;
            along = fmaf(outer, (get(x[first + i]) - moments[0]) * moments[1], along);
        }
        scratch[thread] = outer_sum;
        other[thread] = along;
    }
    sum_threads(scratch);
    sum_threads(other);
    PHASE {
        const float mean_outer = centred ? scratch[0] / float(width) : 0.0f;
        const float along = other[0] / float(width);
        for (unsigned i = thread; i < width; i += THREADS) {
            const float outer = get(gradient[first + i]) * weight[i];
            const float normal = (get(x[first + i]) - moments[0]) * moments[1];
            put(dx[first + i], moments[1] * (outer - mean_outer - normal * along));
        }
        if (thread < 2) row_moments[Size(BLOCK_X) * 2 + thread] = moments[thread];
    }
}

// For each group of rows, partial sums of the gradients of weight and bias. A thread has a column.
template <class T>
DEVICE void norm_sums(In<T> x, In<T> gradient, In<float> row_moments, Out<float> sums, unsigned rows, unsigned width,
                      unsigned rows_per_sum) {
    PHASE {
        const Size column = ELEMENT;
        if (column < width) {
            const unsigned first = BLOCK_Y * rows_per_sum;
            const unsigned end = rows - first < rows_per_sum ? rows : first + rows_per_sum;
            float of_weight = 0.0f, of_bias = 0.0f;
            for (unsigned row = first; row < end; ++row) {
                const Size at = Size(row) * width + column;
                const float mean = row_moments[Size(row) * 2], inverse = row_moments[Size(row) * 2 + 1];
                const float g = get(gradient[at]);
                of_weight = fmaf(g, (get(x[at]) - mean) * inverse, of_weight);
                of_bias += g;
            }
            sums[Size(BLOCK_Y) * 2 * width + column] = of_weight;
            sums[(Size(BLOCK_Y) * 2 + 1) * width + column] = of_bias;
        }
    }
}

#define NORMS(suffix, T)                                                                                               \
    KERNEL(layer_norm_##suffix, In<T> x, In<float> weight, In<float> bias, Out<T> y, unsigned width, float epsilon) {  \
        layer_norm<T>(x, weight, bias, y, width, epsilon);                                                             \
    }                                                                                                                  \
    KERNEL(rms_norm_##suffix, In<T> x, In<float> weight, Out<T> y, unsigned width, float epsilon) {                    \
        rms_norm<T>(x, weight, y, width, epsilon);                                                                     \
    }                                                                                                                  \
    KERNEL(layer_norm_gradient_##suffix, In<T> x, In<float> weight, In<T> gradient, Out<T> dx, Out<float> row_moments, \
           unsigned width, float epsilon) {                                                                            \
        norm_gradient<true, T>(x, weight, gradient, dx, row_moments, width, epsilon);                                  \
    }                                                                                                                  \
    KERNEL(rms_norm_gradient_##suffix, In<T> x, In<float> weight, In<T> gradient, Out<T> dx, Out<float> row_moments,   \
           unsigned width, float epsilon) {                                                                            \
        norm_gradient<false, T>(x, weight, gradient, dx, row_moments, width, epsilon);                                 \
    }                                                                                                                  \
    KERNEL(norm_sums_##suffix, In<T> x, In<T> gradient, In<float> row_moments, Out<float> sums, unsigned rows,         \
           unsigned width, unsigned rows_per_sum) {                                                                    \
        norm_sums<T>(x, gradient, row_moments, sums, rows, width, rows_per_sum);                                       \
    }

NORMS(f32, float)
NORMS(bf16, Bf16)
