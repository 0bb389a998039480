/* The functions of the header. */

static const kernel_set *find_kernels(const char *name)
{
    for (size_t i = 0; i < sizeof KERNEL_SETS / sizeof *KERNEL_SETS; i++) {
        const kernel_set *one = KERNEL_SETS[i];
        if ((!name || !strcmp(name, one->name)) && one->is_supported())
            return one;
    }
    return NULL;
}

static int check_weights(const void *weights, size_t size)
{
    uint8_t digest[32];
    if (!weights)
        return REID_BAD_ARGUMENT;
    if (size != WEIGHTS_SIZE)
        return REID_BAD_WEIGHTS;
    sha256(weights, size, digest);
    return memcmp(digest, WEIGHTS_SHA256, sizeof digest) ? REID_BAD_WEIGHTS : REID_OK;
}

/* Memory for the planes, and for a copy of the weights if they are to be copied. */
static int create(
    const void *weights, size_t size, const char *kernels, int copied, reid_model **model)
{
    if (!model)
        return REID_BAD_ARGUMENT;
    *model = NULL;
    int error = check_weights(weights, size);
    if (error)
        return error;
    const kernel_set *found = find_kernels(kernels);
    if (!found)
        return REID_NO_KERNELS;
    size_t kept = copied ? rounded_up(WEIGHTS_SIZE) : 0;
    reid_model *made = malloc(sizeof *made);
    uint8_t *memory = malloc(64 + kept + ARENA_SIZE);
    if (!made || !memory) {
        free(made);
        free(memory);
        return REID_NO_MEMORY;
    }
    uint8_t *aligned = memory + (64 - (uintptr_t)memory % 64) % 64;
    if (copied)
        memcpy(aligned, weights, size);
    made->kernels = found;
    made->weights = copied ? aligned : weights;
    made->arena = aligned + kept;
    made->memory = memory;
    /* Kernels read whole blocks, also where nothing has been written yet. */
    memset(made->arena, 0, ARENA_SIZE);
    *model = made;
    return REID_OK;
}

int reid_create(const void *weights, size_t size, const char *kernels, reid_model **model)
{
    return create(weights, size, kernels, 1, model);
}

int reid_create_in_place(
    const void *weights, size_t size, const char *kernels, reid_model **model)
{
    if (model)
        *model = NULL;
    if ((uintptr_t)weights % 64)
        return REID_BAD_ARGUMENT;
    return create(weights, size, kernels, 0, model);
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
