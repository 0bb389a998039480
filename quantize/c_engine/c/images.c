/* Images to the first plane: four bytes a pixel, quantized, inside a border of zeros. */

/* Images may be this many times as large as the model takes them, in each direction. */
enum { MOST_SHRINKING = 32, MOST_WEIGHTS = 2 * MOST_SHRINKING + 2,
    KEPT_ROWS = MOST_WEIGHTS, KEPT_BYTES = KEPT_ROWS * 3 * REID_WIDTH };

static uint8_t *image_row(const run_state *run, int32_t row)
{
    const plane *image = &PLANES[IMAGE_PLANE];
    return pixels_of(run, IMAGE_PLANE)
        + ((size_t)(row + BORDER_TOP) * image->width + BORDER_LEFT) * 4;
}

/* The planes of other layers have been where the border is. */
static void clear_border(const run_state *run)
{
    const plane *image = &PLANES[IMAGE_PLANE];
    uint8_t *start = pixels_of(run, IMAGE_PLANE);
    size_t row_bytes = (size_t)image->width * 4, behind = BORDER_LEFT + REID_WIDTH;
    memset(start, image->zero, BORDER_TOP * row_bytes);
    for (int32_t row = 0; row < REID_HEIGHT; row++) {
        uint8_t *line = start + (size_t)(BORDER_TOP + row) * row_bytes;
        memset(line, image->zero, (size_t)BORDER_LEFT * 4);
        memset(line + behind * 4, image->zero, row_bytes - behind * 4);
    }
    memset(start + (size_t)(BORDER_TOP + REID_HEIGHT) * row_bytes, image->zero,
        (size_t)(image->height - BORDER_TOP - REID_HEIGHT) * row_bytes);
}

static void take_floats(const run_state *run, const float *image)
{
    clear_border(run);
    for (int32_t row = 0; row < REID_HEIGHT; row++)
        run->kernels->quantize(image + (size_t)row * REID_WIDTH, (ptrdiff_t)REID_HEIGHT * REID_WIDTH,
            REID_WIDTH, IMAGE_FACTOR, PLANES[IMAGE_PLANE].zero, image_row(run, row));
}

/* Bytes of three colours through the table that normalises and quantizes them. */
static void take_row(const run_state *run, const uint8_t *pixels, int32_t row, int swapped)
{
    const uint8_t *table = stored(run, COLOUR_TABLE);
    uint8_t *out = image_row(run, row);
    int first = swapped ? 2 : 0, last = 2 - first;
    for (int32_t column = 0; column < REID_WIDTH; column++, pixels += 3, out += 4) {
        out[0] = table[pixels[first]];
        out[1] = table[256 + pixels[1]];
        out[2] = table[512 + pixels[last]];
    }
}

/* Which pixels make up one of the result, and how much of each, in 1 / 2**22. The numbers are those
   of Pillow's bilinear filter, which is what training resizes with. */
typedef struct {
    int32_t first, count;
} window;

static window bilinear(int32_t place, int32_t size, int32_t wanted, int32_t *weights)
{
    double scale = (double)size / wanted, support = scale < 1 ? 1 : scale;
    volatile double centre = (place + 0.5) * scale;
    int32_t first = (int32_t)(centre - support + 0.5), end = (int32_t)(centre + support + 0.5);
    first = first < 0 ? 0 : first;
    end = end > size ? size : end;
    double shares[MOST_WEIGHTS], total = 0, step = 1 / support;
    for (int32_t i = 0; i < end - first; i++) {
        /* Not fused with the subtraction, which would round differently. */
        volatile double distance = (i + first - centre + 0.5) * step;
        distance = distance < 0 ? -distance : distance;
        shares[i] = distance < 1 ? 1 - distance : 0;
        total += shares[i];
    }
    for (int32_t i = 0; i < end - first; i++) {
        volatile double share = shares[i] / total;
        volatile double whole = share * (1 << 22);
        weights[i] = (int32_t)(0.5 + whole);
    }
    window found = {first, end - first};
    return found;
}

static void resize_row(
    const uint8_t *source, const window *columns, const int32_t *weights, uint8_t *out)
{
    for (int32_t column = 0; column < REID_WIDTH; column++, weights += MOST_WEIGHTS, out += 3) {
        const uint8_t *pixel = source + 3 * (size_t)columns[column].first;
        int32_t sums[3] = {1 << 21, 1 << 21, 1 << 21};
        for (int32_t i = 0; i < columns[column].count; i++, pixel += 3)
            for (int32_t colour = 0; colour < 3; colour++)
                sums[colour] += pixel[colour] * weights[i];
        for (int32_t colour = 0; colour < 3; colour++)
            out[colour] = (uint8_t)clamp(sums[colour] >> 22, 0, 255);
    }
}

/* One row of the result out of rows of the source, each of `count` bytes. */
static void mix_rows(
    const uint8_t *const *rows, const int32_t *weights, int32_t row_count, int32_t count,
    int32_t *sums, uint8_t *out)
{
    for (int32_t j = 0; j < count; j++)
        sums[j] = 1 << 21;
    for (int32_t i = 0; i < row_count; i++)
        for (int32_t j = 0; j < count; j++)
            sums[j] += rows[i][j] * weights[i];
    for (int32_t j = 0; j < count; j++)
        out[j] = (uint8_t)clamp(sums[j] >> 22, 0, 255);
}

/* In two passes with bytes between them, as Pillow does it since version 13: columns first where
   that leaves less to do. Rows that neighbouring rows of the result need too are kept. */
static void take_resized(
    const run_state *run, const uint8_t *image, int32_t height, int32_t width, int swapped)
{
    window *columns = (window *)(void *)(run->arena + RESIZING);
    int32_t *weights = (int32_t *)(void *)(columns + REID_WIDTH);
    int32_t *sums = weights + REID_WIDTH * MOST_WEIGHTS;
    uint8_t *mixed = (uint8_t *)(sums + 3 * REID_WIDTH * MOST_SHRINKING);
    uint8_t *kept = mixed + 3 * REID_WIDTH * MOST_SHRINKING, *out = kept + KEPT_BYTES;
    int32_t down[MOST_WEIGHTS], kept_row[KEPT_ROWS];
    const uint8_t *rows[MOST_WEIGHTS];
    int down_first = height > REID_HEIGHT
        && (int64_t)width * REID_HEIGHT < (int64_t)height * REID_WIDTH;
    memset(kept_row, -1, sizeof kept_row);
    for (int32_t column = 0; column < REID_WIDTH; column++)
        columns[column] = bilinear(column, width, REID_WIDTH, weights + column * MOST_WEIGHTS);
    for (int32_t row = 0; row < REID_HEIGHT; row++) {
        window source = bilinear(row, height, REID_HEIGHT, down);
        for (int32_t i = 0; i < source.count; i++) {
            int32_t from = source.first + i, place = from % KEPT_ROWS;
            rows[i] = image + (size_t)from * width * 3;
            if (down_first)
                continue;
            uint8_t *line = kept + (size_t)place * 3 * REID_WIDTH;
            if (kept_row[place] != from)
                resize_row(rows[i], columns, weights, line);
            kept_row[place] = from;
            rows[i] = line;
        }
        if (down_first) {
            mix_rows(rows, down, source.count, 3 * width, sums, mixed);
            resize_row(mixed, columns, weights, out);
        } else {
            mix_rows(rows, down, source.count, 3 * REID_WIDTH, sums, out);
        }
        take_row(run, out, row, swapped);
    }
}

static void take_bytes(
    const run_state *run, const uint8_t *image, int32_t height, int32_t width, int swapped)
{
    clear_border(run);
    if (height != REID_HEIGHT || width != REID_WIDTH) {
        take_resized(run, image, height, width, swapped);
        return;
    }
    for (int32_t row = 0; row < REID_HEIGHT; row++)
        take_row(run, image + (size_t)row * width * 3, row, swapped);
}
