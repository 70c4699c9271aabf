// All kernels, and the function that Rust launches them with.
#include "attention.cu"
#include "elementwise.cu"
#include "embedding.cu"
#include "faults.cu"
#include "loss.cu"
#include "norm.cu"
#include "optimizer.cu"
#include "sketch.cu"
#include "sums.cu"

// Runs every block of a grid, in the order of their numbers or backwards. If it stops early, `fault` says at what;
// otherwise `fault` is empty.
extern "C" void dlt_kernels_host_launch(const char* name, unsigned blocks_x, unsigned blocks_y, unsigned threads,
                                        std::uint32_t backwards, const Argument* arguments, std::uint64_t count,
                                        char* fault, std::uint64_t room) {
    fault[0] = 0;
    try {
        const auto kernel = kernels().find(name);
        expect(kernel != kernels().end(), "no kernel of that name");
        expect(threads > 0 && threads <= MOST_THREADS && (threads & (threads - 1)) == 0,
               "a number of threads that is too large or not a power of two");
        expect(blocks_x > 0 && blocks_x < 0x80000000u && blocks_y > 0 && blocks_y < 0x10000u,
               "a grid that CUDA refuses");
        const Size blocks = Size(blocks_x) * blocks_y;
        for (Size turn = 0; turn < blocks; ++turn) {
            const Size at = backwards ? blocks - 1 - turn : turn;
            block = Block{unsigned(at % blocks_x), unsigned(at / blocks_x), threads, backwards != 0};
            kernel->second(arguments, count);
        }
    } catch (const Fault& stopped) {
        std::strncpy(fault, stopped.what.c_str(), room - 1);
        fault[room - 1] = 0;
    } catch (const std::exception& stopped) {
        std::strncpy(fault, stopped.what(), room - 1);
        fault[room - 1] = 0;
    }
}
