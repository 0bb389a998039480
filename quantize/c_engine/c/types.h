/* Planes, layers and the work that kernels are given. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Channels come in groups: a pixel of a plane is a multiple of 16 bytes. */
enum { GROUP = 16, MOST_INPUTS = 8, MOST_TAPS = 64 };

/* A tensor in the arena: rows of pixels, each with its channels side by side. */
typedef struct {
    uint32_t offset;
    int32_t height, width, channels;
    int32_t zero; /* the byte that stands for 0 */
} plane;

typedef enum {
    CONVOLUTION, LIGHT, DEPTHWISE, MAX_POOL, AVERAGE_POOL, SUM, GATE, NORM, TABLE, PRODUCT, EMBEDDING
} layer_kind;

/* A layer of the network. Numbers that a kind does not need are 0; those of arrays are offsets in
   the weights. */
typedef struct {
    layer_kind kind;
    int32_t y;
    int32_t inputs[MOST_INPUTS], gates[MOST_INPUTS];
    int32_t sums; /* plane of the sums of y's channels, or -1 */
    int32_t input_count;
    int32_t kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x;
    int32_t pad_top, pad_left, pad_bottom, pad_right;
    int32_t taps, row_bytes, has_residual;
    uint32_t weights, bias, shift, multiplier, residual;
    uint32_t depth_weights, depth_bias, depth_shift, depth_multiplier;
    int32_t middle_zero;
    int32_t pool_shift, pool_multiplier, pool_bias;
    uint32_t factors;
    int32_t bits, is_norm;
    int32_t hidden, channels, outputs, first_channel, rectified;
    uint32_t squeeze, squeeze_bias, squeeze_factor, squeeze_after;
    uint32_t excite, excite_bias, excite_factor, excite_after;
    int32_t squeeze_before, excite_before, gate_factor;
    uint32_t table, gamma, beta, epsilon;
    int32_t has_linear, pooled, clamped, pixels;
    uint32_t embedding_bias, embedding_scale;
} layer;

/* How 32-bit sums become bytes, by output channel; see rescaled(). */
typedef struct {
    const int32_t *bias, *shift;
    const int16_t *multiplier;
    int32_t zero;
} rescaling;

/* Products of pixels, at equal distances, and weights: a pointwise convolution, or one row of any
   other. A pixel has `taps` rows of `row_bytes` bytes. Weights are ordered by group of 16 outputs,
   tap, four bytes of the row, output, byte. */
typedef struct {
    const uint8_t *x;
    ptrdiff_t x_stride;
    int32_t pixels, taps, row_bytes, groups;
    ptrdiff_t tap[MOST_TAPS]; /* from a pixel to the row of a tap */
    const int8_t *weights;
    rescaling out;
    uint8_t *y;
    ptrdiff_t y_stride;
    const uint8_t *residual; /* what is added, at the places of y; or NULL */
    const int32_t *residual_factor;
    int32_t *sums; /* instead of y: the sums (pixels, 16 * groups), without bias; or NULL */
} products;

/* A pointwise convolution and a depthwise one of 3 x 3 behind it, of stride 1 with padding 1. */
typedef struct {
    const uint8_t *x;
    int32_t height, width, row_bytes, groups;
    const int8_t *weights, *depth_weights;
    rescaling middle, out;
    uint8_t *y, *scratch;
    int32_t *channel_sums; /* of the output, or NULL */
} light_convolution;

/* Windows of a plane, channel by channel: a depthwise convolution or a pooling. */
typedef struct {
    const uint8_t *x;
    int32_t height, width, groups, zero;
    int32_t kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x;
    int32_t pad_top, pad_left;
    const int8_t *weights; /* by group, tap, channel */
    rescaling out;
    uint8_t *y;
    int32_t y_height, y_width;
} windows;

/* y = sum of x[i] * factor[i] + start, shifted, for each channel. */
typedef struct {
    const uint8_t *x[MOST_INPUTS];
    const int16_t *factor[MOST_INPUTS];
    const int32_t *start, *shift;
    int32_t inputs, pixels, channels;
    uint8_t *y;
} weighted_sum;

/* What processors do in ways of their own; all give the same bits. */
typedef struct {
    const char *name;
    int (*is_supported)(void);
    void (*multiply)(const products *);
    void (*light)(const light_convolution *);
    void (*depthwise)(const windows *);
    void (*max_pool)(const windows *);
    void (*sum)(const weighted_sum *);
    void (*channel_sums)(const uint8_t *x, int32_t pixels, int32_t channels, int32_t *sums);
    /* A row of floats, whose colours are `colour` numbers apart, to four bytes a pixel. */
    void (*quantize)(const float *x, ptrdiff_t colour, int32_t count, float factor, int32_t zero,
        uint8_t *y);
    void (*finish)(void); /* called after each image */
} kernel_set;
