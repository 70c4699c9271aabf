// AdamW as PyTorch defines it, on weights and moments in place.
#include "block.cuh"

// The numbers of a step that all elements share.
struct Step {
    float gradient_scale, keep, beta1, beta2, one_less_beta1, one_less_beta2, rate, inverse_root, epsilon;
};

template <class T>
DEVICE void adamw(Out<float> parameter, Out<float> first, Out<float> second, In<T> gradient, Size count, Step step) {
    PHASE {
        const Size i = ELEMENT;
        if (i < count) {
            const float g = get(gradient[i]) * step.gradient_scale;
            const float m = fmaf(first[i], step.beta1, g * step.one_less_beta1);
            const float v = fmaf(second[i], step.beta2, g * g * step.one_less_beta2);
            const float denominator = fmaf(sqrtf(v), step.inverse_root, step.epsilon);
            first[i] = m;
            second[i] = v;
            parameter[i] = fmaf(parameter[i], step.keep, -(step.rate * m / denominator));
        }
    }
}

#define OPTIMIZERS(suffix, T)                                                                                          \
    KERNEL(adamw_##suffix, Out<float> parameter, Out<float> first, Out<float> second, In<T> gradient, Size count,      \
           float gradient_scale, float keep, float beta1, float beta2, float one_less_beta1, float one_less_beta2,     \
           float rate, float inverse_root, float epsilon) {                                                            \
        adamw<T>(parameter, first, second, gradient, count,                                                            \
                 Step{gradient_scale, keep, beta1, beta2, one_less_beta1, one_less_beta2, rate, inverse_root,          \
                      epsilon});                                                                                       \
    }

OPTIMIZERS(f32, float)
OPTIMIZERS(bf16, Bf16)
