/* Kernels in registers of 256 bits. This file is compiled twice: for AVX2, and with AVX-VNNI, which
   has an instruction for four products and their sum. The names end in what K256() appends. */

#ifdef X86_KERNELS
#ifdef WITH_VNNI
#define K256(name) name##_avx_vnni
#define PARTS_256 1
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC optimize("no-tree-pre")
#pragma GCC target("avx2,avxvnni")
#endif
#else
#define K256(name) name##_avx2
#define PARTS_256 2
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC optimize("no-tree-pre")
#pragma GCC target("avx2")
#endif
#endif

/* Bytes as they are multiplied: without the instruction, even and odd ones apart, as 16 bits. */
typedef struct {
    __m256i part[PARTS_256];
} K256(operand);

INLINE K256(operand) K256(unsigned_bytes)(__m256i x)
{
    K256(operand) found;
#ifdef WITH_VNNI
    found.part[0] = x;
#else
    found.part[0] = _mm256_and_si256(x, _mm256_set1_epi16(255));
    found.part[1] = _mm256_srli_epi16(x, 8);
#endif
    return found;
}

INLINE K256(operand) K256(signed_bytes)(__m256i x)
{
    K256(operand) found;
#ifdef WITH_VNNI
    found.part[0] = x;
#else
    found.part[0] = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
    found.part[1] = _mm256_srai_epi16(x, 8);
#endif
    return found;
}

/* sums + the four products of each lane */
INLINE __m256i K256(dot)(__m256i sums, K256(operand) x, K256(operand) w)
{
#ifdef WITH_VNNI
    return _mm256_dpbusd_avx_epi32(sums, x.part[0], w.part[0]);
#else
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(x.part[0], w.part[0]));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(x.part[1], w.part[1]));
#endif
}

INLINE __m256i K256(load)(const void *x) { return _mm256_loadu_si256(x); }

/* 16 sums, in two registers, as bytes. */
INLINE __m128i K256(bytes)(__m256i a, __m256i b, const rescaling *by, int32_t channel)
{
    a = _mm256_srav_epi32(a, K256(load)(by->shift + channel));
    b = _mm256_srav_epi32(b, K256(load)(by->shift + channel + 8));
    __m256i steps = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    steps = _mm256_mulhrs_epi16(steps, K256(load)(by->multiplier + channel));
    steps = _mm256_adds_epi16(steps, _mm256_set1_epi16((int16_t)by->zero));
    return _mm_packus_epi16(_mm256_castsi256_si128(steps), _mm256_extracti128_si256(steps, 1));
}

/* MR pixels of a group. */
INLINE void K256(block)(const products *job, int32_t pixel, int32_t group, const int MR)
{
    __m256i sums[MR][2];
    int32_t channel = GROUP * group, row_bytes = job->row_bytes;
    const int8_t *w = job->weights + (size_t)group * job->taps * row_bytes * 16;
    UNROLLED
    for (int m = 0; m < MR; m++)
        UNROLLED
        for (int half = 0; half < 2; half++)
            sums[m][half] = job->sums ? _mm256_setzero_si256()
                                      : K256(load)(job->out.bias + channel + 8 * half);
    for (int32_t tap = 0; tap < job->taps; tap++) {
        const uint8_t *x = job->x + pixel * job->x_stride + job->tap[tap];
        for (int32_t i = 0; i < row_bytes; i += 4, w += 64) {
            K256(operand) low = K256(signed_bytes)(K256(load)(w));
            K256(operand) high = K256(signed_bytes)(K256(load)(w + 32));
            UNROLLED
            for (int m = 0; m < MR; m++) {
                int32_t quad;
                memcpy(&quad, x + m * job->x_stride + i, 4);
                K256(operand) four = K256(unsigned_bytes)(_mm256_set1_epi32(quad));
                sums[m][0] = K256(dot)(sums[m][0], four, low);
                sums[m][1] = K256(dot)(sums[m][1], four, high);
            }
        }
    }
    UNROLLED
    for (int m = 0; m < MR; m++) {
        if (job->sums) {
            int32_t *to = job->sums + (size_t)(pixel + m) * GROUP * job->groups + channel;
            _mm256_storeu_si256((void *)to, sums[m][0]);
            _mm256_storeu_si256((void *)(to + 8), sums[m][1]);
            continue;
        }
        ptrdiff_t place = (pixel + m) * job->y_stride + channel;
        if (job->residual)
            UNROLLED
            for (int half = 0; half < 2; half++) {
                __m256i x = _mm256_cvtepu8_epi32(
                    _mm_loadl_epi64((const void *)(job->residual + place + 8 * half)));
                sums[m][half] = _mm256_add_epi32(sums[m][half],
                    _mm256_madd_epi16(
                        x, K256(load)(job->residual_factor + channel + 8 * half)));
            }
        _mm_storeu_si128((void *)(job->y + place),
            K256(bytes)(sums[m][0], sums[m][1], &job->out, channel));
    }
}

static void K256(multiply)(const products *job)
{
    enum { BLOCK = 5 };
    for (int32_t group = 0; group < job->groups; group++) {
        int32_t pixel = 0;
        for (; pixel + BLOCK <= job->pixels; pixel += BLOCK)
            K256(block)(job, pixel, group, BLOCK);
        for (; pixel < job->pixels; pixel++)
            K256(block)(job, pixel, group, 1);
    }
}

/* The three bytes of a column of each of 8 channels, as the weights are ordered. */
INLINE __m256i K256(column)(const uint8_t *const *rows, ptrdiff_t place)
{
    __m128i a = _mm_loadl_epi64((const void *)(rows[0] + place));
    __m128i b = _mm_loadl_epi64((const void *)(rows[1] + place));
    __m128i c = _mm_loadl_epi64((const void *)(rows[2] + place));
    __m128i ab = _mm_unpacklo_epi8(a, b), cd = _mm_unpacklo_epi8(c, _mm_setzero_si128());
    return _mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd));
}

static void K256(light_row)(const light_convolution *job, int32_t row)
{
    int32_t channels = GROUP * job->groups, width = job->width;
    const uint8_t *rows[3];
    for (int32_t i = 0; i < 3; i++)
        rows[i] = middle_row(job, row - 1 + i);
    uint8_t *y = job->y + (size_t)row * width * channels;
    for (int32_t channel = 0; channel < channels; channel += GROUP) {
        const int8_t *w = job->depth_weights + (size_t)channel / GROUP * 3 * 64;
        __m256i total[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        K256(operand) weights[3][2], x[3][2];
        for (int kx = 0; kx < 3; kx++)
            for (int half = 0; half < 2; half++) {
                weights[kx][half] = K256(signed_bytes)(K256(load)(w + 64 * kx + 32 * half));
                x[kx][half] = K256(unsigned_bytes)(
                    K256(column)(rows, (ptrdiff_t)kx * channels + channel + 8 * half));
            }
        for (int32_t column = 0; column < width; column++) {
            __m256i sums[2];
            UNROLLED
            for (int half = 0; half < 2; half++) {
                sums[half] = K256(load)(job->out.bias + channel + 8 * half);
                x[2][half] = K256(unsigned_bytes)(K256(column)(
                    rows, (ptrdiff_t)(column + 2) * channels + channel + 8 * half));
                UNROLLED
                for (int kx = 0; kx < 3; kx++)
                    sums[half] = K256(dot)(sums[half], x[kx][half], weights[kx][half]);
                x[0][half] = x[1][half];
                x[1][half] = x[2][half];
            }
            __m128i out = K256(bytes)(sums[0], sums[1], &job->out, channel);
            _mm_storeu_si128((void *)(y + (size_t)column * channels + channel), out);
            total[0] = _mm256_add_epi32(total[0], _mm256_cvtepu8_epi32(out));
            total[1] = _mm256_add_epi32(
                total[1], _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(out, out)));
        }
        for (int half = 0; half < 2 && job->channel_sums; half++) {
            int32_t *sum = job->channel_sums + channel + 8 * half;
            _mm256_storeu_si256((void *)sum, _mm256_add_epi32(K256(load)(sum), total[half]));
        }
    }
}

static void K256(light)(const light_convolution *job)
{
    if (job->channel_sums)
        memset(job->channel_sums, 0, sizeof(int32_t) * GROUP * job->groups);
    fill_middle_row(job, -1, K256(multiply));
    fill_middle_row(job, 0, K256(multiply));
    for (int32_t row = 0; row < job->height; row++) {
        fill_middle_row(job, row + 1, K256(multiply));
        K256(light_row)(job, row);
    }
}

static void K256(depthwise)(const windows *job)
{
    int32_t channels = GROUP * job->groups, taps = job->kernel_height * job->kernel_width;
    for (int32_t row = 0; row < job->y_height; row++)
        for (int32_t column = 0; column < job->y_width; column++)
            for (int32_t group = 0; group < job->groups; group++) {
                const int8_t *w = job->weights + (size_t)group * taps * GROUP;
                int32_t channel = GROUP * group;
                __m256i low = K256(load)(job->out.bias + channel);
                __m256i high = K256(load)(job->out.bias + channel + 8);
                for (int32_t ky = 0; ky < job->kernel_height; ky++)
                    for (int32_t kx = 0; kx < job->kernel_width; kx++, w += GROUP) {
                        int32_t i = row * job->stride_y - job->pad_top + ky * job->dilation_y;
                        int32_t j = column * job->stride_x - job->pad_left + kx * job->dilation_x;
                        __m128i x = _mm_set1_epi8((int8_t)job->zero);
                        if (i >= 0 && i < job->height && j >= 0 && j < job->width)
                            x = _mm_loadu_si128((const void *)(job->x
                                + ((size_t)i * job->width + j) * channels + channel));
                        __m128i taps16 = _mm_loadu_si128((const void *)w);
                        low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_cvtepu8_epi32(x),
                            _mm256_cvtepi8_epi32(taps16)));
                        high = _mm256_add_epi32(high,
                            _mm256_madd_epi16(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(x, x)),
                                _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(taps16, taps16))));
                    }
                _mm_storeu_si128((void *)(job->y
                    + ((size_t)row * job->y_width + column) * channels + channel),
                    K256(bytes)(low, high, &job->out, channel));
            }
}

static void K256(max_pool)(const windows *job)
{
    int32_t channels = GROUP * job->groups;
    uint8_t *y = job->y;
    for (int32_t row = 0; row < job->y_height; row++)
        for (int32_t column = 0; column < job->y_width; column++, y += channels)
            for (int32_t channel = 0; channel < channels; channel += GROUP) {
                __m128i most = _mm_setzero_si128();
                for (int32_t ky = 0; ky < job->kernel_height; ky++)
                    for (int32_t kx = 0; kx < job->kernel_width; kx++) {
                        int32_t i = row * job->stride_y - job->pad_top + ky;
                        int32_t j = column * job->stride_x - job->pad_left + kx;
                        if (i < 0 || i >= job->height || j < 0 || j >= job->width)
                            continue;
                        most = _mm_max_epu8(most, _mm_loadu_si128((const void *)(job->x
                            + ((size_t)i * job->width + j) * channels + channel)));
                    }
                _mm_storeu_si128((void *)(y + channel), most);
            }
}

static void K256(sum)(const weighted_sum *job)
{
    int32_t channels = job->channels;
    for (int32_t channel = 0; channel < channels; channel += 8) {
        __m256i start = K256(load)(job->start + channel), shift = K256(load)(job->shift + channel);
        __m256i factor[MOST_INPUTS];
        for (int32_t i = 0; i < job->inputs; i++)
            factor[i] = _mm256_and_si256(_mm256_set1_epi32(0xffff),
                _mm256_cvtepi16_epi32(
                    _mm_loadu_si128((const void *)(job->factor[i] + channel))));
        for (int32_t pixel = 0; pixel < job->pixels; pixel++) {
            size_t place = (size_t)pixel * channels + channel;
            __m256i sums = start;
            for (int32_t i = 0; i < job->inputs; i++)
                sums = _mm256_add_epi32(sums,
                    _mm256_madd_epi16(_mm256_cvtepu8_epi32(_mm_loadl_epi64(
                                          (const void *)(job->x[i] + place))),
                        factor[i]));
            sums = _mm256_srav_epi32(sums, shift);
            __m128i packed = _mm_packs_epi32(
                _mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
            _mm_storel_epi64((void *)(job->y + place), _mm_packus_epi16(packed, packed));
        }
    }
}

static void K256(channel_sums)(
    const uint8_t *x, int32_t pixels, int32_t channels, int32_t *sums)
{
    for (int32_t channel = 0; channel < channels; channel += 8) {
        __m256i total = _mm256_setzero_si256();
        for (int32_t pixel = 0; pixel < pixels; pixel++)
            total = _mm256_add_epi32(total,
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(
                    (const void *)(x + (size_t)pixel * channels + channel))));
        _mm256_storeu_si256((void *)(sums + channel), total);
    }
}

static void K256(quantize)(const float *x, ptrdiff_t colour, int32_t count, float factor,
    int32_t zero, uint8_t *y)
{
    __m256 by = _mm256_set1_ps(factor), low = _mm256_set1_ps((float)-zero);
    __m256 high = _mm256_set1_ps((float)(255 - zero));
    __m256i added = _mm256_set1_epi32(zero), colours[3];
    int32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        UNROLLED
        for (int c = 0; c < 3; c++) {
            __m256 steps = _mm256_mul_ps(_mm256_loadu_ps(x + c * colour + i), by);
            /* The second operand where the first is not a number. */
            steps = _mm256_min_ps(_mm256_max_ps(steps, low), high);
            colours[c] = _mm256_add_epi32(_mm256_cvtps_epi32(steps), added);
        }
        __m256i out = _mm256_or_si256(colours[0],
            _mm256_or_si256(
                _mm256_slli_epi32(colours[1], 8), _mm256_slli_epi32(colours[2], 16)));
        _mm256_storeu_si256((void *)(y + 4 * i), out);
    }
    portable_quantize(x + i, colour, count - i, factor, zero, y + 4 * i);
}

#ifdef WITH_VNNI
static const kernel_set AVX_VNNI = {
    "avx_vnni", has_avx_vnni,
#else
static const kernel_set AVX2 = {
    "avx2", has_avx2,
#endif
    K256(multiply), K256(light), K256(depthwise), K256(max_pool), K256(sum), K256(channel_sums),
    K256(quantize), nothing,
};

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef K256
#undef PARTS_256
#endif
