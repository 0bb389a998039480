/* Embeds an image with the C engine, CALLS times; each call stands between two getppid(), which
   tell the instruction counter where it begins and ends.
     run_engine CALLS KERNELS|best < model.weights */
#define _GNU_SOURCE
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    enum { MOST = 64 << 20 };
    static unsigned char images[3 * REID_HEIGHT * REID_WIDTH];
    static float embedding[REID_SIZE];
    unsigned char *weights = malloc(MOST);
    reid_model *model;
    if (count != 3 || !weights)
        return 2;
    size_t size = fread(weights, 1, MOST, stdin);
    const char *kernels = strcmp(arguments[2], "best") ? arguments[2] : NULL;
    int error = reid_create(weights, size, kernels, &model);
    if (error) {
        fprintf(stderr, "error %d\n", error);
        return 1;
    }
    for (size_t i = 0; i < sizeof images; i++)
        images[i] = (unsigned char)(i * 37 % 251);
    for (int i = 0; i < atoi(arguments[1]); i++) {
        (void)getppid();
        reid_embed(model, REID_RGB, images, 1, REID_HEIGHT, REID_WIDTH, embedding);
        (void)getppid();
    }
    printf("%f\n", embedding[0]);
    reid_destroy(model);
    return 0;
}
