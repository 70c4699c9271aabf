// Biases, GELU, the gated linear unit, rotary positions, dropout and sums. A thread has an element.
#include "numbers.cuh"

template <class T> DEVICE void add_bias(Out<T> x, In<float> bias, Size count, unsigned width) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) put(x[i], get(x[i]) + bias[column_of(i, width)]);
    }
}

template <class Form, class T> DEVICE void gelu(In<T> x, Out<T> y, Size count) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) {
            const float element = get(x[i]);
            put(y[i], element * Form::gate(element).open);
        }
    }
}

// Adds the bias to x in place, and writes GELU of the result. GELU reads the number as it is kept, perhaps rounded to
// bf16, because the backward pass reads that one.
template <class Form, class T> DEVICE void bias_gelu(Out<T> x, In<float> bias, Out<T> y, Size count, unsigned width) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) {
            put(x[i], get(x[i]) + bias[column_of(i, width)]);
            const float element = get(x[i]);
            put(y[i], element * Form::gate(element).open);
        }
    }
}

template <class Form, class T> DEVICE void gelu_gradient(In<T> x, In<T> gradient, Out<T> dx, Size count) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) {
            const float element = get(x[i]);
            const Gate gate = Form::gate(element);
            put(dx[i], fmaf(element, gate.slope, gate.open) * get(gradient[i]));
        }
    }
}

// Rows of x hold `half` numbers of a gate, then `half` numbers that it lets through. `count` is that of y.
template <class T> DEVICE void swiglu(In<T> x, Out<T> y, Size count, unsigned half) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) {
            const unsigned column = column_of(i, half);
            const Size at = 2 * (i - column) + column;
            const float gate = get(x[at]);
            put(y[i], gate * logistic(gate).open * get(x[at + half]));
        }
    }
}

template <class T> DEVICE void swiglu_gradient(In<T> x, In<T> gradient, Out<T> dx, Size count, unsigned half) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) {
            const unsigned column = column_of(i, half);
            const Size at = 2 * (i - column) + column;
            const float gate = get(x[at]), up = get(x[at + half]), g = get(gradient[i]);
            const Gate passed = logistic(gate);
            put(dx[at], fmaf(gate, passed.slope, passed.open) * up * g);
            put(dx[at + half], gate * passed.open * g);
        }
    }
}

// Turns the pairs of numbers, `half` apart, of the first `turned` columns by the angles of the row's position. `blocks`
// has, for each window, the number of its `tokens` rows in the tables.
template <class T>
DEVICE void rotate(In<T> x, In<float> cosines, In<float> sines, In<unsigned> blocks, Out<T> y, Size count,
                   unsigned tokens, unsigned width, unsigned turned, unsigned half) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) {
            const unsigned column = column_of(i, width);
            const unsigned row = unsigned((i - column) / width);
            if (column < turned) {
                const unsigned place = column % (2 * half);
                const bool is_first = place < half;
                const Size angle = (Size(blocks[row / tokens]) * tokens + row % tokens) * half + place % half;
                const float cosine = cosines[angle], sine = sines[angle];
                const float a = get(x[is_first ? i : i - half]), b = get(x[is_first ? i + half : i]);
                put(y[i], is_first ? fmaf(a, cosine, -(b * sine)) : fmaf(b, cosine, a * sine));
            } else {
                y[i] = x[i];
            }
        }
    }
}

template <class T> DEVICE void dropout(In<T> x, Out<T> y, Size count, Size offset, Dropout dropout) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) put(y[i], get(x[i]) * dropout.factor(offset + i));
    }
}

template <class T> DEVICE void scaled(In<T> x, Out<T> y, Size count, float factor) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) put(y[i], factor * get(x[i]));
    }
}

template <class T> DEVICE void add_scaled(In<T> a, In<T> b, Out<T> y, Size count, float factor) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) put(y[i], get(a[i]) + factor * get(b[i]));
    }
}

template <class T> DEVICE void add_in_place(Out<float> into, In<T> term, Size count) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) into[i] += get(term[i]);
    }
}

#define GELUS(form, Form, suffix, T)                                                                                   \
    KERNEL(gelu_##form##_##suffix, In<T> x, Out<T> y, Size count) { gelu<Form, T>(x, y, count); }                      \
    KERNEL(bias_gelu_##form##_##suffix, Out<T> x, In<float> bias, Out<T> y, Size count, unsigned width) {              \
        bias_gelu<Form, T>(x, bias, y, count, width);                                                                  \
    }                                                                                                                  \
    KERNEL(gelu_gradient_##form##_##suffix, In<T> x, In<T> gradient, Out<T> dx, Size count) {                          \
        gelu_gradient<Form, T>(x, gradient, dx, count);                                                                \
    }

#define ELEMENTWISE(suffix, T)                                                                                         \
    GELUS(tanh, Tanh, suffix, T)                                                                                       \
    GELUS(erf, Erf, suffix, T)                                                                                         \
    KERNEL(add_bias_##suffix, Out<T> x, In<float> bias, Size count, unsigned width) {                                  \
        add_bias<T>(x, bias, count, width);                                                                            \
    }                                                                                                                  \
    KERNEL(swiglu_##suffix, In<T> x, Out<T> y, Size count, unsigned half) { swiglu<T>(x, y, count, half); }            \
    KERNEL(swiglu_gradient_##suffix, In<T> x, In<T> gradient, Out<T> dx, Size count, unsigned half) {                  \
        swiglu_gradient<T>(x, gradient, dx, count, half);                                                              \
    }                                                                                                                  \
    KERNEL(rotate_##suffix, In<T> x, In<float> cosines, In<float> sines, In<unsigned> blocks, Out<T> y, Size count,    \
           unsigned tokens, unsigned width, unsigned turned, unsigned half) {                                          \
        rotate<T>(x, cosines, sines, blocks, y, count, tokens, width, turned, half);                                   \
    }                                                                                                                  \
    KERNEL(dropout_##suffix, In<T> x, Out<T> y, Size count, Size offset, unsigned first_key, unsigned second_key,      \
           unsigned threshold, float scale) {                                                                          \
        dropout<T>(x, y, count, offset, Dropout{first_key, second_key, threshold, scale});                             \
    }                                                                                                                  \
    KERNEL(scaled_##suffix, In<T> x, Out<T> y, Size count, float factor) { scaled<T>(x, y, count, factor); }           \
    KERNEL(add_scaled_##suffix, In<T> a, In<T> b, Out<T> y, Size count, float factor) {                                \
        add_scaled<T>(a, b, y, count, factor);                                                                         \
    }                                                                                                                  \
    KERNEL(add_in_place_##suffix, Out<float> into, In<T> term, Size count) { add_in_place<T>(into, term, count); }

ELEMENTWISE(f32, float)
ELEMENTWISE(bf16, Bf16)
