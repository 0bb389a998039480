/* The three functions of the header. */

static const kernel_set *find_kernels(const char *name)
{
    for (size_t i = 0; i < sizeof KERNEL_SETS / sizeof *KERNEL_SETS; i++) {
        const kernel_set *one = KERNEL_SETS[i];
        if ((!name || !strcmp(name, one->name)) && one->is_supported())
            return one;
    }
    return NULL;
}

int reid_create(const void *weights, size_t size, const char *kernels, reid_model **model)
{
    uint8_t digest[32];
    if (!model)
        return REID_BAD_ARGUMENT;
    *model = NULL;
    if (!weights)
        return REID_BAD_ARGUMENT;
    if (size != WEIGHTS_SIZE)
        return REID_BAD_WEIGHTS;
    sha256(weights, size, digest);
    if (memcmp(digest, WEIGHTS_SHA256, sizeof digest))
        return REID_BAD_WEIGHTS;
    const kernel_set *found = find_kernels(kernels);
    if (!found)
        return REID_NO_KERNELS;
    reid_model *made = malloc(sizeof *made);
    uint8_t *memory = malloc(64 + rounded_up(WEIGHTS_SIZE) + ARENA_SIZE);
    if (!made || !memory) {
        free(made);
        free(memory);
        return REID_NO_MEMORY;
    }
    uint8_t *aligned = memory + (64 - (uintptr_t)memory % 64) % 64;
    memcpy(aligned, weights, size);
    made->kernels = found;
    made->weights = aligned;
    made->arena = aligned + rounded_up(WEIGHTS_SIZE);
    made->memory = memory;
    /* Kernels read whole blocks, also where nothing has been written yet. */
    memset(made->arena, 0, ARENA_SIZE);
    *model = made;
    return REID_OK;
}

int reid_embed(reid_model *model, reid_format format, const void *images, size_t count,
    size_t height, size_t width, float *embeddings)
{
    if (!model || (count && (!images || !embeddings)))
        return REID_BAD_ARGUMENT;
    if (format != REID_FLOAT && format != REID_RGB && format != REID_BGR)
        return REID_BAD_ARGUMENT;
    int exact = height == REID_HEIGHT && width == REID_WIDTH;
    if (!height || !width || (format == REID_FLOAT && !exact)
        || height > (size_t)REID_HEIGHT * MOST_SHRINKING
        || width > (size_t)REID_WIDTH * MOST_SHRINKING)
        return REID_BAD_SIZE;
    for (size_t i = 0; i < count; i++) {
        size_t start = i * 3 * height * width;
        if (format == REID_FLOAT)
            take_floats(model, (const float *)images + start);
        else
            take_bytes(model, (const uint8_t *)images + start, (int32_t)height, (int32_t)width,
                (format == REID_BGR) != MODEL_IS_BGR);
        run_layers(model, embeddings + i * REID_SIZE);
        model->kernels->finish();
    }
    return REID_OK;
}

void reid_destroy(reid_model *model)
{
    if (model) {
        free(model->memory);
        free(model);
    }
}
