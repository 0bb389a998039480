/* All kernels, the fastest first. */

static const kernel_set *const KERNEL_SETS[] = {
#ifdef X86_KERNELS
    &AMX,
    &AVX512_VNNI,
    &AVX_VNNI,
    &AVX2,
#endif
#ifdef ARM_KERNELS
    &NEON_I8MM,
    &NEON_DOTPROD,
#endif
    &PORTABLE,
};
