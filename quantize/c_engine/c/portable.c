/* The kernels in portable C: the definition of what is right. */

static int32_t clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* The one way in which a sum becomes a byte. Right shifts of negative numbers round down, as all
   compilers for these processors do it. */
static uint8_t rescaled(int32_t sum, const rescaling *by, int32_t channel)
{
    int32_t steps = clamp(sum >> by->shift[channel], INT16_MIN, INT16_MAX);
    return (uint8_t)clamp(by->zero + ((steps * by->multiplier[channel] + 16384) >> 15), 0, 255);
}

static void portable_multiply(const products *job)
{
    int32_t quads = job->row_bytes / 4;
    for (int32_t group = 0; group < job->groups; group++)
        for (int32_t pixel = 0; pixel < job->pixels; pixel++) {
            const int8_t *w = job->weights + (size_t)group * job->taps * quads * 64;
            int32_t sums[GROUP] = {0};
            for (int32_t tap = 0; tap < job->taps; tap++) {
                const uint8_t *x = job->x + pixel * job->x_stride + job->tap[tap];
                for (int32_t quad = 0; quad < quads; quad++, x += 4, w += 64)
                    for (int32_t n = 0; n < GROUP; n++)
                        sums[n] += x[0] * w[4 * n] + x[1] * w[4 * n + 1] + x[2] * w[4 * n + 2]
                            + x[3] * w[4 * n + 3];
            }
            for (int32_t n = 0; n < GROUP; n++) {
                int32_t channel = GROUP * group + n;
                if (job->sums) {
                    job->sums[(size_t)pixel * GROUP * job->groups + channel] = sums[n];
                    continue;
                }
                ptrdiff_t place = pixel * job->y_stride + channel;
                int32_t sum = sums[n] + job->out.bias[channel];
                if (job->residual)
                    sum += job->residual[place] * job->residual_factor[channel];
                job->y[place] = rescaled(sum, &job->out, channel);
            }
        }
}

/* Rows of the pointwise layer are kept, four at a time, with a column of zeros on each side. */
static uint8_t *middle_row(const light_convolution *job, int32_t row)
{
    return job->scratch + (size_t)((row + 4) % 4) * (job->width + 2) * GROUP * job->groups;
}

/* The pointwise layer of a row; rows outside of the plane are zeros. */
static void fill_middle_row(
    const light_convolution *job, int32_t row, void (*multiply)(const products *))
{
    int32_t channels = GROUP * job->groups;
    uint8_t *out = middle_row(job, row);
    memset(out, job->middle.zero, (size_t)(job->width + 2) * channels);
    if (row < 0 || row >= job->height)
        return;
    products point = {
        .x = job->x + (size_t)row * job->width * job->row_bytes, .x_stride = job->row_bytes,
        .pixels = job->width, .taps = 1, .row_bytes = job->row_bytes, .groups = job->groups,
        .weights = job->weights, .out = job->middle, .y = out + channels, .y_stride = channels,
    };
    multiply(&point);
}

static void portable_light_row(const light_convolution *job, int32_t row)
{
    int32_t channels = GROUP * job->groups;
    const uint8_t *rows[3];
    for (int32_t i = 0; i < 3; i++)
        rows[i] = middle_row(job, row - 1 + i);
    uint8_t *y = job->y + (size_t)row * job->width * channels;
    for (int32_t column = 0; column < job->width; column++)
        for (int32_t channel = 0; channel < channels; channel++) {
            const int8_t *w = job->depth_weights + (size_t)(channel / GROUP) * 3 * 64;
            int32_t sum = job->out.bias[channel];
            for (int32_t kx = 0; kx < 3; kx++)
                for (int32_t ky = 0; ky < 3; ky++)
                    sum += rows[ky][(size_t)(column + kx) * channels + channel]
                        * w[64 * kx + 4 * (channel % GROUP) + ky];
            uint8_t result = rescaled(sum, &job->out, channel);
            y[(size_t)column * channels + channel] = result;
            if (job->channel_sums)
                job->channel_sums[channel] += result;
        }
}

static void portable_light(const light_convolution *job)
{
    if (job->channel_sums)
        memset(job->channel_sums, 0, sizeof(int32_t) * GROUP * job->groups);
    fill_middle_row(job, -1, portable_multiply);
    fill_middle_row(job, 0, portable_multiply);
    for (int32_t row = 0; row < job->height; row++) {
        fill_middle_row(job, row + 1, portable_multiply);
        portable_light_row(job, row);
    }
}

static void portable_depthwise(const windows *job)
{
    int32_t channels = GROUP * job->groups, taps = job->kernel_height * job->kernel_width;
    uint8_t *y = job->y;
    for (int32_t row = 0; row < job->y_height; row++)
        for (int32_t column = 0; column < job->y_width; column++, y += channels)
            for (int32_t group = 0; group < job->groups; group++) {
                const int8_t *w = job->weights + (size_t)group * taps * GROUP;
                int32_t sums[GROUP];
                for (int32_t n = 0; n < GROUP; n++)
                    sums[n] = job->out.bias[GROUP * group + n];
                for (int32_t ky = 0; ky < job->kernel_height; ky++)
                    for (int32_t kx = 0; kx < job->kernel_width; kx++, w += GROUP) {
                        int32_t i = row * job->stride_y - job->pad_top + ky * job->dilation_y;
                        int32_t j = column * job->stride_x - job->pad_left + kx * job->dilation_x;
                        int inside = i >= 0 && i < job->height && j >= 0 && j < job->width;
                        const uint8_t *x = job->x + GROUP * group;
                        if (inside)
                            x += ((size_t)i * job->width + j) * channels;
                        for (int32_t n = 0; n < GROUP; n++)
                            sums[n] += (inside ? x[n] : job->zero) * w[n];
                    }
                for (int32_t n = 0; n < GROUP; n++)
                    y[GROUP * group + n] = rescaled(sums[n], &job->out, GROUP * group + n);
            }
}

static void portable_max_pool(const windows *job)
{
    int32_t channels = GROUP * job->groups;
    uint8_t *y = job->y;
    for (int32_t row = 0; row < job->y_height; row++)
        for (int32_t column = 0; column < job->y_width; column++, y += channels) {
            memset(y, 0, channels);
            for (int32_t ky = 0; ky < job->kernel_height; ky++)
                for (int32_t kx = 0; kx < job->kernel_width; kx++) {
                    int32_t i = row * job->stride_y - job->pad_top + ky;
                    int32_t j = column * job->stride_x - job->pad_left + kx;
                    if (i < 0 || i >= job->height || j < 0 || j >= job->width)
                        continue;
                    const uint8_t *x = job->x + ((size_t)i * job->width + j) * channels;
                    for (int32_t n = 0; n < channels; n++)
                        y[n] = x[n] > y[n] ? x[n] : y[n];
                }
        }
}

static void portable_sum(const weighted_sum *job)
{
    for (int32_t pixel = 0; pixel < job->pixels; pixel++)
        for (int32_t channel = 0; channel < job->channels; channel++) {
            size_t place = (size_t)pixel * job->channels + channel;
            int32_t sum = job->start[channel];
            for (int32_t i = 0; i < job->inputs; i++)
                sum += job->x[i][place] * job->factor[i][channel];
            job->y[place] = (uint8_t)clamp(sum >> job->shift[channel], 0, 255);
        }
}

static void portable_channel_sums(
    const uint8_t *x, int32_t pixels, int32_t channels, int32_t *sums)
{
    memset(sums, 0, sizeof(int32_t) * channels);
    for (int32_t pixel = 0; pixel < pixels; pixel++, x += channels)
        for (int32_t channel = 0; channel < channels; channel++)
            sums[channel] += x[channel];
}

/* A number that is not one becomes the smallest. */
static uint8_t quantized(float x, float factor, int32_t zero)
{
    float steps = x * factor, low = (float)-zero, high = (float)(255 - zero);
    steps = steps > low ? steps : low;
    steps = steps < high ? steps : high;
    return (uint8_t)(zero + (int32_t)lrintf(steps));
}

static void portable_quantize(const float *x, ptrdiff_t colour, int32_t count, float factor,
    int32_t zero, uint8_t *y)
{
    for (int32_t i = 0; i < count; i++, y += 4)
        for (int32_t c = 0; c < 3; c++)
            y[c] = quantized(x[c * colour + i], factor, zero);
}

static void nothing(void) {}

static int always(void) { return 1; }

static const kernel_set PORTABLE = {
    "portable", always, portable_multiply, portable_light, portable_depthwise, portable_max_pool,
    portable_sum, portable_channel_sums, portable_quantize, nothing,
};
