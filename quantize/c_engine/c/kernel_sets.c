/* All kernels, the fastest first. */

static const kernel_set *const KERNEL_SETS[] = {
    &PORTABLE,
};
