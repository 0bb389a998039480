/* What a shared library has besides the model: the weights, and what they are of. */
#include "model.h"

__asm__(
    ".section .rodata\n"
    ".balign 64\n"
    "stored_weights:\n"
    ".incbin \"model.weights\"\n"
    "stored_weights_end:\n"
    ".balign 8\n"
    ".text\n");

extern const unsigned char stored_weights[] __attribute__((visibility("hidden")));
extern const unsigned char stored_weights_end[] __attribute__((visibility("hidden")));

/* The marker by which readers recognise the library, and JSON. */
const char reid_metadata[] = "reid_edge C engine 1:" REID_METADATA;

const int reid_shape[3] = {REID_HEIGHT, REID_WIDTH, REID_SIZE};

const void *reid_stored_weights(size_t *size)
{
    *size = (size_t)(stored_weights_end - stored_weights);
    return stored_weights;
}
