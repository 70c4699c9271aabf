// Attention without its matrix products: heads in adjacent columns are split into rows and joined again, and the scores
// of a block of query rows, (B, H, rows, seen), go through softmax. A thread block has one row of scores.
#include "softmax.cuh"

// Heads in adjacent columns of rows of `width` become separate rows, (parts, B, H, T, D): queries, then keys and
// values. A key head is repeated for each query head that uses it. A block has TABLE_ROWS rows of x, a thread has a
// column of them.
template <class T>
DEVICE void split_heads(In<T> x, Out<T> parts, unsigned rows, unsigned batch, unsigned tokens, unsigned heads,
                        unsigned key_heads, unsigned head_width, unsigned width) {
    PHASE {
        const unsigned column = BLOCK_Y * THREADS + thread;
        if (column < width) {
            const unsigned head = column / head_width, place = column % head_width;
            unsigned part = 0, first = head, uses = 1;
            if (head >= heads) {
                uses = heads / key_heads;
                part = 1 + (head - heads) / key_heads;
                first = (head - heads) % key_heads * uses;
            }
            const unsigned start = BLOCK_X * TABLE_ROWS;
            const unsigned end = rows - start < TABLE_ROWS ? rows : start + TABLE_ROWS;
            for (unsigned row = start; row < end; ++row) {
                const T element = x[Size(row) * width + column];
                const unsigned window = row / tokens, token = row % tokens;
                for (unsigned use = 0; use < uses; ++use) {
                    const Size to = Size((part * batch + window) * heads + first + use) * tokens + token;
                    parts[to * head_width + place] = element;
                }
            }
        }
    }
}

// The reverse: `of_head` rows of each head are written to y, from row `start` and column `first` on. Each `group`
// adjacent heads are summed. A block has TABLE_ROWS rows of y, a thread has a column of them.
template <class S, class T>
DEVICE void join_heads(In<S> x, Out<T> y, unsigned rows, unsigned of_head, unsigned start, unsigned tokens,
                       unsigned heads, unsigned group, unsigned head_width, unsigned first, unsigned width) {
    PHASE {
        const unsigned column = BLOCK_Y * THREADS + thread;
        if (column < heads / group * head_width) {
            const unsigned head = column / head_width * group, place = column % head_width;
            const unsigned from = BLOCK_X * TABLE_ROWS;
            const unsigned end = rows - from < TABLE_ROWS ? rows : from + TABLE_ROWS;
            for (unsigned i = from; i < end; ++i) {
                const unsigned window = i / of_head, row = i % of_head;
                float sum = 0.0f;
                for (unsigned one = 0; one < group; ++one) {
                    sum += get(x[(Size(window * heads + head + one) * of_head + row) * head_width + place]);
                }
                put(y[Size(window * tokens + start + row) * width + first + column], sum);
            }
        }
    }
}

// Adds `some` elements of each head to the first of its `all` elements.
template <class T> DEVICE void add_heads(Out<float> into, In<T> term, Size count, unsigned some, unsigned all) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) {
            const unsigned place = column_of(i, some);
            into[(i - place) / some * all + place] += get(term[i]);
        }
    }
}

// The row of scores of a block, and what it sees.
struct Row {
    // Index of the row's first score.
    Size first;
    // Index of the row among the rows of all heads.
    Size place;
    // Number of keys that it sees; the keys behind are hidden.
    unsigned visible;
};

// The place of a block of rows among all rows.
struct Rows {
    unsigned heads, tokens, start, rows, seen, causal;

    DEVICE Row row(In<unsigned> lengths) const {
        const unsigned head = BLOCK_X / rows, row = BLOCK_X % rows;
        const unsigned token = start + row;
        unsigned visible = lengths[head / heads];
        if (causal && token + 1 < visible) visible = token + 1;
        return Row{Size(BLOCK_X) * seen, Size(head) * tokens + token, visible < seen ? visible : seen};
    }
};

// Replaces scores by probabilities after dropout; keeps the largest score of each row and one over the sum of its
// exponentials.
template <class T>
DEVICE void probabilities(Out<T> scores, In<unsigned> lengths, Out<float> kept, Rows rows, float scale, Size offset,
                          Dropout dropout) {
    SHARED(float, mosts, MOST_THREADS);
    SHARED(float, sums, MOST_THREADS);
    const Row row = rows.row(lengths);
    PHASE {
        Seen seen = nothing_seen();
        for (unsigned i = thread; i < row.visible; i += THREADS) see(seen, scale * get(scores[row.first + i]));
        mosts[thread] = seen.most;
        sums[thread] = seen.sum;
    }
    combine_seen(mosts, sums);
    PHASE {
        const float most = mosts[0], inverse = 1.0f / sums[0];
        const Size counter = offset + row.place * rows.tokens;
        for (unsigned i = thread; i < rows.seen; i += THREADS) {
            float p = 0.0f;
            if (i < row.visible) {
                p = exponential(scale * get(scores[row.first + i]) - most) * inverse * dropout.factor(counter + i);
            }
            put(scores[row.first + i], p);
        }
        if (thread < 2) kept[row.place * 2 + thread] = thread == 0 ? most : inverse;
    }
}

// Replaces scores by probabilities after dropout again, and the gradients of probabilities by those of unscaled scores.
template <class T>
DEVICE void score_gradients(Out<T> scores, Out<T> gradients, In<unsigned> lengths, In<float> kept, Rows rows,
                            float scale, Size offset, Dropout dropout) {
    SHARED(float, scratch, MOST_THREADS);
    const Row row = rows.row(lengths);
    const float most = kept[row.place * 2], inverse = kept[row.place * 2 + 1];
    const Size counter = offset + row.place * rows.tokens;
    PHASE {
        float along = 0.0f;
        for (unsigned i = thread; i < row.visible; i += THREADS) {
            const float p = exponential(scale * get(scores[row.first + i]) - most) * inverse;
            along = fmaf(p, get(gradients[row.first + i]) * dropout.factor(counter + i), along);
        }
        scratch[thread] = along;
    }
    sum_threads(scratch);
    PHASE {
        for (unsigned i = thread; i < rows.seen; i += THREADS) {
            float p = 0.0f, of_score = 0.0f;
            if (i < row.visible) {
                const float factor = dropout.factor(counter + i);
                p = exponential(scale * get(scores[row.first + i]) - most) * inverse;
                of_score = scale * (p * (get(gradients[row.first + i]) * factor - scratch[0]));
                p *= factor;
            }
            put(scores[row.first + i], p);
            put(gradients[row.first + i], of_score);
        }
    }
}

#define ATTENTION(suffix, T)                                                                                           \
    KERNEL(split_heads_##suffix, In<T> x, Out<T> parts, unsigned rows, unsigned batch, unsigned tokens,                \
           unsigned heads, unsigned key_heads, unsigned head_width, unsigned width) {                                  \
        split_heads<T>(x, parts, rows, batch, tokens, heads, key_heads, head_width, width);                            \
    }                                                                                                                  \
    KERNEL(join_heads_##suffix, In<T> x, Out<T> y, unsigned rows, unsigned of_head, unsigned start, unsigned tokens,   \
           unsigned heads, unsigned group, unsigned head_width, unsigned first, unsigned width) {                      \
        join_heads<T, T>(x, y, rows, of_head, start, tokens, heads, group, head_width, first, width);                  \
    }                                                                                                                  \
    KERNEL(join_sums_##suffix, In<float> x, Out<T> y, unsigned rows, unsigned of_head, unsigned start,                 \
           unsigned tokens, unsigned heads, unsigned group, unsigned head_width, unsigned first, unsigned width) {     \
        join_heads<float, T>(x, y, rows, of_head, start, tokens, heads, group, head_width, first, width);              \
    }                                                                                                                  \
    KERNEL(add_heads_##suffix, Out<float> into, In<T> term, Size count, unsigned some, unsigned all) {                 \
        add_heads<T>(into, term, count, some, all);                                                                    \
    }                                                                                                                  \
    KERNEL(attention_probabilities_##suffix, Out<T> scores, In<unsigned> lengths, Out<float> kept, unsigned heads,     \
           unsigned tokens, unsigned start, unsigned rows, unsigned seen, unsigned causal, float scale, Size offset,   \
           unsigned first_key, unsigned second_key, unsigned threshold, float drop_scale) {                            \
        probabilities<T>(scores, lengths, kept, Rows{heads, tokens, start, rows, seen, causal}, scale, offset,         \
                         Dropout{first_key, second_key, threshold, drop_scale});                                       \
    }                                                                                                                  \
    KERNEL(attention_gradients_##suffix, Out<T> scores, Out<T> gradients, In<unsigned> lengths, In<float> kept,        \
           unsigned heads, unsigned tokens, unsigned start, unsigned rows, unsigned seen, unsigned causal,             \
           float scale, Size offset, unsigned first_key, unsigned second_key, unsigned threshold, float drop_scale) {  \
        score_gradients<T>(scores, gradients, lengths, kept, Rows{heads, tokens, start, rows, seen, causal}, scale,    \
                           offset, Dropout{first_key, second_key, threshold, drop_scale});                             \
    }

ATTENTION(f32, float)
ATTENTION(bf16, Bf16)
