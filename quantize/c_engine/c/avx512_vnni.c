/* Kernels for AVX-512 with VNNI: four products and their sum in each of 16 lanes. */

#ifdef X86_KERNELS
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC optimize("no-tree-pre") /* or the sums do not stay in registers */
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif

/* Numbers of two groups of channels in the order in which pairs of sums are packed to 16 bits. */
INLINE __m512i paired_512(const int16_t *first, const int16_t *second)
{
    __m512i both = _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm256_loadu_si256((const void *)first)),
        _mm256_loadu_si256((const void *)second), 1);
    return _mm512_permutexvar_epi64(_mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0), both);
}

/* Four vectors of sums as bytes: in each quarter, four channels of each vector. CLAMPED: their zero
   is the byte 0, as behind a ReLU. */
INLINE __m512i quarters_512(__m512i a, __m512i b, __m512i c, __m512i d, __m512i ab, __m512i cd,
    __m512i zero, const int CLAMPED)
{
    __m512i first = _mm512_mulhrs_epi16(_mm512_packs_epi32(a, b), ab);
    __m512i second = _mm512_mulhrs_epi16(_mm512_packs_epi32(c, d), cd);
    if (CLAMPED)
        return _mm512_packus_epi16(first, second);
    return _mm512_packus_epi16(
        _mm512_adds_epi16(first, zero), _mm512_adds_epi16(second, zero));
}

/* From the order above to one vector's channels after the other's. */
INLINE __m512i in_order_512(__m512i quarters)
{
    return _mm512_permutexvar_epi32(
        _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0), quarters);
}

/* From the order above to the four bytes of each channel side by side. */
INLINE __m512i interleaved_512(__m512i quarters)
{
    return _mm512_shuffle_epi8(quarters,
        _mm512_broadcast_i32x4(
            _mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0)));
}

INLINE __m512i quad_512(const uint8_t *x)
{
    int32_t quad;
    memcpy(&quad, x, 4);
    return _mm512_set1_epi32(quad);
}

/* Sums of MR pixels and NR groups. Pixels are at x[m / 3] + m % 3 * stride, so that few registers
   address them. A row of taps is a multiple of 4 * QUADS bytes: with a loop for the rest, the sums
   would not stay in registers. */
INLINE void dots_512(const uint8_t *const *x, ptrdiff_t stride, const products *job, int32_t group,
    const int QUADS, const int MR, const int NR, __m512i *sums)
{
    ptrdiff_t whole = (ptrdiff_t)job->taps * job->row_bytes * 16;
    const int8_t *w = job->weights + group * whole;
    for (int32_t tap = 0; tap < job->taps; tap++) {
        const uint8_t *p[8];
        UNROLLED
        for (int i = 0; i < (MR + 2) / 3; i++)
            p[i] = x[i] + job->tap[tap];
        for (int32_t i = 0; i < job->row_bytes; i += 4 * QUADS) {
            UNROLLED
            for (int quad = 0; quad < QUADS; quad++) {
                __m512i weights[4];
                UNROLLED
                for (int r = 0; r < NR; r++)
                    weights[r] = _mm512_loadu_si512(w + r * whole + 64 * quad);
                UNROLLED
                for (int m = 0; m < MR; m++) {
                    __m512i pixel = quad_512(p[m / 3] + m % 3 * stride + 4 * quad);
                    UNROLLED
                    for (int r = 0; r < NR; r++)
                        sums[m * NR + r] =
                            _mm512_dpbusd_epi32(sums[m * NR + r], pixel, weights[r]);
                }
            }
            w += 64 * QUADS;
            UNROLLED
            for (int j = 0; j < (MR + 2) / 3; j++)
                p[j] += 4 * QUADS;
        }
    }
}

/* What turns the sums of up to four groups into bytes. It is read once: the compiler has to assume
   that a byte that is written changes what it could read again. */
typedef struct {
    __m512i shift[4], factor[4], first, second, zero;
    uint8_t *y;
    const uint8_t *residual;
    ptrdiff_t stride;
    int clamped; /* whether zero is the byte 0 */
} output_512;

INLINE output_512 output_of_512(const products *job, int32_t group, const int NR)
{
    output_512 out;
    int32_t channel = GROUP * group;
    const int16_t *multiplier = job->out.multiplier + channel;
    UNROLLED
    for (int r = 0; r < NR; r++) {
        out.shift[r] = _mm512_loadu_si512(job->out.shift + channel + GROUP * r);
        if (job->residual)
            out.factor[r] = _mm512_loadu_si512(job->residual_factor + channel + GROUP * r);
    }
    out.first = paired_512(multiplier, multiplier + (NR > 1 ? GROUP : 0));
    out.second = out.first;
    if (NR > 2)
        out.second = paired_512(multiplier + 2 * GROUP, multiplier + (NR - 1) * GROUP);
    out.zero = _mm512_set1_epi16((int16_t)job->out.zero);
    out.clamped = job->out.zero == 0;
    out.y = job->y + channel;
    out.residual = job->residual ? job->residual + channel : NULL;
    out.stride = job->y_stride;
    return out;
}

/* Sums of MR pixels and NR groups to bytes. */
INLINE void store_512(const output_512 *to, int32_t pixel, const int MR, const int NR,
    const int RESIDUAL, const int CLAMPED, __m512i *sums)
{
    ptrdiff_t stride = to->stride;
    uint8_t *y = to->y + pixel * stride;
    const uint8_t *x = RESIDUAL ? to->residual + pixel * stride : NULL;
    UNROLLED
    for (int m = 0; m < MR; m++)
        UNROLLED
        for (int r = 0; r < NR; r++) {
            __m512i sum = sums[m * NR + r];
            if (RESIDUAL)
                sum = _mm512_dpwssd_epi32(sum,
                    _mm512_cvtepu8_epi32(
                        _mm_loadu_si128((const void *)(x + m * stride + GROUP * r))),
                    to->factor[r]);
            sums[m * NR + r] = _mm512_srav_epi32(sum, to->shift[r]);
        }
    if (NR >= 3) {
        UNROLLED
        for (int m = 0; m < MR; m++) {
            __m512i *s = sums + m * NR;
            __m512i out = in_order_512(
                quarters_512(
                s[0], s[1], s[2], s[NR - 1], to->first, to->second, to->zero, CLAMPED));
            if (NR == 4)
                _mm512_storeu_si512(y + m * stride, out);
            else
                _mm512_mask_storeu_epi8(y + m * stride, 0xffffffffffff, out);
        }
    } else if (NR == 2) {
        UNROLLED
        for (int m = 0; m < MR; m += 2) {
            __m512i *s = sums + m * 2, *t = m + 1 < MR ? s + 2 : s;
            __m512i out = in_order_512(
                quarters_512(s[0], s[1], t[0], t[1], to->first, to->first, to->zero, CLAMPED));
            _mm256_storeu_si256((void *)(y + m * stride), _mm512_castsi512_si256(out));
            if (m + 1 < MR)
                _mm256_storeu_si256(
                    (void *)(y + (m + 1) * stride), _mm512_extracti64x4_epi64(out, 1));
        }
    } else {
        UNROLLED
        for (int m = 0; m < MR; m += 4) {
            __m512i *s = sums + m;
            __m512i out = in_order_512(quarters_512(s[0], s[MR > 1 ? 1 : 0], s[MR > 1 ? 2 : 0],
                s[MR > 1 ? 3 : 0], to->first, to->first, to->zero, CLAMPED));
            _mm_storeu_si128((void *)(y + m * stride), _mm512_castsi512_si128(out));
            if (MR > 1) {
                _mm_storeu_si128(
                    (void *)(y + (m + 1) * stride), _mm512_extracti32x4_epi32(out, 1));
                _mm_storeu_si128(
                    (void *)(y + (m + 2) * stride), _mm512_extracti32x4_epi32(out, 2));
                _mm_storeu_si128(
                    (void *)(y + (m + 3) * stride), _mm512_extracti32x4_epi32(out, 3));
            }
        }
    }
}

INLINE void block_512(const products *job, const output_512 *to, const int32_t *bias,
    int32_t pixel, int32_t group, const int QUADS, const int MR, const int NR, const int RESIDUAL)
{
    __m512i sums[24];
    const uint8_t *x[8];
    UNROLLED
    for (int i = 0; i < (MR + 2) / 3; i++)
        x[i] = job->x + (pixel + 3 * i) * job->x_stride;
    UNROLLED
    for (int m = 0; m < MR; m++)
        UNROLLED
        for (int r = 0; r < NR; r++)
            sums[m * NR + r] = _mm512_loadu_si512(bias + GROUP * r);
    dots_512(x, job->x_stride, job, group, QUADS, MR, NR, sums);
    store_512(to, pixel, MR, NR, RESIDUAL, 0, sums);
}

/* All pixels of NR groups, in blocks; the last block begins earlier, and computes some again. */
INLINE void groups_512(
    const products *job, int32_t group, const int QUADS, const int MR, const int NR,
    const int RESIDUAL)
{
    int32_t pixels = job->pixels;
    const int32_t *bias = job->out.bias + GROUP * group;
    output_512 to = output_of_512(job, group, NR);
    KEPT_IN_MEMORY(to);
    if (pixels < MR) {
        for (int32_t pixel = 0; pixel < pixels; pixel++)
            block_512(job, &to, bias, pixel, group, QUADS, 1, NR, RESIDUAL);
        return;
    }
    for (int32_t pixel = 0; pixel < pixels; pixel += MR)
        block_512(
            job, &to, bias, pixel + MR > pixels ? pixels - MR : pixel, group, QUADS, MR, NR,
            RESIDUAL);
}

/* Rows of taps are multiples of 28 bytes in a first layer of 7 x 7, else of 16. */
INLINE void rows_of_512(const products *job, int32_t group, const int MR, const int NR)
{
    if (job->row_bytes % 16)
        groups_512(job, group, 7, MR, NR, 0);
    else if (job->residual)
        groups_512(job, group, 4, MR, NR, 1);
    else
        groups_512(job, group, 4, MR, NR, 0);
}

static void groups4_512(const products *job, int32_t group) { rows_of_512(job, group, 6, 4); }
static void groups3_512(const products *job, int32_t group) { rows_of_512(job, group, 8, 3); }
static void groups2_512(const products *job, int32_t group) { rows_of_512(job, group, 12, 2); }
static void groups1_512(const products *job, int32_t group) { rows_of_512(job, group, 16, 1); }

/* Sums as they are, of few pixels. */
static void raw_sums_512(const products *job)
{
    for (int32_t pixel = 0; pixel < job->pixels; pixel++)
        for (int32_t group = 0; group < job->groups; group++) {
            __m512i sums[1] = {_mm512_setzero_si512()};
            const uint8_t *x[1] = {job->x + pixel * job->x_stride};
            dots_512(x, job->x_stride, job, group, 4, 1, 1, sums);
            _mm512_storeu_si512(
                job->sums + ((size_t)pixel * job->groups + group) * GROUP, sums[0]);
        }
}

static void avx512_multiply(const products *job)
{
    int32_t group = 0;
    if (job->sums) {
        raw_sums_512(job);
        return;
    }
    for (; group + 4 <= job->groups; group += 4)
        groups4_512(job, group);
    switch (job->groups - group) {
    case 3: groups3_512(job, group); break;
    case 2: groups2_512(job, group); break;
    case 1: groups1_512(job, group); break;
    }
}

/* The layer between a pointwise and a depthwise convolution is kept in blocks of four rows, the
   four bytes of a channel side by side: by group, column (with one on each side), channel, row. */
typedef struct {
    uint8_t *blocks[2]; /* the former block and the present one */
    int32_t columns;
} middle_512;

static uint8_t *middle_column(const middle_512 *middle, int which, int32_t group, int32_t column)
{
    return middle->blocks[which] + ((size_t)group * middle->columns + column + 1) * 64;
}

/* Three columns of four rows, of NR groups. */
INLINE void light_block_512(const light_convolution *job, const products *point,
    const middle_512 *middle, const uint8_t *const *rows, int32_t column, int32_t group,
    const int NR)
{
    __m512i sums[24], zero = _mm512_set1_epi16((int16_t)job->middle.zero);
    const uint8_t *x[4];
    UNROLLED
    for (int row = 0; row < 4; row++)
        x[row] = rows[row] + (ptrdiff_t)column * job->row_bytes;
    UNROLLED
    for (int m = 0; m < 12; m++)
        UNROLLED
        for (int r = 0; r < NR; r++)
            sums[m * NR + r] = _mm512_loadu_si512(job->middle.bias + GROUP * (group + r));
    dots_512(x, job->row_bytes, point, group, 4, 12, NR, sums);
    UNROLLED
    for (int r = 0; r < NR; r++) {
        int32_t channel = GROUP * (group + r);
        __m512i shift = _mm512_loadu_si512(job->middle.shift + channel);
        __m512i aa = paired_512(job->middle.multiplier + channel, job->middle.multiplier + channel);
        UNROLLED
        for (int i = 0; i < 3; i++) {
            __m512i s[4];
            UNROLLED
            for (int row = 0; row < 4; row++)
                s[row] = _mm512_srav_epi32(sums[(3 * row + i) * NR + r], shift);
            _mm512_storeu_si512(middle_column(middle, 1, group + r, column + i),
                interleaved_512(quarters_512(s[0], s[1], s[2], s[3], aa, aa, zero, 0)));
        }
    }
}

static void light_point_512(const light_convolution *job, const middle_512 *middle, int32_t first)
{
    products point = {
        .taps = 1, .row_bytes = job->row_bytes, .weights = job->weights};
    const uint8_t *rows[4];
    for (int32_t row = 0; row < 4; row++) {
        int32_t inside = first + row < job->height ? first + row : job->height - 1;
        rows[row] = job->x + (size_t)inside * job->width * job->row_bytes;
    }
    for (int32_t group = 0; group < job->groups; group += 2)
        for (int32_t i = 0; i < job->width; i += 3) {
            int32_t column = i + 3 > job->width ? job->width - 3 : i;
            if (group + 1 < job->groups)
                light_block_512(job, &point, middle, rows, column, group, 2);
            else
                light_block_512(job, &point, middle, rows, column, group, 1);
        }
}

/* Rows behind the last one are zeros to the depthwise layer. */
static void light_edge_512(
    const light_convolution *job, const middle_512 *middle, int32_t first, int32_t group)
{
    int32_t inside = job->height - first;
    if (inside >= 4)
        return;
    uint64_t bits = 0xfu & ~((1u << (inside < 0 ? 0 : inside)) - 1u);
    __mmask64 outside = 0x1111111111111111u * bits;
    __m512i zero = _mm512_set1_epi8((int8_t)job->middle.zero);
    for (int32_t column = 0; column < job->width; column++)
        _mm512_mask_storeu_epi8(middle_column(middle, 1, group, column), outside, zero);
}

/* Two rows of four pixels of a group, from columns of the middle layer. ACROSS: the lower half of
   each channel's bytes is of the present block, the upper half of the former one. */
INLINE void light_pixels_512(const uint8_t *former, const uint8_t *present,
    const __m512i *weights, __m512i bias, const int ACROSS, __m512i *sums)
{
    UNROLLED
    for (int i = 0; i < 8; i++)
        sums[i] = bias;
    UNROLLED
    for (int column = 0; column < 6; column++) {
        __m512i x = ACROSS
            ? _mm512_mask_loadu_epi16(
                  _mm512_loadu_si512(former + 64 * column), 0x55555555, present + 64 * column)
            : _mm512_loadu_si512(present + 64 * column);
        UNROLLED
        for (int i = 0; i < 4; i++) {
            int kx = column - i;
            if (kx < 0 || kx > 2)
                continue;
            sums[i] = _mm512_dpbusd_epi32(sums[i], x, weights[kx]);
            sums[4 + i] = _mm512_dpbusd_epi32(sums[4 + i], x, weights[3 + kx]);
        }
    }
}

/* Four pixels of a group in quarters. */
INLINE __m512i light_quarters_512(
    const __m512i *sums, __m512i shift, __m512i aa, __m512i zero, const int CLAMPED)
{
    __m512i s[4];
    UNROLLED
    for (int j = 0; j < 4; j++)
        s[j] = _mm512_srav_epi32(sums[j], shift);
    return quarters_512(s[0], s[1], s[2], s[3], aa, aa, zero, CLAMPED);
}

/* Four pixels of NR groups, from their quarters. */
INLINE void store_light_512(uint8_t *y, ptrdiff_t stride, const __m512i *quarters, const int NR)
{
    if (NR == 1) {
        __m512i out = in_order_512(quarters[0]);
        _mm_storeu_si128((void *)y, _mm512_castsi512_si128(out));
        _mm_storeu_si128((void *)(y + stride), _mm512_extracti32x4_epi32(out, 1));
        _mm_storeu_si128((void *)(y + 2 * stride), _mm512_extracti32x4_epi32(out, 2));
        _mm_storeu_si128((void *)(y + 3 * stride), _mm512_extracti32x4_epi32(out, 3));
        return;
    }
    __m512i order = _mm512_set_epi32(29, 25, 21, 17, 13, 9, 5, 1, 28, 24, 20, 16, 12, 8, 4, 0);
    __m512i later = _mm512_add_epi32(order, _mm512_set1_epi32(2));
    __m512i first = _mm512_permutex2var_epi32(quarters[0], order, quarters[NR - 1]);
    __m512i second = _mm512_permutex2var_epi32(quarters[0], later, quarters[NR - 1]);
    if (stride == 2 * GROUP) {
        _mm512_storeu_si512(y, first);
        _mm512_storeu_si512(y + 64, second);
        return;
    }
    _mm256_storeu_si256((void *)y, _mm512_castsi512_si256(first));
    _mm256_storeu_si256((void *)(y + stride), _mm512_extracti64x4_epi64(first, 1));
    _mm256_storeu_si256((void *)(y + 2 * stride), _mm512_castsi512_si256(second));
    _mm256_storeu_si256((void *)(y + 3 * stride), _mm512_extracti64x4_epi64(second, 1));
}

/* Two rows of NR groups of the output, from `row` on, or the one of them that is inside of the
   plane. */
INLINE void light_pair_512(const light_convolution *job, const middle_512 *middle, int32_t row,
    int32_t group, const int NR, const int ACROSS, const int SUMS, const int CLAMPED)
{
    int32_t channel = GROUP * group, width = job->width;
    int upper = row >= 0, lower = row + 1 < job->height;
    ptrdiff_t stride = (ptrdiff_t)GROUP * job->groups, row_bytes = width * stride;
    ptrdiff_t apart = (ptrdiff_t)middle->columns * 64;
    uint8_t *start = job->y + row * row_bytes + channel;
    int32_t *channel_sums = SUMS ? job->channel_sums + channel : NULL;
    __m512i zero = _mm512_set1_epi16((int16_t)job->out.zero);
    __m512i weights[2][6], bias[2], shift[2], aa[2], total[2];
    const uint8_t *former = middle_column(middle, 0, group, -1);
    const uint8_t *present = middle_column(middle, 1, group, -1);
    UNROLLED
    for (int r = 0; r < NR; r++) {
        const int16_t *multiplier = job->out.multiplier + channel + GROUP * r;
        bias[r] = _mm512_loadu_si512(job->out.bias + channel + GROUP * r);
        shift[r] = _mm512_loadu_si512(job->out.shift + channel + GROUP * r);
        aa[r] = paired_512(multiplier, multiplier);
        total[r] = SUMS ? _mm512_loadu_si512(channel_sums + GROUP * r) : bias[r];
        UNROLLED
        for (int kx = 0; kx < 3; kx++) {
            __m512i w = _mm512_loadu_si512(job->depth_weights + (3 * (group + r) + kx) * 64);
            __m512i later = _mm512_slli_epi32(w, 8);
            weights[r][kx] = ACROSS ? _mm512_rol_epi32(w, 16) : w;
            weights[r][3 + kx] = ACROSS ? _mm512_rol_epi32(later, 16) : later;
        }
    }
    for (int32_t i = 0; i < width; i += 4) {
        int32_t column = i + 4 > width ? width - 4 : i;
        /* Pixels that are computed again do not count twice. */
        __mmask64 fresh = 0x1111111111111111u * (0xf & 0xf << (i - column));
        __m512i quarters[2][2];
        UNROLLED
        for (int r = 0; r < NR; r++) {
            __m512i sums[8];
            ptrdiff_t place = r * apart + 64 * column;
            light_pixels_512(former + place, present + place, weights[r], bias[r], ACROSS, sums);
            quarters[0][r] = light_quarters_512(sums, shift[r], aa[r], zero, CLAMPED);
            quarters[1][r] = light_quarters_512(sums + 4, shift[r], aa[r], zero, CLAMPED);
        }
        uint8_t *y = start + (ptrdiff_t)column * stride;
        if (upper)
            store_light_512(y, stride, quarters[0], NR);
        if (lower)
            store_light_512(y + row_bytes, stride, quarters[1], NR);
        if (SUMS) {
            __mmask64 counted[2] = {upper ? fresh : 0, lower ? fresh : 0};
            UNROLLED
            for (int k = 0; k < 2; k++)
                UNROLLED
                for (int r = 0; r < NR; r++)
                    total[r] = _mm512_dpbusd_epi32(total[r],
                        _mm512_maskz_mov_epi8(counted[k], interleaved_512(quarters[k][r])),
                        _mm512_set1_epi8(1));
        }
    }
    UNROLLED
    for (int r = 0; r < NR && SUMS; r++)
        _mm512_storeu_si512(channel_sums + GROUP * r, total[r]);
}

INLINE void light_rows_512(const light_convolution *job, const middle_512 *middle, int32_t row,
    int32_t group, const int NR, const int ACROSS)
{
    if (job->out.zero) {
        if (job->channel_sums)
            light_pair_512(job, middle, row, group, NR, ACROSS, 1, 0);
        else
            light_pair_512(job, middle, row, group, NR, ACROSS, 0, 0);
    } else {
        if (job->channel_sums)
            light_pair_512(job, middle, row, group, NR, ACROSS, 1, 1);
        else
            light_pair_512(job, middle, row, group, NR, ACROSS, 0, 1);
    }
}

/* The rows between the block of the middle layer that begins at `row` and the former one, of two
   groups, or of the last one. */
static void light_across_512(
    const light_convolution *job, const middle_512 *middle, int32_t row, int32_t group)
{
    if (row > job->height)
        return;
    if (group + 1 < job->groups)
        light_rows_512(job, middle, row - 1, group, 2, 1);
    else
        light_rows_512(job, middle, row - 1, group, 1, 1);
}

/* The rows inside of the block that begins at `row`. */
static void light_inside_512(
    const light_convolution *job, const middle_512 *middle, int32_t row, int32_t group)
{
    if (row + 1 >= job->height)
        return;
    if (group + 1 < job->groups)
        light_rows_512(job, middle, row + 1, group, 2, 0);
    else
        light_rows_512(job, middle, row + 1, group, 1, 0);
}

/* The pointwise layer block by block, and behind it the rows of which all is there. */
static void avx512_light(const light_convolution *job)
{
    if (job->width < 4) {
        portable_light(job);
        return;
    }
    int32_t columns = job->width + 2, blocks = (job->height + 3) / 4;
    size_t size = (size_t)job->groups * columns * 64;
    middle_512 middle = {{job->scratch, job->scratch + size}, columns};
    memset(job->scratch, job->middle.zero, 2 * size);
    if (job->channel_sums)
        memset(job->channel_sums, 0, sizeof(int32_t) * GROUP * job->groups);
    for (int32_t block = 0; block <= blocks; block++) {
        if (block < blocks)
            light_point_512(job, &middle, 4 * block);
        for (int32_t group = 0; group < job->groups; group++)
            light_edge_512(job, &middle, 4 * block, group);
        for (int32_t group = 0; group < job->groups; group += 2) {
            light_across_512(job, &middle, 4 * block, group);
            light_inside_512(job, &middle, 4 * block, group);
        }
        uint8_t *former = middle.blocks[0];
        middle.blocks[0] = middle.blocks[1];
        middle.blocks[1] = former;
    }
}

/* Bytes of 64 channels of four tensors as four vectors: a channel's four bytes side by side. In each
   quarter of a register are channels of one group, so that packing brings them into order again. */
INLINE void side_by_side_512(__m512i a, __m512i b, __m512i c, __m512i d, __m512i *out)
{
    __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
    __m512i low2 = _mm512_unpacklo_epi8(c, d), high2 = _mm512_unpackhi_epi8(c, d);
    out[0] = _mm512_unpacklo_epi16(low, low2);
    out[1] = _mm512_unpackhi_epi16(low, low2);
    out[2] = _mm512_unpacklo_epi16(high, high2);
    out[3] = _mm512_unpackhi_epi16(high, high2);
}

/* Numbers of the channels of four groups in the same order. */
INLINE void numbers_512(const int32_t *numbers, const int32_t *groups, __m512i *out)
{
    __m512i in[4];
    UNROLLED
    for (int i = 0; i < 4; i++)
        in[i] = _mm512_loadu_si512(numbers + GROUP * groups[i]);
    __m512i a = _mm512_shuffle_i32x4(in[0], in[1], 0x44);
    __m512i b = _mm512_shuffle_i32x4(in[2], in[3], 0x44);
    __m512i c = _mm512_shuffle_i32x4(in[0], in[1], 0xee);
    __m512i d = _mm512_shuffle_i32x4(in[2], in[3], 0xee);
    out[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    out[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
    out[2] = _mm512_shuffle_i32x4(c, d, 0x88);
    out[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

/* Bytes of four groups, one in each quarter of a register. */
INLINE __m512i four_groups_512(__m128i a, __m128i b, __m128i c, __m128i d)
{
    return _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm256_set_m128i(b, a)), _mm256_set_m128i(d, c), 1);
}

/* Up to four taps that are all inside of the plane: one product for each channel and tap at once. */
static void few_taps_512(const windows *job)
{
    int32_t groups = job->groups, taps = job->kernel_height * job->kernel_width;
    ptrdiff_t channels = GROUP * groups, row_bytes = job->width * channels, tap[4] = {0};
    ptrdiff_t down = job->stride_y * row_bytes, right = job->stride_x * channels;
    __m512i zero = _mm512_set1_epi16((int16_t)job->out.zero);
    for (int32_t i = 0; i < taps; i++)
        tap[i] = i / job->kernel_width * job->dilation_y * row_bytes
            + i % job->kernel_width * job->dilation_x * channels;
    for (int32_t first = 0; first < groups; first += 4) {
        int32_t count = groups - first < 4 ? groups - first : 4, each[4];
        __mmask64 mask = ~(__mmask64)0 >> (64 - GROUP * count);
        __m512i weights[4], bias[4], shift[4], by_tap[4];
        __m256i multiplier[4];
        for (int32_t i = 0; i < 4; i++) {
            each[i] = first + (i < count ? i : 0);
            multiplier[i] =
                _mm256_loadu_si256((const void *)(job->out.multiplier + GROUP * each[i]));
            by_tap[i] = _mm512_setzero_si512();
        }
        for (int32_t i = 0; i < taps; i++) {
            const int8_t *w = job->weights + i * GROUP;
            ptrdiff_t whole = (ptrdiff_t)taps * GROUP;
            by_tap[i] = four_groups_512(_mm_loadu_si128((const void *)(w + each[0] * whole)),
                _mm_loadu_si128((const void *)(w + each[1] * whole)),
                _mm_loadu_si128((const void *)(w + each[2] * whole)),
                _mm_loadu_si128((const void *)(w + each[3] * whole)));
        }
        side_by_side_512(by_tap[0], by_tap[1], by_tap[2], by_tap[3], weights);
        numbers_512(job->out.bias, each, bias);
        numbers_512(job->out.shift, each, shift);
        __m512i ab = _mm512_inserti64x4(_mm512_castsi256_si512(multiplier[0]), multiplier[1], 1);
        __m512i cd = _mm512_inserti64x4(_mm512_castsi256_si512(multiplier[2]), multiplier[3], 1);
        __m512i low = _mm512_shuffle_i32x4(ab, cd, 0x88);
        __m512i high = _mm512_shuffle_i32x4(ab, cd, 0xdd);
        const uint8_t *x = job->x + GROUP * first;
        uint8_t *y = job->y + GROUP * first;
        for (int32_t row = 0; row < job->y_height; row++, x += down) {
            const uint8_t *pixel = x;
            for (int32_t i = 0; i < job->y_width; i++, pixel += right, y += channels) {
                __m512i sums[4];
                side_by_side_512(_mm512_maskz_loadu_epi8(mask, pixel),
                    _mm512_maskz_loadu_epi8(mask, pixel + tap[1]),
                    _mm512_maskz_loadu_epi8(mask, pixel + tap[2]),
                    _mm512_maskz_loadu_epi8(mask, pixel + tap[3]), sums);
                UNROLLED
                for (int j = 0; j < 4; j++)
                    sums[j] = _mm512_srav_epi32(
                        _mm512_dpbusd_epi32(bias[j], sums[j], weights[j]), shift[j]);
                _mm512_mask_storeu_epi8(y, mask,
                    quarters_512(sums[0], sums[1], sums[2], sums[3], low, high, zero, 0));
            }
        }
    }
}

static void avx512_depthwise(const windows *job)
{
    if (job->kernel_height * job->kernel_width <= 4 && !job->pad_top && !job->pad_left
        && (job->y_height - 1) * job->stride_y + (job->kernel_height - 1) * job->dilation_y
            < job->height
        && (job->y_width - 1) * job->stride_x + (job->kernel_width - 1) * job->dilation_x
            < job->width) {
        few_taps_512(job);
        return;
    }
    int32_t channels = GROUP * job->groups, taps = job->kernel_height * job->kernel_width;
    __m256i zero = _mm256_set1_epi16((int16_t)job->out.zero);
    for (int32_t row = 0; row < job->y_height; row++)
        for (int32_t column = 0; column < job->y_width; column++)
            for (int32_t group = 0; group < job->groups; group++) {
                const int8_t *w = job->weights + (size_t)group * taps * GROUP;
                __m512i sums = _mm512_loadu_si512(job->out.bias + GROUP * group);
                for (int32_t ky = 0; ky < job->kernel_height; ky++)
                    for (int32_t kx = 0; kx < job->kernel_width; kx++, w += GROUP) {
                        int32_t i = row * job->stride_y - job->pad_top + ky * job->dilation_y;
                        int32_t j = column * job->stride_x - job->pad_left + kx * job->dilation_x;
                        __m512i x = _mm512_set1_epi32(job->zero);
                        if (i >= 0 && i < job->height && j >= 0 && j < job->width)
                            x = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(job->x
                                + ((size_t)i * job->width + j) * channels + GROUP * group)));
                        sums = _mm512_dpwssd_epi32(sums, x,
                            _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)w)));
                    }
                sums = _mm512_srav_epi32(
                    sums, _mm512_loadu_si512(job->out.shift + GROUP * group));
                __m256i steps = _mm256_mulhrs_epi16(_mm512_cvtsepi32_epi16(sums),
                    _mm256_loadu_si256((const void *)(job->out.multiplier + GROUP * group)));
                steps = _mm256_max_epi16(_mm256_adds_epi16(steps, zero), _mm256_setzero_si256());
                _mm_storeu_si128((void *)(job->y
                    + ((size_t)row * job->y_width + column) * channels + GROUP * group),
                    _mm256_cvtusepi16_epi8(steps));
            }
}

INLINE __m512i most_of_nine_512(
    const uint8_t *x, __mmask64 mask, ptrdiff_t channels, ptrdiff_t width)
{
    __m512i most = _mm512_setzero_si512();
    UNROLLED
    for (int i = 0; i < 3; i++)
        UNROLLED
        for (int j = 0; j < 3; j++)
            most = _mm512_max_epu8(
                most, _mm512_maskz_loadu_epi8(mask, x + (i * width + j) * channels));
    return most;
}

static void avx512_max_pool(const windows *job)
{
    int32_t channels = GROUP * job->groups;
    uint8_t *y = job->y;
    for (int32_t row = 0; row < job->y_height; row++)
        for (int32_t column = 0; column < job->y_width; column++, y += channels) {
            int32_t i = row * job->stride_y - job->pad_top;
            int32_t j = column * job->stride_x - job->pad_left;
            int32_t top = i < 0 ? 0 : i, left = j < 0 ? 0 : j;
            int32_t end = i + job->kernel_height, right = j + job->kernel_width;
            end = end > job->height ? job->height : end;
            right = right > job->width ? job->width : right;
            for (int32_t first = 0; first < channels; first += 64) {
                int32_t count = channels - first < 64 ? channels - first : 64;
                __mmask64 mask = ~(__mmask64)0 >> (64 - count);
                const uint8_t *x = job->x + ((ptrdiff_t)top * job->width + left) * channels + first;
                if (end - top == 3 && right - left == 3) {
                    _mm512_mask_storeu_epi8(
                        y + first, mask, most_of_nine_512(x, mask, channels, job->width));
                    continue;
                }
                __m512i most = _mm512_setzero_si512();
                for (int32_t a = top; a < end; a++)
                    for (int32_t b = left; b < right; b++)
                        most = _mm512_max_epu8(most, _mm512_maskz_loadu_epi8(mask,
                            job->x + ((size_t)a * job->width + b) * channels + first));
                _mm512_mask_storeu_epi8(y + first, mask, most);
            }
        }
}

/* 32 channels of all pixels, of 2 * PAIRS inputs. */
INLINE void sum_512(const weighted_sum *job, int32_t first, const int PAIRS)
{
    int32_t count = job->channels - first < 32 ? 16 : 32;
    __mmask32 mask = count == 32 ? 0xffffffff : 0xffff;
    __m512i factor[4][2], start[2], shift[2];
    const uint8_t *x[8];
    /* Pairs of 16-bit numbers come in quarters of a register: four channels, then four. */
    __m512i low = _mm512_set_epi32(27, 26, 25, 24, 19, 18, 17, 16, 11, 10, 9, 8, 3, 2, 1, 0);
    __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(4));
    __m512i numbers[2];
    numbers[0] = _mm512_loadu_si512(job->start + first);
    numbers[1] = count == 32 ? _mm512_loadu_si512(job->start + first + 16) : numbers[0];
    start[0] = _mm512_permutex2var_epi32(numbers[0], low, numbers[1]);
    start[1] = _mm512_permutex2var_epi32(numbers[0], high, numbers[1]);
    numbers[0] = _mm512_loadu_si512(job->shift + first);
    numbers[1] = count == 32 ? _mm512_loadu_si512(job->shift + first + 16) : numbers[0];
    shift[0] = _mm512_permutex2var_epi32(numbers[0], low, numbers[1]);
    shift[1] = _mm512_permutex2var_epi32(numbers[0], high, numbers[1]);
    UNROLLED
    for (int i = 0; i < PAIRS; i++) {
        int second = 2 * i + 1 < job->inputs;
        __m512i a = _mm512_maskz_loadu_epi16(mask, job->factor[2 * i] + first);
        __m512i b = second ? _mm512_maskz_loadu_epi16(mask, job->factor[2 * i + 1] + first)
                           : _mm512_setzero_si512();
        factor[i][0] = _mm512_unpacklo_epi16(a, b);
        factor[i][1] = _mm512_unpackhi_epi16(a, b);
        x[2 * i] = job->x[2 * i] + first;
        x[2 * i + 1] = job->x[2 * i + second] + first;
    }
    for (int32_t pixel = 0; pixel < job->pixels; pixel++) {
        size_t place = (size_t)pixel * job->channels;
        __m512i sums[2] = {start[0], start[1]};
        UNROLLED
        for (int i = 0; i < PAIRS; i++) {
            __m512i a = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, x[2 * i] + place));
            __m512i b = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, x[2 * i + 1] + place));
            sums[0] = _mm512_dpwssd_epi32(sums[0], _mm512_unpacklo_epi16(a, b), factor[i][0]);
            sums[1] = _mm512_dpwssd_epi32(sums[1], _mm512_unpackhi_epi16(a, b), factor[i][1]);
        }
        __m512i packed = _mm512_packs_epi32(
            _mm512_srav_epi32(sums[0], shift[0]), _mm512_srav_epi32(sums[1], shift[1]));
        _mm256_mask_storeu_epi8(job->y + place + first, mask,
            _mm512_cvtusepi16_epi8(_mm512_max_epi16(packed, _mm512_setzero_si512())));
    }
}

static void sum1_512(const weighted_sum *job, int32_t first) { sum_512(job, first, 1); }
static void sum2_512(const weighted_sum *job, int32_t first) { sum_512(job, first, 2); }
static void sum3_512(const weighted_sum *job, int32_t first) { sum_512(job, first, 3); }
static void sum4_512(const weighted_sum *job, int32_t first) { sum_512(job, first, 4); }

/* Whether all factors are 256 times a signed byte and a signed byte. */
static int are_two_bytes_512(const weighted_sum *job)
{
    __m256i most = _mm256_setzero_si256();
    for (int32_t i = 0; i < job->inputs; i++)
        for (int32_t channel = 0; channel < job->channels; channel += GROUP)
            most = _mm256_max_epi16(
                most, _mm256_loadu_si256((const void *)(job->factor[i] + channel)));
    return !_mm256_cmpgt_epi16_mask(most, _mm256_set1_epi16(127 * 256 + 127));
}

/* Up to four inputs: one product for each channel with the upper bytes of all factors, and one with
   the lower ones. 64 bytes belong to the same groups again after as many vectors as the period. */
static void few_inputs_512(const weighted_sum *job)
{
    int32_t groups = job->channels / GROUP, inputs = job->inputs;
    int32_t period = groups % 4 == 0 ? groups / 4 : groups % 2 == 0 ? groups / 2 : groups;
    ptrdiff_t size = (ptrdiff_t)job->pixels * job->channels;
    const uint8_t *x[4];
    for (int32_t i = 0; i < 4; i++)
        x[i] = job->x[i < inputs ? i : 0];
    for (int32_t phase = 0; phase < period; phase++) {
        int32_t each[4];
        __m512i bytes[2][4], upper[4], lower[4], start[4], shift[4];
        for (int32_t i = 0; i < 4; i++)
            each[i] = (4 * phase + i) % groups;
        for (int32_t i = 0; i < 4; i++) {
            __m128i part[2][4];
            for (int32_t n = 0; n < 4; n++) {
                __m256i factor = i < inputs
                    ? _mm256_loadu_si256((const void *)(job->factor[i] + GROUP * each[n]))
                    : _mm256_setzero_si256();
                part[0][n] = _mm256_cvtepi16_epi8(factor);
                part[1][n] = _mm256_cvtepi16_epi8(
                    _mm256_srai_epi16(_mm256_add_epi16(factor, _mm256_set1_epi16(128)), 8));
            }
            for (int n = 0; n < 2; n++)
                bytes[n][i] = four_groups_512(part[n][0], part[n][1], part[n][2], part[n][3]);
        }
        side_by_side_512(bytes[0][0], bytes[0][1], bytes[0][2], bytes[0][3], lower);
        side_by_side_512(bytes[1][0], bytes[1][1], bytes[1][2], bytes[1][3], upper);
        numbers_512(job->start, each, start);
        numbers_512(job->shift, each, shift);
        for (ptrdiff_t place = 64 * phase; place < size; place += 64 * period) {
            ptrdiff_t left = size - place;
            __mmask64 mask = left < 64 ? ~(__mmask64)0 >> (64 - left) : ~(__mmask64)0;
            __m512i sums[4];
            side_by_side_512(_mm512_maskz_loadu_epi8(mask, x[0] + place),
                _mm512_maskz_loadu_epi8(mask, x[1] + place),
                _mm512_maskz_loadu_epi8(mask, x[2] + place),
                _mm512_maskz_loadu_epi8(mask, x[3] + place), sums);
            UNROLLED
            for (int j = 0; j < 4; j++) {
                __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), sums[j], upper[j]);
                sum = _mm512_add_epi32(_mm512_slli_epi32(sum, 8), start[j]);
                sums[j] =
                    _mm512_srav_epi32(_mm512_dpbusd_epi32(sum, sums[j], lower[j]), shift[j]);
            }
            _mm512_mask_storeu_epi8(job->y + place, mask,
                _mm512_packus_epi16(_mm512_packs_epi32(sums[0], sums[1]),
                    _mm512_packs_epi32(sums[2], sums[3])));
        }
    }
}

static void avx512_sum(const weighted_sum *job)
{
    static void (*const by_pairs[])(const weighted_sum *, int32_t) = {
        sum1_512, sum2_512, sum3_512, sum4_512};
    if (job->inputs > 1 && job->inputs <= 4 && are_two_bytes_512(job)) {
        few_inputs_512(job);
        return;
    }
    for (int32_t first = 0; first < job->channels; first += 32)
        by_pairs[(job->inputs - 1) / 2](job, first);
}

static void avx512_channel_sums(
    const uint8_t *x, int32_t pixels, int32_t channels, int32_t *sums)
{
    for (int32_t first = 0; first < channels; first += GROUP) {
        __m512i total = _mm512_setzero_si512();
        for (int32_t pixel = 0; pixel < pixels; pixel++)
            total = _mm512_add_epi32(total,
                _mm512_cvtepu8_epi32(_mm_loadu_si128(
                    (const void *)(x + (size_t)pixel * channels + first))));
        _mm512_storeu_si512(sums + first, total);
    }
}

INLINE __m512i quantized_512(const float *x, __mmask16 mask, __m512 factor, __m512 low, __m512 high)
{
    __m512 steps = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x), factor);
    /* The second operand where the first is not a number. */
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(steps, low), high));
}

static void avx512_quantize(const float *x, ptrdiff_t colour, int32_t count, float factor,
    int32_t zero, uint8_t *y)
{
    __m512 by = _mm512_set1_ps(factor), low = _mm512_set1_ps((float)-zero);
    __m512 high = _mm512_set1_ps((float)(255 - zero));
    __m512i added = _mm512_set1_epi32(zero);
    for (int32_t i = 0; i < count; i += 16) {
        __mmask16 mask = count - i < 16 ? (__mmask16)((1u << (count - i)) - 1u) : 0xffff;
        __m512i a = _mm512_add_epi32(quantized_512(x + i, mask, by, low, high), added);
        __m512i b = _mm512_add_epi32(quantized_512(x + colour + i, mask, by, low, high), added);
        __m512i c = _mm512_add_epi32(quantized_512(x + 2 * colour + i, mask, by, low, high), added);
        __m512i out = _mm512_or_si512(
            a, _mm512_or_si512(_mm512_slli_epi32(b, 8), _mm512_slli_epi32(c, 16)));
        _mm512_mask_storeu_epi32(y + 4 * i, mask, out);
    }
}

static const kernel_set AVX512_VNNI = {
    "avx512_vnni", has_avx512_vnni, avx512_multiply, avx512_light, avx512_depthwise,
    avx512_max_pool, avx512_sum, avx512_channel_sums, avx512_quantize, nothing,
};

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
