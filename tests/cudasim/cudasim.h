// Runs the text of CUDA kernels on the processor, for tests of their results. g++ includes it before a kernel.
//
// Every CUDA thread of a block is a fiber with its own stack; one host thread resumes them in an order that the test
// chooses. A fiber runs until a rendezvous: __syncthreads waits for the block, a warp intrinsic for the lanes in its
// mask. What is reported instead of computed: barriers that some threads never reach, lanes that are missing from a
// mask, accesses outside a buffer (buffers end at pages without access), misaligned vector loads and shifts or indices
// out of range (g++'s sanitizers). Shared memory is filled with a pattern before each block. Subnormal float32 count as
// zero while a kernel runs, as CuPy's option -ftz=true has it. The loader makes `extern __shared__ T name[]` a pointer to
// dynamic shared memory.
//
// With CUDASIM_RACES two accesses to a word of shared memory are reported, too, if they are of different threads, one of
// them writes, not both are atomic, and no barrier lies between them: __syncthreads, or __syncwarp within a warp. Shuffles
// and votes order no memory. g++ calls the functions of its thread sanitizer at each access; they are defined here.
//
// Limits: no memory model and no preemption between two rendezvous; one-dimensional blocks, two-dimensional grids. Races in
// global memory are not looked for.
#pragma once
#include <csetjmp>
#include <csignal>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#include <sys/mman.h>
#include <ucontext.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#define CUDASIM 1
#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static __attribute__((section("cudasim_shared")))

struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct dim3 { unsigned x, y, z; };
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static char cudasim_anchor[16] __attribute__((section("cudasim_shared"), used));
extern "C" char __start_cudasim_shared[], __stop_cudasim_shared[];

namespace cudasim {

enum class State : uint8_t { ready, at_barrier, in_warp, done };
enum class Op : uint8_t { sync, ballot, shuffle };

struct Fiber {
#if defined(__x86_64__)
    void* stack_pointer;
#else
    ucontext_t context;
#endif
    dim3 index;
    int lane, warp, line;
    State state;
    Op op;
    uint32_t mask;
    int source;
    uint64_t value, result;
};

constexpr size_t stack_bytes = 64 << 10;
constexpr int most_threads = 1024;
inline Fiber fibers[most_threads];
inline Fiber* current;
inline char* stacks;
inline char* dynamic_shared;
inline size_t dynamic_bytes;
inline dim3 block, block_size, grid_size;
inline int n_threads;
inline void (*body)(void*);
inline void* body_argument;
inline char message[512];
inline bool failed;
inline sigjmp_buf fault_return;
inline void *fault_address, *fault_instruction;
inline int fault_signal;

// The lanes of a warp that wait in one intrinsic. Lanes that wait in another one at the same time are counted apart, and
// whoever meets them looks at every lane.
struct Meeting {
    Op op;
    uint32_t mask, came, exited;
    int line, elsewhere;
    bool is(const Fiber& fiber) const { return op == fiber.op && mask == fiber.mask && line == fiber.line; }
};
inline Meeting meetings[most_threads / 32];

// Switching stacks

#if defined(__x86_64__)
inline void* scheduler;
__attribute__((naked, noinline)) inline void switch_stacks(void** /*saved*/, void* /*next*/)
{
    asm volatile(
        "push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, (%rdi); mov %rsi, %rsp\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; pop %rcx; jmp *%rcx");
}
inline void suspend() { switch_stacks(&current->stack_pointer, scheduler); }
inline void resume(Fiber& fiber) { current = &fiber; switch_stacks(&scheduler, fiber.stack_pointer); }
#else
inline ucontext_t scheduler;
inline void suspend() { swapcontext(&current->context, &scheduler); }
inline void resume(Fiber& fiber) { current = &fiber; swapcontext(&scheduler, &fiber.context); }
#endif

inline void run_body()
{
    body(body_argument);
    current->state = State::done;
    meetings[current->warp].exited |= 1u << current->lane;
    suspend();
    abort();
}

inline void prepare(Fiber& fiber, int i)
{
    fiber.state = State::ready;
#if defined(__x86_64__)
    // Each stack starts at another offset, so that the tops of all stacks do not share a few lines of the cache.
    void** top = (void**)(stacks + stack_bytes * (i + 1) - 64 * (5 * i % 64)) - 2;
    top[0] = (void*)run_body;
    fiber.stack_pointer = top - 6;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks + stack_bytes * i;
    fiber.context.uc_stack.ss_size = stack_bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_body, 0);
#endif
}

template <class... Values> [[noreturn]] inline void fail(const char* format, Values... values)
{
    char text[320];
    snprintf(text, sizeof text, format, values...);
    snprintf(message, sizeof message, "%s [block (%u,%u) thread %u]", text, block.x, block.y, current->index.x);
    failed = true;
    current->state = State::done;
    suspend();
    abort();
}

// Barriers passed, and what has touched each word of shared memory since

constexpr size_t most_dynamic = 48 << 10;
inline unsigned block_epoch, warp_epochs[most_threads / 32];

struct Write {
    int thread;
    unsigned warp_epoch;
    bool atomic;
};

// read_at: of each thread one more than its warp's epoch at its last read, 0 without one.
struct Word {
    unsigned block_epoch;
    std::vector<Write> writes;
    std::vector<unsigned> read_at;
};

#ifdef CUDASIM_RACES
inline std::vector<Word> static_words, dynamic_words;
inline bool in_atomic;

__attribute__((no_sanitize("thread"))) inline Word* word_of(char* at)
{
    if (at >= __start_cudasim_shared && at < __stop_cudasim_shared)
        return &static_words[(at - __start_cudasim_shared) / 4];
    if (at >= dynamic_shared && at < dynamic_shared + dynamic_bytes) return &dynamic_words[(at - dynamic_shared) / 4];
    return nullptr;
}

__attribute__((no_sanitize("thread"))) inline void report_race(int with, void* instruction)
{
    snprintf(message, sizeof message, "race with thread %d over shared memory, pc %p [block (%u,%u) thread %u]", with,
             (char*)instruction - 1, block.x, block.y, current->index.x);
    failed = true;
}

__attribute__((no_sanitize("thread"))) inline void touch(void* at, bool writes, void* instruction)
{
    Word* word = word_of((char*)at);
    if (!word || failed) return;
    if (word->block_epoch != block_epoch || (int)word->read_at.size() != n_threads) {
        word->block_epoch = block_epoch;
        word->writes.clear();
        word->read_at.assign(n_threads, 0);
    }
    const int thread = (int)current->index.x, warp = current->warp;
    const unsigned now = warp_epochs[warp];
    Write* own = nullptr;
    for (Write& before : word->writes) {
        if (before.thread == thread) {
            if (before.atomic == in_atomic) own = &before;
        } else if (!(before.atomic && in_atomic) && (before.thread / 32 != warp || before.warp_epoch == now)) {
            return report_race(before.thread, instruction);
        }
    }
    if (!writes) {
        word->read_at[thread] = now + 1;
        return;
    }
    for (int i = 0; i < n_threads; ++i) {
        const unsigned read_at = word->read_at[i];
        if (read_at && i != thread && (i / 32 != warp || read_at == now + 1)) return report_race(i, instruction);
    }
    if (own) own->warp_epoch = now;
    else word->writes.push_back({thread, now, in_atomic});
}

// Takes what the compiler calls at each access; atomics say so themselves.
__attribute__((no_sanitize("thread"))) inline void touch_all(void* at, long bytes, bool writes, void* instruction)
{
    if (in_atomic) return;
    for (long i = 0; i < bytes; i += 4) touch((char*)at + i, writes, instruction);
}
#endif

// Rendezvous

inline void barrier(int line)
{
    current->state = State::at_barrier;
    current->line = line;
    suspend();
}

// Whether all lanes in the mask of the current one are here. Fails for lanes that will never come.
inline bool all_came(Fiber& me, Meeting& meeting)
{
    const uint32_t mask = me.mask;
    if (!meeting.came && !meeting.elsewhere) meeting = {me.op, mask, 0, meeting.exited, me.line, 0};
    const bool together = meeting.is(me);
    if (together) meeting.came |= 1u << me.lane;
    if (together && !meeting.elsewhere && !(mask & meeting.exited)) return meeting.came == mask;
    Fiber* warp = fibers + me.warp * 32;
    for (int l = 0; l < 32; ++l) {
        if (!(mask >> l & 1)) continue;
        Fiber& other = warp[l];
        if (other.state == State::done) fail("line %d: mask %08x names lane %d, which has exited", me.line, mask, l);
        const bool same =
            other.state == State::in_warp && other.op == me.op && other.mask == mask && other.line == me.line;
        if (other.state == State::in_warp && !same && (other.mask >> me.lane & 1))
            fail("line %d: lane %d waits in another intrinsic (line %d, mask %08x)", me.line, l, other.line, other.mask);
        if (!same) {
            meeting.elsewhere += !together;
            return false;
        }
    }
    if (!together) meeting.elsewhere -= __builtin_popcount(mask) - 1;
    return true;
}

// Waits for the lanes in the mask; the last to come computes what each of them gets.
inline uint64_t meet(Op op, uint32_t mask, uint64_t value, int source, int line)
{
    Fiber& me = *current;
    if (!(mask >> me.lane & 1)) fail("line %d: lane %d calls a warp intrinsic whose mask %08x lacks it", line, me.lane, mask);
    Fiber* warp = fibers + me.warp * 32;
    int lanes = n_threads - me.warp * 32;
    if (lanes > 32) lanes = 32;
    if (lanes < 32 && mask >> lanes) fail("line %d: mask %08x names lanes beyond the block's last thread", line, mask);
    me.state = State::in_warp;
    me.op = op;
    me.mask = mask;
    me.value = value;
    me.source = source;
    me.line = line;
    Meeting& meeting = meetings[me.warp];
    if (!all_came(me, meeting)) {
        suspend();
        return me.result;
    }
    if (meeting.is(me)) meeting.came = 0;
    if (op == Op::sync) ++warp_epochs[me.warp];
    uint64_t votes = 0;
    if (op == Op::ballot)
        for (int l = 0; l < lanes; ++l) if (mask >> l & 1 && warp[l].value) votes |= 1u << l;
    for (int l = 0; l < lanes; ++l) {
        if (!(mask >> l & 1)) continue;
        Fiber& other = warp[l];
        if (op == Op::shuffle && !(mask >> other.source & 1))
            fail("line %d: lane %d shuffles from lane %d, not in mask %08x", line, l, other.source, mask);
        other.result = op == Op::shuffle ? warp[other.source].value : votes;
        other.state = State::ready;
    }
    return me.result;
}

template <class T> inline T shuffle(uint32_t mask, T value, int source, int line)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
    if (source < 0 || source > 31) source = current->lane;
    uint64_t raw = 0;
    memcpy(&raw, &value, sizeof value);
    raw = meet(Op::shuffle, mask, raw, source, line);
    memcpy(&value, &raw, sizeof value);
    return value;
}

// The schedule. Order 0 is forward, 1 backward, any other a permutation of lanes and a rotation of warps.

inline int lane_in_order(unsigned order, int i)
{
    if (order < 2) return order ? 31 - i : i;
    return (i * (2 * (order & 15) + 1) + (order >> 3)) & 31;
}

inline bool run_ready_warps(unsigned order, int warps)
{
    bool moved = false;
    for (int i = 0; i < warps; ++i) {
        const int warp = order == 0 ? i : order == 1 ? warps - 1 - i : (i + (order >> 5)) % warps;
        const int lanes = n_threads - warp * 32 < 32 ? n_threads - warp * 32 : 32;
        for (bool again = true; again;) {
            again = false;
            for (int j = 0; j < 32; ++j) {
                const int lane = lane_in_order(order, j);
                if (lane >= lanes || fibers[warp * 32 + lane].state != State::ready) continue;
                resume(fibers[warp * 32 + lane]);
                again = moved = true;
                if (failed) return true;
            }
        }
    }
    return moved;
}

inline int run_block(unsigned order)
{
    memset(__start_cudasim_shared, 0xA5, __stop_cudasim_shared - __start_cudasim_shared);
    memset(dynamic_shared, 0xA5, dynamic_bytes);
    ++block_epoch;
    for (int i = 0; i < n_threads; ++i) prepare(fibers[i], i);
    memset(meetings, 0, sizeof meetings);
    for (;;) {
        const bool moved = run_ready_warps(order, (n_threads + 31) / 32);
        if (failed) return 1;
        int waiting = 0, done = 0, line = -1, other_line = -1;
        Fiber* stuck = nullptr;
        for (int i = 0; i < n_threads; ++i) {
            Fiber& fiber = fibers[i];
            if (fiber.state == State::done) { ++done; continue; }
            if (fiber.state != State::at_barrier) { stuck = &fiber; continue; }
            if (line >= 0 && fiber.line != line) other_line = fiber.line;
            line = fiber.line;
            ++waiting;
        }
        if (done == n_threads) return 0;
        const char* why = nullptr;
        if (waiting + done == n_threads) {
            if (done) why = "some threads wait at __syncthreads (line %d) after others have exited (%d)";
            else if (other_line >= 0) why = "threads of one block wait at different __syncthreads (lines %d and %d)";
            else for (int i = 0; i < n_threads; ++i) fibers[i].state = State::ready;
            ++block_epoch;
        } else if (!moved) {
            why = "deadlock: a warp intrinsic at line %d waits for lanes that do not come (barrier line %d)";
            other_line = line;
            line = stuck->line;
        }
        if (why) {
            char text[200];
            snprintf(text, sizeof text, why, line, other_line);
            snprintf(message, sizeof message, "%s [block (%u,%u)]", text, block.x, block.y);
            return 1;
        }
    }
}

inline void on_fault(int signal, siginfo_t* info, void* context)
{
    fault_address = info->si_addr;
    fault_signal = signal;
    fault_instruction = nullptr;
    (void)context;
#if defined(__x86_64__)
    fault_instruction = (void*)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
#endif
    siglongjmp(fault_return, 1);
}

// Subnormal numbers are zero as operands and as results, or not: -ftz=true of a GPU's compiler.
inline void flush_subnormals(bool on)
{
#if defined(__x86_64__)
    _mm_setcsr(on ? _mm_getcsr() | 0x8040u : _mm_getcsr() & ~0x8040u);
#elif defined(__aarch64__)
    uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    control = on ? control | 1u << 24 : control & ~(uint64_t)(1u << 24);
    asm volatile("msr fpcr, %0" : : "r"(control));
#else
    (void)on;
#endif
}

inline void describe_fault()
{
    const char* what = fault_signal == SIGILL   ? "undefined behaviour (misaligned vector access, index or shift out of range)"
                       : fault_signal == SIGFPE ? "division by zero"
                                                : "illegal memory access";
    snprintf(message, sizeof message, "%s at %p, pc %p [block (%u,%u) thread %u]", what, fault_address, fault_instruction,
             block.x, block.y, current->index.x);
}

// Dynamic shared memory ends, but for rounding to 16 bytes, at a page without access.
inline void set_dynamic(size_t bytes)
{
    static char* room;
    if (!room) {
        room = (char*)mmap(nullptr, most_dynamic + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(room + most_dynamic, 4096, PROT_NONE);
    }
#ifdef CUDASIM_RACES
    static_words.resize((__stop_cudasim_shared - __start_cudasim_shared + 3) / 4);
    dynamic_words.resize(most_dynamic / 4);
#endif
    dynamic_bytes = bytes;
    dynamic_shared = room + most_dynamic - (bytes + 15) / 16 * 16;
}

inline int launch(void (*kernel)(void*), void* arguments, const unsigned* grid, unsigned threads, unsigned order,
                  unsigned shared_bytes)
{
    if (!stacks)
        stacks = (char*)mmap(nullptr, stack_bytes * most_threads, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    const unsigned long long n_blocks = 1ull * grid[0] * grid[1];
    const size_t shared = shared_bytes + (__stop_cudasim_shared - __start_cudasim_shared);
    if (threads == 0 || threads > most_threads || n_blocks == 0 || shared > most_dynamic) {
        snprintf(message, sizeof message, "bad launch: %u threads, %llu blocks, %zu bytes of shared memory", threads,
                 n_blocks, shared);
        return 2;
    }
    set_dynamic(shared_bytes);
    body = kernel;
    body_argument = arguments;
    failed = false;
    grid_size = {grid[0], grid[1], 1};
    block_size = {threads, 1, 1};
    n_threads = (int)threads;
    for (int i = 0; i < n_threads; ++i) {
        fibers[i].index = {(unsigned)i, 0, 0};
        fibers[i].lane = i & 31;
        fibers[i].warp = i >> 5;
    }
    static char fault_stack[64 << 10];
    stack_t own{}, before;
    own.ss_sp = fault_stack;
    own.ss_size = sizeof fault_stack;
    sigaltstack(&own, &before);
    const int signals[4] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction action{}, old[4];
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 4; ++i) sigaction(signals[i], &action, &old[i]);
    volatile int status = 0;
    flush_subnormals(true);
    if (sigsetjmp(fault_return, 1)) {
        describe_fault();
        status = 3;
    } else {
        for (unsigned long long k = 0; k < n_blocks && !status; ++k) {
            const unsigned long long i = order == 0 ? k : n_blocks - 1 - k;
            block = {(unsigned)(i % grid[0]), (unsigned)(i / grid[0]), 0};
            status = run_block(order);
        }
    }
    flush_subnormals(false);
    for (int i = 0; i < 4; ++i) sigaction(signals[i], &old[i], nullptr);
    sigaltstack(&before, nullptr);
    return status;
}

// From an array of pointers to arguments to a call of the kernel

template <auto F> struct Kernel;
template <class... Args, void (*F)(Args...)> struct Kernel<F> {
    using Values = std::tuple<std::remove_cv_t<Args>...>;
    static void call(void* values) { std::apply(F, *(Values*)values); }
    template <size_t... I>
    static int run(void** args, const unsigned* grid, unsigned threads, unsigned order, unsigned shared_bytes,
                   std::index_sequence<I...>)
    {
        Values values{*(std::remove_cv_t<Args>*)args[I]...};
        return launch(call, &values, grid, threads, order, shared_bytes);
    }
    static int run(void** args, const unsigned* grid, unsigned threads, unsigned order, unsigned shared_bytes)
    {
        return run(args, grid, threads, order, shared_bytes, std::index_sequence_for<Args...>{});
    }
    // Sizes of the arguments in bytes, negative for pointers.
    static int sizes(int* out)
    {
        int n = 0;
        ((out[n++] = (int)sizeof(Args) * (std::is_pointer_v<Args> ? -1 : 1)), ...);
        return n;
    }
};

}  // namespace cudasim

// What kernels name

#define threadIdx (cudasim::current->index)
#define blockIdx cudasim::block
#define blockDim cudasim::block_size
#define gridDim cudasim::grid_size
#define __syncthreads() cudasim::barrier(__LINE__)
#define __syncwarp() ((void)cudasim::meet(cudasim::Op::sync, 0xffffffffu, 0, 0, __LINE__))
#define __ballot_sync(mask, p) ((unsigned)cudasim::meet(cudasim::Op::ballot, (mask), !!(p), 0, __LINE__))
#define __any_sync(mask, p) (__ballot_sync(mask, p) != 0)
#define __shfl_sync(mask, v, source) cudasim::shuffle(mask, v, (int)(source), __LINE__)
#define __shfl_up_sync(mask, v, by) cudasim::shuffle(mask, v, cudasim::current->lane - (int)(by), __LINE__)
#define __shfl_xor_sync(mask, v, by) cudasim::shuffle(mask, v, cudasim::current->lane ^ (int)(by), __LINE__)

static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    const uint64_t bytes = (uint64_t)b << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) result |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return result;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
    for (int i = 0; i < 32; i += 8) c += (a >> i & 255) * (b >> i & 255);
    return c;
}
static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 32; i += 8) c += (int8_t)(a >> i) * (int8_t)(b >> i);
    return c;
}
static inline unsigned __vcmpgeu4(unsigned a, unsigned b)
{
    unsigned result = 0;
    for (int i = 0; i < 32; i += 8) result |= (a >> i & 255) >= (b >> i & 255) ? 255u << i : 0u;
    return result;
}
static inline unsigned __vcmpleu4(unsigned a, unsigned b) { return __vcmpgeu4(b, a); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
static inline unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, 4); return u; }
template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T min(T a, std::common_type_t<T> b) { return b < a ? b : a; }
template <class T> static inline T max(T a, std::common_type_t<T> b) { return b > a ? b : a; }

#ifdef CUDASIM_RACES
#define CUDASIM_ATOMIC(p) cudasim::Atomic atomic(p)
namespace cudasim {
struct Atomic {
    __attribute__((no_sanitize("thread"))) explicit Atomic(void* at) { in_atomic = true; touch(at, true, nullptr); }
    __attribute__((no_sanitize("thread"))) ~Atomic() { in_atomic = false; }
};
}  // namespace cudasim
extern "C" {
#define CUDASIM_HOOK(name, bytes, writes) \
    __attribute__((no_sanitize("thread"), noinline)) void __tsan_##name(void* at) \
    { \
        cudasim::touch_all(at, bytes, writes, __builtin_return_address(0)); \
    }
#define CUDASIM_HOOKS(bytes) CUDASIM_HOOK(read##bytes, bytes, false) CUDASIM_HOOK(write##bytes, bytes, true)
CUDASIM_HOOKS(1) CUDASIM_HOOKS(2) CUDASIM_HOOKS(4) CUDASIM_HOOKS(8) CUDASIM_HOOKS(16)
#undef CUDASIM_HOOKS
#undef CUDASIM_HOOK
#define CUDASIM_HOOK(name, writes) \
    __attribute__((no_sanitize("thread"), noinline)) void __tsan_##name##_range(void* at, long bytes) \
    { \
        cudasim::touch_all(at, bytes, writes, __builtin_return_address(0)); \
    }
CUDASIM_HOOK(read, false) CUDASIM_HOOK(write, true)
#undef CUDASIM_HOOK
__attribute__((no_sanitize("thread"))) void __tsan_init() {}
__attribute__((no_sanitize("thread"))) void __tsan_func_entry(void*) {}
__attribute__((no_sanitize("thread"))) void __tsan_func_exit(void*) {}
}
#else
#define CUDASIM_ATOMIC(p)
#endif

template <class T> static inline T atomicAdd(T* p, std::common_type_t<T> v) { CUDASIM_ATOMIC(p); T old = *p; *p = old + v; return old; }
template <class T> static inline T atomicAnd(T* p, std::common_type_t<T> v) { CUDASIM_ATOMIC(p); T old = *p; *p = old & v; return old; }
template <class T> static inline T atomicOr(T* p, std::common_type_t<T> v) { CUDASIM_ATOMIC(p); T old = *p; *p = old | v; return old; }
