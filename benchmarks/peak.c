/*
 * What the processor and its memory give at most. `peak THREADS RUNS` prints, as JSON, the
 * multiply-adds of float32 between registers, in GMAC/s, and the reading of 1 GB of memory in
 * order, in GB/s; of each the best run. For GNU C as GCC and Clang take it by default: its vectors,
 * and a * b + c as one FMA, which -std=c11 would forbid.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_THREADS = 256, FLOATS = 1 << 28, ROUNDS = 10000000 };

/* Independent sums, to hide an FMA's latency; with the two factors they fit 16 or 32 registers. */
#define SUMS_12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define SUMS_20(X) SUMS_12(X) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19)

#define BEGIN(i) vec sum##i = one * (i##.0f);
#define MULTIPLY(i) sum##i = sum##i * factor + summand;
#define READ(i) sum##i += vectors[i];
#define TOTAL(i) one += sum##i;

/*
 * Both loops for vectors of `bytes`. Each returns a number that depends on all its work, and takes
 * its first number from memory, or the compiler might know where some sums lead.
 */
#define LOOPS(name, target, bytes, SUMS, sums)                                           \
    typedef float vec_##name __attribute__((vector_size(bytes), aligned(4), may_alias)); \
    enum { STEP_##name = (sums) * (bytes) / sizeof(float) };                             \
    target static float multiply_##name(const float *floats, size_t count) {             \
        typedef vec_##name vec;                                                          \
        vec one = (vec){0} + *floats, factor = one * 0.999f, summand = one * 1e-3f;      \
        SUMS(BEGIN)                                                                      \
        for (size_t round = 0; round < count; round++) {                                 \
            SUMS(MULTIPLY)                                                               \
        }                                                                                \
        SUMS(TOTAL)                                                                      \
        float total = 0.0f;                                                              \
        for (size_t lane = 0; lane < (bytes) / sizeof(float); lane++)                    \
            total += one[lane];                                                          \
        return total;                                                                    \
    }                                                                                    \
    target static float read_##name(const float *floats, size_t count) {                 \
        typedef vec_##name vec;                                                          \
        vec one = (vec){0} + *floats;                                                    \
        SUMS(BEGIN)                                                                      \
        for (size_t at = 0; at + STEP_##name <= count; at += STEP_##name) {              \
            const vec *vectors = (const vec *)(floats + at);                             \
            SUMS(READ)                                                                   \
        }                                                                                \
        SUMS(TOTAL)                                                                      \
        float total = 0.0f;                                                              \
        for (size_t lane = 0; lane < (bytes) / sizeof(float); lane++)                    \
            total += one[lane];                                                          \
        return total;                                                                    \
    }

typedef float loop(const float *floats, size_t count);

struct loops {
    const char *instructions;
    loop *multiply, *read;
    size_t macs; /* of one round of multiply */
};

#if defined(__x86_64__)
LOOPS(avx512, __attribute__((target("avx512f"))), 64, SUMS_20, 20)
LOOPS(avx2, __attribute__((target("avx2,fma"))), 32, SUMS_12, 12)
LOOPS(plain, , 16, SUMS_12, 12)
#elif defined(__aarch64__)
LOOPS(plain, , 16, SUMS_20, 20)
#else
LOOPS(plain, , 16, SUMS_12, 12)
#endif

static struct loops best_loops(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return (struct loops){"AVX-512", multiply_avx512, read_avx512, STEP_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return (struct loops){"AVX2 + FMA", multiply_avx2, read_avx2, STEP_avx2};
#endif
#if defined(__aarch64__)
    return (struct loops){"NEON", multiply_plain, read_plain, STEP_plain};
#else
    return (struct loops){"plain C", multiply_plain, read_plain, STEP_plain};
#endif
}

struct part {
    pthread_t thread;
    loop *run;
    const float *floats;
    size_t count;
    volatile float sink; /* or the compiler might leave the work out */
};

static void *run_part(void *context) {
    struct part *part = context;
    part->sink = part->run(part->floats, part->count);
    return NULL;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Seconds until all threads have done their `count` each, on floats that lie `apart`. */
static double timed(loop *run, const float *floats, size_t count, size_t apart, size_t threads) {
    static struct part parts[MOST_THREADS];
    const double begin = now();
    for (size_t i = 0; i < threads; i++) {
        parts[i].run = run;
        parts[i].floats = floats + i * apart;
        parts[i].count = count;
        if (pthread_create(&parts[i].thread, NULL, run_part, &parts[i]))
            exit(1);
    }
    for (size_t i = 0; i < threads; i++)
        pthread_join(parts[i].thread, NULL);
    return now() - begin;
}

static double least(double a, double b) {
    return a < b ? a : b;
}

int main(int count, char **arguments) {
    const int threads = count > 1 ? atoi(arguments[1]) : 1,
              runs = count > 2 ? atoi(arguments[2]) : 3;
    float *floats = malloc(FLOATS * sizeof *floats);
    if (threads < 1 || threads > MOST_THREADS || runs < 1 || !floats) {
        fprintf(stderr, "peak: 1 to %d threads, at least one run, and 1 GB of memory\n",
                MOST_THREADS);
        return 2;
    }
    for (size_t i = 0; i < FLOATS; i++)
        floats[i] = 1.0f; /* memory never written is one page of zeros, which stays in the cache */
    const struct loops loops = best_loops();
    const size_t share = FLOATS / (size_t)threads;
    double multiply = 1e9, read = 1e9;
    for (int run = 0; run < runs; run++) {
        multiply = least(multiply, timed(loops.multiply, floats, ROUNDS, 0, (size_t)threads));
        read = least(read, timed(loops.read, floats, share, share, (size_t)threads));
    }
    printf("{\"instructions\": \"%s\", \"threads\": %d, \"GMAC/s\": %.1f, \"GB/s\": %.1f}\n",
           loops.instructions, threads, 1e-9 * ROUNDS * (double)loops.macs * threads / multiply,
           1e-9 * (double)(share * sizeof *floats) * threads / read);
    free(floats);
    return 0;
}
