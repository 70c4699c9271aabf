// The gradient of rows that were read from a table. A block has a row of the table. It adds the gradients of that row
// one after the other, in the order of the places: without atomics, so with the same bits each time.
#include "block.cuh"

// `starts[b]..starts[b + 1]` of `places` are the rows of the gradient that belong to row `ids[b]` of the table.
template <class T>
DEVICE void embedding_gradient(Out<float> table, In<T> gradient, In<unsigned> ids, In<unsigned> starts,
                               In<unsigned> places, unsigned width) {
    PHASE {
        const Size column = Size(BLOCK_Y) * THREADS + thread;
        if (column < width) {
            const unsigned first = starts[BLOCK_X], end = starts[BLOCK_X + 1];
            const Size at = Size(ids[BLOCK_X]) * width + column;
            float sum = table[at];
#ifdef __CUDACC__
#pragma unroll 8
#endif
            for (unsigned i = first; i < end; ++i) sum += get(gradient[Size(places[i]) * width + column]);
            table[at] = sum;
        }
    }
}

#define EMBEDDINGS(suffix, T)                                                                                          \
    KERNEL(embedding_gradient_##suffix, Out<float> table, In<T> gradient, In<unsigned> ids, In<unsigned> starts,       \
           In<unsigned> places, unsigned width) {                                                                      \
        embedding_gradient<T>(table, gradient, ids, starts, places, width);                                            \
    }

EMBEDDINGS(f32, float)
EMBEDDINGS(bf16, Bf16)
