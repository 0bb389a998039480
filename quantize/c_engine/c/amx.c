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

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_configuration;

static void load_configuration(const tile_configuration *tiles)
{
    /* GCC 12 believes that the instruction reads 8 bytes. */
    __asm__ volatile("" : : "r"(tiles) : "memory");
    _tile_loadconfig(tiles);
}

/* Tiles 0 to 3 are sums, 4 and 5 pixels, 6 and 7 weights. Other programs of the thread may have
   changed the configuration, so every layer sets it. */
static void configure_tiles(int32_t bytes)
{
    tile_configuration tiles __attribute__((aligned(64)));
    memset(&tiles, 0, sizeof tiles);
    tiles.palette = 1;
    for (int i = 0; i < 8; i++) {
        tiles.rows[i] = (uint8_t)(i < 6 ? TILE_PIXELS : bytes / 4);
        tiles.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? bytes : 64);
    }
    load_configuration(&tiles);
}

typedef int32_t tile_sums[2][2 * TILE_PIXELS][GROUP];

/* Bytes of 32 pixels from their sums. */
INLINE void store_tiles_as(const output_512 *to, const __m512i *bias, int32_t pixel, const int NR,
    const int RESIDUAL, const int CLAMPED, int32_t (*sums)[2 * TILE_PIXELS][GROUP])
{
    for (int32_t m = 0; m < 2 * TILE_PIXELS; m += 4 / NR) {
        __m512i loaded[4];
        UNROLLED
        for (int i = 0; i < 4 / NR; i++)
            UNROLLED
            for (int r = 0; r < NR; r++)
                loaded[i * NR + r] =
                    _mm512_add_epi32(bias[r], _mm512_load_si512(sums[r][m + i]));
        store_512(to, pixel + m, 4 / NR, NR, RESIDUAL, CLAMPED, loaded);
    }
}

INLINE void store_tiles(const output_512 *to, const __m512i *bias, int32_t pixel, const int NR,
    int32_t (*sums)[2 * TILE_PIXELS][GROUP])
{
    if (to->residual && to->clamped)
        store_tiles_as(to, bias, pixel, NR, 1, 1, sums);
    else if (to->residual)
        store_tiles_as(to, bias, pixel, NR, 1, 0, sums);
    else if (to->clamped)
        store_tiles_as(to, bias, pixel, NR, 0, 1, sums);
    else
        store_tiles_as(to, bias, pixel, NR, 0, 0, sums);
}

/* Blocks of 32 pixels and NR groups. */
INLINE void amx_groups(const products *job, int32_t group, int32_t bytes, const int NR)
{
    tile_sums sums __attribute__((aligned(64)));
    output_512 to = output_of_512(job, group, NR);
    KEPT_IN_MEMORY(to);
    const int32_t block = 2 * TILE_PIXELS;
    __m512i bias[2];
    UNROLLED
    for (int r = 0; r < NR; r++)
        bias[r] = _mm512_loadu_si512(job->out.bias + GROUP * (group + r));
    int32_t taps = job->taps, row_bytes = job->row_bytes, pixels = job->pixels;
    ptrdiff_t whole = (ptrdiff_t)taps * row_bytes * 16, stride = job->x_stride;
    for (int32_t i = 0; i < pixels; i += block) {
        int32_t pixel = i + block > pixels ? pixels - block : i;
        const uint8_t *x = job->x + pixel * stride;
        const int8_t *w = job->weights + group * whole;
        _tile_zero(0);
        _tile_zero(1);
        if (NR == 2) {
            _tile_zero(2);
            _tile_zero(3);
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
        /* Meanwhile the sums of the former block become bytes. */
        if (i > 0)
            store_tiles(&to, bias, i - block, NR, sums);
        _tile_stored(0, sums[0][0], 64);
        _tile_stored(1, sums[0][TILE_PIXELS], 64);
        if (NR == 2) {
            _tile_stored(2, sums[1][0], 64);
            _tile_stored(3, sums[1][TILE_PIXELS], 64);
        }
    }
    store_tiles(&to, bias, pixels - block, NR, sums);
}

static void amx_groups2(const products *job, int32_t group, int32_t bytes)
{
    amx_groups(job, group, bytes, 2);
}

static void amx_groups1(const products *job, int32_t group, int32_t bytes)
{
    amx_groups(job, group, bytes, 1);
}

/* Pixels in chunks that stay in the first-level cache until all groups of them are written. */
enum { CHUNK = 128 };

static void amx_multiply(const products *job)
{
    if (job->pixels < 2 * TILE_PIXELS || job->sums) {
        avx512_multiply(job);
        return;
    }
    int32_t bytes = tile_bytes(job->row_bytes);
    products part = *job;
    configure_tiles(bytes);
    for (int32_t first = 0; first < job->pixels; first += part.pixels) {
        int32_t left = job->pixels - first, group = 0;
        part.pixels = left < CHUNK + 2 * TILE_PIXELS ? left : CHUNK;
        part.x = job->x + first * job->x_stride;
        part.y = job->y + first * job->y_stride;
        part.residual = job->residual ? job->residual + first * job->y_stride : NULL;
        for (; group + 2 <= job->groups; group += 2)
            amx_groups2(&part, group, bytes);
        if (group < job->groups)
            amx_groups1(&part, group, bytes);
    }
}

/* The pixels of two tiles, at `x` and `second`, times the weights of two groups, or of one. */
INLINE void light_tiles(const light_convolution *job, const uint8_t *x, const uint8_t *second,
    int32_t group, int32_t bytes, int two)
{
    ptrdiff_t stride = job->row_bytes, whole = stride * 16;
    const int8_t *w = job->weights + group * whole;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int32_t i = 0; i < job->row_bytes; i += bytes, w += 16 * bytes) {
        _tile_loadd(6, w, 64);
        _tile_loadd(4, x + i, stride);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(5, second + i, stride);
        _tile_dpbusd(1, 5, 6);
        if (two) {
            _tile_loadd(7, w + whole, 64);
            _tile_dpbusd(2, 4, 7);
            _tile_dpbusd(3, 5, 7);
        }
    }
}

/* Columns of a group of a block of the middle layer, from sums of its four rows. */
static void finish_point(const light_convolution *job, const middle_512 *middle, int32_t group,
    int32_t first, int32_t end, int32_t (*sums)[GROUP], int32_t distance)
{
    int32_t channel = GROUP * group;
    uint8_t *out = middle_column(middle, 1, group, 0);
    __m512i bias = _mm512_loadu_si512(job->middle.bias + channel);
    __m512i zero = _mm512_set1_epi16((int16_t)job->middle.zero);
    __m512i shift = _mm512_loadu_si512(job->middle.shift + channel);
    __m512i aa = paired_512(job->middle.multiplier + channel, job->middle.multiplier + channel);
    for (int32_t column = first; column < end; column++, sums++) {
        __m512i s[4];
        UNROLLED
        for (int row = 0; row < 4; row++)
            s[row] = _mm512_srav_epi32(
                _mm512_add_epi32(bias, _mm512_load_si512(sums[row * distance])), shift);
        _mm512_storeu_si512(out + (size_t)column * 64,
            interleaved_512(quarters_512(s[0], s[1], s[2], s[3], aa, aa, zero, 0)));
    }
}

/* What is computed together: two groups of a block, or the last one. */
typedef struct {
    int32_t group, row;
    middle_512 middle;
} light_step;

/* Tiles multiply while the processor is busy with former steps: it makes bytes of the sums of the
   last step, and rows of the output of the one before it. So the sums are stored after that, or the
   stores of the rows would wait for them.
   Sums of 16 pixels follow each other: of a row, if its width is a multiple of 16. */
static void amx_light(const light_convolution *job)
{
    int32_t width = job->width, height = job->height, groups = job->groups;
    int32_t row_bytes = job->row_bytes, bytes = tile_bytes(row_bytes), columns = width + 2;
    if (width < 4) {
        portable_light(job);
        return;
    }
    int aligned = width % TILE_PIXELS == 0;
    int32_t parts = (width + 7) / 8, pairs = (groups + 1) / 2;
    int32_t count = ((height + 3) / 4 + 1) * pairs;
    size_t size = (size_t)groups * columns * 64;
    int32_t (*sums)[GROUP] = (void *)(job->scratch + 3 * size);
    int32_t (*sums2)[GROUP] = sums + 32 * parts;
    memset(job->scratch + 2 * size, job->middle.zero, size);
    for (int32_t i = 0; i < 3 * groups; i++) {
        uint8_t *edge = job->scratch + (size_t)i * columns * 64;
        memset(edge, job->middle.zero, 64);
        memset(edge + (size_t)(width + 1) * 64, job->middle.zero, 64);
    }
    if (job->channel_sums)
        memset(job->channel_sums, 0, sizeof(int32_t) * GROUP * groups);
    configure_tiles(bytes);
    light_step steps[3];
    for (int32_t i = 0; i < count + 2; i++) {
        light_step *now = steps + i % 3, *last = steps + (i + 2) % 3, *former = steps + (i + 1) % 3;
        int32_t block = i / pairs;
        now->group = i % pairs * 2;
        now->row = 4 * block;
        now->middle = (middle_512){
            {job->scratch + (block + 2) % 3 * size, job->scratch + block % 3 * size}, columns};
        int two = now->group + 1 < groups;
        for (int32_t part = 0; part < parts; part++) {
            if (i >= 1 && i <= count && last->row < height && (aligned ? part % 2 == 0 : part == 0)) {
                int32_t column = 8 * part, end = aligned ? column + TILE_PIXELS : width;
                int32_t distance = aligned ? TILE_PIXELS : width;
                finish_point(
                    job, &last->middle, last->group, column, end, sums + 32 * part, distance);
                if (last->group + 1 < groups)
                    finish_point(job, &last->middle, last->group + 1, column, end,
                        sums2 + 32 * part, distance);
            }
            if (now->row < height) {
                int32_t pixel = aligned ? part % 2 * 2 * width + part / 2 * TILE_PIXELS : 32 * part;
                const uint8_t *x = job->x + ((ptrdiff_t)now->row * width + pixel) * row_bytes;
                light_tiles(job, x, x + (ptrdiff_t)(aligned ? width : TILE_PIXELS) * row_bytes,
                    now->group, bytes, two);
            }
            if (i >= 2 && part == 0)
                light_across_512(job, &former->middle, former->row, former->group);
            if (i >= 2 && part == parts / 2)
                light_inside_512(job, &former->middle, former->row, former->group);
            if (now->row < height) {
                _tile_stored(0, sums[32 * part], 64);
                _tile_stored(1, sums[32 * part + TILE_PIXELS], 64);
                if (two) {
                    _tile_stored(2, sums2[32 * part], 64);
                    _tile_stored(3, sums2[32 * part + TILE_PIXELS], 64);
                }
            }
        }
        if (i >= 1 && i <= count)
            for (int32_t group = last->group; group < groups && group < last->group + 2; group++)
                light_edge_512(job, &last->middle, last->row, group);
    }
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
