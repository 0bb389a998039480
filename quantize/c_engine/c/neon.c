/* Kernels for NEON. This file is compiled twice: with dot products of signed bytes, for which
   inputs are lowered by 128, and with i8mm, which multiplies matrices of unsigned and signed
   bytes. */

#ifdef ARM_KERNELS
#ifdef WITH_I8MM
#define NEON(name) name##_i8mm
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif
#else
#define NEON(name) name##_dotprod
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#endif

/* sums + the four products of each lane */
INLINE int32x4_t NEON(dot)(int32x4_t sums, uint8x16_t x, int8x16_t w)
{
#ifdef WITH_I8MM
    return vusdotq_s32(sums, x, w);
#else
    return vdotq_s32(sums, vreinterpretq_s8_u8(x), w);
#endif
}

/* Inputs as they are multiplied. */
INLINE uint8x16_t NEON(input)(uint8x16_t x)
{
#ifdef WITH_I8MM
    return x;
#else
    return veorq_u8(x, vdupq_n_u8(128));
#endif
}

/* What inputs that are lowered by 128 lack, from sums of weights. */
INLINE int32x4_t NEON(start)(int32x4_t bias, int32x4_t weights)
{
#ifdef WITH_I8MM
    (void)weights;
    return bias;
#else
    return vaddq_s32(bias, vshlq_n_s32(weights, 7));
#endif
}

/* 16 sums as bytes. */
INLINE uint8x16_t NEON(bytes)(const int32x4_t *sums, const rescaling *by, int32_t channel)
{
    int16x4_t steps[4];
    UNROLLED
    for (int i = 0; i < 4; i++)
        steps[i] = vqmovn_s32(
            vshlq_s32(sums[i], vnegq_s32(vld1q_s32(by->shift + channel + 4 * i))));
    int16x8_t zero = vdupq_n_s16((int16_t)by->zero);
    int16x8_t low = vqrdmulhq_s16(
        vcombine_s16(steps[0], steps[1]), vld1q_s16(by->multiplier + channel));
    int16x8_t high = vqrdmulhq_s16(
        vcombine_s16(steps[2], steps[3]), vld1q_s16(by->multiplier + channel + 8));
    return vcombine_u8(vqmovun_s16(vqaddq_s16(low, zero)), vqmovun_s16(vqaddq_s16(high, zero)));
}

/* One register of weights at a time leaves the others to sums; the lane has to be a constant. */
#define NEON_QUAD(quad)                                                                           \
    do {                                                                                          \
        int8x16_t four = vld1q_s8(w + 64 * (quad) + 16 * n);                                      \
        UNROLLED                                                                                  \
        for (int m = 0; m < MR; m++)                                                              \
            sums[m][n] = vdotq_laneq_s32(                                                         \
                sums[m][n], four, vreinterpretq_s8_u8(sixteen[m]), quad);                         \
    } while (0)

/* The sums of MR pixels and a group, output after output. */
INLINE void NEON(dots)(
    const products *job, int32_t pixel, int32_t group, const int MR, int32x4_t (*sums)[4])
{
    const int8_t *w = job->weights + (size_t)group * job->taps * job->row_bytes * 16;
#ifdef WITH_I8MM
    enum { PAIRS = 3 };
    /* Two pixels by two outputs: the first pixel's outputs, then the second one's. */
    int32x4_t square[PAIRS][8];
    const int pairs = (MR + 1) / 2;
    UNROLLED
    for (int p = 0; p < pairs; p++)
        UNROLLED
        for (int n = 0; n < 4; n++) {
            int32x2_t a = vget_low_s32(sums[0][n]), b = vget_high_s32(sums[0][n]);
            square[p][2 * n] = vcombine_s32(a, a);
            square[p][2 * n + 1] = vcombine_s32(b, b);
        }
#endif
    for (int32_t tap = 0; tap < job->taps; tap++) {
        const uint8_t *x = job->x + pixel * job->x_stride + job->tap[tap];
        int32_t i = 0;
#ifdef WITH_I8MM
        for (; i + 8 <= job->row_bytes; i += 8, w += 128) {
            uint8x16_t two[PAIRS];
            UNROLLED
            for (int p = 0; p < pairs; p++) {
                int second = 2 * p + 1 < MR ? 2 * p + 1 : 2 * p;
                two[p] = vcombine_u8(vld1_u8(x + 2 * p * job->x_stride + i),
                    vld1_u8(x + second * job->x_stride + i));
            }
            UNROLLED
            for (int n = 0; n < 4; n++) {
                int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(w + 16 * n));
                int32x4_t b = vreinterpretq_s32_s8(vld1q_s8(w + 64 + 16 * n));
                int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(a, b));
                int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(a, b));
                UNROLLED
                for (int p = 0; p < pairs; p++) {
                    square[p][2 * n] = vusmmlaq_s32(square[p][2 * n], two[p], low);
                    square[p][2 * n + 1] = vusmmlaq_s32(square[p][2 * n + 1], two[p], high);
                }
            }
        }
        for (; i < job->row_bytes; i += 4, w += 64) {
            /* The second half of eight bytes is zeros. */
            uint8x16_t two[PAIRS];
            UNROLLED
            for (int p = 0; p < pairs; p++) {
                int second = 2 * p + 1 < MR ? 2 * p + 1 : 2 * p;
                uint32_t a, b;
                memcpy(&a, x + 2 * p * job->x_stride + i, 4);
                memcpy(&b, x + second * job->x_stride + i, 4);
                two[p] = vcombine_u8(vcreate_u8(a), vcreate_u8(b));
            }
            UNROLLED
            for (int n = 0; n < 4; n++) {
                int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(w + 16 * n)), none = vdupq_n_s32(0);
                int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(a, none));
                int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(a, none));
                UNROLLED
                for (int p = 0; p < pairs; p++) {
                    square[p][2 * n] = vusmmlaq_s32(square[p][2 * n], two[p], low);
                    square[p][2 * n + 1] = vusmmlaq_s32(square[p][2 * n + 1], two[p], high);
                }
            }
        }
#else
        for (; i + 16 <= job->row_bytes; i += 16, w += 256) {
            uint8x16_t sixteen[8];
            UNROLLED
            for (int m = 0; m < MR; m++)
                sixteen[m] = NEON(input)(vld1q_u8(x + m * job->x_stride + i));
            UNROLLED
            for (int n = 0; n < 4; n++) {
                NEON_QUAD(0);
                NEON_QUAD(1);
                NEON_QUAD(2);
                NEON_QUAD(3);
            }
        }
        for (; i < job->row_bytes; i += 4, w += 64)
            UNROLLED
            for (int m = 0; m < MR; m++) {
                uint32_t quad;
                memcpy(&quad, x + m * job->x_stride + i, 4);
                uint8x16_t four = NEON(input)(vreinterpretq_u8_u32(vdupq_n_u32(quad)));
                UNROLLED
                for (int n = 0; n < 4; n++)
                    sums[m][n] = NEON(dot)(sums[m][n], four, vld1q_s8(w + 16 * n));
            }
#endif
    }
#ifdef WITH_I8MM
    UNROLLED
    for (int m = 0; m < MR; m++)
        UNROLLED
        for (int n = 0; n < 4; n++) {
            int64x2_t a = vreinterpretq_s64_s32(square[m / 2][2 * n]);
            int64x2_t b = vreinterpretq_s64_s32(square[m / 2][2 * n + 1]);
            sums[m][n] = vreinterpretq_s32_s64(m % 2 ? vzip2q_s64(a, b) : vzip1q_s64(a, b));
        }
#endif
}

INLINE void NEON(block)(
    const products *job, const int32x4_t *start, int32_t pixel, int32_t group, const int MR)
{
    int32x4_t sums[6][4];
    int32_t channel = GROUP * group;
    UNROLLED
    for (int m = 0; m < MR; m++)
        UNROLLED
        for (int n = 0; n < 4; n++)
            sums[m][n] = start[n];
    NEON(dots)(job, pixel, group, MR, sums);
    UNROLLED
    for (int m = 0; m < MR; m++) {
        if (job->sums) {
            UNROLLED
            for (int n = 0; n < 4; n++)
                vst1q_s32(job->sums + (size_t)(pixel + m) * GROUP * job->groups + channel + 4 * n,
                    sums[m][n]);
            continue;
        }
        ptrdiff_t place = (pixel + m) * job->y_stride + channel;
        if (job->residual) {
            uint8x16_t x = vld1q_u8(job->residual + place);
            uint16x8_t halves[2] = {vmovl_u8(vget_low_u8(x)), vmovl_u8(vget_high_u8(x))};
            UNROLLED
            for (int n = 0; n < 4; n++) {
                uint16x4_t four = n % 2 ? vget_high_u16(halves[n / 2]) : vget_low_u16(halves[n / 2]);
                sums[m][n] = vmlaq_s32(sums[m][n], vreinterpretq_s32_u32(vmovl_u16(four)),
                    vld1q_s32(job->residual_factor + channel + 4 * n));
            }
        }
        vst1q_u8(job->y + place, NEON(bytes)(sums[m], &job->out, channel));
    }
}

static void NEON(multiply)(const products *job)
{
    enum { BLOCK = 6 };
    for (int32_t group = 0; group < job->groups; group++) {
        int32x4_t start[4];
        int32_t pixel = 0, count = job->taps * job->row_bytes / 4;
        const int8_t *w = job->weights + (size_t)group * count * 64;
        for (int n = 0; n < 4; n++) {
            int32x4_t total = vdupq_n_s32(0);
#ifndef WITH_I8MM
            for (int32_t i = 0; i < count; i++)
                total = vdotq_s32(total, vld1q_s8(w + 64 * i + 16 * n), vdupq_n_s8(1));
#endif
            start[n] = NEON(start)(
                job->sums ? vdupq_n_s32(0) : vld1q_s32(job->out.bias + GROUP * group + 4 * n),
                total);
        }
        (void)w;
        for (; pixel + BLOCK <= job->pixels; pixel += BLOCK)
            NEON(block)(job, start, pixel, group, BLOCK);
        if (pixel + 4 <= job->pixels) {
            NEON(block)(job, start, pixel, group, 4);
            pixel += 4;
        }
        if (pixel + 2 <= job->pixels) {
            NEON(block)(job, start, pixel, group, 2);
            pixel += 2;
        }
        if (pixel < job->pixels)
            NEON(block)(job, start, pixel, group, 1);
    }
}

/* The three bytes of a column of each of 16 channels, as the weights are ordered. */
INLINE void NEON(column)(const uint8_t *const *rows, ptrdiff_t place, uint8x16_t *found)
{
    uint8x16_t a = vld1q_u8(rows[0] + place), b = vld1q_u8(rows[1] + place);
    uint8x16_t c = vld1q_u8(rows[2] + place), none = vdupq_n_u8(0);
    uint16x8_t ab[2] = {
        vreinterpretq_u16_u8(vzip1q_u8(a, b)), vreinterpretq_u16_u8(vzip2q_u8(a, b))};
    uint16x8_t cd[2] = {
        vreinterpretq_u16_u8(vzip1q_u8(c, none)), vreinterpretq_u16_u8(vzip2q_u8(c, none))};
    UNROLLED
    for (int i = 0; i < 2; i++) {
        found[2 * i] = NEON(input)(vreinterpretq_u8_u16(vzip1q_u16(ab[i], cd[i])));
        found[2 * i + 1] = NEON(input)(vreinterpretq_u8_u16(vzip2q_u16(ab[i], cd[i])));
    }
}

static void NEON(light_row)(const light_convolution *job, int32_t row)
{
    int32_t channels = GROUP * job->groups, width = job->width;
    const uint8_t *rows[3];
    for (int32_t i = 0; i < 3; i++)
        rows[i] = middle_row(job, row - 1 + i);
    uint8_t *y = job->y + (size_t)row * width * channels;
    for (int32_t channel = 0; channel < channels; channel += GROUP) {
        const int8_t *w = job->depth_weights + (size_t)channel / GROUP * 3 * 64;
        int8x16_t weights[3][4];
        int32x4_t start[4], total[4];
        uint8x16_t x[3][4];
        for (int n = 0; n < 4; n++) {
            int32x4_t sum = total[n] = vdupq_n_s32(0);
            for (int kx = 0; kx < 3; kx++) {
                weights[kx][n] = vld1q_s8(w + 64 * kx + 16 * n);
                sum = vdotq_s32(sum, weights[kx][n], vdupq_n_s8(1));
            }
            start[n] = NEON(start)(vld1q_s32(job->out.bias + channel + 4 * n), sum);
        }
        NEON(column)(rows, channel, x[0]);
        NEON(column)(rows, (ptrdiff_t)channels + channel, x[1]);
        for (int32_t column = 0; column < width; column++) {
            int32x4_t sums[4];
            NEON(column)(rows, (ptrdiff_t)(column + 2) * channels + channel, x[2]);
            UNROLLED
            for (int n = 0; n < 4; n++) {
                sums[n] = start[n];
                UNROLLED
                for (int kx = 0; kx < 3; kx++)
                    sums[n] = NEON(dot)(sums[n], x[kx][n], weights[kx][n]);
                x[0][n] = x[1][n];
                x[1][n] = x[2][n];
            }
            uint8x16_t out = NEON(bytes)(sums, &job->out, channel);
            vst1q_u8(y + (size_t)column * channels + channel, out);
            if (job->channel_sums) {
                uint16x8_t low = vmovl_u8(vget_low_u8(out)), high = vmovl_u8(vget_high_u8(out));
                total[0] = vreinterpretq_s32_u32(
                    vaddw_u16(vreinterpretq_u32_s32(total[0]), vget_low_u16(low)));
                total[1] = vreinterpretq_s32_u32(
                    vaddw_u16(vreinterpretq_u32_s32(total[1]), vget_high_u16(low)));
                total[2] = vreinterpretq_s32_u32(
                    vaddw_u16(vreinterpretq_u32_s32(total[2]), vget_low_u16(high)));
                total[3] = vreinterpretq_s32_u32(
                    vaddw_u16(vreinterpretq_u32_s32(total[3]), vget_high_u16(high)));
            }
        }
        for (int n = 0; n < 4 && job->channel_sums; n++) {
            int32_t *sum = job->channel_sums + channel + 4 * n;
            vst1q_s32(sum, vaddq_s32(vld1q_s32(sum), total[n]));
        }
    }
}

static void NEON(light)(const light_convolution *job)
{
    if (job->channel_sums)
        memset(job->channel_sums, 0, sizeof(int32_t) * GROUP * job->groups);
    fill_middle_row(job, -1, NEON(multiply));
    fill_middle_row(job, 0, NEON(multiply));
    for (int32_t row = 0; row < job->height; row++) {
        fill_middle_row(job, row + 1, NEON(multiply));
        NEON(light_row)(job, row);
    }
}

static void NEON(depthwise)(const windows *job)
{
    int32_t channels = GROUP * job->groups, taps = job->kernel_height * job->kernel_width;
    for (int32_t row = 0; row < job->y_height; row++)
        for (int32_t column = 0; column < job->y_width; column++)
            for (int32_t group = 0; group < job->groups; group++) {
                const int8_t *w = job->weights + (size_t)group * taps * GROUP;
                int32_t channel = GROUP * group;
                int32x4_t sums[4];
                for (int n = 0; n < 4; n++)
                    sums[n] = vld1q_s32(job->out.bias + channel + 4 * n);
                for (int32_t ky = 0; ky < job->kernel_height; ky++)
                    for (int32_t kx = 0; kx < job->kernel_width; kx++, w += GROUP) {
                        int32_t i = row * job->stride_y - job->pad_top + ky * job->dilation_y;
                        int32_t j = column * job->stride_x - job->pad_left + kx * job->dilation_x;
                        uint8x16_t x = vdupq_n_u8((uint8_t)job->zero);
                        if (i >= 0 && i < job->height && j >= 0 && j < job->width)
                            x = vld1q_u8(
                                job->x + ((size_t)i * job->width + j) * channels + channel);
                        int8x16_t by = vld1q_s8(w);
                        int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x)));
                        int16x8_t high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(x)));
                        int16x8_t by_low = vmovl_s8(vget_low_s8(by));
                        int16x8_t by_high = vmovl_s8(vget_high_s8(by));
                        sums[0] = vmlal_s16(sums[0], vget_low_s16(low), vget_low_s16(by_low));
                        sums[1] = vmlal_high_s16(sums[1], low, by_low);
                        sums[2] = vmlal_s16(sums[2], vget_low_s16(high), vget_low_s16(by_high));
                        sums[3] = vmlal_high_s16(sums[3], high, by_high);
                    }
                vst1q_u8(job->y + ((size_t)row * job->y_width + column) * channels + channel,
                    NEON(bytes)(sums, &job->out, channel));
            }
}

static void NEON(max_pool)(const windows *job)
{
    int32_t channels = GROUP * job->groups;
    uint8_t *y = job->y;
    for (int32_t row = 0; row < job->y_height; row++)
        for (int32_t column = 0; column < job->y_width; column++, y += channels)
            for (int32_t channel = 0; channel < channels; channel += GROUP) {
                uint8x16_t most = vdupq_n_u8(0);
                for (int32_t ky = 0; ky < job->kernel_height; ky++)
                    for (int32_t kx = 0; kx < job->kernel_width; kx++) {
                        int32_t i = row * job->stride_y - job->pad_top + ky;
                        int32_t j = column * job->stride_x - job->pad_left + kx;
                        if (i >= 0 && i < job->height && j >= 0 && j < job->width)
                            most = vmaxq_u8(most, vld1q_u8(job->x
                                + ((size_t)i * job->width + j) * channels + channel));
                    }
                vst1q_u8(y + channel, most);
            }
}

static void NEON(sum)(const weighted_sum *job)
{
    int32_t channels = job->channels;
    for (int32_t channel = 0; channel < channels; channel += 8) {
        int32x4_t start[2], shift[2];
        int16x8_t factor[MOST_INPUTS];
        for (int n = 0; n < 2; n++) {
            start[n] = vld1q_s32(job->start + channel + 4 * n);
            shift[n] = vnegq_s32(vld1q_s32(job->shift + channel + 4 * n));
        }
        for (int32_t i = 0; i < job->inputs; i++)
            factor[i] = vld1q_s16(job->factor[i] + channel);
        for (int32_t pixel = 0; pixel < job->pixels; pixel++) {
            size_t place = (size_t)pixel * channels + channel;
            int32x4_t low = start[0], high = start[1];
            for (int32_t i = 0; i < job->inputs; i++) {
                int16x8_t x = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(job->x[i] + place)));
                low = vmlal_s16(low, vget_low_s16(x), vget_low_s16(factor[i]));
                high = vmlal_high_s16(high, x, factor[i]);
            }
            vst1_u8(job->y + place, vqmovun_s16(vcombine_s16(vqmovn_s32(vshlq_s32(low, shift[0])),
                                        vqmovn_s32(vshlq_s32(high, shift[1])))));
        }
    }
}

static void NEON(channel_sums)(
    const uint8_t *x, int32_t pixels, int32_t channels, int32_t *sums)
{
    for (int32_t channel = 0; channel < channels; channel += 8) {
        uint32x4_t low = vdupq_n_u32(0), high = low;
        for (int32_t pixel = 0; pixel < pixels; pixel++) {
            uint16x8_t eight = vmovl_u8(vld1_u8(x + (size_t)pixel * channels + channel));
            low = vaddw_u16(low, vget_low_u16(eight));
            high = vaddw_high_u16(high, eight);
        }
        vst1q_s32(sums + channel, vreinterpretq_s32_u32(low));
        vst1q_s32(sums + channel + 4, vreinterpretq_s32_u32(high));
    }
}

static void NEON(quantize)(const float *x, ptrdiff_t colour, int32_t count, float factor,
    int32_t zero, uint8_t *y)
{
    float32x4_t low = vdupq_n_f32((float)-zero), high = vdupq_n_f32((float)(255 - zero));
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        uint32x4_t colours[3];
        UNROLLED
        for (int c = 0; c < 3; c++) {
            float32x4_t steps = vmulq_n_f32(vld1q_f32(x + c * colour + i), factor);
            /* The number of two where the other is none. */
            steps = vminnmq_f32(vmaxnmq_f32(steps, low), high);
            colours[c] = vreinterpretq_u32_s32(
                vaddq_s32(vcvtnq_s32_f32(steps), vdupq_n_s32(zero)));
        }
        vst1q_u8(y + 4 * i, vreinterpretq_u8_u32(vorrq_u32(colours[0],
            vorrq_u32(vshlq_n_u32(colours[1], 8), vshlq_n_u32(colours[2], 16)))));
    }
    portable_quantize(x + i, colour, count - i, factor, zero, y + 4 * i);
}

#ifdef WITH_I8MM
static const kernel_set NEON_I8MM = {
    "neon_i8mm", has_i8mm,
#else
static const kernel_set NEON_DOTPROD = {
    "neon_dotprod", has_dot_product,
#endif
    NEON(multiply), NEON(light), NEON(depthwise), NEON(max_pool), NEON(sum), NEON(channel_sums),
    NEON(quantize), nothing,
};

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef NEON
#undef NEON_QUAD
#endif
