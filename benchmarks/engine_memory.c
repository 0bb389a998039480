/* Prints the memory in kilobytes that a C engine takes beyond its program: engine_memory, in the
   folder of model.weights. The weights are mapped and used in place. */
#define _GNU_SOURCE
#include "model.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static long kilobytes(const char *field)
{
    char line[256];
    long found = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, field, strlen(field)))
            sscanf(line + strlen(field), ": %ld", &found);
    if (status)
        fclose(status);
    return found;
}

int main(void)
{
    static unsigned char image[3 * REID_HEIGHT * REID_WIDTH];
    static float embedding[REID_SIZE];
    memset(image, 1, sizeof image);
    memset(embedding, 1, sizeof embedding);
    long before = kilobytes("VmRSS");
    int file = open("model.weights", O_RDONLY);
    struct stat about;
    if (file < 0 || fstat(file, &about))
        return 1;
    void *weights = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    reid_model *model;
    if (weights == MAP_FAILED
        || reid_create_in_place(weights, (size_t)about.st_size, NULL, &model)
        || reid_embed(model, REID_RGB, image, 1, REID_HEIGHT, REID_WIDTH, embedding))
        return 1;
    printf("%ld\t%ld\n", kilobytes("VmHWM") - before, (long)about.st_size / 1024);
    reid_destroy(model);
    return 0;
}
