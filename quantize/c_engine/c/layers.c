/* The layers: what kernels are given, and what is too little work for a kernel of its own. */

struct reid_model {
    const kernel_set *kernels;
    const uint8_t *weights;
    uint8_t *arena;
    void *memory;
};

typedef struct reid_model run_state;

static uint8_t *pixels_of(const run_state *run, int32_t index)
{
    return run->arena + PLANES[index].offset;
}

static const void *stored(const run_state *run, uint32_t offset) { return run->weights + offset; }

static uint8_t *scratch_of(const run_state *run) { return run->arena + SCRATCH; }

static rescaling rescaling_of(
    const run_state *run, uint32_t bias, uint32_t shift, uint32_t multiplier, int32_t zero)
{
    rescaling by = {stored(run, bias), stored(run, shift), stored(run, multiplier), zero};
    return by;
}

static size_t rounded_up(size_t size) { return (size + 63) / 64 * 64; }

/* A plane with a border of zeros around it. */
static const uint8_t *with_border(const layer *one, const plane *x, const uint8_t *source, uint8_t *out)
{
    size_t pixel = (size_t)x->channels;
    size_t width = (size_t)(x->width + one->pad_left + one->pad_right);
    size_t height = (size_t)(x->height + one->pad_top + one->pad_bottom);
    memset(out, x->zero, width * height * pixel);
    for (int32_t row = 0; row < x->height; row++)
        memcpy(out + ((row + one->pad_top) * width + one->pad_left) * pixel,
            source + (size_t)row * x->width * pixel, x->width * pixel);
    return out;
}

/* Blocks of pixels are this long if the bytes of their taps have to be put side by side. */
enum { PANEL = 32 };

/* The rows of a convolution whose output is narrow: pixels with all their taps, one after the
   other, over the ends of rows. */
static void multiply_in_panels(
    const run_state *run, const layer *one, const plane *y, products *job, ptrdiff_t row_stride,
    uint8_t *panel)
{
    const uint8_t *x = job->x;
    uint8_t *out = job->y;
    const uint8_t *residual = job->residual;
    ptrdiff_t taps[MOST_TAPS], x_stride = job->x_stride;
    int32_t count = job->taps, row_bytes = job->row_bytes, total = y->height * y->width;
    memcpy(taps, job->tap, sizeof taps);
    job->x = panel;
    job->x_stride = (ptrdiff_t)count * row_bytes;
    job->taps = 1;
    job->tap[0] = 0;
    job->row_bytes = count * row_bytes;
    for (int32_t first = 0; first < total; first += PANEL) {
        job->pixels = total - first < PANEL ? total - first : PANEL;
        for (int32_t i = 0; i < job->pixels; i++) {
            int32_t row = (first + i) / y->width, column = (first + i) % y->width;
            for (int32_t tap = 0; tap < count; tap++)
                memcpy(panel + i * job->x_stride + (size_t)tap * row_bytes,
                    x + row * one->stride_y * row_stride + column * x_stride + taps[tap],
                    row_bytes);
        }
        job->y = out + first * job->y_stride;
        job->residual = residual ? residual + first * job->y_stride : NULL;
        run->kernels->multiply(job);
    }
}

static void run_convolution(const run_state *run, const layer *one)
{
    const plane *x = &PLANES[one->inputs[0]], *y = &PLANES[one->y];
    const uint8_t *source = pixels_of(run, one->inputs[0]);
    uint8_t *scratch = scratch_of(run);
    int32_t width = x->width + one->pad_left + one->pad_right;
    ptrdiff_t row_stride = (ptrdiff_t)width * x->channels;
    if (one->pad_top || one->pad_left || one->pad_bottom || one->pad_right) {
        source = with_border(one, x, source, scratch);
        scratch += rounded_up(
            (size_t)(x->height + one->pad_top + one->pad_bottom) * width * x->channels);
    }
    products job = {
        .x = source, .x_stride = (ptrdiff_t)one->stride_x * x->channels, .pixels = y->width,
        .taps = one->taps, .row_bytes = one->row_bytes, .groups = y->channels / GROUP,
        .weights = stored(run, one->weights),
        .out = rescaling_of(run, one->bias, one->shift, one->multiplier, y->zero),
        .y = pixels_of(run, one->y), .y_stride = y->channels,
    };
    if (one->has_residual) {
        job.residual = pixels_of(run, one->inputs[1]);
        job.residual_factor = stored(run, one->residual);
    }
    int32_t per_row = one->taps / one->kernel_height;
    for (int32_t tap = 0; tap < one->taps; tap++)
        job.tap[tap] = tap / per_row * one->dilation_y * row_stride
            + tap % per_row * one->dilation_x * x->channels;
    if (one->taps == 1 && one->row_bytes == x->channels && one->stride_y == 1
        && one->stride_x == 1 && y->width == x->width) {
        job.pixels = y->height * y->width;
        run->kernels->multiply(&job);
    } else if (y->width < PANEL) {
        multiply_in_panels(run, one, y, &job, row_stride, scratch);
    } else {
        for (int32_t row = 0; row < y->height; row++) {
            run->kernels->multiply(&job);
            job.x += one->stride_y * row_stride;
            job.y += y->width * job.y_stride;
            if (job.residual)
                job.residual += y->width * job.y_stride;
        }
    }
}

static void run_light(const run_state *run, const layer *one)
{
    const plane *x = &PLANES[one->inputs[0]], *y = &PLANES[one->y];
    light_convolution job = {
        .x = pixels_of(run, one->inputs[0]), .height = x->height, .width = x->width,
        .row_bytes = one->row_bytes, .groups = y->channels / GROUP,
        .weights = stored(run, one->weights), .depth_weights = stored(run, one->depth_weights),
        .middle = rescaling_of(run, one->bias, one->shift, one->multiplier, one->middle_zero),
        .out = rescaling_of(
            run, one->depth_bias, one->depth_shift, one->depth_multiplier, y->zero),
        .y = pixels_of(run, one->y), .scratch = scratch_of(run),
        .channel_sums = one->sums < 0 ? NULL : (int32_t *)(void *)pixels_of(run, one->sums),
    };
    run->kernels->light(&job);
}

static windows windows_of(const run_state *run, const layer *one)
{
    const plane *x = &PLANES[one->inputs[0]], *y = &PLANES[one->y];
    windows job = {
        .x = pixels_of(run, one->inputs[0]), .height = x->height, .width = x->width,
        .groups = x->channels / GROUP, .zero = x->zero, .kernel_height = one->kernel_height,
        .kernel_width = one->kernel_width, .stride_y = one->stride_y, .stride_x = one->stride_x,
        .dilation_y = one->dilation_y, .dilation_x = one->dilation_x, .pad_top = one->pad_top,
        .pad_left = one->pad_left, .y = pixels_of(run, one->y), .y_height = y->height,
        .y_width = y->width,
    };
    return job;
}

static void run_depthwise(const run_state *run, const layer *one)
{
    windows job = windows_of(run, one);
    job.weights = stored(run, one->weights);
    job.out = rescaling_of(run, one->bias, one->shift, one->multiplier, PLANES[one->y].zero);
    run->kernels->depthwise(&job);
}

static void run_max_pool(const run_state *run, const layer *one)
{
    windows job = windows_of(run, one);
    run->kernels->max_pool(&job);
}

static uint8_t rescaled_alike(const layer *one, int32_t sum, int32_t zero)
{
    int32_t shift = one->pool_shift;
    int16_t multiplier = (int16_t)one->pool_multiplier;
    rescaling by = {NULL, &shift, &multiplier, zero};
    return rescaled(sum, &by, 0);
}

static void run_average_pool(const run_state *run, const layer *one)
{
    const plane *x = &PLANES[one->inputs[0]], *y = &PLANES[one->y];
    const uint8_t *source = pixels_of(run, one->inputs[0]);
    uint8_t *out = pixels_of(run, one->y);
    for (int32_t row = 0; row < y->height; row++)
        for (int32_t column = 0; column < y->width; column++)
            for (int32_t channel = 0; channel < y->channels; channel++) {
                int32_t sum = one->pool_bias;
                for (int32_t ky = 0; ky < one->kernel_height; ky++)
                    for (int32_t kx = 0; kx < one->kernel_width; kx++) {
                        size_t i = (size_t)row * one->stride_y + ky;
                        size_t j = (size_t)column * one->stride_x + kx;
                        sum += source[(i * x->width + j) * x->channels + channel];
                    }
                *out++ = rescaled_alike(one, sum, y->zero);
            }
}

/* A factor of a sum, as a gate or a norm computes it for each channel. */
typedef struct {
    int16_t *factor;
    int32_t *start, *shift;
} channel_factors;

static channel_factors factors_of(const run_state *run, int32_t index)
{
    uint8_t *memory = pixels_of(run, index);
    int32_t channels = PLANES[index].channels / 12;
    channel_factors found = {
        (int16_t *)(void *)memory, (int32_t *)(void *)(memory + 4 * channels),
        (int32_t *)(void *)(memory + 8 * channels)};
    return found;
}

static void run_sum(const run_state *run, const layer *one)
{
    const plane *y = &PLANES[one->y];
    const int32_t *factors = stored(run, one->factors);
    int32_t channels = y->channels, *start = (int32_t *)(void *)scratch_of(run);
    int32_t *shift = start + channels;
    int16_t *fixed = (int16_t *)(void *)(shift + channels);
    weighted_sum job = {
        .start = start, .shift = shift, .inputs = one->input_count,
        .pixels = y->height * y->width, .channels = channels, .y = pixels_of(run, one->y)};
    for (int32_t channel = 0; channel < channels; channel++) {
        start[channel] = (y->zero << one->bits) + (1 << one->bits >> 1);
        shift[channel] = one->bits;
    }
    for (int32_t i = 0; i < one->input_count; i++, fixed += channels) {
        job.x[i] = pixels_of(run, one->inputs[i]);
        if (one->gates[i] >= 0) {
            job.factor[i] = factors_of(run, one->gates[i]).factor;
        } else {
            for (int32_t channel = 0; channel < channels; channel++)
                fixed[channel] = (int16_t)factors[i];
            job.factor[i] = fixed;
        }
        for (int32_t channel = 0; channel < channels; channel++)
            start[channel] -= PLANES[one->inputs[i]].zero * job.factor[i][channel];
    }
    if (one->is_norm) {
        job.start = factors_of(run, one->gates[0]).start;
        job.shift = factors_of(run, one->gates[0]).shift;
    }
    run->kernels->sum(&job);
}

/* A 64-bit sum times a real factor, rounded. */
static int64_t scaled(int64_t sum, int32_t before, int32_t factor, int32_t after)
{
    return ((sum >> before) * factor + ((int64_t)1 << (after - 1))) >> after;
}

/* The function of a gate between two entries of its table. */
static int32_t looked_up(const int32_t *table, int64_t argument)
{
    int32_t limit = GATE_RANGE * GATE_UNIT;
    if (argument >= limit)
        return table[2 * limit / GATE_STEP];
    int32_t place = argument < -limit ? 0 : (int32_t)argument + limit;
    int32_t entry = place / GATE_STEP, rest = place % GATE_STEP;
    return table[entry]
        + ((table[entry + 1] - table[entry]) * rest + GATE_STEP / 2) / GATE_STEP;
}

static void run_gate(const run_state *run, const layer *one)
{
    const plane *x = &PLANES[one->inputs[0]];
    int32_t *sums = (int32_t *)(void *)scratch_of(run), *hidden = sums + x->channels;
    int16_t *factor = factors_of(run, one->y).factor;
    /* The layer that wrote the plane may have taken the sums on its way. */
    if (one->input_count > 1)
        sums = (int32_t *)(void *)pixels_of(run, one->inputs[1]);
    else
        run->kernels->channel_sums(
            pixels_of(run, one->inputs[0]), x->height * x->width, x->channels, sums);
    const int8_t *w = stored(run, one->squeeze);
    const int64_t *bias = stored(run, one->squeeze_bias);
    const int32_t *by = stored(run, one->squeeze_factor), *after = stored(run, one->squeeze_after);
    for (int32_t j = 0; j < one->hidden; j++) {
        int64_t sum = bias[j];
        for (int32_t channel = 0; channel < one->channels; channel++)
            sum += (int64_t)*w++ * sums[channel];
        hidden[j] = (int32_t)scaled(sum, one->squeeze_before, by[j], after[j]);
        if (one->rectified && hidden[j] < 0)
            hidden[j] = 0;
    }
    w = stored(run, one->excite);
    bias = stored(run, one->excite_bias);
    by = stored(run, one->excite_factor);
    after = stored(run, one->excite_after);
    memset(factor, 0, sizeof(int16_t) * (PLANES[one->y].channels / 12));
    for (int32_t channel = 0; channel < one->outputs; channel++) {
        int64_t sum = bias[channel];
        for (int32_t j = 0; j < one->hidden; j++)
            sum += (int64_t)*w++ * hidden[j];
        int64_t argument = scaled(sum, one->excite_before, by[channel], after[channel]);
        int64_t gate = looked_up(stored(run, one->table), argument);
        factor[channel] = (int16_t)((gate * one->gate_factor + 32768) >> 16);
    }
}

/* Mean and variance of each channel as the factor and start of a sum, with as many bits behind the
   point as the factor has room for. */
static void run_norm(const run_state *run, const layer *one)
{
    const plane *x = &PLANES[one->inputs[0]];
    const uint8_t *source = pixels_of(run, one->inputs[0]);
    int32_t pixels = x->height * x->width, channels = x->channels;
    int64_t *squares = (int64_t *)(void *)scratch_of(run);
    int32_t *sums = (int32_t *)(void *)(squares + channels);
    const double *gamma = stored(run, one->gamma), *beta = stored(run, one->beta);
    const double *epsilon = stored(run, one->epsilon);
    channel_factors out = factors_of(run, one->y);
    run->kernels->channel_sums(source, pixels, channels, sums);
    memset(squares, 0, sizeof(int64_t) * channels);
    for (int32_t pixel = 0; pixel < pixels; pixel++, source += channels)
        for (int32_t channel = 0; channel < channels; channel++)
            squares[channel] += source[channel] * source[channel];
    for (int32_t channel = 0; channel < channels; channel++) {
        int64_t spread = squares[channel] * pixels - (int64_t)sums[channel] * sums[channel];
        double variance = (double)spread / ((double)pixels * pixels);
        double factor = gamma[channel] / sqrt(variance + *epsilon);
        int exponent;
        frexp(factor, &exponent);
        int32_t bits = clamp(14 - exponent, 0, 20);
        int32_t whole = (int32_t)floor(ldexp(factor, bits) + 0.5);
        whole = clamp(whole, INT16_MIN, INT16_MAX);
        double shift = floor(ldexp(beta[channel], bits) + 0.5);
        int32_t start = (int32_t)(shift < -1e9 ? -1e9 : shift > 1e9 ? 1e9 : shift);
        out.factor[channel] = (int16_t)whole;
        out.start[channel] =
            start - (int32_t)((int64_t)whole * sums[channel] / pixels) + (1 << bits >> 1);
        out.shift[channel] = bits;
    }
}

static void run_table(const run_state *run, const layer *one)
{
    const plane *x = &PLANES[one->inputs[0]], *y = &PLANES[one->y];
    const uint8_t *source = pixels_of(run, one->inputs[0]), *table = stored(run, one->table);
    uint8_t *out = pixels_of(run, one->y) + one->first_channel;
    for (int32_t pixel = 0; pixel < x->height * x->width; pixel++)
        for (int32_t channel = 0; channel < one->channels; channel++)
            out[(size_t)pixel * y->channels + channel] =
                table[source[(size_t)pixel * x->channels + channel]];
}

static void run_product(const run_state *run, const layer *one)
{
    const plane *y = &PLANES[one->y];
    const uint8_t *a = pixels_of(run, one->inputs[0]), *b = pixels_of(run, one->inputs[1]);
    int32_t a_zero = PLANES[one->inputs[0]].zero, b_zero = PLANES[one->inputs[1]].zero;
    uint8_t *out = pixels_of(run, one->y);
    for (size_t i = 0; i < (size_t)y->height * y->width * y->channels; i++)
        out[i] = rescaled_alike(one, one->pool_bias + (a[i] - a_zero) * (b[i] - b_zero), y->zero);
}

/* The embedding from the last plane: means with 8 bits behind the point, a linear layer on their
   two bytes apart, and one multiplication of the whole number. */
static void run_embedding(const run_state *run, const layer *one, float *out)
{
    const plane *x = &PLANES[one->inputs[0]];
    const uint8_t *source = pixels_of(run, one->inputs[0]);
    int32_t channels = x->channels, pixels = x->height * x->width;
    int32_t *means = (int32_t *)(void *)scratch_of(run);
    uint8_t *bytes = (uint8_t *)(means + channels);
    int32_t *sums = (int32_t *)(void *)(scratch_of(run) + rounded_up(6 * (size_t)channels));
    int32_t width = (REID_SIZE + GROUP - 1) / GROUP * GROUP;
    if (one->pooled) {
        run->kernels->channel_sums(source, pixels, channels, means);
        for (int32_t channel = 0; channel < channels; channel++) {
            means[channel] =
                (int32_t)(((int64_t)means[channel] * 256 + pixels / 2) / pixels);
            bytes[channel] = (uint8_t)(means[channel] >> 8);
            bytes[channels + channel] = (uint8_t)(means[channel] & 255);
        }
    }
    if (one->has_linear) {
        products job = {
            .x = one->pooled ? bytes : source, .x_stride = one->row_bytes,
            .pixels = one->pooled ? 2 : 1, .taps = 1, .row_bytes = one->row_bytes,
            .groups = width / GROUP, .weights = stored(run, one->weights), .sums = sums,
        };
        run->kernels->multiply(&job);
    }
    const int64_t *bias = stored(run, one->embedding_bias);
    const double *scale = stored(run, one->embedding_scale);
    for (int32_t i = 0; i < REID_SIZE; i++) {
        int64_t whole = bias[i];
        if (one->has_linear)
            whole += one->pooled ? (int64_t)sums[i] * 256 + sums[width + i] : sums[i];
        else if (one->pooled)
            whole += means[i];
        else
            whole += source[(size_t)(i % pixels) * channels + i / pixels];
        out[i] = (float)((double)whole * scale[i]);
        if (one->clamped && !(out[i] > 0))
            out[i] = 0;
    }
#if UNIT_LENGTH
    /* Squares of floats are exact in double, so a fused multiplication rounds in the same way. */
    double length = 0;
    for (int32_t i = 0; i < REID_SIZE; i++)
        length += (double)out[i] * out[i];
    length = sqrt(length);
    for (int32_t i = 0; i < REID_SIZE; i++)
        out[i] = (float)(out[i] / (length > 1e-12 ? length : 1e-12));
#endif
}

static void run_layers(const run_state *run, float *embedding)
{
    for (size_t i = 0; i < sizeof LAYERS / sizeof *LAYERS; i++) {
        const layer *one = &LAYERS[i];
        switch (one->kind) {
        case CONVOLUTION: run_convolution(run, one); break;
        case LIGHT: run_light(run, one); break;
        case DEPTHWISE: run_depthwise(run, one); break;
        case MAX_POOL: run_max_pool(run, one); break;
        case AVERAGE_POOL: run_average_pool(run, one); break;
        case SUM: run_sum(run, one); break;
        case GATE: run_gate(run, one); break;
        case NORM: run_norm(run, one); break;
        case TABLE: run_table(run, one); break;
        case PRODUCT: run_product(run, one); break;
        case EMBEDDING: run_embedding(run, one, embedding); break;
        }
#ifdef REID_LAYER_DONE /* for measurements */
        REID_LAYER_DONE(i);
#endif
    }
}
