/* Damaged weights and odd calls, for sanitizers: fuzz INPUTS; ends with 0 if all is as it should be. */
#include "model.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t seed = 1;

static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

static void expect(int right, const char *what)
{
    if (!right) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

/* The error of weights that lie in a block of their own size, so that any step outside is seen. */
static int error_of(const uint8_t *weights, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    reid_model *model = (reid_model *)&seed;
    memcpy(copy, weights, size);
    int error = reid_create(copy, size, NULL, &model);
    free(copy);
    expect((error == REID_OK) == (model != NULL), "a model comes with no error, and only then");
    reid_destroy(model);
    return error;
}

static void embed_odd_sizes(const uint8_t *weights, size_t size, const char *kernels)
{
    static const size_t sizes[][2] = {{REID_HEIGHT, REID_WIDTH}, {1, 1}, {3, 200}, {301, 2},
        {2 * REID_HEIGHT + 1, 2 * REID_WIDTH - 1}, {31 * REID_HEIGHT, 31}, {17, 32 * REID_WIDTH}};
    reid_model *model;
    /* In place, in a block of their own size, so that a step behind them is seen. */
    uint8_t *block = aligned_alloc(64, size);
    memcpy(block, weights, size);
    int error = reid_create_in_place(block, size, kernels, &model);
    if (error == REID_NO_KERNELS) {
        free(block);
        return;
    }
    expect(error == REID_OK, "weights as they were written are right");
    float *out = malloc(sizeof(float) * REID_SIZE * 2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t count = 3 * sizes[i][0] * sizes[i][1] * (i ? 1 : 2);
        uint8_t *images = malloc(count);
        for (size_t j = 0; j < count; j++)
            images[j] = (uint8_t)draw(256);
        expect(!reid_embed(model, REID_BGR, images, i ? 1 : 2, sizes[i][0], sizes[i][1], out),
            "bytes of any size are embedded");
        free(images);
    }
    size_t numbers = 3 * (size_t)REID_HEIGHT * REID_WIDTH;
    float *floats = malloc(sizeof(float) * numbers);
    for (size_t j = 0; j < numbers; j++) {
        uint32_t bits = draw(1 << 16) << 16 | draw(1 << 16); /* any float, infinite or none */
        memcpy(floats + j, &bits, 4);
    }
    expect(!reid_embed(model, REID_FLOAT, floats, 1, REID_HEIGHT, REID_WIDTH, out), "any floats");
    for (int j = 0; j < REID_SIZE; j++)
        expect(out[j] == out[j], "embeddings are numbers");
    expect(reid_embed(model, REID_RGB, floats, 1, SIZE_MAX, 1, out) == REID_BAD_SIZE, "too high");
    expect(reid_embed(model, REID_RGB, floats, 1, 1, SIZE_MAX, out) == REID_BAD_SIZE, "too wide");
    free(floats);
    free(out);
    reid_destroy(model);
    free(block);
}

int main(int count, char **arguments)
{
    static const char *const kernels[] = {
        "portable", "avx2", "avx_vnni", "avx512_vnni", "amx", "neon_dotprod", "neon_i8mm"};
    FILE *file = fopen("model.weights", "rb");
    expect(count == 2 && file, "fuzz INPUTS, in the folder of model.weights");
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    uint8_t *weights = malloc(size + 64);
    expect(fread(weights, 1, size, file) == size, "model.weights is read");
    fclose(file);
    expect(error_of(weights, size) == REID_OK, "weights as they were written are right");
    expect(reid_create(NULL, size, NULL, NULL) == REID_BAD_ARGUMENT, "no place for the model");
    reid_model *none = (reid_model *)&seed;
    expect(reid_create_in_place(weights + 1, size, NULL, &none) == REID_BAD_ARGUMENT && !none,
        "weights that are not aligned are refused");
    for (int i = 0, inputs = atoi(arguments[1]); i < inputs; i++) {
        uint32_t place = draw((uint32_t)size);
        uint8_t former = weights[place];
        weights[place] ^= (uint8_t)(1 + draw(255));
        expect(error_of(weights, size) == REID_BAD_WEIGHTS, "a changed byte is seen");
        weights[place] = former;
        expect(error_of(weights, draw((uint32_t)size)) == REID_BAD_WEIGHTS, "a lost end is seen");
        expect(error_of(weights, size + 1 + draw(63)) == REID_BAD_WEIGHTS, "more is seen");
    }
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        embed_odd_sizes(weights, size, kernels[i]);
    free(weights);
    return 0;
}
