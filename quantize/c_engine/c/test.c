/* Embeds five images with all kernels that this processor has, and compares the embeddings. */
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES = 5 };

static const char *const KERNELS[] = {
    "portable", "avx2", "avx_vnni", "avx512_vnni", "amx", "neon_dotprod", "neon_i8mm"};

static void *read_file(const char *name, size_t *size)
{
    FILE *file = fopen(name, "rb");
    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    void *content = malloc(*size + 1);
    if (!content || fread(content, 1, *size, file) != *size) {
        fprintf(stderr, "%s: cannot be read\n", name);
        exit(2);
    }
    fclose(file);
    return content;
}

static double cosine(const float *a, const float *b)
{
    double product = 0, first = 0, second = 0;
    for (int i = 0; i < REID_SIZE; i++) {
        product += (double)a[i] * b[i];
        first += (double)a[i] * a[i];
        second += (double)b[i] * b[i];
    }
    return product / sqrt(first * second + 1e-30);
}

int main(int count, char **arguments)
{
    size_t weights_size, images_size, expected_size, bits_size = 0;
    void *weights = read_file("model.weights", &weights_size);
    void *images = read_file("test.images", &images_size);
    float *expected = read_file("test.expected", &expected_size);
    float *bits = read_file("test.bits", &bits_size);
    float *first = malloc(sizeof(float) * IMAGES * REID_SIZE), *found = malloc(sizeof(float) * IMAGES * REID_SIZE);
    if (!weights || !images || !expected || !first || !found) {
        fprintf(stderr, "run this program in the folder of model.weights and test.images\n");
        return 2;
    }
    int failed = 0, used = 0;
    for (size_t k = 0; k < sizeof KERNELS / sizeof *KERNELS; k++) {
        reid_model *model;
        if (count > 1 && strcmp(arguments[1], KERNELS[k]))
            continue;
        int error = reid_create(weights, weights_size, KERNELS[k], &model);
        if (error == REID_NO_KERNELS)
            continue;
        float *out = used++ ? found : first;
        if (!error)
            error = reid_embed(model, REID_RGB, images, IMAGES, REID_HEIGHT, REID_WIDTH, out);
        if (error) {
            fprintf(stderr, "%s: error %d\n", KERNELS[k], error);
            return 1;
        }
        double lowest = 1;
        for (int i = 0; i < IMAGES; i++) {
            double one = cosine(out + i * REID_SIZE, expected + i * REID_SIZE);
            lowest = one < lowest ? one : lowest;
        }
        const float *same_as = bits ? bits : first;
        int same = !memcmp(out, same_as, sizeof(float) * IMAGES * REID_SIZE);
        printf("%-12s bits %s, lowest cosine to the ONNX file %.5f\n", KERNELS[k],
            same ? "as expected" : "DIFFER", lowest);
        failed |= !same || !(lowest > LOWEST_COSINE);
        reid_destroy(model);
    }
    if (count > 2 && used) { /* write the embeddings of the kernels to a file */
        FILE *file = fopen(arguments[2], "wb");
        if (!file || fwrite(first, sizeof(float), IMAGES * REID_SIZE, file) != IMAGES * REID_SIZE)
            failed = 1;
        if (file)
            fclose(file);
    }
    free(weights);
    free(images);
    free(expected);
    free(bits);
    free(first);
    free(found);
    return failed || !used;
}
