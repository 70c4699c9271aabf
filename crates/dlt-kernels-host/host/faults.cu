// Kernels that are wrong on purpose. The build for the CPU must notice.
#include "block.cuh"

// Each thread reads what its neighbour writes in the same phase.
KERNEL(faulty_race, Out<float> x, unsigned count) {
    PHASE {
        if (thread > 0 && thread < count) x[thread] = x[thread - 1] + 1.0f;
    }
}

// Shared memory is read before a thread has written it.
KERNEL(faulty_shared, Out<float> x) {
    SHARED(float, scratch, 32);
    PHASE { x[thread] = scratch[thread]; }
}

// A reduction over more threads than the memory is for.
KERNEL(faulty_bound, Out<float> x) {
    SHARED(float, scratch, 32);
    PHASE { scratch[thread] = x[0]; }
}
