/* A person re-identification model in int8: images in, embeddings out.

   The source is C11 and needs libc and libm. The kernels are chosen by the processor when a model
   is created; all of them give the same bits. */
#ifndef REID_MODEL_H
#define REID_MODEL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Rows and columns of an image, and numbers of an embedding. */
@DEFINITIONS@

typedef struct reid_model reid_model;

typedef enum {
    REID_OK,
    REID_BAD_ARGUMENT, /* a null pointer, or a format that there is not */
    REID_BAD_WEIGHTS,  /* not the weights that this source was written with */
    REID_NO_KERNELS,   /* no kernels of this name, or the processor does not have them */
    REID_NO_MEMORY,
    REID_BAD_SIZE      /* images of another size as floats, or more than 32 times as large */
} reid_error;

typedef enum {
    REID_FLOAT, /* float (count, 3, height, width), normalised, in the model's order of colours */
    REID_RGB,   /* bytes (count, height, width, 3), resized to the model's size if need be */
    REID_BGR
} reid_format;

/* Create a model from the content of model.weights, which is copied.
   kernels: "portable", "avx2", "avx_vnni", "avx512_vnni", "amx", "neon_dotprod" or "neon_i8mm";
   NULL takes the fastest ones of the processor. */
int reid_create(const void *weights, size_t size, const char *kernels, reid_model **model);

/* The same without a copy: the weights are used where they are, such as in a file that is mapped
   into memory. They begin at a multiple of 64 bytes, and stay there as long as the model. */
int reid_create_in_place(
    const void *weights, size_t size, const char *kernels, reid_model **model);

/* Embed a batch of images into floats (count, REID_SIZE). Allocates nothing and takes no lock; a
   model is used by one thread at a time, so threads create one model each. */
int reid_embed(reid_model *model, reid_format format, const void *images, size_t count,
    size_t height, size_t width, float *embeddings);

/* Free a model; NULL is allowed. */
void reid_destroy(reid_model *model);

#ifdef __cplusplus
}
#endif
#endif
