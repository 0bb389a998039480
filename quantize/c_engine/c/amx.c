/* Kernels for AMX: tiles of 16 pixels x 64 bytes times tiles of 64 bytes x 16 outputs. What is not
   a product of matrices is done as for AVX-512. */

#ifdef X86_KERNELS
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC optimize("no-tree-pre") /* or the sums do not stay in registers */
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8")
#endif

enum { TILE_PIXELS = 16 };

/* The longest piece of a row of taps that divides it and fits into a tile. */
static int32_t tile_bytes(int32_t row_bytes)
{
    return row_bytes % 64 == 0 ? 64
        : row_bytes < 64       ? row_bytes
        : row_bytes % 16       ? 28
        : row_bytes % 48 == 0  ? 48
        : row_bytes % 32 == 0  ? 32
                               : 16;
}

/* Tiles 0 to 3 are sums, 4 and 5 pixels, 6 and 7 weights. Other programs of the thread may have
   changed the configuration, so every layer sets it. */
static void configure_tiles(int32_t bytes)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } tiles __attribute__((aligned(64)));
    memset(&tiles, 0, sizeof tiles);
    tiles.palette = 1;
    for (int i = 0; i < 8; i++) {
        tiles.rows[i] = (uint8_t)(i < 6 ? TILE_PIXELS : bytes / 4);
        tiles.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? bytes : 64);
    }
    /* GCC 12 believes that the instruction reads 8 bytes. */
    __asm__ volatile("" : : "r"(&tiles) : "memory");
    _tile_loadconfig(&tiles);
}

typedef int32_t tile_sums[2][2 * TILE_PIXELS][GROUP];

/* From sums of 32 pixels, as many as fill a register. */
INLINE void store_tiles(
    const output_512 *to, int32_t pixel, int32_t m, const int NR, int32_t (*sums)[2 * TILE_PIXELS][GROUP])
{
    __m512i loaded[4];
    UNROLLED
    for (int i = 0; i < 4 / NR; i++)
        UNROLLED
        for (int r = 0; r < NR; r++)
            loaded[i * NR + r] = _mm512_load_si512(sums[r][m + i]);
    if (to->residual)
        store_512(to, pixel + m, 4 / NR, NR, 1, loaded);
    else
        store_512(to, pixel + m, 4 / NR, NR, 0, loaded);
}

/* Blocks of 32 pixels and NR groups. */
INLINE void amx_groups(const products *job, int32_t group, int32_t bytes, const int NR)
{
    tile_sums sums __attribute__((aligned(64)));
    output_512 to = output_of_512(job, group, NR);
    KEPT_IN_MEMORY(to);
    const int32_t *bias = job->out.bias + GROUP * group, block = 2 * TILE_PIXELS;
    int32_t taps = job->taps, row_bytes = job->row_bytes, pixels = job->pixels;
    ptrdiff_t whole = (ptrdiff_t)taps * row_bytes * 16, stride = job->x_stride;
    for (int32_t i = 0; i < pixels; i += block) {
        int32_t pixel = i + block > pixels ? pixels - block : i;
        const uint8_t *x = job->x + pixel * stride;
        const int8_t *w = job->weights + group * whole;
        _tile_loadd(0, bias, 0);
        _tile_loadd(1, bias, 0);
        if (NR == 2) {
            _tile_loadd(2, bias + GROUP, 0);
            _tile_loadd(3, bias + GROUP, 0);
        }
        for (int32_t tap = 0; tap < taps; tap++)
            for (int32_t j = 0; j < row_bytes; j += bytes, w += 16 * bytes) {
                const uint8_t *from = x + job->tap[tap] + j;
                _tile_loadd(6, w, 64);
                _tile_loadd(4, from, stride);
                _tile_dpbusd(0, 4, 6);
                _tile_loadd(5, from + TILE_PIXELS * stride, stride);
                _tile_dpbusd(1, 5, 6);
                if (NR == 2) {
                    _tile_loadd(7, w + whole, 64);
                    _tile_dpbusd(2, 4, 7);
                    _tile_dpbusd(3, 5, 7);
                }
            }
        _tile_stored(0, sums[0][0], 64);
        _tile_stored(1, sums[0][TILE_PIXELS], 64);
        if (NR == 2) {
            _tile_stored(2, sums[1][0], 64);
            _tile_stored(3, sums[1][TILE_PIXELS], 64);
        }
        for (int32_t m = 0; m < block; m += 4 / NR)
            store_tiles(&to, pixel, m, NR, sums);
    }
}

static void amx_groups2(const products *job, int32_t group, int32_t bytes)
{
    amx_groups(job, group, bytes, 2);
}

static void amx_groups1(const products *job, int32_t group, int32_t bytes)
{
    amx_groups(job, group, bytes, 1);
}

static void amx_multiply(const products *job)
{
    if (job->pixels < 2 * TILE_PIXELS || job->sums) {
        avx512_multiply(job);
        return;
    }
    int32_t bytes = tile_bytes(job->row_bytes), group = 0;
    configure_tiles(bytes);
    for (; group + 2 <= job->groups; group += 2)
        amx_groups2(job, group, bytes);
    if (group < job->groups)
        amx_groups1(job, group, bytes);
}

/* Four rows of the middle layer. Their pixels follow each other; what the last tile reads behind
   them is not used. */
static void light_point_amx(const light_convolution *job, const middle_512 *middle, int32_t first)
{
    int32_t width = job->width, bytes = tile_bytes(job->row_bytes);
    int32_t rows = job->height - first < 4 ? job->height - first : 4;
    int32_t (*sums)[GROUP] = (void *)(job->scratch
        + ((size_t)2 * 64 * job->groups * middle->columns + 63) / 64 * 64);
    const uint8_t *x = job->x + (size_t)first * width * job->row_bytes;
    __m512i zero = _mm512_set1_epi16((int16_t)job->middle.zero);
    for (int32_t group = 0; group < job->groups; group++) {
        int32_t channel = GROUP * group;
        const int32_t *bias = job->middle.bias + channel;
        for (int32_t pixel = 0; pixel < rows * width; pixel += 2 * TILE_PIXELS) {
            const uint8_t *from = x + (size_t)pixel * job->row_bytes;
            const int8_t *w = job->weights + (size_t)group * job->row_bytes * 16;
            _tile_loadd(0, bias, 0);
            _tile_loadd(1, bias, 0);
            for (int32_t i = 0; i < job->row_bytes; i += bytes, w += 16 * bytes) {
                _tile_loadd(6, w, 64);
                _tile_loadd(4, from + i, job->row_bytes);
                _tile_dpbusd(0, 4, 6);
                _tile_loadd(5, from + i + TILE_PIXELS * job->row_bytes, job->row_bytes);
                _tile_dpbusd(1, 5, 6);
            }
            _tile_stored(0, sums[pixel], 64);
            _tile_stored(1, sums[pixel + TILE_PIXELS], 64);
        }
        __m512i shift = _mm512_loadu_si512(job->middle.shift + channel);
        __m512i aa = paired_512(job->middle.multiplier + channel, job->middle.multiplier + channel);
        for (int32_t column = 0; column < width; column++) {
            __m512i s[4];
            UNROLLED
            for (int row = 0; row < 4; row++)
                s[row] = _mm512_srav_epi32(_mm512_load_si512(sums[row * width + column]), shift);
            _mm512_storeu_si512(middle_column(middle, 1, group, column),
                interleaved_512(quarters_512(s[0], s[1], s[2], s[3], aa, aa, zero)));
        }
    }
}

static void amx_light(const light_convolution *job)
{
    configure_tiles(tile_bytes(job->row_bytes));
    light_512(job, light_point_amx);
}

static void amx_finish(void) { _tile_release(); }

static const kernel_set AMX = {
    "amx", has_amx, amx_multiply, amx_light, avx512_depthwise, avx512_max_pool, avx512_sum,
    avx512_channel_sums, avx512_quantize, amx_finish,
};

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
