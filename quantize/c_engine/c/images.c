/* Images to the first plane: four bytes a pixel, quantized, inside a border of zeros. */

/* Images may be this many times as large as the model takes them, in each direction. */
enum { MOST_SHRINKING = 32, MOST_WEIGHTS = 2 * MOST_SHRINKING + 1, KEPT_ROWS = 4 };

static uint8_t *image_row(const run_state *run, int32_t row)
{
    const plane *image = &PLANES[IMAGE_PLANE];
    return pixels_of(run, IMAGE_PLANE)
        + ((size_t)(row + BORDER_TOP) * image->width + BORDER_LEFT) * 4;
}

static void clear_image(const run_state *run)
{
    const plane *image = &PLANES[IMAGE_PLANE];
    memset(pixels_of(run, IMAGE_PLANE), image->zero, (size_t)image->height * image->width * 4);
}

static void take_floats(const run_state *run, const float *image)
{
    clear_image(run);
    for (int32_t row = 0; row < REID_HEIGHT; row++)
        for (int32_t colour = 0; colour < 3; colour++)
            run->kernels->quantize(image + ((size_t)colour * REID_HEIGHT + row) * REID_WIDTH,
                REID_WIDTH, IMAGE_FACTOR, PLANES[IMAGE_PLANE].zero, image_row(run, row) + colour);
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
    double shares[MOST_WEIGHTS + 1], total = 0, step = 1 / support;
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

/* First along rows, then along columns; each row of the source is needed by neighbouring rows of
   the result, so the last ones are kept. */
static void take_resized(
    const run_state *run, const uint8_t *image, int32_t height, int32_t width, int swapped)
{
    window *columns = (window *)(void *)(run->arena + RESIZING);
    int32_t *weights = (int32_t *)(void *)(columns + REID_WIDTH);
    int32_t *sums = weights + REID_WIDTH * MOST_WEIGHTS;
    uint8_t *kept = (uint8_t *)(sums + 3 * REID_WIDTH);
    int32_t down[MOST_WEIGHTS + 1], kept_row[KEPT_ROWS] = {-1, -1, -1, -1};
    for (int32_t column = 0; column < REID_WIDTH; column++)
        columns[column] = bilinear(column, width, REID_WIDTH, weights + column * MOST_WEIGHTS);
    for (int32_t row = 0; row < REID_HEIGHT; row++) {
        window rows = bilinear(row, height, REID_HEIGHT, down);
        for (int32_t i = 0; i < 3 * REID_WIDTH; i++)
            sums[i] = 1 << 21;
        for (int32_t i = 0; i < rows.count; i++) {
            int32_t from = rows.first + i;
            uint8_t *line = kept + (size_t)(from % KEPT_ROWS) * 3 * REID_WIDTH;
            if (kept_row[from % KEPT_ROWS] != from)
                resize_row(image + (size_t)from * width * 3, columns, weights, line);
            kept_row[from % KEPT_ROWS] = from;
            for (int32_t j = 0; j < 3 * REID_WIDTH; j++)
                sums[j] += line[j] * down[i];
        }
        for (int32_t j = 0; j < 3 * REID_WIDTH; j++)
            kept[(size_t)KEPT_ROWS * 3 * REID_WIDTH + j] = (uint8_t)clamp(sums[j] >> 22, 0, 255);
        take_row(run, kept + (size_t)KEPT_ROWS * 3 * REID_WIDTH, row, swapped);
    }
}

static void take_bytes(
    const run_state *run, const uint8_t *image, int32_t height, int32_t width, int swapped)
{
    clear_image(run);
    if (height != REID_HEIGHT || width != REID_WIDTH) {
        take_resized(run, image, height, width, swapped);
        return;
    }
    for (int32_t row = 0; row < REID_HEIGHT; row++)
        take_row(run, image + (size_t)row * width * 3, row, swapped);
}
