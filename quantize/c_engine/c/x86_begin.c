/* Kernels for x86-64: compiled for processors that the program need not run on. */

#if defined __x86_64__ && !defined REID_PORTABLE_ONLY \
    && (defined __clang__ ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define X86_KERNELS
#endif

#ifdef X86_KERNELS
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Loops over registers have to be unrolled whole. */
#ifdef __clang__
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 32")
#endif
/* Numbers that are needed at the end of a block only: read from memory there, so that they take no
   registers from the sums. */
#define KEPT_IN_MEMORY(numbers) __asm__ volatile("" : : "r"(&(numbers)) : "memory")
#define INLINE static inline __attribute__((always_inline))

/* Bits of the answers of CPUID, leaf 7; whether the system saves the registers is asked apart. */
static int has_leaf7(unsigned leaf, int reg, int bit)
{
    unsigned answer[4];
    if (!__get_cpuid_count(7, leaf, answer, answer + 1, answer + 2, answer + 3))
        return 0;
    return (int)(answer[reg] >> bit & 1);
}

static int has_avx2(void) { return __builtin_cpu_supports("avx2") != 0; }

static int has_avx_vnni(void) { return has_avx2() && has_leaf7(1, 0, 4); }

static int has_avx512_vnni(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512vnni");
}

/* Linux lets a process use tiles if it asks. */
static int has_amx(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    return has_avx512_vnni() && has_leaf7(0, 3, 24) && has_leaf7(0, 3, 25)
        && !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA);
}
#endif
