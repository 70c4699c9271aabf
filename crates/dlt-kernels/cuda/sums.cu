// Sums over rows, and sums of squares. Each sum has a fixed order, whichever block runs first.
#include "block.cuh"

// For each group of rows, their sum. A thread has a column.
template <class T>
DEVICE void column_sums(In<T> x, Out<float> sums, unsigned rows, unsigned width, unsigned rows_per_sum) {
    PHASE {
        const Size column = ELEMENT;
        if (column < width) {
            const unsigned first = BLOCK_Y * rows_per_sum;
            const unsigned end = rows - first < rows_per_sum ? rows : first + rows_per_sum;
            float sum = 0.0f;
            for (unsigned row = first; row < end; ++row) sum += get(x[Size(row) * width + column]);
            sums[Size(BLOCK_Y) * width + column] = sum;
        }
    }
}

// For each block, the sum of the squares of `per_sum` elements.
template <class T> DEVICE void squares(In<T> x, Out<double> sums, Size count, Size per_sum) {
    SHARED(double, scratch, MOST_THREADS);
    PHASE {
        const Size first = Size(BLOCK_X) * per_sum;
        const Size end = count - first < per_sum ? count : first + per_sum;
        double sum = 0.0;
        for (Size i = first + thread; i < end; i += THREADS) {
            const double element = double(get(x[i]));
            sum += element * element;
        }
        scratch[thread] = sum;
    }
    sum_threads(scratch);
    PHASE {
        if (thread == 0) sums[BLOCK_X] = scratch[0];
    }
}

#define SUMS(suffix, T)                                                                                                \
    KERNEL(column_sums_##suffix, In<T> x, Out<float> sums, unsigned rows, unsigned width, unsigned rows_per_sum) {     \
        column_sums<T>(x, sums, rows, width, rows_per_sum);                                                            \
    }                                                                                                                  \
    KERNEL(squares_##suffix, In<T> x, Out<double> sums, Size count, Size per_sum) {                                    \
        squares<T>(x, sums, count, per_sum);                                                                           \
    }

SUMS(f32, float)
SUMS(bf16, Bf16)
