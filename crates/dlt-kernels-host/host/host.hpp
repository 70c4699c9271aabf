// The parts of CUDA C++ that the kernels use, for the CPU. The threads of a block take turns in each phase, and every
// access to memory is checked.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <utility>

typedef unsigned long long Size;

// The reason why a launch stops.
struct Fault {
    std::string what;
};

// The block that runs, and the order in which its threads take turns. A result that depends on the order is a race.
struct Block {
    unsigned x = 0, y = 0, threads = 1;
    bool backwards = false;

    unsigned thread(unsigned turn) const { return backwards ? threads - 1 - turn : turn; }
};

inline thread_local Block block;

// Memory of a known length.
template <class T> struct Checked {
    T* data;
    Size count;

    T& operator[](Size i) const {
        if (i >= count) throw Fault{"element " + std::to_string(i) + " of " + std::to_string(count)};
        return data[i];
    }
};

// Memory that the threads of a block share. It is NaN until it is written, so that a read before the write shows.
template <class T, Size length> struct Shared {
    T data[length];

    Shared() {
        for (T& element : data) element = std::numeric_limits<T>::quiet_NaN();
    }

    T& operator[](Size i) {
        if (i >= length) throw Fault{"shared element " + std::to_string(i) + " of " + std::to_string(length)};
        return data[i];
    }
};

#define DEVICE inline
#define KERNEL(name, ...)                                                                                              \
    static void name(__VA_ARGS__);                                                                                     \
    static const Registered registered_##name(#name, name);                                                            \
    static void name(__VA_ARGS__)
#define PHASE                                                                                                          \
    for (unsigned turn = 0, thread = block.thread(0); turn < block.threads; ++turn, thread = block.thread(turn))
#define SHARED(type, name, count) Shared<type, count> name
#define BLOCK_X block.x
#define BLOCK_Y block.y
#define THREADS block.threads

template <class T> using In = Checked<const T>;
template <class T> using Out = Checked<T>;

inline unsigned bits_of(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float float_of(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

struct Bf16;

// The type of an argument. `foreign.rs` has the same list in the same order.
enum ArgumentType : std::uint32_t { F32s, Bf16s, U32s, F64s, F32, U32, U64 };

// An argument as Rust passes it.
struct Argument {
    std::uint32_t argument_type;
    std::uint32_t writable;
    void* data;
    std::uint64_t count;
    std::uint64_t number;
};

template <class T> constexpr ArgumentType type_of() {
    using Plain = std::remove_const_t<T>;
    if constexpr (std::is_same_v<Plain, float>) return F32s;
    if constexpr (std::is_same_v<Plain, Bf16>) return Bf16s;
    if constexpr (std::is_same_v<Plain, unsigned>) return U32s;
    if constexpr (std::is_same_v<Plain, double>) return F64s;
}

inline void expect(bool holds, const char* what) {
    if (!holds) throw Fault{what};
}

// Converts an argument to the type of a kernel's parameter.
template <class T> struct FromArgument;

template <class T> struct FromArgument<Checked<T>> {
    static Checked<T> from(const Argument& argument) {
        expect(argument.argument_type == type_of<T>(), "an argument of another type than its parameter");
        expect(std::is_const_v<T> || argument.writable, "an argument to read where the kernel writes");
        return Checked<T>{static_cast<T*>(argument.data), argument.count};
    }
};

template <> struct FromArgument<float> {
    static float from(const Argument& argument) {
        expect(argument.argument_type == F32, "an argument of another type than its parameter, which is a float");
        return float_of(unsigned(argument.number));
    }
};

template <> struct FromArgument<unsigned> {
    static unsigned from(const Argument& argument) {
        expect(argument.argument_type == U32, "an argument of another type than its parameter, which has 32 bits");
        return unsigned(argument.number);
    }
};

template <> struct FromArgument<Size> {
    static Size from(const Argument& argument) {
        expect(argument.argument_type == U64, "an argument of another type than its parameter, which has 64 bits");
        return argument.number;
    }
};

using Kernel = std::function<void(const Argument*, Size)>;

inline std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

// Adds a kernel to `kernels()`, with its name as the key.
struct Registered {
    template <class... Parameters> Registered(const char* name, void (*kernel)(Parameters...)) {
        kernels()[name] = [kernel](const Argument* arguments, Size count) {
            expect(count == sizeof...(Parameters), "another number of arguments than the kernel has parameters");
            call(kernel, arguments, std::index_sequence_for<Parameters...>());
        };
    }

    template <class... Parameters, std::size_t... index>
    static void call(void (*kernel)(Parameters...), const Argument* arguments, std::index_sequence<index...>) {
        kernel(FromArgument<Parameters>::from(arguments[index])...);
    }
};
