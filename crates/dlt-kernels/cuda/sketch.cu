// Sketches: the same sums in the same order as in the loops of `sketch.rs`. A block has as many threads as a sketch has
// numbers.
#include "block.cuh"

// Numbers in a sketch and in a chunk, and threads of a block. `sketch.rs` and `launch.rs` have the same number.
#define SKETCH_WIDTH 256
// Words of the stream for a chunk.
#define CHUNK_WORDS 5

DEVICE Size mixed(Size z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

DEVICE Size word(Size key, Size number) { return mixed(key + 0x9e3779b97f4a7c15ull * (number + 1)); }

// For each block, the sum of its chunks. A thread has a number of the sketch, and finds which number of each chunk the
// rotation moves to its place.
template <class T> DEVICE void sketch_parts(In<T> x, Out<float> sums, Size key, Size count, unsigned chunks) {
    PHASE {
        float sum = 0.0f;
        const Size first = Size(BLOCK_X) * chunks;
        for (Size chunk = first; chunk < first + chunks && chunk * SKETCH_WIDTH < count; ++chunk) {
            const unsigned turn = unsigned(word(key, chunk * CHUNK_WORDS + CHUNK_WORDS - 1) >> 56);
            const Size i = chunk * SKETCH_WIDTH + (thread + SKETCH_WIDTH - turn) % SKETCH_WIDTH;
            if (i < count) {
                const Size signs = word(key, chunk * CHUNK_WORDS + thread / 64);
                sum += float_of(bits_of(get(x[i])) ^ unsigned(signs >> (thread % 64)) << 31);
            }
        }
        sums[Size(BLOCK_X) * SKETCH_WIDTH + thread] = sum;
    }
}

// The sum of partial sums, first to last.
DEVICE void sketch_sum(In<float> sums, Out<double> sketch, unsigned parts) {
    PHASE {
        double sum = 0.0;
        for (unsigned part = 0; part < parts; ++part) sum += double(sums[Size(part) * SKETCH_WIDTH + thread]);
        sketch[thread] = sum;
    }
}

#define SKETCHES(suffix, T)                                                                                            \
    KERNEL(sketch_parts_##suffix, In<T> x, Out<float> sums, Size key, Size count, unsigned chunks) {                   \
        sketch_parts<T>(x, sums, key, count, chunks);                                                                  \
    }

SKETCHES(f32, float)
SKETCHES(bf16, Bf16)

KERNEL(sketch_sum_f32, In<float> sums, Out<double> sketch, unsigned parts) { sketch_sum(sums, sketch, parts); }
