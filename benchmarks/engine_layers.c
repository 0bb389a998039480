/* Times the layers of a C engine: engine_layers KERNELS < model.weights prints the least nanoseconds
   of each kind of layer, summed over its layers; compiled with -DREID_LAYER_DONE=layer_done. */
#define _GNU_SOURCE
#include <stddef.h>
#include <time.h>

static void layer_done(size_t index);

#include "model.c"

#include <stdio.h>

enum { CALLS = 300, LAYER_COUNT = sizeof LAYERS / sizeof *LAYERS };

static double before, least[LAYER_COUNT];

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static void layer_done(size_t index)
{
    double elapsed = now() - before;
    if (least[index] == 0 || elapsed < least[index])
        least[index] = elapsed;
    before = now();
}

int main(int count, char **arguments)
{
    static const char *const names[] = {"other convolutions", "pairs", "depthwise", "max pooling",
        "average pooling", "sums", "gates", "norms", "tables", "products", "embedding"};
    static unsigned char weights[WEIGHTS_SIZE];
    static float images[3 * REID_HEIGHT * REID_WIDTH], embedding[REID_SIZE];
    double kinds[EMBEDDING + 1] = {0}, input = 0;
    reid_model *model;
    if (count != 2 || fread(weights, 1, sizeof weights, stdin) != sizeof weights
        || reid_create(weights, sizeof weights, arguments[1], &model))
        return 1;
    for (size_t i = 0; i < sizeof images / sizeof *images; i++)
        images[i] = (float)(i * 37 % 101) / 30 - 1.7f;
    for (int i = 0; i < CALLS; i++) {
        double start = now();
        take_floats(model, images);
        double elapsed = now() - start;
        input = i == 0 || elapsed < input ? elapsed : input;
        before = now();
        run_layers(model, embedding);
    }
    printf("input\t%.0f\nfirst convolution\t%.0f\n", input, least[0]);
    for (size_t i = 1; i < LAYER_COUNT; i++)
        kinds[LAYERS[i].kind] += least[i];
    for (size_t i = 0; i <= EMBEDDING; i++)
        if (kinds[i] > 0)
            printf("%s\t%.0f\n", names[i], kinds[i]);
    reid_destroy(model);
    return 0;
}
