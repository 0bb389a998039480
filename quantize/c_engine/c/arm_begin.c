/* Kernels for 64-bit ARM, compiled for processors that the program need not run on. */

#if defined __aarch64__ && defined __linux__ && !defined REID_PORTABLE_ONLY \
    && (defined __clang__ ? __clang_major__ >= 16 : __GNUC__ >= 10)
#define ARM_KERNELS
#include <arm_neon.h>
#include <sys/auxv.h>

#ifdef __clang__
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 32")
#endif
#define INLINE static inline __attribute__((always_inline))

/* Bits of AT_HWCAP and AT_HWCAP2, see the kernel's asm/hwcap.h. */
static int has_dot_product(void) { return (int)(getauxval(AT_HWCAP) >> 20 & 1); }

static int has_i8mm(void) { return has_dot_product() && (getauxval(AT_HWCAP2) >> 13 & 1); }
#endif
